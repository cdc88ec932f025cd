//! The supported codecs.

/// The type of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

impl Kind {
    /// Returns the media type as in SDP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

/// A supported codec. The SDK uses only Opus and VP8 (docs/spec/media.md 2.2).
///
/// To add a codec, add a variant, list it in [`Codec::ALL`], and describe it in `Codec::info`.
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
    /// AV1, with the RTP payload format of the Alliance for Open Media.
    Av1,
}

/// The properties of a codec.
struct CodecInfo {
    kind: Kind,
    name: &'static str,
    clock_rate: u32,
    channels: u8,
    /// The `a=fmtp` parameters that we request. If empty, the client's [`VARIANT`] parameters are
    /// echoed.
    fmtp: &'static [&'static str],
    feedback: &'static [&'static str],
}

/// The `a=fmtp` parameters that identify the variant of a codec: those of H.264 (RFC 6184 section
/// 8.1), VP9 (RFC 9628 section 6) and AV1. All others are declarations of one side.
const VARIANT: [&str; 7] = [
    "profile-level-id",
    "packetization-mode",
    "level-asymmetry-allowed",
    "profile-id",
    "profile",
    "level-idx",
    "tier",
];

const AUDIO_FEEDBACK: &[&str] = &["transport-cc", "nack"];
const VIDEO_FEEDBACK: &[&str] = &["transport-cc", "ccm fir", "nack", "nack pli"];

impl Codec {
    /// All codecs.
    pub const ALL: [Self; 5] = [Self::Opus, Self::Vp8, Self::Vp9, Self::H264, Self::Av1];

    const fn info(self) -> CodecInfo {
        match self {
            Self::Opus => CodecInfo {
                kind: Kind::Audio,
                name: "opus",
                clock_rate: 48_000,
                channels: 2,
                fmtp: &["minptime=10", "useinbandfec=1"],
                feedback: AUDIO_FEEDBACK,
            },
            Self::Vp8 => CodecInfo::video("VP8"),
            Self::Vp9 => CodecInfo::video("VP9"),
            Self::H264 => CodecInfo::video("H264"),
            Self::Av1 => CodecInfo::video("AV1"),
        }
    }

    /// Returns the type of media.
    pub fn kind(self) -> Kind {
        self.info().kind
    }

    /// Returns the encoding name in `a=rtpmap`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Returns the RTP clock rate, in Hz.
    pub fn clock_rate(self) -> u32 {
        self.info().clock_rate
    }

    /// Returns the number of channels. `a=rtpmap` omits it if it is 1.
    pub fn channels(self) -> u8 {
        self.info().channels
    }

    /// Returns the `a=fmtp` parameters that we request. If empty, the client's variant parameters
    /// are echoed.
    pub(super) fn fmtp(self) -> &'static [&'static str] {
        self.info().fmtp
    }

    /// Returns the supported RTCP feedback types, as in `a=rtcp-fb` (RFC 4585, RFC 5104).
    pub fn feedback(self) -> &'static [&'static str] {
        self.info().feedback
    }

    /// Returns a client's RTCP feedback type, if any codec supports it.
    pub(super) fn find_feedback(feedback: &str) -> Option<&'static str> {
        let mut known = Self::ALL.into_iter().flat_map(Self::feedback);
        known.find(|known| **known == feedback).copied()
    }

    /// Returns whether the parameter with this name identifies the variant of a codec.
    pub(super) fn is_variant(parameter: &str) -> bool {
        VARIANT
            .iter()
            .any(|known| known.eq_ignore_ascii_case(parameter))
    }

    /// Returns the codec of an `a=rtpmap`.
    pub fn find(kind: Kind, name: &str, clock_rate: u32, channels: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| {
            let info = codec.info();
            info.kind == kind
                && info.name.eq_ignore_ascii_case(name)
                && info.clock_rate == clock_rate
                && info.channels == channels
        })
    }
}

impl CodecInfo {
    const fn video(name: &'static str) -> Self {
        Self {
            kind: Kind::Video,
            name,
            clock_rate: 90_000,
            channels: 1,
            fmtp: &[],
            feedback: VIDEO_FEEDBACK,
        }
    }
}
