//! SDP parsing, offer/answer negotiation and serialization.
//!
//! A client has a publish transport, for which it sends offers ([`Publishing`]), and a receive
//! transport, for which the server sends offers and the client sends offers to close media lines
//! ([`Receiving`]). Each is bundled onto one ICE transport. Our descriptions contain all of our
//! candidates; the client's contain none (docs/spec/media.md 1.3). A client's description is parsed
//! once, into a [`Description`]. [`Publishing`] and [`Receiving`] negotiate from there; they keep
//! the state of all media lines, since lines are never removed (RFC 8829).
//!
//! This module uses no sockets, clocks or random numbers.

mod codec;
mod description;
mod extension;
mod line;
mod parse;
mod publishing;
mod receiving;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

pub use self::codec::{Codec, Kind};
pub use self::description::{Description, Direction, Format, MediaLine, Setup};
pub use self::extension::{Extension, Extensions};
pub use self::publishing::{Opus, Publishing, Uplink};
pub use self::receiving::{Closed, Downlink, Receiving};

/// Maximum size of a description, in bytes. An offer of a browser that receives fifty tracks, with
/// every codec it supports on each, has about 150,000 bytes (docs/spec/media.md 1.6).
pub const MAX_BYTES: usize = 512 * 1024;

/// Maximum number of lines in a description. A media section of a browser's offer has up to 130.
pub const MAX_LINES: usize = 16 * 1024;

/// Maximum number of media lines in a description.
pub const MAX_MEDIA: usize = 512;

/// Maximum number of simulcast layers on a media line: as many as browsers send. If more are
/// offered, the first ones are accepted (RFC 8853 section 5.3.2).
pub const MAX_RIDS: usize = 3;

/// The reason why a description was rejected. The message is a single line, worded for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The description is too large.
    #[error("the description has more than {limit} {of}")]
    TooMuch {
        /// The maximum number.
        limit: usize,
        /// The kind of thing that there are too many of.
        of: &'static str,
    },
    /// A line cannot be parsed.
    #[error("line {number}: {problem}")]
    Line {
        /// The number of the line, starting with 1.
        number: usize,
        /// What is wrong with the line.
        problem: &'static str,
    },
    /// A required part is missing.
    #[error("the description has no {0}")]
    Missing(&'static str),
    /// A media line is invalid, or does not match the earlier descriptions of the transport.
    #[error("mid {mid}: {problem}")]
    Media {
        /// The `a=mid` of the line, at most 16 characters.
        mid: String,
        /// What is wrong with the line.
        problem: &'static str,
    },
    /// The description is well-formed, but not acceptable.
    #[error("{0}")]
    Refused(&'static str),
    /// The transport has the maximum number of media lines, and none of them can be reused.
    #[error("there are {limit} media lines already")]
    Full {
        /// The maximum number of media lines.
        limit: usize,
    },
}

const WRONG_POSITION: &str = "the media line is not at its position";
const WRONG_KIND: &str = "the media type has changed";

/// Our transport parameters.
#[derive(Clone, Copy)]
pub struct Local<'a> {
    /// The ICE user name fragment. Consists of ICE characters.
    pub ufrag: &'a str,
    /// The ICE password. Consists of ICE characters.
    pub pwd: &'a str,
    /// The SHA-256 fingerprint of the DTLS certificate.
    pub fingerprint: &'a [u8; 32],
    /// The candidates, the best first. Duplicates are removed.
    pub candidates: &'a [Candidate],
    /// The session id in `o=`. The highest bit is ignored (RFC 8829 section 5.2.1).
    pub session: u64,
}

/// An ICE host candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The address of the candidate.
    pub address: SocketAddr,
    /// Whether this is a passive TCP candidate (RFC 6544) rather than a UDP candidate.
    pub tcp: bool,
}

impl SdpError {
    fn media(mid: &str, problem: &'static str) -> Self {
        Self::Media {
            mid: mid.to_owned(),
            problem,
        }
    }
}

/// Returns whether the text is a `token` (RFC 8866 section 9) of at most `max_length` characters.
fn is_token(text: &str, max_length: usize) -> bool {
    !text.is_empty()
        && text.len() <= max_length
        && text.bytes().all(|byte| {
            matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'~')
                || byte.is_ascii_alphanumeric()
        })
}

/// The client's transport parameters. They cannot change: a client that wants different ones opens
/// a new transport (docs/spec/media.md 1.3).
struct Remote {
    ufrag: String,
    pwd: String,
    fingerprint: [u8; 32],
}

impl Remote {
    /// Takes the parameters from the first offer.
    fn from_offer(offer: &Description) -> Result<Self, SdpError> {
        let remote = Self {
            ufrag: offer.ice_ufrag.clone(),
            pwd: offer.ice_pwd.clone(),
            fingerprint: offer.fingerprint,
        };
        remote.check_offer(offer)?;
        Ok(remote)
    }

    /// Checks the transport parameters of an offer.
    fn check_offer(&self, offer: &Description) -> Result<(), SdpError> {
        match offer.setup {
            Setup::ActPass | Setup::Active => self.check(offer),
            Setup::Passive => Err(SdpError::Refused("a=setup must be actpass or active")),
        }
    }

    /// Checks the transport parameters of an answer.
    fn check_answer(&self, answer: &Description) -> Result<(), SdpError> {
        match answer.setup {
            Setup::Active => self.check(answer),
            Setup::ActPass | Setup::Passive => Err(SdpError::Refused("a=setup must be active")),
        }
    }

    fn check(&self, description: &Description) -> Result<(), SdpError> {
        if description.ice_lite {
            return Err(SdpError::Refused("ICE-lite clients are not supported"));
        }
        if description.ice_ufrag != self.ufrag || description.ice_pwd != self.pwd {
            return Err(SdpError::Refused(
                "the ICE credentials of a transport cannot change: open a new transport",
            ));
        }
        if description.fingerprint != self.fingerprint {
            return Err(SdpError::Refused(
                "the certificate of a transport cannot change: open a new transport",
            ));
        }
        Ok(())
    }
}
