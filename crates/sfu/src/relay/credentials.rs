//! Names and passwords for TURN that nobody has to remember: the password follows from the name
//! and the server's secret, and the name says until when it holds.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use crate::secret::Secret;

/// Said to clients, and part of what they sign.
pub(super) const REALM: &str = "parlor";

/// A client fetches its credentials once and makes new connections with them until its session
/// ends (docs/spec/media.md 1.1), so they last longer than any meeting. They are worth little to a
/// thief: they lead to the media port, which is open to anybody without them.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a nonce may be used before the server asks for a newer one (RFC 8656 5).
const NONCE_LIFE: Duration = Duration::from_secs(60 * 60);

/// Bytes of the mark that makes a nonce ours.
const MARK: usize = 8;

/// What a client needs to use the relay.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// For `username` of a browser's `RTCIceServer`.
    pub username: String,
    /// For `credential` of a browser's `RTCIceServer`.
    pub password: String,
    /// How long new allocations can be made with them. Those that there are may be kept.
    pub ttl: Duration,
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The key of the long-term credential mechanism (RFC 8489 9.2.2).
pub(super) type Key = [u8; 16];

/// Makes credentials and nonces, and knows its own again. It keeps none of them.
pub(super) struct Credentials {
    passwords: hmac::Key,
    nonces: hmac::Key,
    born: Instant,
    epoch: u64,
}

impl Credentials {
    /// What another server with the same secret issued holds here, too: `epoch` is the Unix time
    /// at `born`, in seconds, and all names count from there.
    pub(super) fn new(secret: &Secret, born: Instant, epoch: u64) -> Self {
        Self {
            passwords: secret.key("turn passwords"),
            nonces: secret.key("turn nonces"),
            born,
            epoch,
        }
    }

    /// Credentials for somebody, whose name may not be longer than a few hundred bytes.
    pub(super) fn issue(&self, now: Instant, who: &str) -> IceCredentials {
        let username = format!("{}:{who}", self.seconds(now + LIFE));
        IceCredentials {
            password: self.password(&username),
            username,
            ttl: LIFE,
        }
    }

    /// Whom a user name was issued to, and whether it still holds. Any name of the right form has
    /// an answer: only the signature shows that it was issued.
    pub(super) fn read<'n>(&self, now: Instant, username: &'n str) -> Option<(&'n str, bool)> {
        let (expires, who) = username.split_once(':')?;
        let expires: u64 = expires.parse().ok()?;
        Some((who, self.seconds(now) < expires))
    }

    /// What somebody of this name signs with.
    pub(super) fn key(&self, username: &str) -> Key {
        let mut hash = Md5::new();
        for part in [username, ":", REALM, ":", &self.password(username)] {
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn password(&self, username: &str) -> String {
        STANDARD.encode(hmac::sign(&self.passwords, username.as_bytes()))
    }

    /// A nonce for a client at an address.
    pub(super) fn nonce(&self, now: Instant, client: SocketAddr) -> String {
        let expires = format!("{:08x}", self.seconds(now + NONCE_LIFE));
        let mark = self.mark(&expires, client);
        mark.iter()
            .fold(expires, |nonce, byte| format!("{nonce}{byte:02x}"))
    }

    /// Whether a nonce was made for this client, and not too long ago.
    pub(super) fn is_fresh(&self, now: Instant, client: SocketAddr, nonce: &str) -> bool {
        let (Some(expires), Some(mark)) = (nonce.get(..8), nonce.get(8..)) else {
            return false;
        };
        let expected = self
            .mark(expires, client)
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let ours =
            constant_time::verify_slices_are_equal(expected.as_bytes(), mark.as_bytes()).is_ok();
        let expires = u64::from_str_radix(expires, 16).unwrap_or(0);
        ours && self.seconds(now) < expires
    }

    fn mark(&self, expires: &str, client: SocketAddr) -> [u8; MARK] {
        let mut context = hmac::Context::with_key(&self.nonces);
        context.update(expires.as_bytes());
        match client.ip() {
            IpAddr::V4(ip) => context.update(&ip.octets()),
            IpAddr::V6(ip) => context.update(&ip.octets()),
        }
        context.update(&client.port().to_be_bytes());
        let tag = context.sign();
        *tag.as_ref()
            .first_chunk()
            .expect("a SHA-256 is longer than a mark")
    }

    /// Unix time as it was at the start and has gone on since: a clock that is set does not move it.
    fn seconds(&self, at: Instant) -> u64 {
        self.epoch + at.saturating_duration_since(self.born).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the tests take place, Unix time.
    const EPOCH: u64 = 1_700_000_000;

    fn credentials(secret: u8, born: Instant, epoch: u64) -> Credentials {
        Credentials::new(&Secret::from([secret; 32]), born, epoch)
    }

    fn client(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn credentials_hold_for_a_day_where_the_secret_is_the_same() {
        let born = Instant::now();
        let ours = credentials(7, born, EPOCH);
        let issued = ours.issue(born, "ada");
        assert_eq!(ours.read(born, &issued.username), Some(("ada", true)));
        let late = born + issued.ttl;
        assert_eq!(ours.read(late, &issued.username), Some(("ada", false)));
        let same = credentials(7, born, EPOCH + 60);
        assert_eq!(ours.key(&issued.username), same.key(&issued.username));
        assert_eq!(same.read(born, &issued.username), Some(("ada", true)));
        let others = credentials(8, born, EPOCH);
        assert_ne!(ours.key(&issued.username), others.key(&issued.username));
        let bobs = issued.username.replace("ada", "bob");
        assert_ne!(ours.key(&issued.username), ours.key(&bobs));
    }

    #[test]
    fn a_name_of_another_form_is_nobodys() {
        let ours = credentials(7, Instant::now(), EPOCH);
        for name in ["", "ada", ":ada", "x:ada", "-1:ada"] {
            assert_eq!(ours.read(Instant::now(), name), None, "{name}");
        }
    }

    #[test]
    fn a_key_is_the_hash_that_the_standard_says() {
        // RFC 8489 9.2.2 gives this one: MD5("user:realm:pass").
        let hashed: Key = Md5::digest("user:realm:pass").into();
        assert_eq!(hashed[..4], [0x84, 0x93, 0xfb, 0xc5]);
    }

    #[test]
    fn a_nonce_is_for_one_client_and_for_an_hour() {
        let born = Instant::now();
        let ours = credentials(7, born, EPOCH);
        let nonce = ours.nonce(born, client("192.0.2.1:5"));
        assert!(ours.is_fresh(born, client("192.0.2.1:5"), &nonce));
        assert!(!ours.is_fresh(born, client("192.0.2.1:6"), &nonce));
        assert!(!ours.is_fresh(born + NONCE_LIFE, client("192.0.2.1:5"), &nonce));
        let forged = nonce.replacen('0', "f", 1);
        for wrong in ["", "é", &forged, &nonce[..20], "00000e1"] {
            assert!(!ours.is_fresh(born, client("192.0.2.1:5"), wrong));
        }
    }
}
