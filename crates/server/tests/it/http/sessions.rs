//! Sessions, over records that a room would have kept.

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

use crate::http::place::Place;
use crate::http::server::Server;

pub(crate) const MINUTE_MS: i64 = 60_000;

/// Writes down what rooms would, behind the server's back.
pub(crate) struct Rooms {
    pub(crate) app: Place,
    pub(crate) now_ms: i64,
    clock: Clock,
    db: Db,
}

/// A meeting with a session.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) meeting: String,
    pub(crate) session: SessionRecord,
}

impl Held {
    pub(crate) fn id(&self) -> String {
        self.session.id.to_string()
    }
}

impl Rooms {
    pub(crate) async fn of(server: &Server) -> Self {
        Self::in_app(server, server.app().await).await
    }

    pub(crate) async fn in_app(server: &Server, app: Place) -> Self {
        let db = Db::open(&server.records(), Options::default(), Arc::new(()))
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

    /// A new meeting.
    pub(crate) async fn meeting(&self, title: &str) -> String {
        let made = self
            .app
            .post("/meetings", &json!({ "title": title }))
            .await
            .data(201);
        made["id"].as_str().unwrap().to_owned()
    }

    /// A live session of a meeting that started some minutes ago; nobody is in it.
    pub(crate) async fn session(&self, meeting: &str, minutes_ago: i64) -> Held {
        self.ending(meeting, minutes_ago, None).await
    }

    /// A session that ended after some minutes, all of which somebody used.
    pub(crate) async fn ended(&self, meeting: &str, minutes_ago: i64, minutes: i64) -> Held {
        self.ending(meeting, minutes_ago, Some(minutes)).await
    }

    async fn ending(&self, meeting: &str, minutes_ago: i64, minutes: Option<i64>) -> Held {
        let started_ms = self.now_ms - minutes_ago * MINUTE_MS;
        let lasted_ms = minutes.map(|minutes| minutes * MINUTE_MS);
        let held = Held {
            meeting: meeting.to_owned(),
            session: SessionRecord {
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
        self.keep(&held, &[Record::Session(held.session.clone())])
            .await;
        held
    }

    /// A session of a meeting of its own.
    pub(crate) async fn held(&self, title: &str, minutes_ago: i64) -> Held {
        let meeting = self.meeting(title).await;
        self.session(&meeting, minutes_ago).await
    }

    /// A peer that joined some minutes after the session began, and left some minutes later or is inside.
    pub(crate) fn peer(
        &self,
        held: &Held,
        name: &str,
        joined: i64,
        stayed: Option<i64>,
    ) -> PeerRecord {
        let joined_ms = held.session.started_ms + joined * MINUTE_MS;
        let stayed_ms = stayed.map(|stayed| stayed * MINUTE_MS);
        PeerRecord {
            session: held.session.id,
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

    pub(crate) fn message(&self, held: &Held, payload: &str) -> ChatMessage {
        ChatMessage {
            id: self.clock.new_id(held.session.started_ms),
            session: held.session.id,
            peer: PeerId::from_uuid(self.clock.random_id()),
            participant: ParticipantId::from_uuid(self.clock.new_id(self.now_ms)),
            name: "Ada".to_owned(),
            kind: PayloadType::Text,
            payload: payload.to_owned(),
            pinned: false,
            edited: false,
            targets: Vec::new(),
            at_ms: held.session.started_ms,
        }
    }

    pub(crate) async fn keep(&self, held: &Held, records: &[Record]) {
        let app: AppId = self.app.id().parse().unwrap();
        let meeting: MeetingId = held.meeting.parse().unwrap();
        let unit = records::unit(app, meeting, self.now_ms, records);
        self.db.commit(unit).await.unwrap();
    }
}

/// The items of a page that tells its place twice.
#[track_caller]
pub(crate) fn page_of(name: &str, answer: &crate::http::answer::Answer) -> (Vec<Value>, Value) {
    let data = answer.data(200);
    let paging = answer.json()["paging"].clone();
    assert_eq!(data["paging"], paging);
    (data[name].as_array().unwrap().clone(), paging)
}

/// A number, which may have lost a little on the way.
#[track_caller]
pub(crate) fn assert_near(number: &Value, wanted: f64) {
    let number = number.as_f64().unwrap();
    assert!(
        (number - wanted).abs() < 0.5,
        "{number} is not near {wanted}"
    );
}
