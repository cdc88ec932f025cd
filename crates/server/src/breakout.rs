//! Breakout rooms: performs requests that a room has authorized and that need the database and
//! other rooms (docs/spec/signalling.md 6.11).

mod moving;

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};
use parlor_live::{Answer, Command, DelegatedRequest, Refusal, Request, error_frame, frame};
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    BroadcastMessage, ConnectedMeetingDump, ConnectedMeetingPeer, CreateConnectedRoomsRequest,
    CreateConnectedRoomsResponse, CreateRoomResponsePayload, DisableConnectedRoomPayload,
    DisableConnectedRoomsRequest, DisableConnectedRoomsResponse, DisableRoomPayload,
    GetConnectedRoomsDumpResponse,
};
use prost::Message;

use crate::http::ApiError;
use crate::rest::meetings::{self, ROOMS_MAX, Room};
use crate::rooms::{DelegationHandler, DelegationResult, records};
use crate::state::ServerState;

/// Maximum length of a breakout room's title, in characters.
const MAX_TITLE_CHARS: usize = 256;

/// The reason why a request failed.
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

/// Handles the requests about breakout rooms that rooms delegate.
struct Handler(Weak<ServerState>);

impl DelegationHandler for Handler {
    fn perform<'a>(
        &'a self,
        app: AppId,
        meeting: MeetingId,
        task: &'a DelegatedRequest,
    ) -> BoxFuture<'a, DelegationResult> {
        async move {
            match self.0.upgrade() {
                Some(state) => perform(&state, app, meeting, task).await,
                // The server has stopped.
                None => DelegationResult::default(),
            }
        }
        .boxed()
    }

    fn notify_breakout_rooms(&self, app: AppId, parent: MeetingId) {
        if let Some(state) = self.0.upgrade() {
            notify_breakout_rooms(&state, app, parent);
        }
    }
}

/// Registers the handler of delegated requests.
pub(crate) fn attach(state: &Arc<ServerState>) {
    state
        .live
        .set_delegation_handler(Handler(Arc::downgrade(state)));
}

/// Sends the current roster to everyone in a meeting and its breakout rooms, in the background.
fn notify_breakout_rooms(state: &Arc<ServerState>, app: AppId, parent: MeetingId) {
    if !state.live.notifier.mark_changed((app, parent)) {
        return;
    }
    let task_state = Arc::clone(state);
    state.live.spawn(async move {
        let meeting = (app, parent);
        let run = task_state
            .live
            .notifier
            .run(meeting, || notify_once(&task_state, meeting));
        if AssertUnwindSafe(run).catch_unwind().await.is_err() {
            tracing::error!(%parent, "notifying breakout rooms panicked");
        }
    });
}

async fn notify_once(state: &Arc<ServerState>, (app, parent): (AppId, MeetingId)) {
    let _permit = state.live.read_permit(app).await;
    let notified = async {
        ConnectedMeetings::of(state, app, parent)
            .await?
            .notify_all()
            .await
    };
    match notified.await {
        Err(Failure::Failed(error)) => {
            tracing::warn!(?error, %parent, "breakout rooms could not be notified");
        }
        // A refusal means that the meeting no longer exists, so there is no one to notify.
        Ok(()) | Err(Failure::Refused(_)) => {}
    }
}

/// Performs a delegated request and returns its reply.
async fn perform(
    state: &Arc<ServerState>,
    app: AppId,
    meeting: MeetingId,
    task: &DelegatedRequest,
) -> DelegationResult {
    let done = async {
        let connected = ConnectedMeetings::of(state, app, meeting).await?;
        connected.perform(task).await
    };
    match done.await {
        Ok(done) => done,
        Err(failure) => {
            let refusal = match failure {
                Failure::Refused(refusal) => refusal,
                Failure::Failed(error) => {
                    tracing::warn!(?error, %meeting, "a breakout room operation failed");
                    Refusal::new(500, "the request failed")
                }
            };
            error_frame(task.request.id.as_deref(), &refusal).into()
        }
    }
}

/// A meeting and its breakout rooms, if any, as seen from one of them.
struct ConnectedMeetings<'p> {
    state: &'p Arc<ServerState>,
    app: AppId,
    here: MeetingId,
    parent: Room,
    rooms: Vec<Room>,
}

impl<'p> ConnectedMeetings<'p> {
    async fn of(state: &'p Arc<ServerState>, app: AppId, here: MeetingId) -> Result<Self, Failure> {
        let family = meetings::family(state, app, here).await?;
        let (parent, rooms) =
            family.ok_or_else(|| Refusal::new(404, "this meeting was deleted"))?;
        Ok(Self {
            state,
            app,
            here,
            parent,
            rooms,
        })
    }

    async fn perform(&self, task: &DelegatedRequest) -> Result<DelegationResult, Failure> {
        let request = &task.request;
        match request.event {
            event::GET_CONNECTED_ROOMS_DUMP => Ok(reply(request, &self.dump().await?).into()),
            event::CREATE_CONNECTED_ROOMS => self.create(request).await,
            event::DELETE_CONNECTED_ROOMS => self.delete(request).await,
            event::MOVE_PEERS => self.transfer(task).await,
            event::BROADCAST_TO_ENTITY => self.broadcast(request),
            event::KICK_ALL => {
                for room in self.all().filter(|room| room.id != self.here) {
                    let live = &self.state.live;
                    live.send(self.app, room.id, Command::KickAll);
                }
                Ok(DelegationResult::default())
            }
            _ => Err(Refusal::new(501, "this cannot be delegated").into()),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Room> {
        std::iter::once(&self.parent).chain(&self.rooms)
    }

    /// Returns the roster of each room.
    async fn dump(&self) -> Result<GetConnectedRoomsDumpResponse, Failure> {
        // All rooms are asked concurrently.
        let mut meetings = try_join_all(self.all().map(|room| self.dump_of(room))).await?;
        let parent = meetings.remove(0);
        Ok(GetConnectedRoomsDumpResponse {
            parent_meeting: Some(parent),
            meetings,
        })
    }

    async fn dump_of(&self, room: &Room) -> Result<ConnectedMeetingDump, Failure> {
        // Without breakout rooms, the dump lists nobody: clients already have the roster of the
        // only room.
        let present = if self.rooms.is_empty() {
            Vec::new()
        } else {
            match self
                .state
                .live
                .command_with_timeout(self.app, room.id, Command::ListPeers)
                .await?
            {
                Answer::Peers(_, present) => present,
                _ => Vec::new(),
            }
        };
        // Everyone gets the same dump, so it contains only peers that are visible to all.
        let shown = present.into_iter().filter(|peer| peer.shown);
        let participants = shown.map(|peer| ConnectedMeetingPeer {
            id: Some(peer.participant.to_string()),
            display_name: peer.name,
            custom_participant_id: Some(peer.custom_id),
            preset_id: Some(peer.preset.to_string()),
            display_picture_url: peer.picture,
        });
        Ok(ConnectedMeetingDump {
            id: Some(room.id.to_string()),
            title: Some(room.title.clone()),
            participants: participants.collect(),
        })
    }

    /// Sends the current dump to all connected rooms.
    async fn notify_all(&self) -> Result<(), Failure> {
        let payload: Bytes = self.dump().await?.encode_to_vec().into();
        for room in self.all() {
            let push = Command::Push {
                event: event::GET_CONNECTED_ROOMS_DUMP,
                payload: payload.clone(),
            };
            self.state.live.send(self.app, room.id, push);
        }
        Ok(())
    }

    /// Announces a committed change of the parent's breakout rooms.
    async fn changed(&self) {
        records::notify_changed(&self.state.live, self.app, self.parent.id).await;
        notify_breakout_rooms(self.state, self.app, self.parent.id);
    }

    async fn create(&self, request: &Request) -> Result<DelegationResult, Failure> {
        let body: CreateConnectedRoomsRequest = request.message()?;
        if body.payloads.is_empty() || self.rooms.len() + body.payloads.len() > ROOMS_MAX {
            return Err(invalid_room_count().into());
        }
        let titles: Vec<String> = body
            .payloads
            .into_iter()
            .map(|room| room.title.unwrap_or_default().replace('\0', ""))
            .collect();
        if titles
            .iter()
            .any(|title| title.chars().count() > MAX_TITLE_CHARS)
        {
            let message = format!("a title has at most {MAX_TITLE_CHARS} characters");
            return Err(Refusal::new(400, message).into());
        }
        let created = meetings::create_rooms(self.state, self.app, self.parent.id, titles).await?;
        let created = created.ok_or_else(invalid_room_count)?;
        self.changed().await;
        let payloads = created.into_iter().map(|room| CreateRoomResponsePayload {
            id: Some(room.id.to_string()),
            title: Some(room.title),
            error: None,
        });
        let response = CreateConnectedRoomsResponse {
            payloads: payloads.collect(),
        };
        Ok(reply(request, &response).into())
    }

    async fn delete(&self, request: &Request) -> Result<DelegationResult, Failure> {
        let body: DisableConnectedRoomsRequest = request.message()?;
        let named: HashSet<&str> = body.payloads.iter().map(DisableRoomPayload::id).collect();
        let is_named = |room: &&Room| named.contains(&*room.id.to_string());
        let removed: Vec<&Room> = self.rooms.iter().filter(is_named).collect();
        if removed.len() != named.len() {
            return Err(Refusal::new(404, "there is no such breakout room").into());
        }
        let ids: Vec<MeetingId> = removed.iter().map(|room| room.id).collect();
        // Before removing a room, clients move its participants to another one. While the parent
        // is inactive that fails, so the participants would be disconnected.
        if !self.parent.active && self.has_participants(&ids).await? {
            let message = "this meeting is inactive: its breakout rooms can be removed only when they are empty";
            return Err(Refusal::new(403, message).into());
        }
        meetings::remove_rooms(self.state, self.app, self.parent.id, &ids).await?;
        for id in ids {
            records::notify_changed(&self.state.live, self.app, id).await;
            // Clients move participants out first; any that remain are disconnected.
            self.state.live.send(self.app, id, Command::KickAll);
        }
        self.changed().await;
        let payloads = removed.into_iter().map(|room| DisableConnectedRoomPayload {
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

    async fn has_participants(&self, rooms: &[MeetingId]) -> Result<bool, Failure> {
        for room in rooms {
            let answer = self
                .state
                .live
                .command_with_timeout(self.app, *room, Command::ListPeers);
            if matches!(answer.await?, Answer::Peers(_, present) if !present.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends an app's message to other rooms. The reply is the sender's own copy.
    fn broadcast(&self, request: &Request) -> Result<DelegationResult, Failure> {
        let message: BroadcastMessage = request.message()?;
        // Each room receives the message once. If one of the rooms does not exist, none receives
        // it.
        let named: HashSet<&str> = message.ids.iter().map(String::as_str).collect();
        let is_named = |room: &&Room| named.contains(&*room.id.to_string());
        let rooms: Vec<&Room> = self.all().filter(is_named).collect();
        if rooms.len() != named.len() {
            return Err(Refusal::new(404, "there is no such breakout room").into());
        }
        for room in rooms.into_iter().filter(|room| room.id != self.here) {
            let push = Command::Push {
                event: event::BROADCAST_TO_ENTITY,
                payload: request.payload.clone(),
            };
            self.state.live.send(self.app, room.id, push);
        }
        Ok(reply(request, &message).into())
    }
}

fn invalid_room_count() -> Refusal {
    Refusal::new(
        400,
        format!("create at least one breakout room; a meeting has at most {ROOMS_MAX}"),
    )
}

fn reply(request: &Request, message: &impl Message) -> Bytes {
    frame(request.event, request.id.as_deref(), message)
}
