//! The records of breakout rooms are deleted and changed with their meeting.

use axum::body::Body;
use parlor_live::{ChatMessage, PayloadType, Record};
use parlor_protocol::ids::{ParticipantId, PeerId, SessionId};
use parlor_server::rooms::records;
use parlor_store::{Row, Statement, Unit, values};
use serde_json::json;
use uuid::Uuid;

use super::{DAY_MS, Participant, SECRET, Server};
use crate::on_both_databases;

on_both_databases![
    #[tokio::test(flavor = "multi_thread")]
    nothing_of_breakout_rooms_outlives_their_meeting,
    any_number_of_removed_rooms_is_deleted,
    a_status_change_of_a_meeting_applies_to_its_rooms,
];

static CONNECT: Statement = Statement::new(
    "test.connect",
    "INSERT INTO connected_meetings (app_id, parent_id, meeting_id, created_at, removed_at) VALUES ($1, $2, $3, 0, $4)",
);
static ROWS: Statement = Statement::new(
    "test.rows",
    "SELECT (SELECT COUNT(*) FROM meetings), (SELECT COUNT(*) FROM meeting_words),
            (SELECT COUNT(*) FROM participants), (SELECT COUNT(*) FROM chat_messages),
            (SELECT COUNT(*) FROM files), (SELECT COUNT(*) FROM connected_meetings)",
);

impl Server {
    /// Makes a meeting a breakout room of another one, optionally a removed one.
    async fn connect(&self, parent: &Participant, room: &Participant, removed_ms: Option<i64>) {
        let id = |text: &str| text.parse::<Uuid>().unwrap();
        let row = values![
            id(&self.app),
            id(&parent.meeting),
            id(&room.meeting),
            removed_ms
        ];
        let unit = Unit::default().then(&CONNECT, row);
        self.state.db.commit(unit).await.unwrap();
    }

    async fn add_message(&self, participant: &Participant, payload: &str) {
        let (clock, now_ms) = (&self.state.clock, self.state.clock.now_ms());
        let message = ChatMessage {
            id: clock.new_id(now_ms),
            session: SessionId::from_uuid(clock.new_id(now_ms)),
            peer: PeerId::from_uuid(clock.new_id(now_ms)),
            participant: ParticipantId::from_uuid(clock.new_id(now_ms)),
            name: String::new(),
            kind: PayloadType::Text,
            payload: payload.to_owned(),
            pinned: false,
            edited: false,
            targets: Vec::new(),
            at_ms: now_ms,
        };
        let (app, meeting) = (
            self.app.parse().unwrap(),
            participant.meeting.parse().unwrap(),
        );
        let unit = records::unit(app, meeting, now_ms, &[Record::Chat(message)]);
        self.state.db.commit(unit).await.unwrap();
    }

    /// Counts the meetings, title words, participants, messages, files and breakout rooms.
    async fn count_rows(&self) -> [i64; 6] {
        let rows = self.state.db.scan::<Row>(&ROWS, values![]).await.unwrap();
        std::array::from_fn(|column| rows[0].get(column).unwrap())
    }

    /// Returns the number of meetings of the app, as `total_count` reports it.
    async fn meetings(&self) -> i64 {
        let path = format!(
            "/client/v4/accounts/{}/realtime/kit/{}/meetings",
            self.account, self.app
        );
        let (status, body) = self
            .request("GET", &path, Some(SECRET), Body::empty())
            .await;
        assert_eq!(status, 200, "{body}");
        body["paging"]["total_count"].as_i64().unwrap()
    }
}

async fn nothing_of_breakout_rooms_outlives_their_meeting(server: Server) {
    let (deleted, kept) = (server.participant().await, server.participant().await);
    let (open, removed) = (server.participant().await, server.participant().await);
    let of_kept = server.participant().await;
    server.connect(&deleted, &open, None).await;
    server.connect(&deleted, &removed, Some(1)).await;
    server.connect(&kept, &of_kept, None).await;
    for participant in [&deleted, &kept, &open, &removed, &of_kept] {
        assert_eq!(server.upload(participant, 1000).await, 200);
        server.add_message(participant, "hello").await;
    }
    let [_, chat_of_app] = server.used(Some(&server.app), None).await;
    server.delete_meeting(&deleted).await;
    // The API no longer shows the meeting and its rooms.
    assert_eq!(server.meetings().await, 3);
    for _ in 0..3 {
        server.sweep().await;
        server.state.clock.advance_ms(DAY_MS);
    }
    assert_eq!(server.count_rows().await, [2, 2, 2, 2, 2, 1]);
    assert_eq!(server.meetings().await, 2);
    assert_eq!(server.files().await, [2000; 3]);
    assert_eq!(server.stored().len(), 2);
    for participant in [&deleted, &open, &removed] {
        let app = Some(server.app.as_str());
        assert_eq!(server.used(app, Some(&participant.meeting)).await, [0, 0]);
    }
    let [_, chat_left] = server.used(Some(&server.app), None).await;
    assert_eq!(chat_left * 5, chat_of_app * 2);
}

async fn any_number_of_removed_rooms_is_deleted(server: Server) {
    const ROOMS: usize = 230;
    let (deleted, kept) = (server.participant().await, server.participant().await);
    for _ in 0..ROOMS {
        let removed = server.participant().await;
        server.connect(&deleted, &removed, Some(1)).await;
    }
    server.delete_meeting(&deleted).await;
    for _ in 0..3 {
        server.sweep().await;
        server.state.clock.advance_ms(DAY_MS);
    }
    assert_eq!(server.count_rows().await, [1, 1, 1, 0, 0, 0]);
    assert_eq!(server.meetings().await, 1);
    assert_eq!(server.upload(&kept, 1000).await, 200);
}

async fn a_status_change_of_a_meeting_applies_to_its_rooms(server: Server) {
    static VERSION: Statement = Statement::new(
        "test.version",
        "SELECT version FROM meetings WHERE app_id = $1 AND id = $2",
    );
    let parent = server.participant().await;
    let (open, removed, other) = (
        server.participant().await,
        server.participant().await,
        server.participant().await,
    );
    server.connect(&parent, &open, None).await;
    server.connect(&parent, &removed, Some(1)).await;
    let versions = async || {
        let mut versions = [0_i64; 3];
        for (version, participant) in versions.iter_mut().zip([&open, &removed, &other]) {
            let id = |text: &str| text.parse::<Uuid>().unwrap();
            let key = values![id(&server.app), id(&participant.meeting)];
            let rows = server.state.db.scan::<Row>(&VERSION, key).await.unwrap();
            *version = rows[0].get(0).unwrap();
        }
        versions
    };
    let path = format!("/{}/meetings/{}", server.app, parent.meeting);
    // A running room ignores updates whose version is old, so the version must increase.
    for (body, expected) in [
        (json!({"status": "INACTIVE"}), [2, 1, 1]),
        (json!({"status": "INACTIVE", "title": "Other"}), [2, 1, 1]),
        (json!({"status": "ACTIVE"}), [3, 1, 1]),
    ] {
        server.rest("PATCH", &path, body).await;
        assert_eq!(versions().await, expected);
    }
}
