//! RTP header extensions, RFC 8285.

use super::codec::Kind;

/// A header extension that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extension {
    /// How loud the sound in the packet is, RFC 6464.
    AudioLevel,
    /// When the packet was sent, as 24 bits of seconds.
    AbsSendTime,
    /// A sequence number across all streams of a transport, for congestion control.
    TransportCc,
    /// The media line that the packet belongs to, RFC 9143.
    Mid,
    /// The simulcast layer that the packet belongs to, RFC 8852.
    Rid,
    /// The simulcast layer that a retransmitted packet belongs to, RFC 8852.
    RepairedRid,
    /// How the camera is turned, 3GPP TS 26.114.
    Orientation,
}

const COUNT: usize = 7;

/// What is taken from clients. Each one that is not costs them bytes in every packet for nothing.
const TAKEN: [(Kind, &[Extension]); 2] = [
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

/// What clients may be sent.
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
    /// Every extension.
    pub const ALL: [Self; COUNT] = [
        Self::AudioLevel,
        Self::AbsSendTime,
        Self::TransportCc,
        Self::Mid,
        Self::Rid,
        Self::RepairedRid,
        Self::Orientation,
    ];

    /// Its name in `a=extmap`.
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

    /// The extension of this name.
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|extension| extension.uri() == uri)
    }
}

/// The ids that extensions have on a media line: 1 to 14, so that the one-byte form of
/// RFC 8285 section 4.2 is enough for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extensions {
    /// By extension; 0 for none.
    ids: [u8; COUNT],
}

impl Extensions {
    /// The id of an extension.
    pub fn id(&self, extension: Extension) -> Option<u8> {
        let id = *self.ids.get(extension as usize)?;
        (id != 0).then_some(id)
    }

    /// The extension with this id.
    pub fn extension(&self, id: u8) -> Option<Extension> {
        Extension::ALL
            .into_iter()
            .find(|extension| self.id(*extension) == Some(id))
    }

    /// Every extension that has an id, with it.
    pub fn iter(&self) -> impl Iterator<Item = (Extension, u8)> {
        Extension::ALL
            .into_iter()
            .filter_map(|extension| Some((extension, self.id(extension)?)))
    }

    /// Whether none has an id.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Gives an extension an id, unless either is taken or the id is none. Says whether they go
    /// together now.
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

    /// Those of them that are taken from clients.
    pub(super) fn taken(self, kind: Kind) -> Self {
        self.only(&TAKEN, kind)
    }

    /// Those of them that clients may be sent.
    pub(super) fn sent(self, kind: Kind) -> Self {
        self.only(&SENT, kind)
    }

    fn only(self, of: &[(Kind, &[Extension])], kind: Kind) -> Self {
        let mut left = Self::default();
        let of = of.iter().filter(|(listed, _)| *listed == kind);
        for extension in of.flat_map(|(_, extensions)| *extensions) {
            if let Some(id) = self.id(*extension) {
                left.insert(*extension, id);
            }
        }
        left
    }
}
