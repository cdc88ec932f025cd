//! What somebody may see of a poll, and how it is sent: it is encoded once for all who see the same.

use std::collections::BTreeSet;
use std::iter::repeat_n;

use bytes::Bytes;
use parlor_protocol::signal::socket::polls::{Poll, PollOption};
use prost::Message;

use crate::frame::{frame_with, head_len, put_length, put_text, text_len};
use crate::input::ConnectionId;
use crate::room::{RequestContext, Turn};

/// Those who have voted and are not named are counted up to here.
const MAX_ANONYMOUS_ENTRIES: usize = 1_000;
/// The field of a poll with those who have voted. It is the last one.
const VOTES: u32 = 8;

/// A poll, and what is sent of it.
#[derive(Debug)]
pub(super) struct Held {
    /// With every vote; of an anonymous one who has voted, in the order of their ids, and not for what.
    pub(super) poll: Poll,
    /// The same, encoded.
    pub(super) whole: Bytes,
    /// As it is seen with the counts and nobody's name, encoded without those who have voted. Nothing
    /// when nobody sees it so.
    counts: Bytes,
    /// The same without the counts.
    hidden: Bytes,
    /// Who has voted, where that decides what somebody sees.
    voters: BTreeSet<String>,
}

impl From<Poll> for Held {
    fn from(mut poll: Poll) -> Self {
        let whole = poll.encode_to_vec().into();
        let votes = std::mem::take(&mut poll.votes);
        let (mut counts, mut hidden) = (Bytes::new(), Bytes::new());
        if poll.anonymous {
            counts = poll.encode_to_vec().into();
        }
        if poll.hide_votes {
            let option = |option: &PollOption| PollOption {
                text: option.text.clone(),
                count: Some(0),
                votes: Vec::new(),
            };
            let options = poll.options.iter().map(option).collect();
            let counted = std::mem::replace(&mut poll.options, options);
            hidden = poll.encode_to_vec().into();
            poll.options = counted;
        }
        poll.votes = votes;
        let decides = poll.hide_votes && !poll.anonymous;
        Self {
            voters: poll.votes.iter().filter(|_| decides).cloned().collect(),
            poll,
            whole,
            counts,
            hidden,
        }
    }
}

impl Held {
    pub(super) fn has_voted(&self, user: &str) -> bool {
        let votes = &self.poll.votes;
        if self.poll.anonymous {
            votes
                .binary_search_by(|voter| voter.as_str().cmp(user))
                .is_ok()
        } else if self.poll.hide_votes {
            self.voters.contains(user)
        } else {
            votes.iter().any(|voter| voter == user)
        }
    }
}

/// What somebody may see of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    /// Who voted for what.
    Whole,
    /// How many voted for what, and whether oneself has voted.
    Counts { voted: bool },
    /// How many have voted, as long as one has not.
    Hidden,
}

impl Visibility {
    /// Polls of the REST API have no creator.
    pub(super) fn of(held: &Held, user: &str) -> Self {
        let poll = &held.poll;
        if !poll.anonymous && !poll.hide_votes {
            return Self::Whole;
        }
        let voted = held.has_voted(user);
        let creator = !user.is_empty() && poll.created_by_user_id == user;
        match (poll.anonymous, poll.hide_votes && !voted && !creator) {
            (_, true) => Self::Hidden,
            (true, false) => Self::Counts { voted },
            (false, false) => Self::Whole,
        }
    }
}

/// A poll as a person may see it. Clients show how long the list of those who have voted is, and look
/// whether they are on it: others have a place on it without a name.
pub(super) struct View<'h> {
    /// All but the list, unless it is the whole.
    poll: &'h Bytes,
    /// Who sees it, on the list.
    own: Option<&'h str>,
    others: usize,
}

impl<'h> View<'h> {
    /// As this person may see it.
    pub(super) fn of(held: &'h Held, user: &'h str) -> Self {
        Self::with(held, Visibility::of(held, user), user)
    }

    /// As those see it who may see so much; of those who have voted in an anonymous one, this one.
    pub(super) fn with(held: &'h Held, visibility: Visibility, user: &'h str) -> Self {
        let own = visibility == Visibility::Counts { voted: true };
        let others = (held.poll.votes.len() - usize::from(own)).min(MAX_ANONYMOUS_ENTRIES);
        let (poll, others) = match visibility {
            Visibility::Whole => (&held.whole, 0),
            Visibility::Counts { .. } => (&held.counts, others),
            Visibility::Hidden => (&held.hidden, others),
        };
        let own = own.then_some(user);
        Self { poll, own, others }
    }

    fn encoded_len(&self) -> usize {
        self.poll.len() + self.own.map_or(0, text_len) + self.others * text_len("")
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.poll);
        for voter in self.own.into_iter().chain(repeat_n("", self.others)) {
            put_text(VOTES, voter, to);
        }
    }
}

/// `GetPollsResponse`, or `UpdatePollResponse`, which is the same with one poll.
fn encoded_len(views: &[View<'_>]) -> usize {
    let lengths = views.iter().map(View::encoded_len);
    lengths.map(|length| head_len(length) + length).sum()
}

fn write(views: &[View<'_>], to: &mut Vec<u8>) {
    for view in views {
        put_length(1, view.encoded_len(), to);
        view.write(to);
    }
}

/// Answers with polls.
pub(super) fn reply(turn: &mut Turn<'_>, asked: &RequestContext<'_>, views: &[View<'_>]) {
    asked.reply_with(turn, encoded_len(views), |reply| write(views, reply));
}

/// Tells of a poll.
pub(super) fn push(turn: &mut Turn<'_>, to: Vec<ConnectionId>, event: u32, view: View<'_>) {
    if !to.is_empty() {
        let views = [view];
        let length = encoded_len(&views);
        let push = frame_with(event, None, length, |push| write(&views, push));
        turn.send(to, push);
    }
}

#[cfg(test)]
mod tests {
    use parlor_protocol::signal::socket::polls::{GetPollsResponse, PollVote};

    use super::*;

    /// A poll in which Ada and Bob have voted.
    fn poll(anonymous: bool, hide_votes: bool) -> Held {
        let votes = if anonymous { &[][..] } else { &["ada", "bob"] };
        let vote = |user: &&str| PollVote {
            user_id: (*user).to_owned(),
            name: user.to_uppercase(),
        };
        let option = |text: &str, count, votes: &[&str]| PollOption {
            text: text.to_owned(),
            count: Some(count),
            votes: votes.iter().map(vote).collect(),
        };
        Held::from(Poll {
            poll_id: "id".to_owned(),
            created_by: "Eve".to_owned(),
            created_by_user_id: "eve".to_owned(),
            question: "?".to_owned(),
            options: vec![option("a", 2, votes), option("b", 0, &[])],
            hide_votes,
            anonymous,
            votes: vec!["ada".to_owned(), "bob".to_owned()],
        })
    }

    /// What somebody sees: how many voted for the first option, how many of them are named there, and
    /// the list of those who have voted.
    fn seen(held: &Held, user: &str) -> (u64, usize, Vec<String>) {
        let views = [View::of(held, user)];
        let mut bytes = Vec::new();
        write(&views, &mut bytes);
        assert_eq!(bytes.len(), encoded_len(&views));
        let read = GetPollsResponse::decode(bytes.as_slice()).unwrap();
        let [poll] = <[Poll; 1]>::try_from(read.polls).unwrap();
        let texts: Vec<&str> = poll.options.iter().map(|it| it.text.as_str()).collect();
        assert_eq!((&*poll.question, &*texts), ("?", &["a", "b"][..]));
        assert_eq!(poll.created_by_user_id, "eve");
        assert_eq!(poll.options[1].count, Some(0));
        let first = &poll.options[0];
        (first.count(), first.votes.len(), poll.votes)
    }

    #[test]
    fn everybody_sees_as_much_as_they_may() {
        let of = |anonymous, hide_votes| {
            let held = poll(anonymous, hide_votes);
            ["eve", "ada", "zoe"].map(|user| {
                let (count, named, votes) = seen(&held, user);
                (count, named, votes.join(","))
            })
        };
        let seen = |count, named, votes: &str| (count, named, votes.to_owned());
        let whole = seen(2, 2, "ada,bob");
        assert_eq!(
            of(false, false),
            [whole.clone(), whole.clone(), whole.clone()]
        );
        assert_eq!(of(false, true), [whole.clone(), whole, seen(0, 0, ",")]);
        let (own, others) = (seen(2, 0, "ada,"), seen(2, 0, ","));
        assert_eq!(
            of(true, false),
            [others.clone(), own.clone(), others.clone()]
        );
        assert_eq!(of(true, true), [others, own, seen(0, 0, ",")]);
    }
}
