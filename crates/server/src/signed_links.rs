//! Signed links: whoever has one may do what it says until it expires, with no other credentials,
//! because browsers send none.
//!
//! They are signed with the keys that sign join tokens, so every node takes the links of every
//! other, and after a restart; no state is kept of them. What is signed starts with words that no
//! token starts with.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use url::form_urlencoded::{Serializer, parse};

use crate::api::ApiError;
use crate::parlor::Parlor;

fn signed_text(what: &str, expires: i64) -> String {
    format!("parlor link v1\n{expires}\n{what}")
}

/// The query of a link that is good for `what` until a time in Unix seconds. Two things that links
/// are good for must differ in `what`.
pub(crate) fn proof(parlor: &Parlor, what: &str, expires: i64) -> String {
    let key = parlor.keys.current();
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
/// 403 when it is not one that this server made, or has expired.
pub(crate) async fn check(parlor: &Parlor, what: &str, query: &str) -> Result<(), ApiError> {
    let given = |name: &str| {
        let found = parse(query.as_bytes()).find(|(known, _)| known == name);
        found.map(|(_, value)| value.into_owned())
    };
    let forged = || ApiError::denied("Access denied: this link was not made by this server");
    let (Some(expires), Some(key), Some(signature)) =
        (given("expires"), given("key"), given("signature"))
    else {
        return Err(forged());
    };
    let expires: i64 = expires.parse().map_err(|_| forged())?;
    let signature = BASE64_URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| forged())?;
    let (known, monotonic_ms) = (Some(key.clone()), parlor.clock.monotonic_ms());
    parlor.keys.find(&parlor.db, known, monotonic_ms).await?;
    let signed = signed_text(what, expires);
    if !parlor.keys.verify(&key, signed.as_bytes(), &signature) {
        return Err(forged());
    }
    // By the wall clock: the link says a date.
    if parlor.clock.now_ms() / 1000 >= expires {
        return Err(ApiError::denied("Access denied: this link has expired"));
    }
    Ok(())
}
