//! Signed links to files of chats: whoever has one may do what it says until it expires, with no
//! other credentials, because the SDK sends none.
//!
//! They are signed with the keys that sign join tokens, so every node takes the links of every
//! other, and after a restart. What is signed starts with words that no token starts with.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use parlor_protocol::ids::{AppId, MeetingId};
use url::form_urlencoded::{Serializer, parse};
use uuid::Uuid;

use crate::api::ApiError;
use crate::parlor::Parlor;

/// What a link is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// Writing the file, once.
    Put,
    /// Reading it.
    Get,
}

/// A file of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) app: AppId,
    pub(super) meeting: MeetingId,
    pub(super) id: Uuid,
    /// What it is called where it is downloaded; never a part of a path on a disk.
    pub(super) name: String,
}

impl File {
    fn signed_text(&self, right: Right, expires: i64) -> String {
        let Self {
            app,
            meeting,
            id,
            name,
        } = self;
        format!("parlor file v1\n{right:?}\n{app}\n{meeting}\n{id}\n{expires}\n{name}")
    }

    /// A link that is good until a time in Unix seconds.
    pub(super) fn link(&self, parlor: &Parlor, origin: &str, right: Right, expires: i64) -> String {
        let key = parlor.keys.current();
        let signature = key.sign(self.signed_text(right, expires).as_bytes());
        let proof = Serializer::new(String::new())
            .append_pair("expires", &expires.to_string())
            .append_pair("key", &key.id)
            .append_pair(
                "signature",
                &BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()),
            )
            .finish();
        let Self {
            app, meeting, id, ..
        } = self;
        let name = segment(&self.name);
        format!("{origin}/uploads/{app}/{meeting}/{id}/{name}?{proof}")
    }

    /// Checks the query of a link to this file.
    ///
    /// # Errors
    /// 403 when it is not one that this server made, or has expired.
    pub(super) async fn check(
        &self,
        parlor: &Parlor,
        right: Right,
        query: &str,
    ) -> Result<(), ApiError> {
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
        let now_ms = parlor.clock.now_ms();
        parlor
            .keys
            .find(&parlor.db, Some(key.clone()), now_ms)
            .await?;
        let signed = self.signed_text(right, expires);
        if !parlor.keys.verify(&key, signed.as_bytes(), &signature) {
            return Err(forged());
        }
        if now_ms / 1000 >= expires {
            return Err(ApiError::denied("Access denied: this link has expired"));
        }
        Ok(())
    }
}

/// A text as one segment of a path. Also used in headers (RFC 8187), whose safe letters these are.
pub(super) fn segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
