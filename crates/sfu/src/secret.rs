//! What the passwords of ICE and TURN follow from, so that they need not be kept.

use std::fmt;

use aws_lc_rs::hmac;

/// Bytes that nobody else knows. A server that starts again with the same ones knows whose
/// transport a client still believes in (docs/spec/media.md 5.4), and the TURN passwords that are out
/// stay good. Its `Debug` form hides them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A secret that nobody keeps: after this process, nothing that it led to is known again.
    ///
    /// # Panics
    /// The system has no randomness to give, in which case nothing here could be safe.
    pub fn ephemeral() -> Self {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
        Self(bytes)
    }

    /// A key for one purpose. That of one says nothing of that of another.
    pub(crate) fn key(&self, purpose: &str) -> hmac::Key {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&secret, purpose.as_bytes());
        hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref())
    }
}

impl From<[u8; 32]> for Secret {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
