//! Stateless TURN credentials: the password is derived from the user name and the server's secret,
//! and the user name contains the time of expiry.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use crate::secret::Secret;

/// The realm of the long-term credential mechanism. It is part of the key.
pub(super) const REALM: &str = "parlor";

/// Lifetime of credentials. A client fetches them once and uses them for new connections until its
/// session ends (docs/spec/media.md 1.1), so they outlast any meeting. They are of little use to a
/// thief: they give access only to the media port, which is reachable without them.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Lifetime of a nonce, after which the server demands a newer one (RFC 8656 5).
const NONCE_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Length of the authentication tag in a nonce, in bytes.
const NONCE_TAG: usize = 8;

/// Credentials for the TURN server.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// The `username` of a browser's `RTCIceServer`.
    pub username: String,
    /// The `credential` of a browser's `RTCIceServer`.
    pub password: String,
    /// How long new allocations can be made with the credentials. Existing allocations can be
    /// refreshed after that.
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

/// Issues and verifies credentials and nonces. It stores none of them.
pub(super) struct Credentials {
    passwords: hmac::Key,
    nonces: hmac::Key,
    started: Instant,
    started_unix: u64,
}

impl Credentials {
    /// Creates an issuer. `started_unix` is the Unix time at `started`, in seconds. Credentials of
    /// another server with the same secret are accepted too.
    pub(super) fn new(secret: &Secret, started: Instant, started_unix: u64) -> Self {
        Self {
            passwords: secret.key("turn passwords"),
            nonces: secret.key("turn nonces"),
            started,
            started_unix,
        }
    }

    /// Issues credentials for a user, whose name may have at most a few hundred bytes.
    pub(super) fn issue(&self, now: Instant, user: &str) -> IceCredentials {
        let username = format!("{}:{user}", self.unix_seconds(now + LIFETIME));
        IceCredentials {
            password: self.password(&username),
            username,
            ttl: LIFETIME,
        }
    }

    /// Parses a user name. Returns the user and whether the credentials have not expired. Does not
    /// verify that the name was issued: only the message integrity proves that.
    pub(super) fn parse_username<'n>(
        &self,
        now: Instant,
        username: &'n str,
    ) -> Option<(&'n str, bool)> {
        let (expires, user) = username.split_once(':')?;
        let expires: u64 = expires.parse().ok()?;
        Some((user, self.unix_seconds(now) < expires))
    }

    /// Returns the key of `MESSAGE-INTEGRITY` for messages with this user name.
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

    /// Creates a nonce for the client with this address.
    pub(super) fn nonce(&self, now: Instant, client: SocketAddr) -> String {
        let expires = format!("{:08x}", self.unix_seconds(now + NONCE_LIFETIME));
        let tag = self.nonce_tag(&expires, client);
        tag.iter()
            .fold(expires, |nonce, byte| format!("{nonce}{byte:02x}"))
    }

    /// Returns whether a nonce was issued to this client and has not expired.
    pub(super) fn is_fresh(&self, now: Instant, client: SocketAddr, nonce: &str) -> bool {
        let (Some(expires), Some(tag)) = (nonce.get(..8), nonce.get(8..)) else {
            return false;
        };
        let expected = self
            .nonce_tag(expires, client)
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let is_authentic =
            constant_time::verify_slices_are_equal(expected.as_bytes(), tag.as_bytes()).is_ok();
        let expires = u64::from_str_radix(expires, 16).unwrap_or(0);
        is_authentic && self.unix_seconds(now) < expires
    }

    fn nonce_tag(&self, expires: &str, client: SocketAddr) -> [u8; NONCE_TAG] {
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
            .expect("a SHA-256 digest is longer than the tag")
    }

    /// Converts to Unix time, in seconds. It is based on the monotonic clock, so adjustments of the
    /// system clock do not affect it.
    fn unix_seconds(&self, at: Instant) -> u64 {
        self.started_unix + at.saturating_duration_since(self.started).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Unix time of the tests, in seconds.
    const NOW: u64 = 1_700_000_000;

    fn credentials(secret: u8, started: Instant, started_unix: u64) -> Credentials {
        Credentials::new(&Secret::from([secret; 32]), started, started_unix)
    }

    fn client(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn credentials_are_valid_for_a_day_on_servers_with_the_same_secret() {
        let start = Instant::now();
        let first = credentials(7, start, NOW);
        let issued = first.issue(start, "ada");
        let valid = first.parse_username(start, &issued.username);
        assert_eq!(valid, Some(("ada", true)));
        let expired = first.parse_username(start + issued.ttl, &issued.username);
        assert_eq!(expired, Some(("ada", false)));
        let same = credentials(7, start, NOW + 60);
        assert_eq!(first.key(&issued.username), same.key(&issued.username));
        let valid = same.parse_username(start, &issued.username);
        assert_eq!(valid, Some(("ada", true)));
        let other = credentials(8, start, NOW);
        assert_ne!(first.key(&issued.username), other.key(&issued.username));
        let forged = issued.username.replace("ada", "bob");
        assert_ne!(first.key(&issued.username), first.key(&forged));
    }

    #[test]
    fn malformed_user_names_are_rejected() {
        let first = credentials(7, Instant::now(), NOW);
        for name in ["", "ada", ":ada", "x:ada", "-1:ada"] {
            assert_eq!(first.parse_username(Instant::now(), name), None, "{name}");
        }
    }

    #[test]
    fn a_key_is_an_md5_hash() {
        // The example of RFC 8489 9.2.2: MD5("user:realm:pass").
        let hashed: Key = Md5::digest("user:realm:pass").into();
        assert_eq!(hashed[..4], [0x84, 0x93, 0xfb, 0xc5]);
    }

    #[test]
    fn a_nonce_is_valid_for_one_client_and_one_hour() {
        let start = Instant::now();
        let first = credentials(7, start, NOW);
        let nonce = first.nonce(start, client("192.0.2.1:5"));
        assert!(first.is_fresh(start, client("192.0.2.1:5"), &nonce));
        assert!(!first.is_fresh(start, client("192.0.2.1:6"), &nonce));
        let late = start + NONCE_LIFETIME;
        assert!(!first.is_fresh(late, client("192.0.2.1:5"), &nonce));
        let forged = nonce.replacen('0', "f", 1);
        for wrong in ["", "é", &forged, &nonce[..20], "00000e1"] {
            assert!(!first.is_fresh(start, client("192.0.2.1:5"), wrong));
        }
    }
}
