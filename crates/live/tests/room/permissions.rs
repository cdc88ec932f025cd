//! Each request, with exactly one of its permissions missing: in the preset, and revoked during the
//! call. It is rejected, nothing is persisted, and no other peer is notified.

use bytes::Bytes;
use parlor_live::{Answer, Command, ConnectionId, Limits, PeerProfile};
use parlor_protocol::preset::{MediaPermission, ViewType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    GlobalPeerPinningRequest, HostMediaControlForAllPeerRequest, KickAllPeersRequest,
    PeerDisplayNameEditRequest,
};
use parlor_protocol::signal::socket::chat::{
    EditChatMessageRequest, SendChatMessageToPeersRequest, SendChatMessageToPeersResponse,
    SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};
use parlor_protocol::signal::socket::livestreaming::GrantStageAccessRequest;
use parlor_protocol::signal::socket::plugin::{PluginStoreInsertKeysRequest, StoreKeys};
use parlor_protocol::signal::socket::polls::{NewPollRequest, VotePollRequest};
use parlor_protocol::signal::socket::preset::{
    MediaPermissionUpdate, PresetUpdates, ReadPeersPresetResponse, StreamPermission,
    StreamPermissionType, UpdatePeerPreset, UpdatePeersPresetRequest,
};
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, BroadcastMessage, BroadcastType, CreateConnectedRoomsRequest,
    GetWaitingRoomRequests, MovePeerPayload, MovePeersBetweenRoomsRequest,
    RemoveParticipantsRequest,
};
use prost::Message;

use crate::participants::{all, participant_with, peer, permission, user};
use crate::world::World;

/// A call with a chat message, a poll and all peers joined.
struct Call {
    world: World,
    host: ConnectionId,
    me: ConnectionId,
    public: String,
    private: String,
    poll: String,
}

const ME: u8 = 1;

fn call(mine: PeerProfile) -> Call {
    let mut world = World::new(Limits::default());
    let mut sockets = Vec::new();
    for profile in [
        participant_with(0, ViewType::Webinar, all()),
        mine,
        participant_with(2, ViewType::Webinar, all()),
    ] {
        let (socket, _) = world.connect(&profile);
        assert!(!world.request(socket, event::JOIN_ROOM, &()).is_rejected());
        sockets.push(socket);
    }
    let (host, me) = (sockets[0], sockets[1]);
    let outcome = world.request(me, event::SEND_MESSAGE_TO_ROOM, &text());
    let public = outcome.replies.first().filter(|reply| !reply.is_error());
    let public = public.and_then(|reply| reply.decode::<SendChatMessageToRoomResponse>().message);
    let outcome = world.request(me, event::SEND_MESSAGE_TO_PEERS, &private_message(0));
    let private = outcome.replies.first().filter(|reply| !reply.is_error());
    let private =
        private.and_then(|reply| reply.decode::<SendChatMessageToPeersResponse>().message);
    let new = parlor_live::NewPoll {
        question: "Which?".to_owned(),
        options: vec!["one".to_owned(), "two".to_owned()],
        anonymous: false,
        hide_votes: false,
    };
    let (Answer::Poll(poll), _) = world.command(Command::Poll(new)) else {
        panic!("the poll is created")
    };
    Call {
        world,
        host,
        me,
        public: public.map_or_else(String::new, |message| message.chat_id),
        private: private.map_or_else(String::new, |message| message.chat_id),
        poll: poll.poll_id,
    }
}

fn text() -> SendChatMessageToRoomRequest {
    SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "hello".to_owned(),
    }
}

fn private_message(to: u8) -> SendChatMessageToPeersRequest {
    SendChatMessageToPeersRequest {
        peer_ids: vec![peer(to, 0).to_string(), peer(ME, 0).to_string()],
        payload_type: 0,
        payload: "hello".to_owned(),
    }
}

/// A request and the permissions it needs.
struct Case {
    needs: &'static [&'static str],
    event: u32,
    request: fn(&Call) -> Vec<u8>,
}

macro_rules! cases {
    ($($needs:expr, $event:ident, $request:expr;)*) => {
        const CASES: &[Case] = &[$(Case {
            needs: &$needs,
            event: event::$event,
            request: |call| {
                let request: fn(&Call) -> _ = $request;
                request(call).encode_to_vec()
            },
        }),*];
    };
}

const PICTURE: &str = "https://files.test/a.png";

fn store(values: &[&'static str]) -> PluginStoreInsertKeysRequest {
    let keys = values.iter().enumerate().map(|(n, value)| StoreKeys {
        store_key: n.to_string(),
        payload: Some(Bytes::from_static(value.as_bytes())),
    });
    PluginStoreInsertKeysRequest {
        plugin_id: "meeting".to_owned(),
        store_name: "__rtk_plugins__".to_owned(),
        insert_keys: keys.collect(),
    }
}

fn users(n: u8) -> Vec<String> {
    vec![user(n).to_string()]
}

fn move_me(to: Option<String>) -> MovePeersBetweenRoomsRequest {
    MovePeersBetweenRoomsRequest {
        source_meeting_id: Some(crate::world::meeting().id.to_string()),
        destination_meeting_id: to,
        participants: vec![MovePeerPayload {
            id: Some(user(ME).to_string()),
            preset_id: None,
        }],
    }
}

fn edit(chat_id: &str) -> EditChatMessageRequest {
    EditChatMessageRequest {
        chat_id: chat_id.to_owned(),
        payload: Some("new".to_owned()),
        ..EditChatMessageRequest::default()
    }
}

cases! {
    ["chat.public.can_send", "chat.public.text"], SEND_MESSAGE_TO_ROOM, |_| text();
    ["chat.public.can_send", "chat.public.files"], SEND_MESSAGE_TO_ROOM, |_| SendChatMessageToRoomRequest { payload_type: 1, payload: PICTURE.to_owned() };
    ["chat.public.files"], SEND_MESSAGE_TO_ROOM, |_| SendChatMessageToRoomRequest { payload_type: 2, payload: format!("{{\"link\":\"{PICTURE}\"}}") };
    ["chat.public.text", "chat.public.files"], SEND_MESSAGE_TO_ROOM, |_| SendChatMessageToRoomRequest { payload_type: 3, payload: format!("{{\"message\":\"a\",\"images\":[\"{PICTURE}\"]}}") };
    ["chat.public.can_send", "chat.public.text"], EDIT_MESSAGE, |call| edit(&call.public);
    ["chat.private.can_send", "chat.private.text"], EDIT_MESSAGE, |call| edit(&call.private);
    ["chat.private.can_send", "chat.private.text"], SEND_MESSAGE_TO_PEERS, |_| private_message(0);
    ["chat.private.files"], SEND_MESSAGE_TO_PEERS, |_| SendChatMessageToPeersRequest { payload_type: 1, payload: PICTURE.to_owned(), ..private_message(0) };
    ["polls.can_create"], CREATE_POLL, |_| NewPollRequest { question: "?".to_owned(), options: vec!["a".to_owned(), "b".to_owned()], ..NewPollRequest::default() };
    ["polls.can_vote", "polls.can_view"], VOTE_POLL, |call| VotePollRequest { poll_id: call.poll.clone(), index: 1 };
    ["polls.can_view"], GET_POLLS, |_| ();
    ["plugins.can_start"], STORE_INSERT_KEYS, |_| store(&["{}"]);
    ["plugins.can_start"], STORE_INSERT_KEYS, |_| store(&[]);
    ["plugins.can_close"], STORE_INSERT_KEYS, |_| store(&[" null "]);
    ["plugins.can_start", "plugins.can_close"], STORE_INSERT_KEYS, |_| store(&["null", "{}"]);
    ["plugins.can_close"], STORE_DELETE_KEYS, |_| store(&["{}"]);
    ["can_spotlight"], BROADCAST_MESSAGE, |_| BroadcastMessage { r#type: "spotlight".to_owned(), ..BroadcastMessage::default() };
    ["can_spotlight"], BROADCAST_TO_ENTITY, |_| BroadcastMessage { r#type: "spotlight".to_owned(), ids: vec![peer(0, 0).to_string()], ..BroadcastMessage::default() };
    ["can_alter_connected_meetings"], BROADCAST_TO_ENTITY, |_| BroadcastMessage { r#type: "x".to_owned(), broadcast_type: Some(BroadcastType::Rooms.into()), ..BroadcastMessage::default() };
    ["accept_waiting_requests"], GET_WAITING_ROOM_REQUESTS, |_| ();
    ["accept_waiting_requests"], ACCEPT_WAITING_ROOM_REQUESTS, |_| AcceptWaitingRoomRequests { user_ids: users(2) };
    ["accept_waiting_requests"], DENY_WAITING_ROOM_REQUESTS, |_| AcceptWaitingRoomRequests { user_ids: users(2) };
    ["accept_stage_requests+can_accept_production_requests"], GET_STAGE_REQUESTS, |_| ();
    ["accept_stage_requests+can_accept_production_requests"], GRANT_STAGE_ACCESS, |_| GrantStageAccessRequest { user_ids: users(0) };
    ["accept_stage_requests+can_accept_production_requests"], DENY_STAGE_ACCESS, |_| GrantStageAccessRequest { user_ids: users(0) };
    ["accept_stage_requests+can_accept_production_requests"], LEAVE_STAGE, |_| GrantStageAccessRequest { user_ids: users(0) };
    ["kick_participant"], KICK, |_| RemoveParticipantsRequest { peer_ids: vec![peer(0, 0).to_string()] };
    ["kick_participant"], KICK_ALL, |_| KickAllPeersRequest { propagate_kick_across_rooms: true };
    ["can_change_participant_permissions"], UPDATE_USER_PRESET, |_| update(0, PresetUpdates { can_record: Some(true), ..PresetUpdates::default() });
    ["can_change_participant_permissions"], UPDATE_USER_PRESET, |_| update(ME, PresetUpdates { can_change_participant_permissions: Some(true), ..PresetUpdates::default() });
    ["can_change_participant_permissions"], GET_USER_PRESETS, |_| AcceptWaitingRoomRequests { user_ids: users(0) };
    ["can_alter_connected_meetings"], CREATE_CONNECTED_ROOMS, |_| CreateConnectedRoomsRequest::default();
    ["can_alter_connected_meetings"], DELETE_CONNECTED_ROOMS, |_| ();
    ["can_alter_connected_meetings+can_switch_connected_meetings"], MOVE_PEERS, |_| move_me(Some(user(9).to_string()));
    ["pin_participant"], PIN_PEER, |_| GlobalPeerPinningRequest { participant_id: peer(0, 0).to_string() };
    ["pin_participant"], PIN_PEER, |_| GlobalPeerPinningRequest::default();
    ["can_edit_display_name"], CHANGE_DISPLAY_NAME, |_| PeerDisplayNameEditRequest { participant_id: String::new(), display_name: "X".to_owned() };
    ["disable_participant_audio"], HOST_CONTROL_ALL, |_| HostMediaControlForAllPeerRequest { audio: true, video: true, screen_share: true };
    ["disable_participant_video"], HOST_CONTROL_ALL, |_| HostMediaControlForAllPeerRequest { audio: true, video: true, screen_share: true };
    ["disable_participant_screensharing"], HOST_CONTROL_ALL, |_| HostMediaControlForAllPeerRequest { audio: true, video: true, screen_share: true };
}

pub(crate) fn update(n: u8, patch: PresetUpdates) -> UpdatePeersPresetRequest {
    UpdatePeersPresetRequest {
        update_peers_presets: vec![UpdatePeerPreset {
            user_ids: user(n).to_string(),
            patch: Some(patch),
        }],
    }
}

/// An encoded request.
fn encoded(case: &Case, call: &Call) -> parlor_protocol::signal::Envelope {
    parlor_protocol::signal::Envelope {
        event: case.event,
        id: Some("id".to_owned()),
        payload: Some((case.request)(call).into()),
        metadata: None,
    }
}

fn send(call: &mut Call, case: &Case) -> crate::world::Effects {
    let bytes = encoded(case, call).encode_to_vec().into();
    call.world.handle(parlor_live::Input::Frame {
        connection: call.me,
        bytes,
    })
}

fn assert_rejected(call: &mut Call, case: &Case, why: &str) {
    let (records, polls) = (format!("{:?}", call.world.records), call.poll.clone());
    let effects = send(call, case);
    assert_eq!(
        effects.frames.len(),
        1,
        "{} without {why}: {effects:?}",
        case.event
    );
    let frame = &effects.frames[0];
    assert!(
        frame.is_error() && frame.to == call.me,
        "{} without {why}: {frame:?}",
        case.event
    );
    assert_eq!(frame.id.as_deref(), Some("id"));
    assert!(effects.records.is_empty() && effects.delegated.is_empty() && effects.media.is_empty());
    assert_eq!(format!("{:?}", call.world.records), records);
    assert_eq!(call.poll, polls);
}

fn me() -> PeerProfile {
    participant_with(ME, ViewType::Webinar, all())
}

#[test]
fn every_request_requires_its_permissions() {
    let mut checks = 0;
    for case in CASES {
        let mut allowed = call(me());
        let effects = send(&mut allowed, case);
        let error = effects.frames.iter().find(|frame| frame.is_error());
        assert!(
            error.is_none(),
            "{} with every permission: {error:?}",
            case.event
        );
        for needs in case.needs {
            let these: Vec<_> = needs.split('+').map(permission).collect();
            let mut profile = me();
            for permission in &these {
                (permission.set)(&mut profile.permissions, false);
            }
            assert_rejected(&mut call(profile), case, needs);
            checks += 1;
            checks += check_revoked(case, &these, needs);
        }
    }
    println!("{checks} checks");
    assert!(checks > 80);
}

/// The same, with the permissions revoked by the host during the call.
fn check_revoked(case: &Case, these: &[crate::participants::Permission], needs: &str) -> usize {
    let mut patch = PresetUpdates::default();
    let mut profile = me();
    for permission in these {
        match permission.patch {
            Some(set) => set(&mut patch, false),
            // It cannot be changed during the call.
            None => (permission.set)(&mut profile.permissions, false),
        }
    }
    let mut call = call(profile);
    let host = call.host;
    assert!(
        !call
            .world
            .request(host, event::UPDATE_USER_PRESET, &update(ME, patch))
            .is_rejected()
    );
    assert_rejected(&mut call, case, needs);
    // A reconnect does not restore it.
    call.me = call.world.connect(&me_without(these)).0;
    assert_rejected(&mut call, case, needs);
    2
}

fn me_without(these: &[crate::participants::Permission]) -> PeerProfile {
    let mut profile = me();
    for permission in these.iter().filter(|permission| permission.patch.is_none()) {
        (permission.set)(&mut profile.permissions, false);
    }
    profile
}

#[test]
fn requests_before_the_join_are_rejected() {
    let open = [event::GET_POLLS];
    for case in CASES.iter().filter(|case| !open.contains(&case.event)) {
        let mut call = call(participant_with(3, ViewType::Webinar, all()));
        call.me = call.world.connect(&me()).0;
        assert_rejected(&mut call, case, "a join");
    }
}

#[test]
fn private_messages_do_not_reach_those_who_may_not_receive_them() {
    let mut call = call(me());
    let patch = PresetUpdates {
        chat: Some(
            parlor_protocol::signal::socket::preset::ChatPermissionUpdate {
                private: Some(
                    parlor_protocol::signal::socket::preset::PrivateChatPermission {
                        can_receive: Some(false),
                        ..Default::default()
                    },
                ),
                ..Default::default()
            },
        ),
        ..PresetUpdates::default()
    };
    let host = call.host;
    assert!(
        !call
            .world
            .request(host, event::UPDATE_USER_PRESET, &update(0, patch))
            .is_rejected()
    );
    let me = call.me;
    assert_eq!(
        call.world
            .request(me, event::SEND_MESSAGE_TO_PEERS, &private_message(0))
            .code(),
        404
    );
    assert!(
        !call
            .world
            .request(me, event::SEND_MESSAGE_TO_PEERS, &private_message(2))
            .is_rejected()
    );
}

#[test]
fn ending_all_breakout_rooms_requires_the_permission_to_alter_them() {
    let request = KickAllPeersRequest {
        propagate_kick_across_rooms: true,
    };
    for allowed in [true, false] {
        let mut profile = me();
        (permission("can_alter_connected_meetings").set)(&mut profile.permissions, allowed);
        let mut call = call(profile);
        let effects = call
            .world
            .request(call.me, event::KICK_ALL, &request)
            .effects;
        assert_eq!(effects.delegated.len(), usize::from(allowed));
        // The host's own meeting ends in any case.
        assert!(call.world.records.live().is_none());
        assert_eq!(effects.events(call.host), [event::KICK_ALL]);
    }
}

#[test]
fn a_move_with_a_preset_requires_the_permission_to_change_permissions() {
    let preset = Some("0197f3a0-0000-7000-8000-0000000000fe".to_owned());
    let here = crate::world::meeting().id.to_string();
    for allowed in [true, false] {
        let mut profile = me();
        (permission("can_change_participant_permissions").set)(&mut profile.permissions, allowed);
        let mut call = call(profile);
        let mut code = |to: &str, moved: u8, preset_id: Option<String>| {
            let mut request = move_me(Some(to.to_owned()));
            request.participants[0].id = Some(user(moved).to_string());
            request.participants[0].preset_id = preset_id;
            let outcome = call.world.request(call.me, event::MOVE_PEERS, &request);
            let delegated = outcome.effects.delegated.len();
            (outcome.replies.first().map(|_| outcome.code()), delegated)
        };
        let effects = (None, 1);
        let named = if allowed { effects } else { (Some(403), 0) };
        let away = user(9).to_string();
        for moved in [ME, 2] {
            assert_eq!(code(&away, moved, preset.clone()), named);
            assert_eq!(code(&away, moved, None), effects);
            assert_eq!(code(&away, moved, Some(String::new())), effects);
            assert_eq!(code(&here, moved, preset.clone()), (Some(400), 0));
        }
    }
}

#[test]
fn a_private_message_does_not_reach_peers_its_sender_cannot_see() {
    let mut hidden = me();
    hidden.permissions.hidden_participant = true;
    let mut call = call(hidden);
    let message = BroadcastMessage {
        r#type: "hello".to_owned(),
        ids: [0, ME, 2].map(|n| peer(n, 0).to_string()).to_vec(),
        ..BroadcastMessage::default()
    };
    let event = event::BROADCAST_TO_ENTITY;
    let effects = call.world.request(call.host, event, &message).effects;
    assert!(effects.events(call.me).is_empty());
    // The sender is among the listed peers.
    assert_eq!(effects.frames.len(), 2);
    let effects = call.world.request(call.me, event, &message).effects;
    assert_eq!(effects.frames.len(), 3);
}

fn can_speak(call: &mut Call) -> MediaPermission {
    let request = AcceptWaitingRoomRequests {
        user_ids: users(ME),
    };
    let read: ReadPeersPresetResponse = call
        .world
        .request(call.host, event::GET_USER_PRESETS, &request)
        .reply(event::GET_USER_PRESETS);
    let preset: serde_json::Value =
        serde_json::from_slice(&read.peer_presets[0].preset).expect("JSON");
    let sent = preset["permissions"]["media"]["audio"]["can_produce"].clone();
    serde_json::from_value(sent).expect("a permission")
}

#[test]
fn an_empty_permission_update_revokes_nothing() {
    let mut call = call(me());
    for (sent, then) in [
        (
            StreamPermissionType::NotAllowed,
            MediaPermission::NotAllowed,
        ),
        (StreamPermissionType::None, MediaPermission::NotAllowed),
        (
            StreamPermissionType::CanRequest,
            MediaPermission::CanRequest,
        ),
    ] {
        let patch = PresetUpdates {
            media: Some(MediaPermissionUpdate {
                audio: Some(StreamPermission {
                    can_produce: Some(sent.into()),
                    can_consume: None,
                }),
                ..MediaPermissionUpdate::default()
            }),
            waiting_room_type: Some(0),
            ..PresetUpdates::default()
        };
        let outcome = call
            .world
            .request(call.host, event::UPDATE_USER_PRESET, &update(ME, patch));
        assert!(!outcome.is_rejected());
        assert_eq!(can_speak(&mut call), then);
    }
}

#[test]
fn participants_who_no_longer_have_to_wait_are_admitted() {
    let mut call = call(me());
    let mut profile =
        crate::participants::waiting(3, parlor_protocol::preset::WaitingRoomType::SkipOnAccept);
    let (socket, _) = call.world.connect(&profile);
    call.world.request(socket, event::JOIN_ROOM, &());
    let nothing = PresetUpdates {
        can_record: Some(true),
        ..PresetUpdates::default()
    };
    let decides = PresetUpdates {
        accept_waiting_requests: Some(true),
        ..PresetUpdates::default()
    };
    for (patch, invited) in [(nothing, 0), (decides, 1)] {
        let outcome = call
            .world
            .request(call.host, event::UPDATE_USER_PRESET, &update(3, patch));
        let invitations = outcome
            .effects
            .frames_to(socket, event::WAITING_ROOM_REQUEST_ACCEPTED);
        assert_eq!(invitations.len(), invited);
    }
    let list: GetWaitingRoomRequests = call
        .world
        .advance(200)
        .only_frame(call.host, event::GET_WAITING_ROOM_REQUESTS);
    assert!(list.requests.is_empty());
    // The same when the participant reconnects with another preset, also when no one is inside.
    let mut world = World::new(Limits::default());
    let (socket, _) = world.connect(&profile);
    world.request(socket, event::JOIN_ROOM, &());
    profile.permissions = all();
    let (socket, effects) = world.connect(&profile);
    assert_eq!(
        effects.events(socket),
        [event::WAITING_ROOM_REQUEST_ACCEPTED]
    );
    assert!(effects.records.is_empty());
}
