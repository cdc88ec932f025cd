//! Breakout rooms: what a room has found to be allowed, and what needs the records and other rooms
//! (contract: signalling, 6.11).

use std::sync::Arc;

use bytes::Bytes;
use parlor_live::{Answer, Command, Delegated, Refusal, Request, error_frame, frame};
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    BroadcastMessage, ConnectedMeetingDump, ConnectedMeetingPeer, CreateConnectedRoomsRequest,
    CreateConnectedRoomsResponse, CreateRoomResponsePayload, DisableConnectedRoomPayload,
    DisableConnectedRoomsRequest, DisableConnectedRoomsResponse, GetConnectedRoomsDumpResponse,
    MovePeersBetweenRoomsRequest, MovePeersBetweenRoomsResponse, MovedPeer, ServiceError,
};
use prost::Message;

use crate::api::ApiError;
use crate::live_records;
use crate::meetings::{self, Room};
use crate::parlor::Parlor;
use crate::participants;

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

/// Tells everybody in a meeting and its breakout rooms who is where.
pub(crate) async fn tell_family(parlor: &Arc<Parlor>, app: AppId, meeting: MeetingId) {
    let told = async { Family::of(parlor, app, meeting).await?.tell_all().await };
    if let Err(Failure::Failed(error)) = told.await {
        tracing::warn!(?error, %meeting, "breakout rooms could not be told who is where");
    }
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
            event::MOVE_PEERS => self.transfer(request).await,
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
        // Without breakout rooms the roster says who is here, and this is asked on every join.
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
        let participants = present.into_iter().map(|peer| ConnectedMeetingPeer {
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
    async fn tell_all(&self) -> Result<(), Failure> {
        let now = Family::of(self.parlor, self.app, self.parent.id).await?;
        let payload: Bytes = now.dump().await.encode_to_vec().into();
        for room in now.all() {
            let push = Command::Push {
                event: event::GET_CONNECTED_ROOMS_DUMP,
                payload: payload.clone(),
            };
            self.parlor.live.tell(self.app, room.id, push);
        }
        Ok(())
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
        live_records::tell_changed(self.parlor, self.app, self.parent.id).await?;
        self.tell_all().await?;
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
            live_records::tell_changed(self.parlor, self.app, id).await?;
            // Clients move people out first; whoever is still there goes.
            self.parlor.live.tell(self.app, id, Command::KickAll);
        }
        live_records::tell_changed(self.parlor, self.app, self.parent.id).await?;
        self.tell_all().await?;
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
    async fn transfer(&self, request: &Request) -> Result<Done, Failure> {
        let asked: MovePeersBetweenRoomsRequest = request.message()?;
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
        let (mut payloads, mut then) = (Vec::new(), Vec::new());
        for moved in asked.participants {
            let participant = moved.id.as_deref().and_then(|id| id.parse().ok());
            let preset = match moved.preset_id.as_deref().filter(|id| !id.is_empty()) {
                None => None,
                Some(id) => Some(
                    id.parse()
                        .map_err(|_| Refusal::new(400, "preset_id must be a UUID"))?,
                ),
            };
            let brought = match participant {
                Some(participant) => {
                    let path = (from, to);
                    participants::bring(self.parlor, self.app, path, participant, preset)
                        .await?
                        .map(|brought| (participant, brought))
                }
                None => None,
            };
            let (payload, transfer) = moved_to(to, brought);
            payloads.push(payload);
            then.extend(transfer.map(|command| (from, command)));
        }
        let response = MovePeersBetweenRoomsResponse { payloads };
        Ok(Done {
            reply: Some(reply(request, &response)),
            then,
        })
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

/// What the asker is told of somebody who was brought to another room, and what sends their clients
/// there.
fn moved_to(
    to: MeetingId,
    brought: Option<(ParticipantId, (participants::Participant, String))>,
) -> (MovedPeer, Option<Command>) {
    let Some((participant, (there, token))) = brought else {
        let nobody = MovedPeer {
            meeting_id: Some(to.to_string()),
            custom_participant_id: None,
            error: Some(ServiceError {
                // Clients look for this very word to tell failure from success.
                message: Some("error: there is no such participant or preset".to_owned()),
                code: Some("404".to_owned()),
            }),
        };
        return (nobody, None);
    };
    let moved = MovedPeer {
        meeting_id: Some(to.to_string()),
        custom_participant_id: Some(there.custom_participant_id),
        error: None,
    };
    let transfer = Command::Transfer {
        participant,
        meeting: to,
        token,
    };
    (moved, Some(transfer))
}

fn reply(request: &Request, message: &impl Message) -> Bytes {
    frame(request.event, request.id.as_deref(), message)
}
