//! Each thing that needs a permission, with only that permission missing: by the preset, and taken
//! away during the call. It is refused, nothing is kept, and nobody else learns of it.

use bytes::Bytes;
use parlor_live::{Answer, Command, ConnectionId, Limits, Newcomer};
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

use crate::people::{all, peer, right, somebody, user};
use crate::world::World;

/// A call in which somebody has said something, asked something, and everybody is inside.
struct Call {
    world: World,
    host: ConnectionId,
    me: ConnectionId,
    public: String,
    private: String,
    poll: String,
}

const ME: u8 = 1;

fn call(mine: Newcomer) -> Call {
    let mut world = World::new(Limits::default());
    let mut sockets = Vec::new();
    for who in [
        somebody(0, ViewType::Webinar, all()),
        mine,
        somebody(2, ViewType::Webinar, all()),
    ] {
        let (socket, _) = world.connect(&who);
        assert!(!world.ask(socket, event::JOIN_ROOM, &()).refused());
        sockets.push(socket);
    }
    let (host, me) = (sockets[0], sockets[1]);
    let say = world.ask(me, event::SEND_MESSAGE_TO_ROOM, &text());
    let public = say.replies.first().filter(|reply| !reply.is_error());
    let public = public.and_then(|reply| reply.read::<SendChatMessageToRoomResponse>().message);
    let say = world.ask(me, event::SEND_MESSAGE_TO_PEERS, &whisper(0));
    let private = say.replies.first().filter(|reply| !reply.is_error());
    let private = private.and_then(|reply| reply.read::<SendChatMessageToPeersResponse>().message);
    let new = parlor_live::NewPoll {
        question: "Which?".to_owned(),
        options: vec!["one".to_owned(), "two".to_owned()],
        anonymous: false,
        hide_votes: false,
    };
    let (Answer::Poll(poll), _) = world.command(Command::Poll(new)) else {
        panic!("a poll is made")
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

fn whisper(to: u8) -> SendChatMessageToPeersRequest {
    SendChatMessageToPeersRequest {
        peer_ids: vec![peer(to, 0).to_string(), peer(ME, 0).to_string()],
        payload_type: 0,
        payload: "hello".to_owned(),
    }
}

/// What is tried, and what it needs.
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
    ["chat.private.can_send", "chat.private.text"], SEND_MESSAGE_TO_PEERS, |_| whisper(0);
    ["chat.private.files"], SEND_MESSAGE_TO_PEERS, |_| SendChatMessageToPeersRequest { payload_type: 1, payload: PICTURE.to_owned(), ..whisper(0) };
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

/// A message that is encoded already.
fn encoded(case: &Case, call: &Call) -> parlor_protocol::signal::Envelope {
    parlor_protocol::signal::Envelope {
        event: case.event,
        id: Some("asked".to_owned()),
        payload: Some((case.request)(call).into()),
        metadata: None,
    }
}

fn send(call: &mut Call, case: &Case) -> crate::world::Done {
    let bytes = encoded(case, call).encode_to_vec().into();
    call.world.take(parlor_live::Input::Frame {
        connection: call.me,
        bytes,
    })
}

fn refused(call: &mut Call, case: &Case, why: &str) {
    let (kept, polls) = (format!("{:?}", call.world.kept), call.poll.clone());
    let done = send(call, case);
    assert_eq!(
        done.frames.len(),
        1,
        "{} without {why}: {done:?}",
        case.event
    );
    let frame = &done.frames[0];
    assert!(
        frame.is_error() && frame.to == call.me,
        "{} without {why}: {frame:?}",
        case.event
    );
    assert_eq!(frame.id.as_deref(), Some("asked"));
    assert!(done.kept.is_empty() && done.delegated.is_empty() && done.media.is_empty());
    assert_eq!(format!("{:?}", call.world.kept), kept);
    assert_eq!(call.poll, polls);
}

fn me() -> Newcomer {
    somebody(ME, ViewType::Webinar, all())
}

#[test]
fn nothing_is_done_without_the_permission_that_it_needs() {
    let mut checks = 0;
    for case in CASES {
        let mut allowed = call(me());
        let done = send(&mut allowed, case);
        let error = done.frames.iter().find(|frame| frame.is_error());
        assert!(
            error.is_none(),
            "{} with every permission: {error:?}",
            case.event
        );
        for needs in case.needs {
            let these: Vec<_> = needs.split('+').map(right).collect();
            let mut who = me();
            for right in &these {
                (right.set)(&mut who.permissions, false);
            }
            refused(&mut call(who), case, needs);
            checks += 1;
            checks += taken_away(case, &these, needs);
        }
    }
    println!("{checks} checks");
    assert!(checks > 80);
}

/// The same, with the permissions taken during the call, by the host.
fn taken_away(case: &Case, these: &[crate::people::Right], needs: &str) -> usize {
    let mut patch = PresetUpdates::default();
    let mut who = me();
    for right in these {
        match right.patch {
            Some(set) => set(&mut patch, false),
            // A call cannot change it: it was never there.
            None => (right.set)(&mut who.permissions, false),
        }
    }
    let mut call = call(who);
    let host = call.host;
    assert!(
        !call
            .world
            .ask(host, event::UPDATE_USER_PRESET, &update(ME, patch))
            .refused()
    );
    refused(&mut call, case, needs);
    // A reconnect does not bring it back.
    call.me = call.world.connect(&me_without(these)).0;
    refused(&mut call, case, needs);
    2
}

fn me_without(these: &[crate::people::Right]) -> Newcomer {
    let mut who = me();
    for right in these.iter().filter(|right| right.patch.is_none()) {
        (right.set)(&mut who.permissions, false);
    }
    who
}

#[test]
fn nothing_is_done_for_those_who_have_not_joined() {
    let open = [event::GET_POLLS];
    for case in CASES.iter().filter(|case| !open.contains(&case.event)) {
        let mut call = call(somebody(3, ViewType::Webinar, all()));
        call.me = call.world.connect(&me()).0;
        refused(&mut call, case, "a join");
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
            .ask(host, event::UPDATE_USER_PRESET, &update(0, patch))
            .refused()
    );
    let me = call.me;
    assert_eq!(
        call.world
            .ask(me, event::SEND_MESSAGE_TO_PEERS, &whisper(0))
            .code(),
        404
    );
    assert!(
        !call
            .world
            .ask(me, event::SEND_MESSAGE_TO_PEERS, &whisper(2))
            .refused()
    );
}

#[test]
fn only_those_who_alter_breakout_rooms_end_the_meeting_in_all_of_them() {
    let request = KickAllPeersRequest {
        propagate_kick_across_rooms: true,
    };
    for may in [true, false] {
        let mut who = me();
        (right("can_alter_connected_meetings").set)(&mut who.permissions, may);
        let mut call = call(who);
        let done = call.world.ask(call.me, event::KICK_ALL, &request).done;
        assert_eq!(done.delegated.len(), usize::from(may));
        // Here it ends in any case.
        assert!(call.world.kept.live().is_none());
        assert_eq!(done.events(call.host), [event::KICK_ALL]);
    }
}

#[test]
fn a_preset_is_named_for_those_who_are_moved_only_by_those_who_may_change_permissions() {
    let preset = Some("0197f3a0-0000-7000-8000-0000000000fe".to_owned());
    let here = crate::world::meeting().id.to_string();
    for may in [true, false] {
        let mut who = me();
        (right("can_change_participant_permissions").set)(&mut who.permissions, may);
        let mut call = call(who);
        let mut code = |to: &str, moved: u8, preset_id: Option<String>| {
            let mut request = move_me(Some(to.to_owned()));
            request.participants[0].id = Some(user(moved).to_string());
            request.participants[0].preset_id = preset_id;
            let asked = call.world.ask(call.me, event::MOVE_PEERS, &request);
            let delegated = asked.done.delegated.len();
            (asked.replies.first().map(|_| asked.code()), delegated)
        };
        let done = (None, 1);
        let named = if may { done } else { (Some(403), 0) };
        let away = user(9).to_string();
        for moved in [ME, 2] {
            assert_eq!(code(&away, moved, preset.clone()), named);
            assert_eq!(code(&away, moved, None), done);
            assert_eq!(code(&away, moved, Some(String::new())), done);
            assert_eq!(code(&here, moved, preset.clone()), (Some(400), 0));
        }
    }
}

#[test]
fn a_message_to_some_peers_does_not_reach_those_whom_its_sender_does_not_see() {
    let mut hidden = me();
    hidden.permissions.hidden_participant = true;
    let mut call = call(hidden);
    let message = BroadcastMessage {
        r#type: "hello".to_owned(),
        ids: [0, ME, 2].map(|n| peer(n, 0).to_string()).to_vec(),
        ..BroadcastMessage::default()
    };
    let event = event::BROADCAST_TO_ENTITY;
    let done = call.world.ask(call.host, event, &message).done;
    assert!(done.events(call.me).is_empty());
    // Its sender is among those it named.
    assert_eq!(done.frames.len(), 2);
    let done = call.world.ask(call.me, event, &message).done;
    assert_eq!(done.frames.len(), 3);
}

fn can_speak(call: &mut Call) -> MediaPermission {
    let request = AcceptWaitingRoomRequests {
        user_ids: users(ME),
    };
    let read: ReadPeersPresetResponse = call
        .world
        .ask(call.host, event::GET_USER_PRESETS, &request)
        .reply(event::GET_USER_PRESETS);
    let preset: serde_json::Value =
        serde_json::from_slice(&read.peer_presets[0].preset).expect("JSON");
    let said = preset["permissions"]["media"]["audio"]["can_produce"].clone();
    serde_json::from_value(said).expect("a permission")
}

#[test]
fn a_change_that_says_nothing_takes_nothing_back() {
    let mut call = call(me());
    for (said, then) in [
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
                    can_produce: Some(said.into()),
                    can_consume: None,
                }),
                ..MediaPermissionUpdate::default()
            }),
            waiting_room_type: Some(0),
            ..PresetUpdates::default()
        };
        let asked = call
            .world
            .ask(call.host, event::UPDATE_USER_PRESET, &update(ME, patch));
        assert!(!asked.refused());
        assert_eq!(can_speak(&mut call), then);
    }
}

#[test]
fn whoever_need_not_wait_any_more_is_let_in() {
    let mut call = call(me());
    let mut who = crate::people::waiting(3, parlor_protocol::preset::WaitingRoomType::SkipOnAccept);
    let (socket, _) = call.world.connect(&who);
    call.world.ask(socket, event::JOIN_ROOM, &());
    let nothing = PresetUpdates {
        can_record: Some(true),
        ..PresetUpdates::default()
    };
    let decides = PresetUpdates {
        accept_waiting_requests: Some(true),
        ..PresetUpdates::default()
    };
    for (patch, invited) in [(nothing, 0), (decides, 1)] {
        let asked = call
            .world
            .ask(call.host, event::UPDATE_USER_PRESET, &update(3, patch));
        let told = asked.done.of(socket, event::WAITING_ROOM_REQUEST_ACCEPTED);
        assert_eq!(told.len(), invited);
    }
    let list: GetWaitingRoomRequests = call
        .world
        .pass(200)
        .one(call.host, event::GET_WAITING_ROOM_REQUESTS);
    assert!(list.requests.is_empty());
    // The same when they come back with another preset, before anybody is inside as well.
    let mut world = World::new(Limits::default());
    let (socket, _) = world.connect(&who);
    world.ask(socket, event::JOIN_ROOM, &());
    who.permissions = all();
    let (socket, done) = world.connect(&who);
    assert_eq!(done.events(socket), [event::WAITING_ROOM_REQUEST_ACCEPTED]);
    assert!(done.kept.is_empty());
}
