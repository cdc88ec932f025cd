//! Kicks participants from a meeting and its breakout rooms together: a participant who was moved
//! to a breakout room still belongs to the meeting.

use std::collections::{BTreeMap, HashSet};

use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use parlor_live::{Answer, Command, ParticipantRef, PeerSnapshot};
use parlor_protocol::ids::{MeetingId, ParticipantId};

use super::{no_session, send_command, unexpected_answer, unknown_participant};
use crate::http::{ApiError, Call};
use crate::rest::meetings::{self, MeetingPath};
use crate::rest::participants;

/// Number of participants that a room kicks in one command, so that it stays responsive.
const KICK_BATCH: usize = 50;

/// Number of concurrent participant lookups.
const LOOKUP_CONCURRENCY: usize = 8;

/// A participant, and the meeting that its record belongs to.
pub(super) type MeetingParticipant = (MeetingId, ParticipantId);

/// Kicks participants from a meeting and its breakout rooms. If one of them is in none of these
/// meetings, nobody is kicked. Returns each kicked participant once, as a participant of the
/// meeting itself where possible.
pub(super) async fn kick<Q, B>(
    call: &Call<MeetingPath, Q, B>,
    selected: Vec<ParticipantRef>,
) -> Result<Vec<MeetingParticipant>, ApiError> {
    let meeting = call.path.meeting_id;
    let rooms = meetings::rooms(&call.state, call.app, meeting).await?.rooms;
    if rooms.is_empty() {
        let Answer::Participants(kicked) = send_command(call, Command::Kick(selected)).await?
        else {
            return Err(unexpected_answer());
        };
        return Ok(kicked.into_iter().map(|id| (meeting, id)).collect());
    }
    let requested = identifiers_in_family(call, selected).await?;
    let all: Vec<ParticipantRef> = requested.iter().flatten().cloned().collect();
    let members: Vec<MeetingId> = std::iter::once(meeting).chain(rooms).collect();
    let found = find_peers(call, &members, &all).await?;
    let mut ids = HashSet::new();
    let mut custom = HashSet::new();
    for peer in found.iter().flatten() {
        ids.insert(peer.participant);
        custom.insert(&*peer.custom_id);
    }
    let is_present = |participant: &ParticipantRef| match participant {
        ParticipantRef::Id(id) => ids.contains(id),
        ParticipantRef::CustomId(id) => custom.contains(&**id),
    };
    if let Some(absent) = requested
        .iter()
        .find(|identifiers| !identifiers.iter().any(is_present))
    {
        return Err(match &absent[0] {
            ParticipantRef::Id(id) => unknown_participant(&id.to_string()),
            ParticipantRef::CustomId(id) => unknown_participant(id),
        });
    }
    let mut kicked: BTreeMap<String, MeetingParticipant> = BTreeMap::new();
    for (member, peers) in members.into_iter().zip(found) {
        let mut ids: Vec<ParticipantId> = Vec::new();
        for peer in peers {
            ids.push(peer.participant);
            let participant = (member, peer.participant);
            kicked.entry(peer.custom_id).or_insert(participant);
        }
        ids.sort_unstable();
        ids.dedup();
        for batch in ids.chunks(KICK_BATCH) {
            let kick = Command::KickIfPresent(batch.to_vec());
            call.state.live.command(call.app, member, kick).await;
        }
    }
    as_meeting_participants(call, kicked).await
}

/// Kicks all participants from a meeting and its breakout rooms. Returns their number.
pub(super) async fn kick_all<Q, B>(call: &Call<MeetingPath, Q, B>) -> Result<usize, ApiError> {
    let meeting = call.path.meeting_id;
    let kick = |member| call.state.live.command(call.app, member, Command::KickAll);
    // The meeting itself needs no lookup, so its participants are kicked even if the database is
    // unavailable.
    let in_meeting = kick(meeting).await;
    let rooms = meetings::rooms(&call.state, call.app, meeting).await?.rooms;
    let mut answers = join_all(rooms.into_iter().map(kick)).await;
    answers.push(in_meeting);
    let counts = answers.into_iter().filter_map(|answer| match answer {
        Answer::Count(count) => Some(count),
        _ => None,
    });
    counts
        .reduce(|sum, count| sum + count)
        .ok_or_else(|| no_session(meeting))
}

/// The identifiers of each participant in the meeting and its breakout rooms, starting with the one
/// that the request used.
async fn identifiers_in_family<Q, B>(
    call: &Call<MeetingPath, Q, B>,
    selected: Vec<ParticipantRef>,
) -> Result<Vec<Vec<ParticipantRef>>, ApiError> {
    // With limited concurrency: a request may name up to a thousand participants.
    let identifiers = stream::iter(selected.into_iter().map(async |participant| {
        let mut identifiers = vec![participant];
        if let ParticipantRef::Id(id) = &identifiers[0] {
            let found = participants::by_id(&call.state, call.app, call.path.meeting_id, *id);
            let found = found.await?;
            identifiers
                .extend(found.map(|found| ParticipantRef::CustomId(found.custom_participant_id)));
        }
        Ok(identifiers)
    }));
    identifiers.buffered(LOOKUP_CONCURRENCY).try_collect().await
}

/// The peers of the given participants in each of the given meetings.
async fn find_peers<Q, B>(
    call: &Call<MeetingPath, Q, B>,
    members: &[MeetingId],
    selected: &[ParticipantRef],
) -> Result<Vec<Vec<PeerSnapshot>>, ApiError> {
    let pending = members.iter().map(|member| {
        let command = Command::FindPeers(selected.to_vec());
        call.state.live.command(call.app, *member, command)
    });
    let mut is_live = false;
    let mut found = Vec::with_capacity(members.len());
    for answer in join_all(pending).await {
        found.push(match answer {
            Answer::Peers(session, peers) => {
                is_live |= session.is_some();
                peers
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

/// Replaces participants of breakout rooms by the same participants of the meeting, where they
/// exist.
async fn as_meeting_participants<Q, B>(
    call: &Call<MeetingPath, Q, B>,
    kicked: BTreeMap<String, MeetingParticipant>,
) -> Result<Vec<MeetingParticipant>, ApiError> {
    let meeting = call.path.meeting_id;
    let mut result = Vec::with_capacity(kicked.len());
    for (custom_id, (member, id)) in kicked {
        let mut participant = (member, id);
        if member != meeting {
            let found = participants::by_custom_id(&call.state, call.app, meeting, &custom_id);
            if let Some(found) = found.await? {
                participant = (meeting, found.id);
            }
        }
        result.push(participant);
    }
    Ok(result)
}
