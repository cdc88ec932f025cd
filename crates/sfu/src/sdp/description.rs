//! What a client's description says.

use std::fmt;

use super::codec::{Codec, Kind};
use super::extension::Extensions;
use super::{SdpError, parse};

/// A description that a client made, offer or answer, bundled onto one transport.
#[derive(Clone, PartialEq, Eq)]
pub struct Description {
    /// The client's ICE user name fragment.
    pub ice_ufrag: String,
    /// The client's ICE password.
    pub ice_pwd: String,
    /// Whether the client only answers ICE checks.
    pub ice_lite: bool,
    /// The SHA-256 hash of the client's DTLS certificate. Other hashes are not taken.
    pub fingerprint: [u8; 32],
    /// Who connects with DTLS.
    pub setup: Setup,
    /// The media lines, in order. At least one is not rejected, and all such are in the bundle.
    pub media: Vec<MediaLine>,
}

/// Who connects with DTLS, RFC 5763.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Either side may.
    ActPass,
    /// Who says so does.
    Active,
    /// The other one does.
    Passive,
}

/// Which way media goes, seen from who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// Out.
    SendOnly,
    /// In.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// Its name in SDP.
    pub fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// Whether who says so sends.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether who says so receives.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// One media line with what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaLine {
    /// What is sent on it.
    pub kind: Kind,
    /// Its id: 1 to 16 characters of a token, unique in the description.
    pub mid: String,
    /// Its transport protocol, as written.
    pub(super) profile: &'static str,
    /// Whether it was refused or stopped: port 0, and not for being `a=bundle-only`.
    pub rejected: bool,
    /// Which way media goes, seen from the client.
    pub direction: Direction,
    /// The payload types, the preferred first. No payload type is there twice.
    pub formats: Vec<Format>,
    /// The header extensions that are understood, and that the client may send with.
    pub extensions: Extensions,
    /// Those that it may be sent.
    pub(super) received: Extensions,
    /// The simulcast layers that the client sends, in the order of `a=simulcast`: at most 16.
    pub rids: Vec<String>,
    /// The SSRCs of what the client sends, without those that retransmit.
    pub ssrcs: Vec<u32>,
    /// Which SSRC is retransmitted on which: pairs of the one and the other (RFC 5576 `FID`).
    pub rtx_ssrcs: Vec<(u32, u32)>,
    /// The stream and the track that the client calls it.
    pub msid: Option<(String, String)>,
    /// Whether RTCP may be sent in parts, RFC 5506.
    pub(super) reduced_rtcp: bool,
}

/// One payload type of a media line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// The payload type, at most 127.
    pub payload_type: u8,
    /// The codec, if it is one that is forwarded.
    pub codec: Option<Codec>,
    /// The name in `a=rtpmap`; empty if there was none.
    pub name: String,
    /// How fast its timestamps go, in Hz; 0 if there was no `a=rtpmap`.
    pub clock_rate: u32,
    /// How many channels there are.
    pub channels: u8,
    /// The parameters in `a=fmtp`, such as `minptime=10`: at most 16, and 256 bytes.
    pub fmtp: Vec<String>,
    /// What `a=rtcp-fb` lists of what its codec knows, such as `nack pli`; nothing twice.
    pub feedback: Vec<&'static str>,
    /// The payload type that it is retransmitted with, RFC 4588.
    pub rtx: Option<u8>,
}

impl Description {
    /// Reads a client's offer or answer.
    ///
    /// What is not understood is passed over; what would be misunderstood is an error: other hashes
    /// than SHA-256, media that is not bundled, data channels, RTCP on a port of its own.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        parse::description(text)
    }

    /// The media line with this mid.
    pub fn line(&self, mid: &str) -> Option<&MediaLine> {
        self.media.iter().find(|line| line.mid == mid)
    }
}

impl MediaLine {
    /// Whether the client sends something on it that is forwarded: an answer takes it, and it is an
    /// [`Uplink`](super::Uplink).
    pub fn is_sent(&self) -> bool {
        let known = self.formats.iter().any(|format| format.codec.is_some());
        known && !self.rejected && self.direction.sends()
    }
}

/// Without the password.
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
    /// The parameters that say which variant of the codec this is.
    pub(super) fn variant(&self) -> impl Iterator<Item = &String> {
        self.fmtp.iter().filter(|parameter| {
            let name = parameter.split('=').next().unwrap_or_default();
            Codec::is_variant(name.trim())
        })
    }

    /// The value of a parameter in `a=fmtp`.
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
