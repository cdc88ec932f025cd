//! The records of breakout rooms follow those of their meeting.

use axum::body::Body;
use parlor_live::{ChatMessage, PayloadType, Record};
use parlor_protocol::ids::{ParticipantId, PeerId, SessionId};
use parlor_server::rooms::records;
use parlor_store::{Row, Statement, Unit, values};
use serde_json::json;
use uuid::Uuid;

use super::{DAY_MS, Person, SECRET, Server};
use crate::on_both_databases;

on_both_databases![
    #[tokio::test(flavor = "multi_thread")]
    nothing_of_breakout_rooms_is_left_after_their_meeting,
    rooms_that_were_removed_go_however_many_they_are,
    a_change_of_a_meetings_status_is_one_of_its_rooms,
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
    /// Makes a meeting a breakout room of another, which may have been removed.
    async fn connect(&self, parent: &Person, room: &Person, removed_ms: Option<i64>) {
        let id = |text: &str| text.parse::<Uuid>().unwrap();
        let row = values![
            id(&self.app),
            id(&parent.meeting),
            id(&room.meeting),
            removed_ms
        ];
        let unit = Unit::default().then(&CONNECT, row);
        self.parlor.db.commit(unit).await.unwrap();
    }

    async fn says(&self, person: &Person, payload: &str) {
        let (clock, now_ms) = (&self.parlor.clock, self.parlor.clock.now_ms());
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
        let (app, meeting) = (self.app.parse().unwrap(), person.meeting.parse().unwrap());
        let unit = records::unit(app, meeting, now_ms, &[Record::Chat(message)]);
        self.parlor.db.commit(unit).await.unwrap();
    }

    /// Meetings, words of titles, participants, messages, files, and breakout rooms.
    async fn everything(&self) -> [i64; 6] {
        let rows = self.parlor.db.scan::<Row>(&ROWS, values![]).await.unwrap();
        std::array::from_fn(|column| rows[0].get(column).unwrap())
    }

    /// The meetings of the app, by its tally.
    async fn meetings(&self) -> i64 {
        let path = format!(
            "/client/v4/accounts/{}/realtime/kit/{}/meetings",
            self.account, self.app
        );
        let (status, body) = self.ask("GET", &path, Some(SECRET), Body::empty()).await;
        assert_eq!(status, 200, "{body}");
        body["paging"]["total_count"].as_i64().unwrap()
    }
}

async fn nothing_of_breakout_rooms_is_left_after_their_meeting(server: Server) {
    let (gone, kept) = (server.person().await, server.person().await);
    let (open, removed) = (server.person().await, server.person().await);
    let of_kept = server.person().await;
    server.connect(&gone, &open, None).await;
    server.connect(&gone, &removed, Some(1)).await;
    server.connect(&kept, &of_kept, None).await;
    for person in [&gone, &kept, &open, &removed, &of_kept] {
        assert_eq!(server.upload(person, 1000).await, 200);
        server.says(person, "hello").await;
    }
    let [_, chat_of_app] = server.used(Some(&server.app), None).await;
    server.delete_meeting(&gone).await;
    // Whatever is within reach of people is so no more at once.
    assert_eq!(server.meetings().await, 3);
    for _ in 0..3 {
        server.sweep().await;
        server.parlor.clock.advance_ms(DAY_MS);
    }
    assert_eq!(server.everything().await, [2, 2, 2, 2, 2, 1]);
    assert_eq!(server.meetings().await, 2);
    assert_eq!(server.files().await, [2000; 3]);
    assert_eq!(server.stored().len(), 2);
    for person in [&gone, &open, &removed] {
        let app = Some(server.app.as_str());
        assert_eq!(server.used(app, Some(&person.meeting)).await, [0, 0]);
    }
    let [_, chat_left] = server.used(Some(&server.app), None).await;
    assert_eq!(chat_left * 5, chat_of_app * 2);
}

async fn rooms_that_were_removed_go_however_many_they_are(server: Server) {
    const ROOMS: usize = 230;
    let (gone, kept) = (server.person().await, server.person().await);
    for _ in 0..ROOMS {
        let removed = server.person().await;
        server.connect(&gone, &removed, Some(1)).await;
    }
    server.delete_meeting(&gone).await;
    for _ in 0..3 {
        server.sweep().await;
        server.parlor.clock.advance_ms(DAY_MS);
    }
    assert_eq!(server.everything().await, [1, 1, 1, 0, 0, 0]);
    assert_eq!(server.meetings().await, 1);
    assert_eq!(server.upload(&kept, 1000).await, 200);
}

async fn a_change_of_a_meetings_status_is_one_of_its_rooms(server: Server) {
    static VERSION: Statement = Statement::new(
        "test.version",
        "SELECT version FROM meetings WHERE app_id = $1 AND id = $2",
    );
    let parent = server.person().await;
    let (open, removed, other) = (
        server.person().await,
        server.person().await,
        server.person().await,
    );
    server.connect(&parent, &open, None).await;
    server.connect(&parent, &removed, Some(1)).await;
    let versions = async || {
        let mut versions = [0_i64; 3];
        for (version, person) in versions.iter_mut().zip([&open, &removed, &other]) {
            let id = |text: &str| text.parse::<Uuid>().unwrap();
            let key = values![id(&server.app), id(&person.meeting)];
            let rows = server.parlor.db.scan::<Row>(&VERSION, key).await.unwrap();
            *version = rows[0].get(0).unwrap();
        }
        versions
    };
    let path = format!("/{}/meetings/{}", server.app, parent.meeting);
    // A room that runs takes what it is told for old when its version is.
    for (body, expected) in [
        (json!({"status": "INACTIVE"}), [2, 1, 1]),
        (json!({"status": "INACTIVE", "title": "Other"}), [2, 1, 1]),
        (json!({"status": "ACTIVE"}), [3, 1, 1]),
    ] {
        server.rest("PATCH", &path, body).await;
        assert_eq!(versions().await, expected);
    }
}
