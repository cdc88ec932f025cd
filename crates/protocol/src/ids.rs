//! Typed 128-bit ids.
//!
//! Account and app ids are written as 32 lower-case hex digits, all others as hyphenated lower-case
//! UUIDs. Parsing is case-insensitive. Account and app ids are also accepted in hyphenated form,
//! because clients write app ids both ways.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// The error when a string is not a valid id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseIdError {
    kind: &'static str,
    form: &'static str,
}

impl ParseIdError {
    /// Kind of id: `account`, `app`, `meeting`, `participant`, `peer`, `preset`, `producer`,
    /// `session` or `token`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a valid {} id: expected {}", self.kind, self.form)
    }
}

impl std::error::Error for ParseIdError {}

/// Format of an id when parsed and written.
#[derive(Clone, Copy)]
enum Spelling {
    Hex,
    Hyphenated,
}

impl Spelling {
    /// The expected format, for error messages.
    const fn form(self) -> &'static str {
        match self {
            Self::Hex => "32 hexadecimal digits",
            Self::Hyphenated => "a hyphenated UUID",
        }
    }

    /// Checks the length first, because [`Uuid`] also parses the braced and URN forms.
    fn parse(self, text: &str) -> Option<Uuid> {
        match (self, text.len()) {
            (_, 36) | (Self::Hex, 32) => Uuid::try_parse(text).ok(),
            _ => None,
        }
    }

    fn write(self, uuid: Uuid, buffer: &mut [u8; 36]) -> &str {
        match self {
            Self::Hex => uuid.simple().encode_lower(buffer),
            Self::Hyphenated => uuid.hyphenated().encode_lower(buffer),
        }
    }

    fn schema(self) -> Schema {
        match self {
            Self::Hex => json_schema!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
            Self::Hyphenated => json_schema!({ "type": "string", "format": "uuid" }),
        }
    }
}

struct IdVisitor(&'static str, Spelling);

impl de::Visitor<'_> for IdVisitor {
    type Value = Uuid;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} id ({})", self.0, self.1.form())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Uuid, E> {
        self.1
            .parse(text)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $Id:ident, $kind:literal, $spelling:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Id(Uuid);

        impl $Id {
            /// Creates the id from a UUID.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The underlying UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $Id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad($spelling.write(self.0, &mut [0; 36]))
            }
        }

        impl fmt::Debug for $Id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($Id), "({})"), self)
            }
        }

        impl FromStr for $Id {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let error = ParseIdError { kind: $kind, form: $spelling.form() };
                $spelling.parse(text).map(Self).ok_or(error)
            }
        }

        impl Serialize for $Id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str($spelling.write(self.0, &mut [0; 36]))
            }
        }

        impl<'de> Deserialize<'de> for $Id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(IdVisitor($kind, $spelling)).map(Self)
            }
        }

        impl JsonSchema for $Id {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Id).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $spelling.schema()
            }
        }
    };
}

id!(
    /// Id of an account, which owns apps and API tokens. 32 hex digits.
    AccountId, "account", Spelling::Hex
);
id!(
    /// Id of an app, which owns meetings, presets and webhooks. 32 hex digits.
    AppId, "app", Spelling::Hex
);
id!(
    /// Id of a meeting. A hyphenated UUID.
    MeetingId, "meeting", Spelling::Hyphenated
);
id!(
    /// Id of a participant of a meeting. A hyphenated UUID.
    ParticipantId, "participant", Spelling::Hyphenated
);
id!(
    /// Id of a preset. A hyphenated UUID.
    PresetId, "preset", Spelling::Hyphenated
);
id!(
    /// Id of a session: one live run of a meeting, from the first join to the last leave. A
    /// hyphenated UUID.
    SessionId, "session", Spelling::Hyphenated
);
id!(
    /// Id of a peer: one client in a meeting. The client generates it and keeps it across
    /// reconnects. A hyphenated UUID.
    PeerId, "peer", Spelling::Hyphenated
);
id!(
    /// Id of a track that a peer publishes. A hyphenated UUID.
    ProducerId, "producer", Spelling::Hyphenated
);
id!(
    /// Id of an API token (not its secret). A hyphenated UUID.
    TokenId, "token", Spelling::Hyphenated
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "0190f3c0a0b17c1d8e2f0123456789ab";
    const HYPHENATED: &str = "0190f3c0-a0b1-7c1d-8e2f-0123456789ab";

    #[test]
    fn an_app_id_is_read_in_both_spellings_and_either_case() {
        let id = AppId::from_uuid(Uuid::from_u128(0x0190_f3c0_a0b1_7c1d_8e2f_0123_4567_89ab));
        for text in [
            HEX,
            HYPHENATED,
            &HEX.to_uppercase(),
            &HYPHENATED.to_uppercase(),
        ] {
            assert_eq!(text.parse(), Ok(id));
        }
        assert_eq!(id.to_string(), HEX);
        assert_eq!(format!("{id:?}"), format!("AppId({HEX})"));
    }

    #[test]
    fn a_meeting_id_is_read_hyphenated_only() {
        let read = |text: &str| text.parse::<MeetingId>().map(|id| id.to_string());
        assert_eq!(read(&HYPHENATED.to_uppercase()), Ok(HYPHENATED.to_owned()));
        assert_eq!(
            read(HEX).map_err(|error| (error.kind(), error.to_string())),
            Err((
                "meeting",
                "not a valid meeting id: expected a hyphenated UUID".to_owned()
            ))
        );
    }

    #[test]
    fn other_uuid_formats_are_rejected() {
        for text in [
            "",
            "0",
            &format!("{{{HYPHENATED}}}"),
            &format!("urn:uuid:{HYPHENATED}"),
            &format!("{HEX} "),
            &HEX.replace('a', "g"),
            &HYPHENATED.replace('-', "_"),
        ] {
            assert!(text.parse::<AccountId>().is_err(), "{text:?} was read");
            assert!(text.parse::<PresetId>().is_err(), "{text:?} was read");
        }
    }

    #[test]
    fn a_wrong_id_in_json_names_what_was_expected() {
        let error = serde_json::from_str::<ParticipantId>("\"me\"").err();
        let message = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(
            message.contains("a participant id (a hyphenated UUID)"),
            "{message}"
        );
    }

    proptest! {
        #[test]
        fn ids_survive_json_and_keep_their_order(a: u128, b: u128) {
            let [a, b] = [a, b].map(|number| AccountId::from_uuid(Uuid::from_u128(number)));
            let json = serde_json::to_value(a)?;
            prop_assert_eq!(serde_json::from_value::<AccountId>(json)?, a);
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<AppId>();
            let _ = text.parse::<TokenId>();
        }
    }
}
