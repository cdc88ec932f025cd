//! Signed links to files of chats. The SDK sends no other credentials.

use parlor_protocol::ids::{AppId, MeetingId, ParticipantId};
use url::form_urlencoded;
use uuid::Uuid;

use crate::identity::signed_links::{BadLink, SignedLinks};

/// The part of a link's query that says whom it was made for.
const OWNER: &str = "owner";

/// What a link is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// Writing the file, once.
    Put,
    /// Reading it.
    Get,
}

/// A file of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) app: AppId,
    pub(crate) meeting: MeetingId,
    pub(crate) id: Uuid,
    /// What it is called where it is downloaded; never a part of a path on a disk.
    pub(crate) name: String,
}

impl File {
    /// What is signed. Older versions did not name the owner; what they signed begins with other words,
    /// so nobody can make one of the other.
    fn right_to_it(&self, right: Right, owner: Option<ParticipantId>) -> String {
        let Self {
            app,
            meeting,
            id,
            name,
        } = self;
        match owner {
            Some(owner) => {
                format!("file of {owner}: {right:?}\n{app}\n{meeting}\n{id}\n{name}")
            }
            None => format!("file {right:?}\n{app}\n{meeting}\n{id}\n{name}"),
        }
    }

    /// A link that is good until a time in Unix seconds, or until its owner is no participant any more.
    pub(crate) fn link(
        &self,
        links: &SignedLinks,
        origin: &str,
        (right, owner): (Right, ParticipantId),
        expires: i64,
    ) -> String {
        let proof = links.proof(&self.right_to_it(right, Some(owner)), expires);
        let Self {
            app, meeting, id, ..
        } = self;
        let name = segment(&self.name);
        format!("{origin}/uploads/{app}/{meeting}/{id}/{name}?{OWNER}={owner}&{proof}")
    }

    /// Checks the query of a link to this file; answers with whom it was made for.
    ///
    /// # Errors
    /// 403 when it is not one that this server made, or has expired.
    pub(crate) async fn check(
        &self,
        links: &SignedLinks,
        right: Right,
        query: &str,
    ) -> Result<Option<ParticipantId>, BadLink> {
        let owner = owner(query);
        links.check(&self.right_to_it(right, owner), query).await?;
        // Chats that are kept hold links to read of older versions. Those to write live for minutes.
        if owner.is_none() && right == Right::Put {
            return Err(BadLink::NoOwner);
        }
        Ok(owner)
    }
}

/// A text as one segment of a path. Also used in headers (RFC 8187), whose safe letters these are.
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
    fn links_of_older_versions_and_of_this_one_cannot_be_made_of_each_other() {
        let id = Uuid::from_u128;
        let file = |name: &str| File {
            app: AppId::from_uuid(id(1)),
            meeting: MeetingId::from_uuid(id(2)),
            id: id(3),
            name: name.to_owned(),
        };
        let owner = ParticipantId::from_uuid(id(4));
        // What version 0.1 signed: it must not change while such links are in chats.
        let older = file("a.png").right_to_it(Right::Get, None);
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
            let newer = file(name).right_to_it(Right::Get, Some(owner));
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
