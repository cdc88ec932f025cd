//! RTP header extensions, RFC 8285.

use super::codec::Kind;

/// A supported header extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extension {
    /// The audio level of the packet, RFC 6464.
    AudioLevel,
    /// The send time of the packet, in seconds, as a 24-bit fixed-point number.
    AbsSendTime,
    /// The transport-wide sequence number, for congestion control.
    TransportCc,
    /// The mid of the packet's media line, RFC 9143.
    Mid,
    /// The rid of the packet's simulcast layer, RFC 8852.
    Rid,
    /// The rid of the simulcast layer of a retransmitted packet, RFC 8852.
    RepairedRid,
    /// The orientation of the video, 3GPP TS 26.114.
    Orientation,
}

const COUNT: usize = 7;

/// The extensions that clients may send. Unused ones are not accepted, since they would waste bytes
/// in every packet.
const ACCEPTED: [(Kind, &[Extension]); 2] = [
    (
        Kind::Audio,
        &[
            Extension::AudioLevel,
            Extension::TransportCc,
            Extension::Mid,
        ],
    ),
    (
        Kind::Video,
        &[
            Extension::Orientation,
            Extension::TransportCc,
            Extension::Mid,
            Extension::Rid,
            Extension::RepairedRid,
        ],
    ),
];

/// The extensions that are sent to clients.
const SENT: [(Kind, &[Extension]); 2] = [
    (
        Kind::Audio,
        &[
            Extension::AudioLevel,
            Extension::TransportCc,
            Extension::Mid,
        ],
    ),
    (
        Kind::Video,
        &[
            Extension::Orientation,
            Extension::TransportCc,
            Extension::Mid,
        ],
    ),
];

impl Extension {
    /// All extensions.
    pub const ALL: [Self; COUNT] = [
        Self::AudioLevel,
        Self::AbsSendTime,
        Self::TransportCc,
        Self::Mid,
        Self::Rid,
        Self::RepairedRid,
        Self::Orientation,
    ];

    /// Returns the URI in `a=extmap`.
    pub fn uri(self) -> &'static str {
        match self {
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::TransportCc => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::Orientation => "urn:3gpp:video-orientation",
        }
    }

    /// Returns the extension with this URI.
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|extension| extension.uri() == uri)
    }
}

/// The extension ids of a media line. Ids are 1 to 14, so that the one-byte header of RFC 8285
/// section 4.2 suffices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extensions {
    /// The id of each extension, or 0 for none.
    ids: [u8; COUNT],
}

impl Extensions {
    /// Returns the id of an extension.
    pub fn id(&self, extension: Extension) -> Option<u8> {
        let id = *self.ids.get(extension as usize)?;
        (id != 0).then_some(id)
    }

    /// Returns the extension with this id.
    pub fn extension(&self, id: u8) -> Option<Extension> {
        Extension::ALL
            .into_iter()
            .find(|extension| self.id(*extension) == Some(id))
    }

    /// Returns all extensions that have an id, with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (Extension, u8)> {
        Extension::ALL
            .into_iter()
            .filter_map(|extension| Some((extension, self.id(extension)?)))
    }

    /// Returns whether no extension has an id.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Assigns an id to an extension, unless the id is invalid or either is already in use. Returns
    /// whether the extension has this id now.
    pub(super) fn insert(&mut self, extension: Extension, id: u8) -> bool {
        match (self.id(extension), self.extension(id)) {
            (None, None) if (1..=14).contains(&id) => {
                if let Some(slot) = self.ids.get_mut(extension as usize) {
                    *slot = id;
                }
                true
            }
            (known, _) => known == Some(id),
        }
    }

    /// Retains the extensions that clients may send.
    pub(super) fn accepted(self, kind: Kind) -> Self {
        self.retain(&ACCEPTED, kind)
    }

    /// Retains the extensions that are sent to clients.
    pub(super) fn sent(self, kind: Kind) -> Self {
        self.retain(&SENT, kind)
    }

    fn retain(self, allowed: &[(Kind, &[Extension])], kind: Kind) -> Self {
        let mut retained = Self::default();
        let allowed = allowed.iter().filter(|(listed, _)| *listed == kind);
        for extension in allowed.flat_map(|(_, extensions)| *extensions) {
            if let Some(id) = self.id(*extension) {
                retained.insert(*extension, id);
            }
        }
        retained
    }
}
