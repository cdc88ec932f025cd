//! An app with one of everything, and a good request for each operation on it.

use parlor_live::Record;
use parlor_server::http::{Endpoint, Surface};
use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};
use serde_json::{Value, json};

use crate::http::participants::person;
use crate::http::place::Place;
use crate::http::server::Server;
use crate::http::sessions::Rooms;

/// What an intruder would write.
const MARK: &str = "Intruder";

/// An app with a meeting, a participant and a preset.
pub(super) struct Target {
    pub(super) app: Place,
    pub(super) join_token: String,
    meeting: Place,
    participant_id: String,
    preset_id: String,
    session_id: String,
    peer_id: String,
}

impl Target {
    pub(super) async fn make(server: &Server) -> Self {
        let app = server.app().await;
        let meeting = app.meeting().await;
        let participant = meeting
            .post("/participants", &person("resident"))
            .await
            .data(201);
        let preset = app
            .post("/presets", &json!({ "name": "resident" }))
            .await
            .data(200);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rooms = Rooms::in_app(server, app.clone()).await;
        let held = rooms.ended(meeting.id(), 60, 30).await;
        let peer = rooms.peer(&held, "resident", 0, Some(30));
        let message = rooms.message(&held, "hello");
        let records = [Record::Peer(peer.clone()), Record::Chat(message)];
        rooms.keep(&held, &records).await;
        Self {
            session_id: held.id(),
            peer_id: peer.peer.to_string(),
            join_token: text(&participant["token"]),
            participant_id: text(&participant["id"]),
            preset_id: text(&preset["id"]),
            app,
            meeting,
        }
    }

    /// A route's path with the ids of this target.
    pub(super) fn fill(&self, path: &str) -> String {
        let of_session = path.contains("{session_id}");
        let participant = if of_session {
            &self.peer_id
        } else {
            &self.participant_id
        };
        path.replace("{account_id}", ACCOUNT_ID)
            .replace("{session_id}", &self.session_id)
            .replace("{peer_id}", &self.peer_id)
            .replace("{app_id}", self.app.id())
            .replace("{meeting_id}", self.meeting.id())
            .replace("{participant_id}", participant)
            .replace("{preset_id}", &self.preset_id)
    }

    /// A body with which the operation succeeds, and changes something if it is one that does.
    pub(super) fn body(&self, endpoint: &Endpoint) -> Option<Value> {
        Some(match endpoint.id() {
            "createApp" | "updateApp" => json!({ "name": format!("{MARK} {}", self.app.id()) }),
            "createMeeting" | "updateMeeting" | "replaceMeeting" => json!({ "title": MARK }),
            "addParticipant" => person(MARK),
            "addParticipants" => json!({ "participants": [person(MARK)] }),
            "replaceParticipant" => json!({ "preset_name": "webinar_viewer", "name": MARK }),
            "refreshParticipantToken" => json!({}),
            "updateParticipant" | "createPreset" | "updatePreset" | "replacePreset" => {
                json!({ "name": MARK })
            }
            "kickParticipants" | "muteParticipants" => {
                json!({ "participant_ids": [self.participant_id] })
            }
            "muteAllParticipants" => json!({ "allow_unmute": true }),
            "createPoll" => json!({ "question": MARK, "options": ["Yes", "No"] }),
            _ => return None,
        })
    }

    /// Somebody who may do everything.
    pub(super) fn invited(&self, server: &Server, surface: Surface) -> Place {
        match surface {
            Surface::A => server.public().bearing(API_TOKEN),
            Surface::B => {
                let credentials = crate::http::place::basic(self.app.id(), API_TOKEN);
                server.public().with_header("authorization", &credentials)
            }
        }
    }

    /// Everything that an intruder could have changed.
    pub(super) async fn state(&self, server: &Server) -> Vec<Value> {
        let account = server.account();
        vec![
            account
                .get(&format!("/apps/{}", self.app.id()))
                .await
                .data(200),
            account
                .get(&format!("/apps?search={MARK}%20{}", self.app.id()))
                .await
                .data(200),
            self.app.get("/meetings").await.data(200),
            self.meeting.get("/participants").await.data(200),
            self.app.get("/presets").await.data(200),
            self.app
                .get(&format!("/presets/{}", self.preset_id))
                .await
                .data(200),
        ]
    }
}
