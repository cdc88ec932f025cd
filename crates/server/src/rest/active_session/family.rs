//! A meeting and its breakout rooms, kicked as one: whoever was moved to a room is still a person of
//! the meeting.

use std::collections::{BTreeMap, HashSet};

use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use parlor_live::{Answer, Command, Person, Present};
use parlor_protocol::ids::{MeetingId, ParticipantId};

use super::{ask, no_session, nobody, unexpected};
use crate::http::{ApiError, Call};
use crate::rest::meetings::{self, OneMeeting};
use crate::rest::participants;

/// People whom a room throws out before it goes on with other things.
const KICKED_AT_ONCE: usize = 50;

/// People who are looked up at once.
const READ_AT_ONCE: usize = 8;

/// Somebody, and the meeting of the record that they are named by.
pub(super) type MeetingParticipant = (MeetingId, ParticipantId);

/// Throws people out of a meeting and of its breakout rooms: all of them, or nobody when one is in none
/// of these. Answers with who they are, each once, if possible as participants of the meeting itself.
pub(super) async fn kick<Q, B>(
    call: &Call<OneMeeting, Q, B>,
    people: Vec<Person>,
) -> Result<Vec<MeetingParticipant>, ApiError> {
    let meeting = call.path.meeting_id;
    let rooms = meetings::rooms(&call.parlor, call.app, meeting)
        .await?
        .rooms;
    if rooms.is_empty() {
        let Answer::People(kicked) = ask(call, Command::Kick(people)).await? else {
            return Err(unexpected());
        };
        return Ok(kicked.into_iter().map(|id| (meeting, id)).collect());
    }
    let wanted = names_in_family(call, people).await?;
    let all: Vec<Person> = wanted.iter().flatten().cloned().collect();
    let members: Vec<MeetingId> = std::iter::once(meeting).chain(rooms).collect();
    let found = present(call, &members, &all).await?;
    let mut ids = HashSet::new();
    let mut custom = HashSet::new();
    for peer in found.iter().flatten() {
        ids.insert(peer.participant);
        custom.insert(&*peer.custom_id);
    }
    let is_here = |person: &Person| match person {
        Person::Id(id) => ids.contains(id),
        Person::CustomId(id) => custom.contains(&**id),
    };
    if let Some(absent) = wanted.iter().find(|names| !names.iter().any(is_here)) {
        return Err(match &absent[0] {
            Person::Id(id) => nobody(&id.to_string()),
            Person::CustomId(id) => nobody(id),
        });
    }
    let mut kicked: BTreeMap<String, MeetingParticipant> = BTreeMap::new();
    for (member, peers) in members.into_iter().zip(found) {
        let mut people: Vec<ParticipantId> = Vec::new();
        for peer in peers {
            people.push(peer.participant);
            let somebody = (member, peer.participant);
            kicked.entry(peer.custom_id).or_insert(somebody);
        }
        people.sort_unstable();
        people.dedup();
        for people in people.chunks(KICKED_AT_ONCE) {
            let kick = Command::KickPresent(people.to_vec());
            call.parlor.live.command(call.app, member, kick).await;
        }
    }
    in_the_meeting(call, kicked).await
}

/// Throws everybody out of a meeting and of its breakout rooms; how many that were.
pub(super) async fn kick_all<Q, B>(call: &Call<OneMeeting, Q, B>) -> Result<usize, ApiError> {
    let meeting = call.path.meeting_id;
    let kick = |member| call.parlor.live.command(call.app, member, Command::KickAll);
    // Those in the meeting itself are thrown out also while the database is away.
    let here = kick(meeting).await;
    let rooms = meetings::rooms(&call.parlor, call.app, meeting)
        .await?
        .rooms;
    let mut answers = join_all(rooms.into_iter().map(kick)).await;
    answers.push(here);
    let counts = answers.into_iter().filter_map(|answer| match answer {
        Answer::Count(count) => Some(count),
        _ => None,
    });
    counts
        .reduce(|sum, count| sum + count)
        .ok_or_else(|| no_session(meeting))
}

/// By what each of these people is known in the meeting and in its breakout rooms; first as they were
/// named.
async fn names_in_family<Q, B>(
    call: &Call<OneMeeting, Q, B>,
    people: Vec<Person>,
) -> Result<Vec<Vec<Person>>, ApiError> {
    // Several at once, and not all: a request names up to a thousand people.
    let names = stream::iter(people.into_iter().map(async |person| {
        let mut names = vec![person];
        if let Person::Id(id) = &names[0] {
            let found = participants::by_id(&call.parlor, call.app, call.path.meeting_id, *id);
            let found = found.await?;
            names.extend(found.map(|found| Person::CustomId(found.custom_participant_id)));
        }
        Ok(names)
    }));
    names.buffered(READ_AT_ONCE).try_collect().await
}

/// Who of these people is in each of these meetings.
async fn present<Q, B>(
    call: &Call<OneMeeting, Q, B>,
    members: &[MeetingId],
    people: &[Person],
) -> Result<Vec<Vec<Present>>, ApiError> {
    let asked = members.iter().map(|member| {
        let asked = Command::Present(people.to_vec());
        call.parlor.live.command(call.app, *member, asked)
    });
    let mut is_live = false;
    let mut found = Vec::with_capacity(members.len());
    for answer in join_all(asked).await {
        found.push(match answer {
            Answer::Who(session, present) => {
                is_live |= session.is_some();
                present
            }
            _ => Vec::new(),
        });
    }
    if is_live {
        Ok(found)
    } else {
        Err(no_session(call.path.meeting_id))
    }
}

/// The same people as participants of the meeting, where they are.
async fn in_the_meeting<Q, B>(
    call: &Call<OneMeeting, Q, B>,
    people: BTreeMap<String, MeetingParticipant>,
) -> Result<Vec<MeetingParticipant>, ApiError> {
    let meeting = call.path.meeting_id;
    let mut named = Vec::with_capacity(people.len());
    for (custom_id, (member, id)) in people {
        let mut somebody = (member, id);
        if member != meeting {
            let found = participants::by_custom_id(&call.parlor, call.app, meeting, &custom_id);
            if let Some(found) = found.await? {
                somebody = (meeting, found.id);
            }
        }
        named.push(somebody);
    }
    Ok(named)
}
