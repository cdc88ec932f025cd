//! The secret from which ICE and TURN passwords are derived, so that they need not be stored.

use std::fmt;

use aws_lc_rs::hmac;

/// A 256-bit secret. A server that restarts with the same secret can authenticate the checks of
/// clients that still use a transport from before the restart (docs/spec/media.md 5.4), and TURN
/// passwords that were already issued stay valid. The `Debug` output does not contain the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Generates a random secret. Passwords derived from it become invalid when the process ends.
    ///
    /// # Panics
    /// The system cannot provide random bytes.
    pub fn ephemeral() -> Self {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system provides random bytes");
        Self(bytes)
    }

    /// Derives a key for one purpose. Keys for different purposes are independent.
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
