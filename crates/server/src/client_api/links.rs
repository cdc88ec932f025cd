//! Signed links to files of chats. The SDK sends no other credentials.

use parlor_protocol::ids::{AppId, MeetingId};
use uuid::Uuid;

use crate::api::ApiError;
use crate::parlor::Parlor;
use crate::signed_links;

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
    fn right_to_it(&self, right: Right) -> String {
        let Self {
            app,
            meeting,
            id,
            name,
        } = self;
        format!("file {right:?}\n{app}\n{meeting}\n{id}\n{name}")
    }

    /// A link that is good until a time in Unix seconds.
    pub(super) fn link(&self, parlor: &Parlor, origin: &str, right: Right, expires: i64) -> String {
        let proof = signed_links::proof(parlor, &self.right_to_it(right), expires);
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
        signed_links::check(parlor, &self.right_to_it(right), query).await
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
