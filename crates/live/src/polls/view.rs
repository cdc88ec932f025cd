//! Visibility of polls, and their encoding, which is shared by all peers with the same view.

use std::collections::BTreeSet;
use std::iter::repeat_n;

use bytes::Bytes;
use parlor_protocol::signal::socket::polls::{Poll, PollOption};
use prost::Message;

use crate::frame::{frame_with, header_len, put_length, put_text, text_len};
use crate::input::ConnectionId;
use crate::room::{RequestContext, Step};

/// Maximum number of unnamed voters in an encoded poll.
const MAX_ANONYMOUS_ENTRIES: usize = 1_000;
/// Field number of a poll's voters. It is the last field.
const VOTES: u32 = 8;

/// A poll with its encoded variants.
#[derive(Debug)]
pub(super) struct Held {
    /// The poll with all votes. If it is anonymous, only the sorted ids of the voters are known.
    pub(super) poll: Poll,
    /// The full poll, encoded.
    pub(super) whole: Bytes,
    /// The poll with counts but no names, encoded without its voters. Empty if no peer sees this
    /// variant.
    counts: Bytes,
    /// The poll without counts, encoded without its voters. Empty if no peer sees this variant.
    hidden: Bytes,
    /// The voters, if visibility depends on them.
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
        let depends_on_vote = poll.hide_votes && !poll.anonymous;
        Self {
            voters: poll
                .votes
                .iter()
                .filter(|_| depends_on_vote)
                .cloned()
                .collect(),
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

/// How much of a poll a participant may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    /// All votes.
    Whole,
    /// Counts per option, and whether the participant has voted.
    Counts { voted: bool },
    /// Only the number of voters, until the participant has voted.
    Hidden,
}

impl Visibility {
    /// Visibility for a participant. Polls of the REST API have no creator.
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

/// A poll as a participant may see it. Clients use the length of the voter list and look for
/// themselves in it; other voters appear as empty strings.
pub(super) struct View<'h> {
    /// The encoded poll. Complete for [`Visibility::Whole`], otherwise without its voters.
    poll: &'h Bytes,
    /// The viewer's own id, if it is on the list of voters.
    own_vote: Option<&'h str>,
    others: usize,
}

impl<'h> View<'h> {
    /// The view of a participant.
    pub(super) fn of(held: &'h Held, user: &'h str) -> Self {
        Self::with(held, Visibility::of(held, user), user)
    }

    /// The view for a visibility; `user` is a voter in an anonymous poll.
    pub(super) fn with(held: &'h Held, visibility: Visibility, user: &'h str) -> Self {
        let own_vote = visibility == Visibility::Counts { voted: true };
        let others = (held.poll.votes.len() - usize::from(own_vote)).min(MAX_ANONYMOUS_ENTRIES);
        let (poll, others) = match visibility {
            Visibility::Whole => (&held.whole, 0),
            Visibility::Counts { .. } => (&held.counts, others),
            Visibility::Hidden => (&held.hidden, others),
        };
        let own_vote = own_vote.then_some(user);
        Self {
            poll,
            own_vote,
            others,
        }
    }

    fn encoded_len(&self) -> usize {
        self.poll.len() + self.own_vote.map_or(0, text_len) + self.others * text_len("")
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.poll);
        for voter in self.own_vote.into_iter().chain(repeat_n("", self.others)) {
            put_text(VOTES, voter, to);
        }
    }
}

/// Encoded size of `GetPollsResponse`, or of `UpdatePollResponse`, which is the same with one poll.
fn encoded_len(views: &[View<'_>]) -> usize {
    let lengths = views.iter().map(View::encoded_len);
    lengths.map(|length| header_len(length) + length).sum()
}

fn write(views: &[View<'_>], to: &mut Vec<u8>) {
    for view in views {
        put_length(1, view.encoded_len(), to);
        view.write(to);
    }
}

/// Replies with polls.
pub(super) fn reply(step: &mut Step<'_>, ctx: &RequestContext<'_>, views: &[View<'_>]) {
    ctx.reply_with(step, encoded_len(views), |reply| write(views, reply));
}

/// Pushes a poll.
pub(super) fn push(step: &mut Step<'_>, to: Vec<ConnectionId>, event: u32, view: View<'_>) {
    if !to.is_empty() {
        let views = [view];
        let length = encoded_len(&views);
        let push = frame_with(event, None, length, |push| write(&views, push));
        step.send(to, push);
    }
}

#[cfg(test)]
mod tests {
    use parlor_protocol::signal::socket::polls::{GetPollsResponse, PollVote};

    use super::*;

    /// A poll with votes of Ada and Bob.
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

    /// What a participant sees: the count of the first option, the number of its named votes, and
    /// the list of voters.
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
    fn each_participant_sees_only_what_they_may() {
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
        let (own_vote, others) = (seen(2, 0, "ada,"), seen(2, 0, ","));
        assert_eq!(
            of(true, false),
            [others.clone(), own_vote.clone(), others.clone()]
        );
        assert_eq!(of(true, true), [others, own_vote, seen(0, 0, ",")]);
    }
}
