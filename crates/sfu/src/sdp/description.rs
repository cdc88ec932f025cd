//! Parsed session descriptions.

use std::fmt;

use super::codec::{Codec, Kind};
use super::extension::Extensions;
use super::{SdpError, parse};

/// A client's offer or answer, bundled onto one transport.
#[derive(Clone, PartialEq, Eq)]
pub struct Description {
    /// The client's ICE user name fragment.
    pub ice_ufrag: String,
    /// The client's ICE password.
    pub ice_pwd: String,
    /// Whether the client is ICE-lite.
    pub ice_lite: bool,
    /// The SHA-256 fingerprint of the client's DTLS certificate. Other hashes are not supported.
    pub fingerprint: [u8; 32],
    /// The DTLS role.
    pub setup: Setup,
    /// The media lines, in order. At least one is not rejected, and all of these are in the bundle.
    pub media: Vec<MediaLine>,
}

/// The DTLS role that `a=setup` specifies, RFC 5763.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Either role.
    ActPass,
    /// The DTLS client, which starts the handshake.
    Active,
    /// The DTLS server.
    Passive,
}

/// The direction of a media line, as seen by the side that wrote the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Sends and receives.
    SendRecv,
    /// Only sends.
    SendOnly,
    /// Only receives.
    RecvOnly,
    /// Neither sends nor receives.
    Inactive,
}

impl Direction {
    /// Returns the name of the SDP attribute.
    pub fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// Returns whether this side sends.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Returns whether this side receives.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// A media section: the `m=` line and its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaLine {
    /// The media type.
    pub kind: Kind,
    /// The `a=mid`: a token of 1 to 16 characters, unique in the description.
    pub mid: String,
    /// The transport protocol.
    pub(super) profile: &'static str,
    /// Whether the line is rejected or stopped: it has port 0 and is not `a=bundle-only`.
    pub rejected: bool,
    /// The direction of media, as seen by the client.
    pub direction: Direction,
    /// The payload types, in order of preference, without duplicates.
    pub formats: Vec<Format>,
    /// The supported header extensions that the client may send.
    pub extensions: Extensions,
    /// The supported header extensions that the client may receive.
    pub(super) receivable: Extensions,
    /// The rids of the simulcast layers that the client sends, in the order of `a=simulcast`. At
    /// most 16.
    pub rids: Vec<String>,
    /// The SSRCs that the client sends, except those of retransmissions.
    pub ssrcs: Vec<u32>,
    /// Pairs of a primary SSRC and its retransmission SSRC (RFC 5576 `FID`).
    pub rtx_ssrcs: Vec<(u32, u32)>,
    /// The client's ids of the stream and the track.
    pub msid: Option<(String, String)>,
    /// Whether reduced-size RTCP is supported, RFC 5506.
    pub(super) reduced_rtcp: bool,
}

/// A payload type of a media line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// The payload type, at most 127.
    pub payload_type: u8,
    /// The codec, if it is supported.
    pub codec: Option<Codec>,
    /// The encoding name in `a=rtpmap`; empty without `a=rtpmap`.
    pub name: String,
    /// The RTP clock rate, in Hz; 0 without `a=rtpmap`.
    pub clock_rate: u32,
    /// Number of audio channels.
    pub channels: u8,
    /// The parameters in `a=fmtp`, such as `minptime=10`. At most 16, and 256 bytes in total.
    pub fmtp: Vec<String>,
    /// The feedback types in `a=rtcp-fb` that the codec supports, such as `nack pli`, without
    /// duplicates.
    pub feedback: Vec<&'static str>,
    /// The payload type of retransmissions, RFC 4588.
    pub rtx: Option<u8>,
}

impl Description {
    /// Parses a client's offer or answer.
    ///
    /// Unknown attributes are ignored. Unsupported features that cannot be ignored are errors:
    /// fingerprints without a SHA-256 hash, unbundled media, data channels, and RTCP on a separate
    /// port.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        parse::description(text)
    }

    /// Returns the media line with this mid.
    pub fn line(&self, mid: &str) -> Option<&MediaLine> {
        self.media.iter().find(|line| line.mid == mid)
    }
}

impl MediaLine {
    /// Returns whether the client sends media with a supported codec on this line. Such a line is
    /// accepted in the answer and becomes an [`Uplink`](super::Uplink).
    pub fn is_sent(&self) -> bool {
        let known = self.formats.iter().any(|format| format.codec.is_some());
        known && !self.rejected && self.direction.sends()
    }
}

/// Omits the ICE password.
impl fmt::Debug for Description {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Description")
            .field("ice_ufrag", &self.ice_ufrag)
            .field("setup", &self.setup)
            .field("media", &self.media)
            .finish_non_exhaustive()
    }
}

impl Format {
    /// Returns the parameters that identify the variant of the codec.
    pub(super) fn variant(&self) -> impl Iterator<Item = &String> {
        self.fmtp.iter().filter(|parameter| {
            let name = parameter.split('=').next().unwrap_or_default();
            Codec::is_variant(name.trim())
        })
    }

    /// Returns the value of a parameter in `a=fmtp`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.fmtp.iter().find_map(|parameter| {
            let (known, value) = parameter.split_once('=')?;
            known
                .trim()
                .eq_ignore_ascii_case(name)
                .then(|| value.trim())
        })
    }
}
