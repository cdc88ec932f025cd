//! Breakout rooms: what a room has found to be allowed, and what needs the records and other rooms
//! (docs/spec/signalling.md 6.11).

mod moving;

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};
use parlor_live::{Answer, Command, Delegated, Refusal, Request, error_frame, frame};
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
use crate::rooms::{Breakout, Done, records};
use crate::state::Parlor;

/// Characters of a room's title.
const TITLE_MAX: usize = 256;

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

/// Breakout rooms as the rooms of meetings know them.
struct Rooms(Weak<Parlor>);

impl Breakout for Rooms {
    fn perform<'a>(
        &'a self,
        app: AppId,
        meeting: MeetingId,
        task: &'a Delegated,
    ) -> BoxFuture<'a, Done> {
        async move {
            match self.0.upgrade() {
                Some(parlor) => perform(&parlor, app, meeting, task).await,
                // The server has stopped.
                None => Done::default(),
            }
        }
        .boxed()
    }

    fn tell_family(&self, app: AppId, parent: MeetingId) {
        if let Some(parlor) = self.0.upgrade() {
            tell_family(&parlor, app, parent);
        }
    }
}

/// Has this server's rooms leave to it what is about breakout rooms.
pub(crate) fn attach(parlor: &Arc<Parlor>) {
    parlor.live.set_breakout(Rooms(Arc::downgrade(parlor)));
}

/// Tells everybody in a meeting and its breakout rooms who is where: soon, and as it is then.
fn tell_family(parlor: &Arc<Parlor>, app: AppId, parent: MeetingId) {
    if !parlor.live.notifier.begin((app, parent)) {
        return;
    }
    let telling = Arc::clone(parlor);
    parlor.live.spawn(async move {
        let family = (app, parent);
        let rounds = telling
            .live
            .notifier
            .rounds(family, || tell_once(&telling, family));
        if AssertUnwindSafe(rounds).catch_unwind().await.is_err() {
            tracing::error!(%parent, "telling breakout rooms who is where has panicked");
        }
    });
}

async fn tell_once(parlor: &Arc<Parlor>, (app, parent): (AppId, MeetingId)) {
    let _turn = parlor.live.turn_to_read(app).await;
    let told = async { Family::of(parlor, app, parent).await?.tell_all().await };
    match told.await {
        Err(Failure::Failed(error)) => {
            tracing::warn!(?error, %parent, "breakout rooms could not be told who is where");
        }
        // When it was refused, the meeting is gone, and nobody is left to be told.
        Ok(()) | Err(Failure::Refused(_)) => {}
    }
}

/// Does it.
async fn perform(parlor: &Arc<Parlor>, app: AppId, meeting: MeetingId, task: &Delegated) -> Done {
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
            event::GET_CONNECTED_ROOMS_DUMP => Ok(reply(request, &self.dump().await?).into()),
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
    async fn dump(&self) -> Result<GetConnectedRoomsDumpResponse, Failure> {
        // Each room answers in its own time.
        let mut meetings = try_join_all(self.all().map(|room| self.dump_of(room))).await?;
        let parent = meetings.remove(0);
        Ok(GetConnectedRoomsDumpResponse {
            parent_meeting: Some(parent),
            meetings,
        })
    }

    async fn dump_of(&self, room: &Room) -> Result<ConnectedMeetingDump, Failure> {
        // Without breakout rooms the roster says who is here.
        let present = if self.rooms.is_empty() {
            Vec::new()
        } else {
            match self
                .parlor
                .live
                .ask(self.app, room.id, Command::Who)
                .await?
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
        Ok(ConnectedMeetingDump {
            id: Some(room.id.to_string()),
            title: Some(room.title.clone()),
            participants: participants.collect(),
        })
    }

    /// Everybody in the family learns how it is now.
    async fn tell_all(&self) -> Result<(), Failure> {
        let payload: Bytes = self.dump().await?.encode_to_vec().into();
        for room in self.all() {
            let push = Command::Push {
                event: event::GET_CONNECTED_ROOMS_DUMP,
                payload: payload.clone(),
            };
            self.parlor.live.tell(self.app, room.id, push);
        }
        Ok(())
    }

    /// The parent's breakout rooms were changed, which cannot fail any more: everybody learns of it.
    async fn changed(&self) {
        records::tell_changed(&self.parlor.live, self.app, self.parent.id).await;
        tell_family(self.parlor, self.app, self.parent.id);
    }

    async fn create(&self, request: &Request) -> Result<Done, Failure> {
        let asked: CreateConnectedRoomsRequest = request.message()?;
        if asked.payloads.is_empty() || self.rooms.len() + asked.payloads.len() > ROOMS_MAX {
            return Err(so_many_rooms().into());
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
        let made = made.ok_or_else(so_many_rooms)?;
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
        let named: HashSet<&str> = asked.payloads.iter().map(DisableRoomPayload::id).collect();
        let is_named = |room: &&Room| named.contains(&*room.id.to_string());
        let gone: Vec<&Room> = self.rooms.iter().filter(is_named).collect();
        if gone.len() != named.len() {
            return Err(Refusal::new(404, "there is no such breakout room").into());
        }
        let ids: Vec<MeetingId> = gone.iter().map(|room| room.id).collect();
        // Nobody could be moved out of them first: whoever is inside would be thrown out of the call.
        if !self.parent.active && self.has_people(&ids).await? {
            let message =
                "this meeting takes nobody in: its breakout rooms stay until they are empty";
            return Err(Refusal::new(403, message).into());
        }
        meetings::disconnect(self.parlor, self.app, self.parent.id, &ids).await?;
        for id in ids {
            records::tell_changed(&self.parlor.live, self.app, id).await;
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

    async fn has_people(&self, rooms: &[MeetingId]) -> Result<bool, Failure> {
        for room in rooms {
            let asked = self.parlor.live.ask(self.app, *room, Command::Who);
            if matches!(asked.await?, Answer::Who(_, present) if !present.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A message of the app to other rooms; its reply is the sender's own copy.
    fn broadcast(&self, request: &Request) -> Result<Done, Failure> {
        let message: BroadcastMessage = request.message()?;
        // Each room once, and none when one of them is not there.
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
            self.parlor.live.tell(self.app, room.id, push);
        }
        Ok(reply(request, &message).into())
    }
}

fn so_many_rooms() -> Refusal {
    Refusal::new(
        400,
        format!("a meeting has 1 to {ROOMS_MAX} breakout rooms"),
    )
}

fn reply(request: &Request, message: &impl Message) -> Bytes {
    frame(request.event, request.id.as_deref(), message)
}
