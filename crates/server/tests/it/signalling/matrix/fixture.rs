//! The meeting in which a cell of the matrix runs, and its observable state.

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{PeerJoinCompleteRequest, PeerJoinCompleteResponse};
use parlor_protocol::signal::socket::chat::GetChatMessagesResponse;
use parlor_protocol::signal::socket::plugin::{
    PluginStoreInsertKeysRequest, PluginStoreResponse, StoreKeys,
};
use parlor_protocol::signal::socket::polls::{
    GetPollsResponse, NewPollRequest, Poll, UpdatePollResponse,
};
use parlor_protocol::signal::socket::preset::{
    PresetUpdates, ReadPeersPresetRequest, ReadPeersPresetResponse, UpdatePeerPreset,
    UpdatePeersPresetRequest, UpdatePeersPresetResponse,
};
use parlor_protocol::signal::socket::room::{
    GetConnectedRoomsDumpRequest, GetConnectedRoomsDumpResponse, GetRoomStageStateResponse,
    GetWaitingRoomRequests, RoomPeersInfoResponse,
};
use parlor_testkit::signal::{PLUGINS, Peer, Refused};
use serde_json::{Value, json};

use crate::signalling::breakout;
use crate::signalling::meeting::{Meeting, send_message};
use crate::signalling::server::Server;

/// Returns a preset with all permissions.
pub(super) fn all_permissions() -> Value {
    json!({
        "accept_waiting_requests": true, "can_accept_production_requests": true,
        "can_change_participant_permissions": true, "can_edit_display_name": true,
        "can_livestream": true, "can_record": true, "can_spotlight": true,
        "disable_participant_audio": true, "disable_participant_video": true,
        "disable_participant_screensharing": true, "kick_participant": true, "pin_participant": true,
        "show_participant_list": true,
        "chat": {
            "public": { "can_send": true, "text": true, "files": true },
            "private": { "can_send": true, "can_receive": true, "text": true, "files": true },
        },
        "polls": { "can_create": true, "can_view": true, "can_vote": true },
        "plugins": { "can_start": true, "can_close": true, "can_edit_config": true, "config": {} },
        "connected_meetings": {
            "can_alter_connected_meetings": true, "can_switch_connected_meetings": true,
            "can_switch_to_parent_meeting": true,
        },
        "waiting_room_type": "SKIP", "stage_enabled": true, "stage_access": "ALLOWED",
        "accept_stage_requests": true,
    })
}

/// A meeting with peers in different roles.
pub(super) struct Fixture {
    pub(super) meeting: Meeting,
    /// Observes the meeting, and has all permissions.
    pub(super) host: Peer,
    /// Sends the event, and has all permissions except the denied one.
    pub(super) actor: Peer,
    /// An ordinary participant.
    pub(super) target: Peer,
    /// Is in the waiting room.
    pub(super) waiting: Peer,
    /// Has requested stage access.
    pub(super) requesting: Peer,
    /// A poll without votes.
    pub(super) poll: Poll,
    /// The id of a breakout room.
    pub(super) room: String,
}

impl Fixture {
    /// Creates the meeting and its peers. `denied` overrides permissions of the actor.
    pub(super) async fn create(server: &Server, denied: Option<&Value>) -> Self {
        let meeting = server.meeting().await;
        let mut permissions = all_permissions();
        if let Some(denied) = denied {
            merge(&mut permissions, denied);
        }
        let on_stage = json!({ "stage_enabled": true, "stage_access": "CAN_REQUEST" });
        let host = enter(&meeting, all_permissions()).await;
        // The host, who has all permissions, sets up the state, so that it is the same in every
        // cell.
        let actor = enter(&meeting, permissions).await;
        let target = enter(&meeting, json!({})).await;
        let waiting = enter(&meeting, json!({ "waiting_room_type": "SKIP_ON_ACCEPT" })).await;
        let requesting = enter(&meeting, on_stage).await;
        requesting
            .tell(
                event::REQUEST_STAGE_ACCESS,
                &GetConnectedRoomsDumpRequest {},
            )
            .await
            .unwrap();
        let poll = NewPollRequest {
            question: "?".to_owned(),
            options: vec!["a".to_owned(), "b".to_owned()],
            ..NewPollRequest::default()
        };
        host.tell(event::CREATE_POLL, &poll).await.unwrap();
        let poll: UpdatePollResponse = host.push(event::CREATE_POLL).await.unwrap();
        let insert = PluginStoreInsertKeysRequest {
            plugin_id: meeting.id.clone(),
            store_name: PLUGINS.to_owned(),
            insert_keys: vec![StoreKeys {
                store_key: "board".to_owned(),
                payload: Some(r#"{"id":"board"}"#.into()),
            }],
        };
        host.tell(event::STORE_INSERT_KEYS, &insert).await.unwrap();
        send_message(&host, "by the host").await;
        let room = breakout::create_rooms(&host, &["Red"]).await.remove(0);
        for peer in [&host, &actor, &target, &requesting] {
            peer.ask::<PeerJoinCompleteResponse>(
                event::MEDIA_JOIN_COMPLETE,
                &PeerJoinCompleteRequest {},
            )
            .await
            .unwrap();
        }
        for peer in [&host, &actor, &target, &waiting, &requesting] {
            peer.settle().await.unwrap();
        }
        Self {
            meeting,
            host,
            actor,
            target,
            waiting,
            requesting,
            poll: poll.poll.unwrap(),
            room,
        }
    }

    /// Revokes permissions of the actor during the call.
    pub(super) async fn revoke(&self, patch: PresetUpdates) {
        let request = UpdatePeersPresetRequest {
            update_peers_presets: vec![UpdatePeerPreset {
                user_ids: self.actor.user().to_owned(),
                patch: Some(patch),
            }],
        };
        self.host
            .ask::<UpdatePeersPresetResponse>(event::UPDATE_USER_PRESET, &request)
            .await
            .unwrap();
        self.actor
            .push_frame(event::UPDATE_USER_PRESET)
            .await
            .unwrap();
    }

    /// Sends a request as the actor and returns the refusal, if any. A request without a reply
    /// counts as successful once the server has answered the next request.
    pub(super) async fn send_as_actor(
        &self,
        number: u32,
        message: &impl parlor_testkit::signal::Encodable,
    ) -> Option<Refused> {
        let id = self.actor.tell(number, message).await.unwrap();
        self.actor.settle().await.ok()?;
        let refusal = self.refusal(&id);
        // A request that affects other rooms may be answered after the next request.
        let delegated = [
            event::CREATE_CONNECTED_ROOMS,
            event::DELETE_CONNECTED_ROOMS,
            event::MOVE_PEERS,
        ];
        if refusal.is_none() && delegated.contains(&number) {
            return self.actor.error_reply(&id, number).await.ok();
        }
        refusal
    }

    fn refusal(&self, id: &str) -> Option<Refused> {
        let received = self.actor.received();
        received
            .iter()
            .find(|frame| frame.id.as_deref() == Some(id))?
            .refusal()
    }

    /// Returns the observable state of the meeting, as the host and the other peers see it.
    pub(super) async fn state(&self) -> Vec<(String, String)> {
        let host = &self.host;
        let mut state = Vec::new();
        let mut record = |name: &str, value: String| state.push((name.to_owned(), value));
        let mut roster: RoomPeersInfoResponse = host
            .ask_bare(event::GET_ROOM_PEERS_INFO)
            .await
            .unwrap_or_default();
        roster
            .peers
            .sort_by(|left, right| left.peer_id.cmp(&right.peer_id));
        record("roster", format!("{roster:?}"));
        let polls = host.ask_bare::<GetPollsResponse>(event::GET_POLLS).await;
        record("polls", format!("{:?}", polls.ok()));
        let chat = host
            .ask_bare::<GetChatMessagesResponse>(event::GET_MESSAGES)
            .await;
        record("chat", format!("{:?}", chat.ok()));
        for store in [PLUGINS, "notes"] {
            let request = host.identity().store_request(store);
            let store = host
                .ask::<PluginStoreResponse>(event::STORE_GET_KEYS, &request)
                .await;
            let mut items = store.map(|store| store.store_items).unwrap_or_default();
            items.sort_by(|left, right| left.store_key.cmp(&right.store_key));
            record("stores", format!("{items:?}"));
        }
        let mut on_stage: GetRoomStageStateResponse = host
            .ask_bare(event::GET_ROOM_STAGE_STATE)
            .await
            .unwrap_or_default();
        for list in [
            &mut on_stage.on_stage_peers,
            &mut on_stage.approved_stage_peers,
            &mut on_stage.requested_stage_peers,
        ] {
            list.sort();
        }
        record("stage", format!("{on_stage:?}"));
        let rooms = host
            .ask_bare::<GetConnectedRoomsDumpResponse>(event::GET_CONNECTED_ROOMS_DUMP)
            .await;
        record("rooms", format!("{:?}", rooms.ok()));
        let pins = host
            .ask::<PeerJoinCompleteResponse>(
                event::MEDIA_JOIN_COMPLETE,
                &PeerJoinCompleteRequest {},
            )
            .await;
        let pins = pins.map(|reply| reply.room_state.unwrap_or_default().pinned_peer_ids);
        record("pins", format!("{:?}", pins.ok()));
        for peer in [&self.target, &self.actor] {
            let request = ReadPeersPresetRequest {
                user_ids: vec![peer.user().to_owned()],
            };
            let presets = host
                .ask::<ReadPeersPresetResponse>(event::GET_USER_PRESETS, &request)
                .await;
            let preset = presets
                .ok()
                .and_then(|reply| reply.peer_presets.into_iter().next());
            record(
                "permissions",
                format!("{:?}", preset.map(|preset| preset.preset)),
            );
        }
        let lists = host.received();
        let last = lists
            .iter()
            .rfind(|frame| frame.event == event::GET_WAITING_ROOM_REQUESTS);
        let waiting = last.map(|frame| {
            frame
                .message::<GetWaitingRoomRequests>()
                .unwrap()
                .requests
                .len()
        });
        record("waiting", format!("{waiting:?}"));
        for (name, peer) in [
            ("host", host),
            ("target", &self.target),
            ("waiting", &self.waiting),
            ("requesting", &self.requesting),
        ] {
            peer.settle().await.ok();
            let pushed: Vec<u32> = peer
                .received()
                .iter()
                .filter(|frame| is_notification(frame.event))
                .map(|frame| frame.event)
                .collect();
            record(
                name,
                format!("open: {}, notified: {pushed:?}", peer.is_open()),
            );
        }
        state
    }
}

/// Whether an event notifies its receiver of an action on it or on the room.
fn is_notification(number: u32) -> bool {
    [
        event::KICK,
        event::KICK_ALL,
        event::TRANSFER_PEER,
        event::GRANT_STAGE_ACCESS,
        event::DENY_STAGE_ACCESS,
        event::WAITING_ROOM_REQUEST_ACCEPTED,
        event::WAITING_ROOM_REQUEST_DENIED,
        event::UPDATE_USER_PRESET,
        event::SEND_MESSAGE_TO_PEERS,
        event::PRODUCER_TOGGLED,
        event::PEER_PINNED,
    ]
    .contains(&number)
}

async fn enter(meeting: &Meeting, permissions: Value) -> Peer {
    Peer::enter(&meeting.add_with_permissions(permissions).await)
        .await
        .unwrap()
}

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, patch) in patch {
                merge(into.entry(name).or_insert(Value::Null), patch);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

/// Describes the differences between two states.
pub(super) fn difference(before: &[(String, String)], after: &[(String, String)]) -> String {
    let changed = before
        .iter()
        .zip(after)
        .filter(|(before, after)| before != after);
    changed
        .map(|((name, before), (_, after))| format!("{name}: {before} became {after}. "))
        .collect()
}
