//! Signed links: whoever has one may do what it says until it expires, with no other credentials,
//! because browsers send none.
//!
//! They are signed with the keys that sign join tokens, so every node takes the links of every
//! other, and after a restart; no state is kept of them. What is signed starts with words that no
//! token starts with.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use url::form_urlencoded::{Serializer, parse};

use parlor_store::{Db, Error};

use super::signing_keys::SigningKeys;
use crate::clock::Clock;

fn signed_text(what: &str, expires: i64) -> String {
    format!("parlor link v1\n{expires}\n{what}")
}

/// Why a link is not good.
#[derive(Debug)]
pub(crate) enum BadLink {
    /// This server did not make it.
    Forged,
    /// It does not say whom it was made for.
    NoOwner,
    /// It was good until some time ago.
    Expired,
    /// The keys could not be read.
    Unknown(Error),
}

/// Makes signed links and checks them.
pub(crate) struct SignedLinks {
    keys: Arc<SigningKeys>,
    db: Db,
    clock: Arc<Clock>,
}

impl SignedLinks {
    /// Links that are signed with the keys of a database.
    pub(crate) fn new(keys: Arc<SigningKeys>, db: Db, clock: Arc<Clock>) -> Self {
        Self { keys, db, clock }
    }

    /// The query of a link that is good for `what` until a time in Unix seconds. Two things that links
    /// are good for must differ in `what`.
    pub(crate) fn proof(&self, what: &str, expires: i64) -> String {
        let key = self.keys.current();
        let signature = key.sign(signed_text(what, expires).as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref());
        Serializer::new(String::new())
            .append_pair("expires", &expires.to_string())
            .append_pair("key", &key.id)
            .append_pair("signature", &signature)
            .finish()
    }

    /// Checks the query of a link that says that it is good for `what`.
    ///
    /// # Errors
    /// When it is not one that this server made, or has expired.
    pub(crate) async fn check(&self, what: &str, query: &str) -> Result<(), BadLink> {
        let given = |name: &str| {
            let found = parse(query.as_bytes()).find(|(known, _)| known == name);
            found.map(|(_, value)| value.into_owned())
        };
        let (Some(expires), Some(key), Some(signature)) =
            (given("expires"), given("key"), given("signature"))
        else {
            return Err(BadLink::Forged);
        };
        let expires: i64 = expires.parse().map_err(|_| BadLink::Forged)?;
        let signature = BASE64_URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| BadLink::Forged)?;
        let (known, monotonic_ms) = (Some(key.clone()), self.clock.monotonic_ms());
        let found = self.keys.find(&self.db, known, monotonic_ms).await;
        found.map_err(BadLink::Unknown)?;
        let signed = signed_text(what, expires);
        if !self.keys.verify(&key, signed.as_bytes(), &signature) {
            return Err(BadLink::Forged);
        }
        // By the wall clock: the link says a date.
        if self.clock.now_ms() / 1000 >= expires {
            return Err(BadLink::Expired);
        }
        Ok(())
    }
}
