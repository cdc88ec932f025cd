//! Moving participants between a meeting and its breakout rooms.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use parlor_live::{Answer, Command, DelegatedRequest, ParticipantRef, Refusal};
use parlor_protocol::ids::{MeetingId, ParticipantId};
use parlor_protocol::signal::socket::room::{
    MovePeerPayload, MovePeersBetweenRoomsRequest, MovePeersBetweenRoomsResponse, MovedPeer,
    ServiceError,
};

use super::{ConnectedMeetings, DelegationResult, Failure, reply};
use crate::rest::participants::{self, ParticipantTransfer, Route, TRANSFER_BATCH};

/// Maximum number of participants that are moved in one request.
const MAX_MOVED: usize = 1000;

/// The outcome of moving one participant: their custom id, or the error's code and message.
type Moved = Result<String, (&'static str, &'static str)>;

/// The participants to move, each once, and for each item of the request the index of its
/// participant.
#[derive(Debug, Default)]
struct Listed {
    transfers: Vec<ParticipantTransfer>,
    items: Vec<Option<usize>>,
}

impl Listed {
    fn of(items: &[MovePeerPayload]) -> Result<Self, Refusal> {
        let mut listed = Self::default();
        let mut known: HashMap<ParticipantId, usize> = HashMap::new();
        for moved in items {
            let preset = moved.preset_id.as_deref().filter(|id| !id.is_empty());
            let preset = preset.map(str::parse).transpose();
            let preset = preset.map_err(|_| Refusal::new(400, "preset_id must be a UUID"))?;
            // An id that cannot be parsed belongs to no participant.
            let Some(participant) = moved.id.as_deref().and_then(|id| id.parse().ok()) else {
                listed.items.push(None);
                continue;
            };
            let transfer = ParticipantTransfer {
                participant,
                preset,
                token_expires: None,
            };
            let at = match known.entry(participant) {
                Entry::Occupied(at) => *at.get(),
                Entry::Vacant(new) => {
                    listed.transfers.push(transfer);
                    *new.insert(listed.transfers.len() - 1)
                }
            };
            if listed.transfers[at] != transfer {
                let message = "a participant is listed with two presets";
                return Err(Refusal::new(400, message));
            }
            listed.items.push(Some(at));
        }
        Ok(listed)
    }
}

impl ConnectedMeetings<'_> {
    /// Moves participants: each becomes a participant of the destination, and their clients are
    /// sent there with a token for it.
    pub(super) async fn transfer(
        &self,
        task: &DelegatedRequest,
    ) -> Result<DelegationResult, Failure> {
        let body: MovePeersBetweenRoomsRequest = task.request.message()?;
        let find = |id: Option<&String>| {
            let room = self
                .all()
                .find(|room| Some(room.id.to_string()).as_ref() == id);
            room.ok_or_else(|| Refusal::new(404, "there is no such breakout room"))
        };
        let from = find(body.source_meeting_id.as_ref())?.id;
        let to = find(body.destination_meeting_id.as_ref())?;
        // A client leaves its room before it joins the other, which would reject it.
        if !(self.parent.active && to.active) {
            return Err(Refusal::new(403, "this meeting is inactive").into());
        }
        let to = to.id;
        if body.participants.len() > MAX_MOVED {
            let message = format!("at most {MAX_MOVED} participants can be moved in one request");
            return Err(Refusal::new(400, message).into());
        }
        let mut listed = Listed::of(&body.participants)?;
        // The requester is a different participant in each room, but the same person.
        let me = if to == self.parent.id {
            let me = participants::by_id(self.state, self.app, self.here, task.participant);
            let deleted = || Refusal::new(403, "this participant was deleted");
            Some(me.await?.ok_or_else(deleted)?)
        } else {
            None
        };
        let route = Route {
            app: self.app,
            parent: self.parent.id,
            from,
            to,
            never_add: me.as_ref().map(|me| &*me.custom_participant_id),
        };
        self.load_token_expiry(from, &mut listed.transfers).await?;
        let (mut moved, mut commands) = (Vec::new(), Vec::new());
        for chunk in listed.transfers.chunks(TRANSFER_BATCH) {
            let tokens = self.move_chunk(route, chunk, &mut moved).await;
            let transfer = Command::Transfer {
                meeting: to,
                participants: tokens,
            };
            commands.push((from, transfer));
        }
        let payloads = listed
            .items
            .iter()
            .map(|at| payload(to, at.map(|at| &moved[at])));
        let response = MovePeersBetweenRoomsResponse {
            payloads: payloads.collect(),
        };
        Ok(DelegationResult {
            reply: Some(reply(&task.request, &response)),
            commands,
        })
    }

    /// Sets the expiry of the token of each participant to move: the latest among those of their
    /// connected peers.
    async fn load_token_expiry(
        &self,
        from: MeetingId,
        transfers: &mut [ParticipantTransfer],
    ) -> Result<(), Failure> {
        let named = transfers
            .iter()
            .map(|transfer| ParticipantRef::Id(transfer.participant));
        let find = Command::FindPeers(named.collect());
        // Without a running room no one is connected, so no one is moved.
        let Answer::Peers(_, present) = self
            .state
            .live
            .command_with_timeout(self.app, from, find)
            .await?
        else {
            return Ok(());
        };
        let mut latest: HashMap<ParticipantId, Option<i64>> = HashMap::new();
        for peer in present {
            let known = latest.entry(peer.participant).or_default();
            *known = (*known).max(peer.token_expires);
        }
        for transfer in transfers {
            transfer.token_expires = latest.remove(&transfer.participant).flatten();
        }
        Ok(())
    }

    /// Moves a chunk of participants in the database, appends the outcomes to `moved`, and returns
    /// the tokens their clients join with. Earlier chunks are committed, so a failure affects only
    /// this chunk.
    async fn move_chunk(
        &self,
        route: Route<'_>,
        transfers: &[ParticipantTransfer],
        moved: &mut Vec<Moved>,
    ) -> Vec<(ParticipantId, String)> {
        let results = match participants::transfer(self.state, route, transfers).await {
            Ok(results) => results,
            Err(error) => {
                tracing::warn!(?error, meeting = %route.to, "participants could not be moved to a breakout room");
                let failed: Moved = Err(("500", "the request failed"));
                moved.extend(transfers.iter().map(|_| failed.clone()));
                return Vec::new();
            }
        };
        let mut tokens = Vec::with_capacity(transfers.len());
        for (transfer, moved_to) in transfers.iter().zip(results) {
            moved.push(match moved_to {
                Some(moved_to) => {
                    tokens.push((transfer.participant, moved_to.token));
                    Ok(moved_to.custom_participant_id)
                }
                None => Err(("404", "there is no such participant or preset")),
            });
        }
        tokens
    }
}

/// Builds the reply's entry for one participant.
fn payload(meeting: MeetingId, moved: Option<&Moved>) -> MovedPeer {
    let missing = || Err(("404", "there is no such participant or preset"));
    let (custom_participant_id, error) = match moved.cloned().unwrap_or_else(missing) {
        Ok(custom_id) => (Some(custom_id), None),
        // Clients look for the word "error" to distinguish failure from success.
        Err((code, message)) => {
            let error = ServiceError {
                message: Some(format!("error: {message}")),
                code: Some(code.to_owned()),
            };
            (None, Some(error))
        }
    };
    MovedPeer {
        meeting_id: Some(meeting.to_string()),
        custom_participant_id,
        error,
    }
}
