//! Signed links to chat files. The SDK sends no other credentials with file requests.

use parlor_protocol::ids::{AppId, MeetingId, ParticipantId};
use url::form_urlencoded;
use uuid::Uuid;

use crate::identity::signed_links::{LinkError, SignedLinks};

/// The query parameter with the participant for whom a link was created.
const OWNER: &str = "owner";

/// The operation that a link permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Uploading the file, once.
    Put,
    /// Reading the file.
    Get,
}

/// A chat file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) app: AppId,
    pub(crate) meeting: MeetingId,
    pub(crate) id: Uuid,
    /// File name for downloads. It is untrusted input and never becomes part of a path on disk.
    pub(crate) name: String,
}

impl File {
    /// Returns the message to sign. Links of older versions have no owner. Their message has a
    /// different prefix, so that neither kind of link can be converted into the other.
    fn signed_message(&self, access: Access, owner: Option<ParticipantId>) -> String {
        let Self {
            app,
            meeting,
            id,
            name,
        } = self;
        match owner {
            Some(owner) => {
                format!("file of {owner}: {access:?}\n{app}\n{meeting}\n{id}\n{name}")
            }
            None => format!("file {access:?}\n{app}\n{meeting}\n{id}\n{name}"),
        }
    }

    /// Returns a link that is valid until `expires`, in Unix seconds, or until its owner is
    /// deleted.
    pub(crate) fn link(
        &self,
        links: &SignedLinks,
        origin: &str,
        (access, owner): (Access, ParticipantId),
        expires: i64,
    ) -> String {
        let proof = links.sign_query(&self.signed_message(access, Some(owner)), expires);
        let Self {
            app, meeting, id, ..
        } = self;
        let name = segment(&self.name);
        format!("{origin}/uploads/{app}/{meeting}/{id}/{name}?{OWNER}={owner}&{proof}")
    }

    /// Verifies the query of a link to this file and returns its owner.
    ///
    /// # Errors
    /// When this server did not sign the link, or it has expired.
    pub(crate) async fn check(
        &self,
        links: &SignedLinks,
        access: Access,
        query: &str,
    ) -> Result<Option<ParticipantId>, LinkError> {
        let owner = owner(query);
        links
            .verify(&self.signed_message(access, owner), query)
            .await?;
        // Stored chats contain read links from older versions. Write links expire within minutes.
        if owner.is_none() && access == Access::Put {
            return Err(LinkError::NoOwner);
        }
        Ok(owner)
    }
}

/// Percent-encodes a string as one path segment. The characters left unencoded are also safe in
/// headers (RFC 8187).
pub(crate) fn segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn owner(query: &str) -> Option<ParticipantId> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, owner) = pairs.find(|(name, _)| name == OWNER)?;
    owner.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_older_versions_and_of_this_one_cannot_be_converted_into_each_other() {
        let id = Uuid::from_u128;
        let file = |name: &str| File {
            app: AppId::from_uuid(id(1)),
            meeting: MeetingId::from_uuid(id(2)),
            id: id(3),
            name: name.to_owned(),
        };
        let owner = ParticipantId::from_uuid(id(4));
        // The message of version 0.1. It must not change while stored chats contain such links.
        let older = file("a.png").signed_message(Access::Get, None);
        let (app, meeting, file_id) = (id(1).simple(), id(2), id(3));
        assert_eq!(
            older,
            format!("file Get\n{app}\n{meeting}\n{file_id}\na.png")
        );
        for name in [
            "a.png",
            &format!("a.png\n{owner}"),
            &format!("{owner}\na.png"),
        ] {
            let newer = file(name).signed_message(Access::Get, Some(owner));
            assert!(newer.starts_with(&format!("file of {owner}: Get\n")));
            assert!(!older.starts_with("file of"));
        }
    }

    #[test]
    fn the_owner_is_read_from_the_query() {
        let owner = ParticipantId::from_uuid(Uuid::from_u128(4));
        let read = |query: &str| super::owner(query);
        assert_eq!(read(&format!("owner={owner}&expires=1")), Some(owner));
        assert_eq!(
            read(&format!("expires=1&owner={owner}&owner=x")),
            Some(owner)
        );
        assert_eq!(read("expires=1"), None);
        assert_eq!(read("owner=x"), None);
    }
}
