//! Session descriptions: what clients offer and answer, and what they are offered and answered.
//!
//! A client has a connection to publish on, where it offers ([`Publishing`]), and one to receive
//! on, where we offer and it offers too, to close ([`Receiving`]). Both are bundled onto one ICE
//! transport each, with all of our candidates in the text and none of the client's
//! (docs/spec/media.md 1.3). What a client wrote is read once, into a [`Description`]; whatever is said
//! about it after that is decided by the two, which remember each media line there ever was (RFC 8829).
//!
//! Nothing here knows sockets, time or chance.

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

/// How many bytes a description may have. Fifty tracks that a browser receives, each with every
/// codec it knows, take some 150,000 (docs/spec/media.md 1.6).
pub const MAX_BYTES: usize = 512 * 1024;

/// How many lines a description may have. Each media line of a browser's offer has up to 130.
pub const MAX_LINES: usize = 16 * 1024;

/// How many media lines a description may have.
pub const MAX_MEDIA: usize = 512;

/// How many simulcast layers are taken on one media line: as many as browsers send. Of more that
/// are offered, the first are taken (RFC 8853 section 5.3.2).
pub const MAX_RIDS: usize = 3;

/// Why a description was not taken. The text is for the client, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// It is too large.
    #[error("it has more than {limit} {of}")]
    TooMuch {
        /// How much there may be.
        limit: usize,
        /// What there is too much of.
        of: &'static str,
    },
    /// A line of it cannot be read.
    #[error("line {number}: {problem}")]
    Line {
        /// Which line, from 1.
        number: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Something that every description needs is not there.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// One of its media lines cannot be, or does not go with what was said before.
    #[error("mid {mid}: {problem}")]
    Media {
        /// The `a=mid` of the line, at most 16 characters.
        mid: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It is well-formed, and asks for what there is not here.
    #[error("{0}")]
    Refused(&'static str),
    /// There are as many media lines as there may be, and none is free.
    #[error("there are {limit} media lines already")]
    Full {
        /// How many there may be.
        limit: usize,
    },
}

/// What our side of a transport says about itself.
#[derive(Clone, Copy)]
pub struct Local<'a> {
    /// The ICE user name fragment, of ICE characters.
    pub ufrag: &'a str,
    /// The ICE password, of ICE characters.
    pub pwd: &'a str,
    /// The SHA-256 hash of the DTLS certificate.
    pub fingerprint: &'a [u8; 32],
    /// Where clients are told to come to, the best first. The same address is told once.
    pub candidates: &'a [Candidate],
    /// The id of the session in `o=`. Its highest bit is not used (RFC 8829 section 5.2.1).
    pub session: u64,
}

/// An address that clients can come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The address.
    pub address: SocketAddr,
    /// Whether clients connect to it with TCP (a passive candidate of RFC 6544) and not UDP.
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

/// Whether this is a `token` (RFC 8866 section 9) of at most so many characters.
fn is_token(text: &str, longest: usize) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && text.bytes().all(|byte| {
            matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'~')
                || byte.is_ascii_alphanumeric()
        })
}

/// What a transport of a client is known by. It cannot change: a client that wants another makes a
/// new transport (docs/spec/media.md 1.3).
struct Client {
    ufrag: String,
    pwd: String,
    fingerprint: [u8; 32],
}

impl Client {
    /// The client of a first offer.
    fn of(offer: &Description) -> Result<Self, SdpError> {
        let client = Self {
            ufrag: offer.ice_ufrag.clone(),
            pwd: offer.ice_pwd.clone(),
            fingerprint: offer.fingerprint,
        };
        client.offers(offer)?;
        Ok(client)
    }

    /// Whether a client that is ICE-lite's peer and the one who connects can have offered this.
    fn offers(&self, offer: &Description) -> Result<(), SdpError> {
        match offer.setup {
            Setup::ActPass | Setup::Active => self.says(offer),
            Setup::Passive => Err(SdpError::Refused("its a=setup must be actpass or active")),
        }
    }

    /// The same for an answer.
    fn answers(&self, answer: &Description) -> Result<(), SdpError> {
        match answer.setup {
            Setup::Active => self.says(answer),
            Setup::ActPass | Setup::Passive => Err(SdpError::Refused("its a=setup must be active")),
        }
    }

    fn says(&self, description: &Description) -> Result<(), SdpError> {
        if description.ice_lite {
            return Err(SdpError::Refused("both sides cannot be ICE-lite"));
        }
        if description.ice_ufrag != self.ufrag || description.ice_pwd != self.pwd {
            return Err(SdpError::Refused(
                "a transport keeps its ICE user name and password: open a new one",
            ));
        }
        if description.fingerprint != self.fingerprint {
            return Err(SdpError::Refused(
                "a transport keeps its certificate: open a new one",
            ));
        }
        Ok(())
    }
}
