//! Signed links. A link grants access to one resource until it expires, without other credentials,
//! because browsers send none.
//!
//! Links are stateless and signed with the keys that sign join tokens, so every node accepts the
//! links of every other node, also after a restart. The signed text has a prefix that no join token
//! has.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use url::form_urlencoded::{Serializer, parse};

use parlor_store::{Db, Error};

use super::signing_keys::SigningKeys;
use crate::clock::Clock;

fn signed_text(resource: &str, expires: i64) -> String {
    format!("parlor link v1\n{expires}\n{resource}")
}

/// The reason why a link is rejected.
#[derive(Debug)]
pub(crate) enum LinkError {
    /// The link was not signed by this server.
    Forged,
    /// The link does not name its owner.
    NoOwner,
    /// The link has expired.
    Expired,
    /// The signing keys could not be read.
    KeysUnavailable(Error),
}

/// Signs and verifies links.
pub(crate) struct SignedLinks {
    keys: Arc<SigningKeys>,
    db: Db,
    clock: Arc<Clock>,
}

impl SignedLinks {
    /// Creates a signer that uses the keys of a database.
    pub(crate) fn new(keys: Arc<SigningKeys>, db: Db, clock: Arc<Clock>) -> Self {
        Self { keys, db, clock }
    }

    /// Returns the signed query string of a link that grants access to `resource` until a time in
    /// Unix seconds. Different resources must have different `resource` strings.
    pub(crate) fn sign_query(&self, resource: &str, expires: i64) -> String {
        let key = self.keys.current();
        let signature = key.sign(signed_text(resource, expires).as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref());
        Serializer::new(String::new())
            .append_pair("expires", &expires.to_string())
            .append_pair("key", &key.id)
            .append_pair("signature", &signature)
            .finish()
    }

    /// Verifies the query string of a link to `resource`.
    ///
    /// # Errors
    /// When the link was not signed by this server, or has expired.
    pub(crate) async fn verify(&self, resource: &str, query: &str) -> Result<(), LinkError> {
        let given = |name: &str| {
            let found = parse(query.as_bytes()).find(|(known, _)| known == name);
            found.map(|(_, value)| value.into_owned())
        };
        let (Some(expires), Some(key), Some(signature)) =
            (given("expires"), given("key"), given("signature"))
        else {
            return Err(LinkError::Forged);
        };
        let expires: i64 = expires.parse().map_err(|_| LinkError::Forged)?;
        let signature = BASE64_URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| LinkError::Forged)?;
        let (known, monotonic_ms) = (Some(key.clone()), self.clock.monotonic_ms());
        let found = self
            .keys
            .refresh_if_unknown(&self.db, known, monotonic_ms)
            .await;
        found.map_err(LinkError::KeysUnavailable)?;
        let signed = signed_text(resource, expires);
        if !self.keys.verify(&key, signed.as_bytes(), &signature) {
            return Err(LinkError::Forged);
        }
        // Compared with the wall clock, because the link contains a date.
        if self.clock.now_ms() / 1000 >= expires {
            return Err(LinkError::Expired);
        }
        Ok(())
    }
}
