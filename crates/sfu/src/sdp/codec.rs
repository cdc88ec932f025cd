//! The codecs that are forwarded.

/// Whether it is heard or seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Heard.
    Audio,
    /// Seen.
    Video,
}

impl Kind {
    /// The media type of SDP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

/// A codec that is forwarded. The SDK uses Opus and VP8 only (docs/spec/media.md 2.2).
///
/// Another one is a variant, a place in [`Codec::ALL`] and its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Opus, RFC 7587.
    Opus,
    /// VP8, RFC 7741.
    Vp8,
    /// VP9, RFC 9628.
    Vp9,
    /// H.264, RFC 6184.
    H264,
    /// AV1, as the Alliance for Open Media describes.
    Av1,
}

/// All that differs between codecs here.
struct Row {
    kind: Kind,
    name: &'static str,
    clock_rate: u32,
    channels: u8,
    /// The parameters that we ask for. With none, those [`VARIANT`] ones of the client are mirrored.
    fmtp: &'static [&'static str],
    feedback: &'static [&'static str],
}

/// The parameters that say which variant of a codec a payload type means: those of H.264 (RFC 6184
/// section 8.1), VP9 (RFC 9628 section 6) and AV1. All others are about one side only.
const VARIANT: [&str; 7] = [
    "profile-level-id",
    "packetization-mode",
    "level-asymmetry-allowed",
    "profile-id",
    "profile",
    "level-idx",
    "tier",
];

const SOUND: &[&str] = &["transport-cc", "nack"];
const PICTURES: &[&str] = &["transport-cc", "ccm fir", "nack", "nack pli"];

impl Codec {
    /// Every codec.
    pub const ALL: [Self; 5] = [Self::Opus, Self::Vp8, Self::Vp9, Self::H264, Self::Av1];

    const fn row(self) -> Row {
        match self {
            Self::Opus => Row {
                kind: Kind::Audio,
                name: "opus",
                clock_rate: 48_000,
                channels: 2,
                fmtp: &["minptime=10", "useinbandfec=1"],
                feedback: SOUND,
            },
            Self::Vp8 => Row::video("VP8"),
            Self::Vp9 => Row::video("VP9"),
            Self::H264 => Row::video("H264"),
            Self::Av1 => Row::video("AV1"),
        }
    }

    /// What it carries.
    pub fn kind(self) -> Kind {
        self.row().kind
    }

    /// Its name in `a=rtpmap`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// How fast its RTP timestamps go, in Hz.
    pub fn clock_rate(self) -> u32 {
        self.row().clock_rate
    }

    /// How many channels `a=rtpmap` says; 1 goes unsaid.
    pub fn channels(self) -> u8 {
        self.row().channels
    }

    /// The parameters that we ask for, or none to mirror those of the client's variant.
    pub(super) fn fmtp(self) -> &'static [&'static str] {
        self.row().fmtp
    }

    /// The RTCP feedback that is understood, as in `a=rtcp-fb` (RFC 4585, RFC 5104).
    pub fn feedback(self) -> &'static [&'static str] {
        self.row().feedback
    }

    /// What a client's `a=rtcp-fb` says, if any codec understands it.
    pub(super) fn find_feedback(said: &str) -> Option<&'static str> {
        let mut known = Self::ALL.into_iter().flat_map(Self::feedback);
        known.find(|known| **known == said).copied()
    }

    /// Whether the parameter of this name says which variant of a codec is meant.
    pub(super) fn is_variant(parameter: &str) -> bool {
        VARIANT
            .iter()
            .any(|known| known.eq_ignore_ascii_case(parameter))
    }

    /// The codec of an `a=rtpmap`.
    pub fn find(kind: Kind, name: &str, clock_rate: u32, channels: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| {
            let row = codec.row();
            row.kind == kind
                && row.name.eq_ignore_ascii_case(name)
                && row.clock_rate == clock_rate
                && row.channels == channels
        })
    }
}

impl Row {
    const fn video(name: &'static str) -> Self {
        Self {
            kind: Kind::Video,
            name,
            clock_rate: 90_000,
            channels: 1,
            fmtp: &[],
            feedback: PICTURES,
        }
    }
}
