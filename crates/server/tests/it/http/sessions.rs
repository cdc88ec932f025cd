//! `/sessions`. The tests write the session records themselves instead of running rooms.

mod chat;
mod list;
mod one;
mod participants;
mod peer_report;

use std::sync::Arc;

use parlor_live::{ChatMessage, PayloadType, PeerRecord, Record, SessionRecord};
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PeerId, PresetId, SessionId};
use parlor_protocol::preset::ViewType;
use parlor_server::clock::Clock;
use parlor_server::rooms::records;
use parlor_store::{Db, Options};
use serde_json::{Value, json};

use crate::http::resource::Resource;
use crate::http::server::Server;

pub(crate) const MINUTE_MS: i64 = 60_000;

/// Writes session records directly to the database of an app.
pub(crate) struct SessionWriter {
    pub(crate) app: Resource,
    pub(crate) now_ms: i64,
    clock: Clock,
    db: Db,
}

/// A session in the database.
#[derive(Clone)]
pub(crate) struct StoredSession {
    /// Id of the meeting.
    pub(crate) meeting: String,
    pub(crate) record: SessionRecord,
}

impl StoredSession {
    pub(crate) fn id(&self) -> String {
        self.record.id.to_string()
    }
}

impl SessionWriter {
    pub(crate) async fn new(server: &Server) -> Self {
        Self::in_app(server, server.app().await).await
    }

    pub(crate) async fn in_app(server: &Server, app: Resource) -> Self {
        let db = Db::open(&server.database(), Options::default(), Arc::new(()))
            .await
            .unwrap();
        let clock = Clock::default();
        Self {
            app,
            now_ms: clock.now_ms(),
            clock,
            db,
        }
    }

    /// Creates a meeting, and returns its id.
    pub(crate) async fn meeting(&self, title: &str) -> String {
        let created = self
            .app
            .post("/meetings", &json!({ "title": title }))
            .await
            .data(201);
        created["id"].as_str().unwrap().to_owned()
    }

    /// Writes a live session without peers that started some minutes ago.
    pub(crate) async fn live_session(&self, meeting: &str, minutes_ago: i64) -> StoredSession {
        self.insert_session(meeting, minutes_ago, None).await
    }

    /// Writes a session that started `minutes_ago` and lasted `minutes`, all of which were
    /// consumed.
    pub(crate) async fn ended_session(
        &self,
        meeting: &str,
        minutes_ago: i64,
        minutes: i64,
    ) -> StoredSession {
        self.insert_session(meeting, minutes_ago, Some(minutes))
            .await
    }

    async fn insert_session(
        &self,
        meeting: &str,
        minutes_ago: i64,
        minutes: Option<i64>,
    ) -> StoredSession {
        let started_ms = self.now_ms - minutes_ago * MINUTE_MS;
        let lasted_ms = minutes.map(|minutes| minutes * MINUTE_MS);
        let session = StoredSession {
            meeting: meeting.to_owned(),
            record: SessionRecord {
                id: SessionId::from_uuid(self.clock.new_id(started_ms)),
                title: "Then".to_owned(),
                started_ms,
                ended_ms: lasted_ms.map(|lasted_ms| started_ms + lasted_ms),
                live: 0,
                peak: 1,
                total: 1,
                consumed_ms: lasted_ms.unwrap_or_default(),
            },
        };
        self.insert(&session, &[Record::Session(session.record.clone())])
            .await;
        session
    }

    /// Creates a meeting with a live session that started some minutes ago.
    pub(crate) async fn meeting_with_session(
        &self,
        title: &str,
        minutes_ago: i64,
    ) -> StoredSession {
        let meeting = self.meeting(title).await;
        self.live_session(&meeting, minutes_ago).await
    }

    /// Returns the record of a peer that joined `joined` minutes after the start of the session and
    /// left `stayed` minutes later, or is still connected.
    pub(crate) fn peer(
        &self,
        session: &StoredSession,
        name: &str,
        joined: i64,
        stayed: Option<i64>,
    ) -> PeerRecord {
        let joined_ms = session.record.started_ms + joined * MINUTE_MS;
        let stayed_ms = stayed.map(|stayed| stayed * MINUTE_MS);
        PeerRecord {
            session: session.record.id,
            peer: PeerId::from_uuid(self.clock.random_id()),
            participant: ParticipantId::from_uuid(self.clock.new_id(joined_ms)),
            custom_id: format!("custom-{name}"),
            name: Some(name.to_owned()),
            picture: None,
            preset: PresetId::from_uuid(self.clock.new_id(joined_ms)),
            preset_name: "group_call_host".to_owned(),
            view: ViewType::Webinar,
            created_ms: joined_ms - 1,
            joined_ms,
            entered_ms: joined_ms,
            left_ms: stayed_ms.map(|stayed_ms| joined_ms + stayed_ms),
            consumed_ms: stayed_ms.unwrap_or_default(),
        }
    }

    pub(crate) fn message(&self, session: &StoredSession, payload: &str) -> ChatMessage {
        ChatMessage {
            id: self.clock.new_id(session.record.started_ms),
            session: session.record.id,
            peer: PeerId::from_uuid(self.clock.random_id()),
            participant: ParticipantId::from_uuid(self.clock.new_id(self.now_ms)),
            name: "Ada".to_owned(),
            kind: PayloadType::Text,
            payload: payload.to_owned(),
            pinned: false,
            edited: false,
            targets: Vec::new(),
            at_ms: session.record.started_ms,
        }
    }

    /// Writes records of a session.
    pub(crate) async fn insert(&self, session: &StoredSession, records: &[Record]) {
        let app: AppId = self.app.id().parse().unwrap();
        let meeting: MeetingId = session.meeting.parse().unwrap();
        let unit = records::unit(app, meeting, self.now_ms, records);
        self.db.commit(unit).await.unwrap();
    }
}

/// Returns the items and the paging of a page that contains its paging twice.
#[track_caller]
pub(crate) fn page_of(
    name: &str,
    response: &crate::http::response::Response,
) -> (Vec<Value>, Value) {
    let data = response.data(200);
    let paging = response.json()["paging"].clone();
    assert_eq!(data["paging"], paging);
    (data[name].as_array().unwrap().clone(), paging)
}

/// Checks that a number is within 0.5 of the expected value.
#[track_caller]
pub(crate) fn assert_near(number: &Value, expected: f64) {
    let number = number.as_f64().unwrap();
    assert!(
        (number - expected).abs() < 0.5,
        "{number} is not near {expected}"
    );
}
