//! An app with one resource of each kind, and a valid request for each operation on it.

use parlor_live::Record;
use parlor_server::http::{Endpoint, Surface};
use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};
use serde_json::{Value, json};

use crate::http::participants::new_participant;
use crate::http::resource::Resource;
use crate::http::server::Server;
use crate::http::sessions::SessionWriter;

/// Marker in the values that the requests write.
const MARK: &str = "Intruder";

/// An app with a meeting, a participant, a preset, and an ended session with a peer.
pub(super) struct Target {
    pub(super) app: Resource,
    pub(super) join_token: String,
    meeting: Resource,
    participant_id: String,
    preset_id: String,
    session_id: String,
    peer_id: String,
}

impl Target {
    pub(super) async fn create(server: &Server) -> Self {
        let app = server.app().await;
        let meeting = app.meeting().await;
        let participant = meeting
            .post("/participants", &new_participant("resident"))
            .await
            .data(201);
        let preset = app
            .post("/presets", &json!({ "name": "resident" }))
            .await
            .data(200);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let writer = SessionWriter::in_app(server, app.clone()).await;
        let session = writer.ended_session(meeting.id(), 60, 30).await;
        let peer = writer.peer(&session, "resident", 0, Some(30));
        let message = writer.message(&session, "hello");
        let records = [Record::Peer(peer.clone()), Record::Chat(message)];
        writer.insert(&session, &records).await;
        Self {
            session_id: session.id(),
            peer_id: peer.peer.to_string(),
            join_token: text(&participant["token"]),
            participant_id: text(&participant["id"]),
            preset_id: text(&preset["id"]),
            app,
            meeting,
        }
    }

    /// Replaces the placeholders of a route's path by the ids of this target.
    pub(super) fn fill(&self, path: &str) -> String {
        let participant = if path.contains("{session_id}") {
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

    /// Returns a body with which the operation succeeds and, if it is a write, changes something.
    pub(super) fn body(&self, endpoint: &Endpoint) -> Option<Value> {
        Some(match endpoint.id() {
            "createApp" | "updateApp" => json!({ "name": format!("{MARK} {}", self.app.id()) }),
            "createMeeting" | "updateMeeting" | "replaceMeeting" => json!({ "title": MARK }),
            "addParticipant" => new_participant(MARK),
            "addParticipants" => json!({ "participants": [new_participant(MARK)] }),
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

    /// Returns the root of a surface with valid credentials.
    pub(super) fn authorised(&self, server: &Server, surface: Surface) -> Resource {
        match surface {
            Surface::A => server.public().with_token(API_TOKEN),
            Surface::B => {
                let credentials = crate::http::resource::basic_auth(self.app.id(), API_TOKEN);
                server.public().with_header("authorization", &credentials)
            }
        }
    }

    /// Returns everything that a request could have changed.
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
