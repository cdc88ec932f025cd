//! Join tokens: what a browser joins a meeting with.
//!
//! A token is a JWT (RFC 7519) signed with Ed25519 (RFC 8037). The official web SDK decodes its
//! payload with `atob`, which knows neither `-` nor `_`: base64url writes those two only for
//! bytes that our claims (ids and numbers in ASCII) never contain, which a property test holds.
//!
//! The token says who somebody is; whether they are still a participant is looked up on use.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PresetId};
use serde::{Deserialize, Serialize};

use crate::identity::signing_keys::{SigningKey, SigningKeys};

/// What a token says, in the claim names that the official SDKs read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The app.
    pub org_id: AppId,
    /// The meeting.
    pub meeting_id: MeetingId,
    /// The participant.
    pub participant_id: ParticipantId,
    /// The preset at the time of signing.
    pub preset_id: PresetId,
    /// Signed at, Unix seconds.
    pub iat: i64,
    /// Expires at, Unix seconds.
    pub exp: i64,
}

/// Why a token does not admit anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a token of ours.
    #[error("this is not a token of this server")]
    Invalid,
    /// It was good once.
    #[error("this token has expired")]
    Expired,
    /// Its participant, meeting or app is gone.
    #[error("this token has been revoked")]
    Revoked,
}

/// Signs claims.
pub fn sign(key: &SigningKey, claims: &Claims) -> String {
    let mut token = String::with_capacity(512);
    let header = format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{}"}}"#, key.id);
    BASE64_URL_SAFE_NO_PAD.encode_string(header, &mut token);
    token.push('.');
    let payload = serde_json::to_vec(claims).expect("ids and numbers serialise");
    BASE64_URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// A token taken apart; nothing about it is proved.
pub struct Parsed<'t> {
    signed: &'t str,
    header: Header,
    claims: Claims,
    signature: Vec<u8>,
}

/// Takes a token apart.
///
/// # Errors
/// `Invalid` when it does not have the form of ours.
pub fn parse(token: &str) -> Result<Parsed<'_>, Refused> {
    let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Invalid)?;
    let (header, payload) = signed.split_once('.').ok_or(Refused::Invalid)?;
    let decode = |part: &str| {
        BASE64_URL_SAFE_NO_PAD
            .decode(part)
            .map_err(|_| Refused::Invalid)
    };
    let header = serde_json::from_slice(&decode(header)?).map_err(|_| Refused::Invalid)?;
    let claims = serde_json::from_slice(&decode(payload)?).map_err(|_| Refused::Invalid)?;
    Ok(Parsed {
        signed,
        header,
        claims,
        signature: decode(signature)?,
    })
}

/// The id of the key that a token says it was signed with.
pub fn key_id(token: &str) -> Option<String> {
    parse(token).ok().map(|parsed| parsed.header.kid)
}

/// Reads a token's claims if one of our keys signed it and it has not expired.
///
/// # Errors
/// `Invalid` or `Expired`; whether it was revoked is another question.
pub fn verify(keys: &SigningKeys, token: &str, now_ms: i64) -> Result<Claims, Refused> {
    let Parsed {
        signed,
        header,
        claims,
        signature,
    } = parse(token)?;
    if header.alg != "EdDSA" || !keys.verify(&header.kid, signed.as_bytes(), &signature) {
        return Err(Refused::Invalid);
    }
    if now_ms / 1000 >= claims.exp {
        Err(Refused::Expired)
    } else {
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use parlor_store::{Db, Options, Place};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn keys() -> SigningKeys {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let place = Place::Sqlite(dir.path().join("keys.db"));
            let db = Db::open(&place, Options::default(), std::sync::Arc::new(()))
                .await
                .unwrap();
            db.migrate(crate::schema::MIGRATIONS).await.unwrap();
            SigningKeys::load(&db, 0).await.unwrap()
        })
    }

    fn claims(ids: [u128; 4], iat: i64, exp: i64) -> Claims {
        let [app, meeting, participant, preset] = ids.map(Uuid::from_u128);
        Claims {
            org_id: AppId::from_uuid(app),
            meeting_id: MeetingId::from_uuid(meeting),
            participant_id: ParticipantId::from_uuid(participant),
            preset_id: PresetId::from_uuid(preset),
            iat,
            exp,
        }
    }

    #[test]
    fn every_token_can_be_read_by_atob_and_verified_by_us() {
        let keys = keys();
        proptest!(|(ids in any::<[u128; 4]>(), iat in 0_i64..1 << 40, life in 1_i64..1 << 33)| {
            let claims = claims(ids, iat, iat + life);
            let token = sign(&keys.current(), &claims);
            let payload = token.split('.').nth(1).unwrap();
            prop_assert!(token.starts_with("eyJ"));
            prop_assert!(!payload.contains(['-', '_']));
            prop_assert_eq!(verify(&keys, &token, iat * 1000).unwrap(), claims);
            prop_assert_eq!(verify(&keys, &token, (iat + life) * 1000), Err(Refused::Expired));
        });
    }

    #[test]
    fn a_changed_token_is_refused() {
        let keys = keys();
        let token = sign(&keys.current(), &claims([1, 2, 3, 4], 0, 100));
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(
                verify(&keys, &changed, 0),
                Err(Refused::Invalid),
                "byte {index}"
            );
        }
        for nonsense in ["", ".", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
            assert_eq!(verify(&keys, nonsense, 0), Err(Refused::Invalid));
        }
    }

    #[test]
    fn another_servers_token_is_refused() {
        let (ours, theirs) = (keys(), keys());
        let token = sign(&theirs.current(), &claims([1, 2, 3, 4], 0, 100));
        assert_eq!(verify(&ours, &token, 0), Err(Refused::Invalid));
    }
}
