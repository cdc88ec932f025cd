//! The cells: which permission guards which event.

use std::pin::Pin;

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    GlobalPeerPinningRequest, HostMediaControlForAllPeerRequest, HostMediaControlForPeerRequest,
    KickAllPeersRequest, PeerDisplayNameEditRequest,
};
use parlor_protocol::signal::socket::chat::{
    EditChatMessageRequest, SendChatMessageToPeersRequest, SendChatMessageToRoomRequest,
};
use parlor_protocol::signal::socket::livestreaming::{
    DenyStageAccessRequest, GrantStageAccessRequest, LeaveStageRequest,
};
use parlor_protocol::signal::socket::plugin::{
    PluginStoreDeleteKeysRequest, PluginStoreInsertKeysRequest, StoreKeys,
};
use parlor_protocol::signal::socket::polls::{NewPollRequest, VotePollRequest};
use parlor_protocol::signal::socket::preset::{
    ChatPermissionUpdate, ConnectedMeetingPermissionUpdate, PluginsPermissionsUpdate,
    PollsPermissionUpdate, PresetUpdates, PrivateChatPermission, PublicChatPermission,
    UpdatePeerPreset, UpdatePeersPresetRequest,
};
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, CreateConnectedRoomsRequest, CreateRoomRequestPayload,
    DenyWaitingRoomRequests, DisableConnectedRoomsRequest, DisableRoomPayload,
    GetConnectedRoomsDumpRequest, MovePeerPayload, MovePeersBetweenRoomsRequest,
    RemoveParticipantsRequest,
};
use parlor_testkit::signal::{PLUGINS, Refused};
use serde_json::{Value, json};

use super::scene::Scene;
use crate::meeting::say;

/// What the event does when it is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The state is another.
    Changes,
    /// It is answered; nothing is to be seen without media.
    Answers,
}

type Step<T> = Box<dyn for<'a> Fn(&'a Scene) -> Pin<Box<dyn Future<Output = T> + 'a>>>;

/// One permission and one event that needs it.
pub(super) struct Cell {
    pub(super) permission: &'static str,
    pub(super) name: &'static str,
    /// The permissions of a preset without it.
    pub(super) denies: Value,
    /// The change that takes it away, for those that can be changed.
    pub(super) takes_away: Option<PresetUpdates>,
    /// What must have happened before.
    pub(super) prepare: Step<()>,
    /// Sends the event as the actor.
    pub(super) act: Step<Option<Refused>>,
    pub(super) outcome: Outcome,
}

/// A cell whose event needs nothing to have happened before.
macro_rules! cell {
    ($permission:expr, $name:expr, $denies:expr, $takes:expr, |$scene:ident| $number:expr, $message:expr) => {
        Cell {
            permission: $permission,
            name: $name,
            denies: $denies,
            takes_away: $takes,
            prepare: Box::new(|_| Box::pin(async {})),
            act: Box::new(move |$scene| {
                Box::pin(async move { $scene.act($number, &$message).await })
            }),
            outcome: Outcome::Changes,
        }
    };
}

impl Cell {
    fn answers(self) -> Self {
        Self {
            outcome: Outcome::Answers,
            ..self
        }
    }

    fn after(
        self,
        prepare: impl for<'a> Fn(&'a Scene) -> Pin<Box<dyn Future<Output = ()> + 'a>> + 'static,
    ) -> Self {
        Self {
            prepare: Box::new(prepare),
            ..self
        }
    }
}

/// Every cell.
pub(super) fn all() -> Vec<Cell> {
    let mut cells = chat();
    cells.extend(private_chat());
    cells.extend(polls());
    cells.extend(plugins());
    cells.extend(waiting_room());
    cells.extend(stage());
    cells.extend(moderation());
    cells.extend(muting());
    cells.extend(breakout());
    cells
}

fn say_as(payload_type: i32) -> SendChatMessageToRoomRequest {
    SendChatMessageToRoomRequest {
        payload_type,
        payload: payload(payload_type),
    }
}

fn payload(payload_type: i32) -> String {
    match payload_type {
        1 => "https://example.org/a.png".to_owned(),
        2 => json!({ "link": "https://example.org/a.pdf", "name": "a.pdf", "size": 5 }).to_string(),
        _ => "hello".to_owned(),
    }
}

fn public(permission: PublicChatPermission) -> PresetUpdates {
    let chat = ChatPermissionUpdate {
        public: Some(permission),
        private: None,
    };
    PresetUpdates {
        chat: Some(chat),
        ..PresetUpdates::default()
    }
}

fn chat() -> Vec<Cell> {
    let no_send = || {
        Some(public(PublicChatPermission {
            can_send: Some(false),
            ..PublicChatPermission::default()
        }))
    };
    let no_text = || {
        Some(public(PublicChatPermission {
            text: Some(false),
            ..PublicChatPermission::default()
        }))
    };
    let no_files = || {
        Some(public(PublicChatPermission {
            files: Some(false),
            ..PublicChatPermission::default()
        }))
    };
    let without = |name: &str| json!({ "chat": { "public": { name: false } } });
    vec![
        cell!(
            "chat.public.can_send",
            "text to all",
            without("can_send"),
            no_send(),
            |scene| event::SEND_MESSAGE_TO_ROOM,
            say_as(0)
        ),
        cell!(
            "chat.public.can_send",
            "picture to all",
            without("can_send"),
            no_send(),
            |scene| event::SEND_MESSAGE_TO_ROOM,
            say_as(1)
        ),
        cell!(
            "chat.public.can_send",
            "file to all",
            without("can_send"),
            no_send(),
            |scene| event::SEND_MESSAGE_TO_ROOM,
            say_as(2)
        ),
        cell!(
            "chat.public.text",
            "text to all",
            without("text"),
            no_text(),
            |scene| event::SEND_MESSAGE_TO_ROOM,
            say_as(0)
        ),
        cell!(
            "chat.public.files",
            "picture to all",
            without("files"),
            no_files(),
            |scene| event::SEND_MESSAGE_TO_ROOM,
            say_as(1)
        ),
        cell!(
            "chat.public.files",
            "file to all",
            without("files"),
            no_files(),
            |scene| event::SEND_MESSAGE_TO_ROOM,
            say_as(2)
        ),
        // A text that was allowed must not become a file that is not.
        Cell {
            act: Box::new(|scene| {
                Box::pin(async move {
                    let mine = say(&scene.actor, "just text").await;
                    // The message itself is no change that the refusal must undo.
                    let edit = EditChatMessageRequest {
                        chat_id: mine.chat_id.clone(),
                        payload_type: Some(1),
                        payload: Some(payload(1)),
                        ..EditChatMessageRequest::default()
                    };
                    let refused = scene.act(event::EDIT_MESSAGE, &edit).await;
                    let delete = parlor_protocol::signal::socket::chat::DeleteChatMessageRequest {
                        chat_id: mine.chat_id,
                        channel_id: None,
                    };
                    if refused.is_some() {
                        scene.act(event::DELETE_MESSAGE, &delete).await;
                    }
                    refused
                })
            }),
            ..cell!(
                "chat.public.files",
                "text edited to a picture",
                without("files"),
                no_files(),
                |scene| event::EDIT_MESSAGE,
                say_as(1)
            )
        },
    ]
}

fn private_chat() -> Vec<Cell> {
    let private = |permission: PrivateChatPermission| {
        let chat = ChatPermissionUpdate {
            public: None,
            private: Some(permission),
        };
        Some(PresetUpdates {
            chat: Some(chat),
            ..PresetUpdates::default()
        })
    };
    let no_send = || {
        private(PrivateChatPermission {
            can_send: Some(false),
            ..PrivateChatPermission::default()
        })
    };
    let no_text = || {
        private(PrivateChatPermission {
            text: Some(false),
            ..PrivateChatPermission::default()
        })
    };
    let no_files = || {
        private(PrivateChatPermission {
            files: Some(false),
            ..PrivateChatPermission::default()
        })
    };
    let without = |name: &str| json!({ "chat": { "private": { name: false } } });
    let to_target = |scene: &Scene, payload_type: i32| SendChatMessageToPeersRequest {
        peer_ids: vec![scene.target.id().to_owned(), scene.actor.id().to_owned()],
        payload_type,
        payload: payload(payload_type),
    };
    vec![
        cell!(
            "chat.private.can_send",
            "private text",
            without("can_send"),
            no_send(),
            |scene| event::SEND_MESSAGE_TO_PEERS,
            to_target(scene, 0)
        ),
        cell!(
            "chat.private.can_send",
            "private picture",
            without("can_send"),
            no_send(),
            |scene| event::SEND_MESSAGE_TO_PEERS,
            to_target(scene, 1)
        ),
        cell!(
            "chat.private.text",
            "private text",
            without("text"),
            no_text(),
            |scene| event::SEND_MESSAGE_TO_PEERS,
            to_target(scene, 0)
        ),
        cell!(
            "chat.private.files",
            "private picture",
            without("files"),
            no_files(),
            |scene| event::SEND_MESSAGE_TO_PEERS,
            to_target(scene, 1)
        ),
        cell!(
            "chat.private.files",
            "private file",
            without("files"),
            no_files(),
            |scene| event::SEND_MESSAGE_TO_PEERS,
            to_target(scene, 2)
        ),
    ]
}

fn polls() -> Vec<Cell> {
    let takes = |polls: PollsPermissionUpdate| {
        Some(PresetUpdates {
            polls: Some(polls),
            ..PresetUpdates::default()
        })
    };
    let without = |name: &str| json!({ "polls": { name: false } });
    let new = || NewPollRequest {
        question: "!".to_owned(),
        options: vec!["a".to_owned(), "b".to_owned()],
        ..NewPollRequest::default()
    };
    vec![
        cell!(
            "polls.can_create",
            "new poll",
            without("can_create"),
            takes(PollsPermissionUpdate {
                can_create: Some(false),
                ..PollsPermissionUpdate::default()
            }),
            |scene| event::CREATE_POLL,
            new()
        ),
        cell!(
            "polls.can_vote",
            "vote",
            without("can_vote"),
            takes(PollsPermissionUpdate {
                can_vote: Some(false),
                ..PollsPermissionUpdate::default()
            }),
            |scene| event::VOTE_POLL,
            VotePollRequest {
                poll_id: scene.poll.poll_id.clone(),
                index: 0
            }
        ),
        cell!(
            "polls.can_view",
            "vote",
            without("can_view"),
            takes(PollsPermissionUpdate {
                can_view: Some(false),
                ..PollsPermissionUpdate::default()
            }),
            |scene| event::VOTE_POLL,
            VotePollRequest {
                poll_id: scene.poll.poll_id.clone(),
                index: 0
            }
        ),
    ]
}

fn store_key(name: &str, payload: Option<&'static str>) -> StoreKeys {
    StoreKeys {
        store_key: name.to_owned(),
        payload: payload.map(Into::into),
    }
}

fn plugins() -> Vec<Cell> {
    let takes = |plugins: PluginsPermissionsUpdate| {
        Some(PresetUpdates {
            plugins: Some(plugins),
            ..PresetUpdates::default()
        })
    };
    let no_start = || {
        takes(PluginsPermissionsUpdate {
            can_start: Some(false),
            ..PluginsPermissionsUpdate::default()
        })
    };
    let no_close = || {
        takes(PluginsPermissionsUpdate {
            can_close: Some(false),
            ..PluginsPermissionsUpdate::default()
        })
    };
    let without = |name: &str| json!({ "plugins": { name: false } });
    let insert = |scene: &Scene, key: StoreKeys| PluginStoreInsertKeysRequest {
        plugin_id: scene.meeting.id.clone(),
        store_name: PLUGINS.to_owned(),
        insert_keys: vec![key],
    };
    let delete = |scene: &Scene| PluginStoreDeleteKeysRequest {
        plugin_id: scene.meeting.id.clone(),
        store_name: PLUGINS.to_owned(),
        delete_keys: vec![store_key("board", None)],
    };
    vec![
        cell!(
            "plugins.can_start",
            "start a plugin",
            without("can_start"),
            no_start(),
            |scene| event::STORE_INSERT_KEYS,
            insert(scene, store_key("quiz", Some(r#"{"id":"quiz"}"#)))
        ),
        cell!(
            "plugins.can_close",
            "close a plugin",
            without("can_close"),
            no_close(),
            |scene| event::STORE_INSERT_KEYS,
            insert(scene, store_key("board", Some("null")))
        ),
        cell!(
            "plugins.can_close",
            "delete a plugin's key",
            without("can_close"),
            no_close(),
            |scene| event::STORE_DELETE_KEYS,
            delete(scene)
        ),
    ]
}

fn waiting_room() -> Vec<Cell> {
    let takes = || {
        Some(PresetUpdates {
            accept_waiting_requests: Some(false),
            ..PresetUpdates::default()
        })
    };
    let without = || json!({ "accept_waiting_requests": false });
    let user = |scene: &Scene| vec![scene.waiting.user().to_owned()];
    vec![
        cell!(
            "accept_waiting_requests",
            "let in",
            without(),
            takes(),
            |scene| event::ACCEPT_WAITING_ROOM_REQUESTS,
            AcceptWaitingRoomRequests {
                user_ids: user(scene)
            }
        ),
        cell!(
            "accept_waiting_requests",
            "turn away",
            without(),
            takes(),
            |scene| event::DENY_WAITING_ROOM_REQUESTS,
            DenyWaitingRoomRequests {
                user_ids: user(scene)
            }
        ),
        cell!(
            "accept_waiting_requests",
            "who waits",
            without(),
            takes(),
            |scene| event::GET_WAITING_ROOM_REQUESTS,
            GetConnectedRoomsDumpRequest {}
        )
        .answers(),
    ]
}

fn stage() -> Vec<Cell> {
    // The one is the older name of the other.
    let without =
        || json!({ "accept_stage_requests": false, "can_accept_production_requests": false });
    let no_access = |access: &str| json!({ "stage_access": access });
    let user = |scene: &Scene| vec![scene.asking.user().to_owned()];
    vec![
        cell!(
            "accept_stage_requests",
            "let on the stage",
            without(),
            None,
            |scene| event::GRANT_STAGE_ACCESS,
            GrantStageAccessRequest {
                user_ids: user(scene)
            }
        ),
        cell!(
            "accept_stage_requests",
            "refuse the stage",
            without(),
            None,
            |scene| event::DENY_STAGE_ACCESS,
            DenyStageAccessRequest {
                user_ids: user(scene)
            }
        ),
        cell!(
            "accept_stage_requests",
            "who asks for the stage",
            without(),
            None,
            |scene| event::GET_STAGE_REQUESTS,
            GetConnectedRoomsDumpRequest {}
        )
        .answers(),
        cell!(
            "accept_stage_requests",
            "send off the stage",
            without(),
            None,
            |scene| event::LEAVE_STAGE,
            LeaveStageRequest {
                user_ids: user(scene)
            }
        )
        .after(|scene| {
            Box::pin(async move {
                let grant = GrantStageAccessRequest {
                    user_ids: vec![scene.asking.user().to_owned()],
                };
                scene
                    .host
                    .tell(event::GRANT_STAGE_ACCESS, &grant)
                    .await
                    .unwrap();
                scene
                    .asking
                    .push_frame(event::GRANT_STAGE_ACCESS)
                    .await
                    .unwrap();
                scene
                    .asking
                    .ask_on(
                        event::JOIN_STAGE,
                        event::PEER_STAGE_STATUS_UPDATE,
                        &GetConnectedRoomsDumpRequest {},
                    )
                    .await
                    .unwrap();
            })
        }),
        cell!(
            "stage_access",
            "come on the stage, never allowed",
            no_access("NOT_ALLOWED"),
            None,
            |scene| event::JOIN_STAGE,
            GetConnectedRoomsDumpRequest {}
        ),
        cell!(
            "stage_access",
            "come on the stage unasked",
            no_access("CAN_REQUEST"),
            None,
            |scene| event::JOIN_STAGE,
            GetConnectedRoomsDumpRequest {}
        ),
        cell!(
            "stage_access",
            "ask for the stage, never allowed",
            no_access("NOT_ALLOWED"),
            None,
            |scene| event::REQUEST_STAGE_ACCESS,
            GetConnectedRoomsDumpRequest {}
        )
        .answers(),
    ]
}

/// A change of one permission.
#[expect(clippy::unnecessary_wraps, reason = "what a cell holds")]
fn flag(set: fn(&mut PresetUpdates)) -> Option<PresetUpdates> {
    let mut updates = PresetUpdates::default();
    set(&mut updates);
    Some(updates)
}

/// Permissions without one of them.
fn without(name: &str) -> Value {
    json!({ name: false })
}

fn moderation() -> Vec<Cell> {
    let no_kick = || flag(|updates| updates.kick_participant = Some(false));
    let target = |scene: &Scene| scene.target.id().to_owned();
    let give = |scene: &Scene| UpdatePeersPresetRequest {
        update_peers_presets: vec![
            UpdatePeerPreset {
                user_ids: scene.target.user().to_owned(),
                patch: Some(PresetUpdates {
                    kick_participant: Some(true),
                    ..PresetUpdates::default()
                }),
            },
            // Nor to oneself.
            UpdatePeerPreset {
                user_ids: scene.actor.user().to_owned(),
                patch: Some(PresetUpdates {
                    can_record: Some(false),
                    ..PresetUpdates::default()
                }),
            },
        ],
    };
    vec![
        cell!(
            "kick_participant",
            "kick",
            without("kick_participant"),
            no_kick(),
            |scene| event::KICK,
            RemoveParticipantsRequest {
                peer_ids: vec![target(scene)]
            }
        ),
        cell!(
            "kick_participant",
            "kick all",
            without("kick_participant"),
            no_kick(),
            |scene| event::KICK_ALL,
            KickAllPeersRequest::default()
        ),
        cell!(
            "pin_participant",
            "pin",
            without("pin_participant"),
            flag(|updates| updates.pin_participant = Some(false)),
            |scene| event::PIN_PEER,
            GlobalPeerPinningRequest {
                participant_id: target(scene)
            }
        ),
        cell!(
            "can_change_participant_permissions",
            "change permissions",
            without("can_change_participant_permissions"),
            flag(|updates| updates.can_change_participant_permissions = Some(false)),
            |scene| event::UPDATE_USER_PRESET,
            give(scene)
        ),
        cell!(
            "can_edit_display_name",
            "change the own name",
            without("can_edit_display_name"),
            flag(|updates| updates.can_edit_display_name = Some(false)),
            |scene| event::CHANGE_DISPLAY_NAME,
            PeerDisplayNameEditRequest {
                participant_id: scene.actor.id().to_owned(),
                display_name: "Other".to_owned()
            }
        ),
    ]
}

fn muting() -> Vec<Cell> {
    let mute = |scene: &Scene, audio, video, screen| HostMediaControlForPeerRequest {
        participant_id: scene.target.id().to_owned(),
        audio,
        video,
        scree_share: screen,
    };
    let mute_all = |audio, video, screen| HostMediaControlForAllPeerRequest {
        audio,
        video,
        screen_share: screen,
    };
    let no_audio = || flag(|updates| updates.disable_participant_audio = Some(false));
    let no_video = || flag(|updates| updates.disable_participant_video = Some(false));
    let no_screen = || flag(|updates| updates.disable_participant_screensharing = Some(false));
    vec![
        cell!(
            "disable_participant_audio",
            "mute one",
            without("disable_participant_audio"),
            no_audio(),
            |scene| event::HOST_CONTROL_PEER,
            mute(scene, true, false, false)
        )
        .answers(),
        cell!(
            "disable_participant_audio",
            "mute all",
            without("disable_participant_audio"),
            no_audio(),
            |scene| event::HOST_CONTROL_ALL,
            mute_all(true, false, false)
        )
        .answers(),
        cell!(
            "disable_participant_video",
            "camera of one",
            without("disable_participant_video"),
            no_video(),
            |scene| event::HOST_CONTROL_PEER,
            mute(scene, false, true, false)
        )
        .answers(),
        cell!(
            "disable_participant_video",
            "camera of all",
            without("disable_participant_video"),
            no_video(),
            |scene| event::HOST_CONTROL_ALL,
            mute_all(false, true, false)
        )
        .answers(),
        cell!(
            "disable_participant_video",
            "camera beside the microphone",
            without("disable_participant_video"),
            no_video(),
            |scene| event::HOST_CONTROL_PEER,
            mute(scene, true, true, false)
        )
        .answers(),
        cell!(
            "disable_participant_screensharing",
            "screen of one",
            without("disable_participant_screensharing"),
            no_screen(),
            |scene| event::HOST_CONTROL_PEER,
            mute(scene, false, false, true)
        )
        .answers(),
        cell!(
            "disable_participant_screensharing",
            "screen of all",
            without("disable_participant_screensharing"),
            no_screen(),
            |scene| event::HOST_CONTROL_ALL,
            mute_all(false, false, true)
        )
        .answers(),
    ]
}

fn breakout() -> Vec<Cell> {
    let takes = |rooms: ConnectedMeetingPermissionUpdate| {
        Some(PresetUpdates {
            connected_meetings: Some(rooms),
            ..PresetUpdates::default()
        })
    };
    let no_alter = || {
        takes(ConnectedMeetingPermissionUpdate {
            can_alter_connected_meetings: Some(false),
            ..ConnectedMeetingPermissionUpdate::default()
        })
    };
    let no_alter_or_switch = || {
        takes(ConnectedMeetingPermissionUpdate {
            can_alter_connected_meetings: Some(false),
            can_switch_connected_meetings: Some(false),
            ..ConnectedMeetingPermissionUpdate::default()
        })
    };
    let without = || json!({ "connected_meetings": { "can_alter_connected_meetings": false } });
    let without_switch = || json!({ "connected_meetings": { "can_alter_connected_meetings": false, "can_switch_connected_meetings": false } });
    let to_room = |scene: &Scene, user: &str| MovePeersBetweenRoomsRequest {
        source_meeting_id: Some(scene.meeting.id.clone()),
        destination_meeting_id: Some(scene.room.clone()),
        participants: vec![MovePeerPayload {
            id: Some(user.to_owned()),
            preset_id: None,
        }],
    };
    vec![
        cell!(
            "connected_meetings.can_alter",
            "make a room",
            without(),
            no_alter(),
            |scene| event::CREATE_CONNECTED_ROOMS,
            CreateConnectedRoomsRequest {
                payloads: vec![CreateRoomRequestPayload {
                    title: Some("Blue".to_owned())
                }]
            }
        ),
        cell!(
            "connected_meetings.can_alter",
            "remove a room",
            without(),
            no_alter(),
            |scene| event::DELETE_CONNECTED_ROOMS,
            DisableConnectedRoomsRequest {
                payloads: vec![DisableRoomPayload {
                    id: Some(scene.room.clone())
                }]
            }
        ),
        cell!(
            "connected_meetings.can_alter",
            "move somebody",
            without(),
            no_alter(),
            |scene| event::MOVE_PEERS,
            to_room(scene, scene.target.user())
        ),
        cell!(
            "connected_meetings.can_switch",
            "move oneself",
            without_switch(),
            no_alter_or_switch(),
            |scene| event::MOVE_PEERS,
            to_room(scene, scene.actor.user())
        )
        .answers(),
    ]
}
