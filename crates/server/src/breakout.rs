//! Breakout rooms: what a room has found to be allowed, and what needs the records and other rooms
//! (contract: signalling, 6.11).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use parlor_live::{Answer, Command, Delegated, Refusal, Request, error_frame, frame};
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    BroadcastMessage, ConnectedMeetingDump, ConnectedMeetingPeer, CreateConnectedRoomsRequest,
    CreateConnectedRoomsResponse, CreateRoomResponsePayload, DisableConnectedRoomPayload,
    DisableConnectedRoomsRequest, DisableConnectedRoomsResponse, GetConnectedRoomsDumpResponse,
    MovePeerPayload, MovePeersBetweenRoomsRequest, MovePeersBetweenRoomsResponse, MovedPeer,
    ServiceError,
};
use prost::Message;

use crate::api::ApiError;
use crate::live_records;
use crate::meetings::{self, Room};
use crate::parlor::Parlor;
use crate::participants::{self, Passage};

/// Breakout rooms of one meeting.
const ROOMS_MAX: usize = 100;
/// Characters of a room's title.
const TITLE_MAX: usize = 256;
/// People who are moved in one go.
const MOVED_MAX: usize = 1000;

/// Why it was not done.
enum Failure {
    Refused(Refusal),
    Failed(ApiError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl From<parlor_store::Error> for Failure {
    fn from(error: parlor_store::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Done {
    /// The frame for who asked.
    pub(crate) reply: Option<Bytes>,
    /// What to tell rooms after that.
    pub(crate) then: Vec<(MeetingId, Command)>,
}

impl From<Bytes> for Done {
    fn from(reply: Bytes) -> Self {
        Self {
            reply: Some(reply),
            then: Vec::new(),
        }
    }
}

/// Meetings whose breakout rooms are being told who is where.
///
/// One task tells those of a meeting, so that what it has read later is also told later. Whether
/// something has changed since it began is all that must be remembered for it.
#[derive(Default)]
pub(crate) struct Telling(Mutex<HashMap<(AppId, MeetingId), bool>>);

impl Telling {
    /// Something has changed. Whether nobody tells of it yet.
    fn begin(&self, family: (AppId, MeetingId)) -> bool {
        match self.families().entry(family) {
            Entry::Occupied(mut changed) => {
                changed.insert(true);
                false
            }
            Entry::Vacant(new) => {
                new.insert(false);
                true
            }
        }
    }

    /// A round of telling is over. Whether something has changed since it began.
    fn again(&self, family: (AppId, MeetingId)) -> bool {
        let mut families = self.families();
        let again = families.get_mut(&family).is_some_and(std::mem::take);
        if !again {
            families.remove(&family);
        }
        again
    }

    fn families(&self) -> MutexGuard<'_, HashMap<(AppId, MeetingId), bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells everybody in a meeting and its breakout rooms who is where: soon, and as it is then.
pub(crate) fn tell_family(parlor: &Arc<Parlor>, app: AppId, parent: MeetingId) {
    if !parlor.telling.begin((app, parent)) {
        return;
    }
    let telling = Arc::clone(parlor);
    parlor.live.spawn(async move {
        loop {
            match Family::of(&telling, app, parent).await {
                Ok(family) => family.tell_all().await,
                Err(Failure::Failed(error)) => {
                    tracing::warn!(?error, %parent, "breakout rooms could not be told who is where");
                }
                // The meeting is gone, and nobody is left to be told.
                Err(Failure::Refused(_)) => {}
            }
            if !telling.telling.again((app, parent)) {
                return;
            }
        }
    });
}

/// Does it.
pub(crate) async fn perform(
    parlor: &Arc<Parlor>,
    app: AppId,
    meeting: MeetingId,
    task: &Delegated,
) -> Done {
    let done = async {
        let family = Family::of(parlor, app, meeting).await?;
        family.perform(task).await
    };
    match done.await {
        Ok(done) => done,
        Err(failure) => {
            let refusal = match failure {
                Failure::Refused(refusal) => refusal,
                Failure::Failed(error) => {
                    tracing::warn!(?error, %meeting, "a breakout room operation failed");
                    Refusal::new(500, "this could not be done")
                }
            };
            error_frame(task.request.id.as_deref(), &refusal).into()
        }
    }
}

/// A meeting with breakout rooms, or without any yet, seen from one of them.
struct Family<'p> {
    parlor: &'p Arc<Parlor>,
    app: AppId,
    here: MeetingId,
    parent: Room,
    rooms: Vec<Room>,
}

impl<'p> Family<'p> {
    async fn of(parlor: &'p Arc<Parlor>, app: AppId, here: MeetingId) -> Result<Self, Failure> {
        let family = meetings::family(parlor, app, here).await?;
        let (parent, rooms) = family.ok_or_else(|| Refusal::new(404, "this meeting is gone"))?;
        Ok(Self {
            parlor,
            app,
            here,
            parent,
            rooms,
        })
    }

    async fn perform(&self, task: &Delegated) -> Result<Done, Failure> {
        let request = &task.request;
        match request.event {
            event::GET_CONNECTED_ROOMS_DUMP => Ok(reply(request, &self.dump().await).into()),
            event::CREATE_CONNECTED_ROOMS => self.create(request).await,
            event::DELETE_CONNECTED_ROOMS => self.delete(request).await,
            event::MOVE_PEERS => self.transfer(task).await,
            event::BROADCAST_TO_ENTITY => self.broadcast(request),
            event::KICK_ALL => {
                for room in self.all().filter(|room| room.id != self.here) {
                    let live = &self.parlor.live;
                    live.tell(self.app, room.id, Command::KickAll);
                }
                Ok(Done::default())
            }
            _ => Err(Refusal::new(501, "this cannot be delegated").into()),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Room> {
        std::iter::once(&self.parent).chain(&self.rooms)
    }

    /// Who is where.
    async fn dump(&self) -> GetConnectedRoomsDumpResponse {
        let parent = self.dump_of(&self.parent).await;
        let mut meetings = Vec::with_capacity(self.rooms.len());
        for room in &self.rooms {
            meetings.push(self.dump_of(room).await);
        }
        GetConnectedRoomsDumpResponse {
            parent_meeting: Some(parent),
            meetings,
        }
    }

    async fn dump_of(&self, room: &Room) -> ConnectedMeetingDump {
        // Without breakout rooms the roster says who is here.
        let present = if self.rooms.is_empty() {
            Vec::new()
        } else {
            match self
                .parlor
                .live
                .command(self.app, room.id, Command::Who)
                .await
            {
                Answer::Who(_, present) => present,
                _ => Vec::new(),
            }
        };
        // Everybody gets the same, so nobody is in it whom somebody is not told of.
        let shown = present.into_iter().filter(|peer| peer.shown);
        let participants = shown.map(|peer| ConnectedMeetingPeer {
            id: Some(peer.participant.to_string()),
            display_name: peer.name,
            custom_participant_id: Some(peer.custom_id),
            preset_id: Some(peer.preset.to_string()),
            display_picture_url: peer.picture,
        });
        ConnectedMeetingDump {
            id: Some(room.id.to_string()),
            title: Some(room.title.clone()),
            participants: participants.collect(),
        }
    }

    /// Everybody in the family learns how it is now.
    async fn tell_all(&self) {
        let payload: Bytes = self.dump().await.encode_to_vec().into();
        for room in self.all() {
            let push = Command::Push {
                event: event::GET_CONNECTED_ROOMS_DUMP,
                payload: payload.clone(),
            };
            self.parlor.live.tell(self.app, room.id, push);
        }
    }

    /// The parent's breakout rooms were changed, which cannot fail any more: everybody learns of it.
    async fn changed(&self) {
        live_records::tell_changed(self.parlor, self.app, self.parent.id).await;
        tell_family(self.parlor, self.app, self.parent.id);
    }

    async fn create(&self, request: &Request) -> Result<Done, Failure> {
        let asked: CreateConnectedRoomsRequest = request.message()?;
        if asked.payloads.is_empty() || self.rooms.len() + asked.payloads.len() > ROOMS_MAX {
            let message = format!("a meeting has 1 to {ROOMS_MAX} breakout rooms");
            return Err(Refusal::new(400, message).into());
        }
        let titles: Vec<String> = asked
            .payloads
            .into_iter()
            .map(|room| room.title.unwrap_or_default().replace('\0', ""))
            .collect();
        if titles.iter().any(|title| title.chars().count() > TITLE_MAX) {
            let message = format!("a title has at most {TITLE_MAX} characters");
            return Err(Refusal::new(400, message).into());
        }
        let made = meetings::make_rooms(self.parlor, self.app, self.parent.id, titles).await?;
        self.changed().await;
        let payloads = made.into_iter().map(|room| CreateRoomResponsePayload {
            id: Some(room.id.to_string()),
            title: Some(room.title),
            error: None,
        });
        let response = CreateConnectedRoomsResponse {
            payloads: payloads.collect(),
        };
        Ok(reply(request, &response).into())
    }

    async fn delete(&self, request: &Request) -> Result<Done, Failure> {
        let asked: DisableConnectedRoomsRequest = request.message()?;
        let named = |room: &&Room| {
            let id = room.id.to_string();
            asked
                .payloads
                .iter()
                .any(|one| one.id.as_deref() == Some(&id))
        };
        let gone: Vec<&Room> = self.rooms.iter().filter(named).collect();
        if gone.len() != asked.payloads.len() {
            return Err(Refusal::new(404, "there is no such breakout room").into());
        }
        let ids: Vec<MeetingId> = gone.iter().map(|room| room.id).collect();
        meetings::disconnect(self.parlor, self.app, self.parent.id, &ids).await?;
        for id in ids {
            live_records::tell_changed(self.parlor, self.app, id).await;
            // Clients move people out first; whoever is still there goes.
            self.parlor.live.tell(self.app, id, Command::KickAll);
        }
        self.changed().await;
        let payloads = gone.into_iter().map(|room| DisableConnectedRoomPayload {
            id: Some(room.id.to_string()),
            status: Some("INACTIVE".to_owned()),
            title: Some(room.title.clone()),
            error: None,
        });
        let response = DisableConnectedRoomsResponse {
            payloads: payloads.collect(),
        };
        Ok(reply(request, &response).into())
    }

    /// Moves people: each becomes a participant of the destination, and their clients are sent
    /// there with a token for it.
    async fn transfer(&self, task: &Delegated) -> Result<Done, Failure> {
        let asked: MovePeersBetweenRoomsRequest = task.request.message()?;
        let find = |id: Option<&String>| {
            let room = self
                .all()
                .find(|room| Some(room.id.to_string()).as_ref() == id);
            room.ok_or_else(|| Refusal::new(404, "there is no such breakout room"))
        };
        let from = find(asked.source_meeting_id.as_ref())?.id;
        let to = find(asked.destination_meeting_id.as_ref())?.id;
        if asked.participants.len() > MOVED_MAX {
            let message = format!("at most {MOVED_MAX} people are moved at once");
            return Err(Refusal::new(400, message).into());
        }
        // Who asks is another participant in each room, and the same person.
        let me = if to == self.parent.id {
            let me = participants::by_id(self.parlor, self.app, self.here, task.participant);
            let deleted = || Refusal::new(403, "this participant was deleted");
            Some(me.await?.ok_or_else(deleted)?)
        } else {
            None
        };
        let barred = me.as_ref().map(|me| &*me.custom_participant_id);
        let passage = |moved: &MovePeerPayload| {
            let preset = moved.preset_id.as_deref().filter(|id| !id.is_empty());
            let preset = preset.map(str::parse).transpose();
            let preset = preset.map_err(|_| Refusal::new(400, "preset_id must be a UUID"))?;
            // No record has an id that cannot be read.
            let participant = moved.id.as_deref().and_then(|id| id.parse().ok());
            Ok(participant.map(|participant| Passage {
                participant,
                preset,
                barred,
            }))
        };
        let passages: Result<Vec<_>, Refusal> = asked.participants.iter().map(passage).collect();
        let (mut payloads, mut then) = (Vec::new(), Vec::new());
        for passage in passages? {
            let (payload, transfer) = self.bring((from, to), passage).await;
            payloads.push(payload);
            then.extend(transfer.map(|command| (from, command)));
        }
        let response = MovePeersBetweenRoomsResponse { payloads };
        Ok(Done {
            reply: Some(reply(&task.request, &response)),
            then,
        })
    }

    /// What the asker is told of somebody who is moved, and what sends their clients there. Others
    /// were moved before, so a failure is this one's only.
    async fn bring(
        &self,
        path: (MeetingId, MeetingId),
        passage: Option<Passage<'_>>,
    ) -> (MovedPeer, Option<Command>) {
        let (_, meeting) = path;
        let moved = MovedPeer {
            meeting_id: Some(meeting.to_string()),
            custom_participant_id: None,
            error: None,
        };
        let brought = match passage {
            None => Ok(None),
            Some(passage) => {
                let brought = participants::bring(self.parlor, self.app, path, passage).await;
                brought.map(|brought| brought.map(|there| (passage.participant, there)))
            }
        };
        // Clients look for the word "error" to tell failure from success.
        let failed = |code: &str, message: &str| ServiceError {
            message: Some(format!("error: {message}")),
            code: Some(code.to_owned()),
        };
        let error = match brought {
            Ok(Some((participant, (there, token)))) => {
                let moved = MovedPeer {
                    custom_participant_id: Some(there.custom_participant_id),
                    ..moved
                };
                let transfer = Command::Transfer {
                    participant,
                    meeting,
                    token,
                };
                return (moved, Some(transfer));
            }
            Ok(None) => failed("404", "there is no such participant or preset"),
            Err(error) => {
                tracing::warn!(?error, %meeting, "somebody could not be moved to a breakout room");
                failed("500", "this could not be done")
            }
        };
        let error = Some(error);
        (MovedPeer { error, ..moved }, None)
    }

    /// A message of the app to other rooms; its reply is the sender's own copy.
    fn broadcast(&self, request: &Request) -> Result<Done, Failure> {
        let message: BroadcastMessage = request.message()?;
        for id in &message.ids {
            let room = self.all().find(|room| room.id.to_string() == *id);
            let room = room.ok_or_else(|| Refusal::new(404, "there is no such breakout room"))?;
            if room.id == self.here {
                continue;
            }
            let push = Command::Push {
                event: event::BROADCAST_TO_ENTITY,
                payload: request.payload.clone(),
            };
            self.parlor.live.tell(self.app, room.id, push);
        }
        Ok(reply(request, &message).into())
    }
}

fn reply(request: &Request, message: &impl Message) -> Bytes {
    frame(request.event, request.id.as_deref(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_changes_while_a_family_is_told_is_told_in_one_round_after_it() {
        let id = uuid::Uuid::from_u128;
        let family = (AppId::from_uuid(id(1)), MeetingId::from_uuid(id(2)));
        let other = (family.0, MeetingId::from_uuid(id(3)));
        let telling = Telling::default();
        assert!(telling.begin(family) && telling.begin(other));
        // They are being told: nobody else begins to.
        assert!(!telling.begin(family) && !telling.begin(family));
        assert!(telling.again(family) && !telling.again(family));
        // It is over, so the next change begins anew.
        assert!(telling.begin(family));
        assert!(!telling.again(other));
    }
}
