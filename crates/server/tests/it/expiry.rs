//! Effects of time on a clock that the test advances: expiry, revocation, key rotation and the
//! sweeper. The server runs in the test process, on both databases.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use parlor_live::{ChatMessage, EntryKind, PayloadType, PeerRecord, Record, SessionRecord};
use parlor_protocol::ids::{AccountId, ParticipantId, PeerId, PresetId, SessionId};
use parlor_protocol::preset::ViewType;
use parlor_server::identity::join_token::TokenError;
use parlor_server::identity::signing_keys;
use parlor_server::limits::Limits;
use parlor_server::ops::sweeper;
use parlor_server::rest::participants;
use parlor_server::rooms::records;
use parlor_server::router;
use parlor_server::state::ServerState;
use parlor_store::{DatabaseLocation, FromRow, Row, Statement};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::process::new_database;
use crate::{fixtures, on_both_databases};

mod clock_steps;

const SECRET: &str = "a secret that is long enough to be one";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

struct Server {
    state: Arc<ServerState>,
    router: axum::Router,
    account: AccountId,
    app: String,
    _dir: Option<tempfile::TempDir>,
}

impl Server {
    async fn on(location: DatabaseLocation, dir: Option<tempfile::TempDir>) -> Self {
        let state = Arc::new(
            ServerState::open(&location, Limits::default())
                .await
                .unwrap(),
        );
        let (account, app) = fixtures::create_account_and_app(&state, SECRET).await;
        let router = router::router(&state);
        Self {
            state,
            router,
            account,
            app,
            _dir: dir,
        }
    }

    async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(
            DatabaseLocation::Sqlite(dir.path().join("parlor.db")),
            Some(dir),
        )
        .await
    }

    async fn postgres() -> Self {
        Self::on(DatabaseLocation::Postgres(new_database().await), None).await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Value,
        key: Option<&str>,
    ) -> (StatusCode, Value) {
        let url = format!("/client/v4/accounts/{}/realtime/kit{path}", self.account);
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header("authorization", format!("Bearer {SECRET}"));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn meeting(&self) -> String {
        let (status, body) = self
            .send(
                "POST",
                &format!("/{}/meetings", self.app),
                json!({"title": "One two"}),
                None,
            )
            .await;
        assert_eq!(status, StatusCode::CREATED);
        body["data"]["id"].as_str().unwrap().to_owned()
    }

    async fn add(&self, meeting: &str, body: Value, key: Option<&str>) -> Value {
        let path = format!("/{}/meetings/{meeting}/participants", self.app);
        let (status, body) = self.send("POST", &path, body, key).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["data"].clone()
    }

    async fn verify_token(&self, added: &Value) -> Result<(), TokenError> {
        participants::verify_join_token(&self.state, added["token"].as_str().unwrap())
            .await
            .unwrap()
            .map(drop)
    }

    /// Returns the number of rows in each table that belongs to apps.
    async fn count_rows(&self) -> [i64; 5] {
        struct Counts([i64; 5]);
        impl FromRow for Counts {
            fn from_row(mut row: Row) -> Result<Self, parlor_store::Error> {
                Ok(Self([
                    row.take(0)?,
                    row.take(1)?,
                    row.take(2)?,
                    row.take(3)?,
                    row.take(4)?,
                ]))
            }
        }
        static COUNT: Statement = Statement::new(
            "test.count",
            "SELECT (SELECT COUNT(*) FROM participants), (SELECT COUNT(*) FROM meetings),
                    (SELECT COUNT(*) FROM meeting_words), (SELECT COUNT(*) FROM presets), (SELECT COUNT(*) FROM tallies)",
        );
        self.state
            .db
            .scan::<Counts>(&COUNT, vec![])
            .await
            .unwrap()
            .pop()
            .unwrap()
            .0
    }
}

fn new_participant(id: &str) -> Value {
    json!({"custom_participant_id": id, "preset_name": "group_call_host", "name": id})
}

on_both_databases![
    #[tokio::test(flavor = "multi_thread")]
    a_stored_response_expires_after_a_day,
    a_token_is_valid_until_it_expires_or_its_participant_is_deleted,
    a_rotated_key_still_verifies,
    the_sweeper_removes_every_row_of_a_deleted_app,
    the_sweeper_removes_every_session_of_a_deleted_app,
    a_chat_link_is_valid_for_a_week,
];

async fn a_stored_response_expires_after_a_day(server: Server) {
    let meeting = server.meeting().await;
    let first = server
        .add(&meeting, new_participant("a"), Some("key"))
        .await;
    server.state.clock.advance_ms(DAY_MS - 60_000);
    assert_eq!(
        server
            .add(&meeting, new_participant("a"), Some("key"))
            .await,
        first
    );
    server.state.clock.advance_ms(120_000);
    let again = server
        .add(&meeting, new_participant("a"), Some("key"))
        .await;
    assert_eq!(again["id"], first["id"]);
    assert_ne!(again["updated_at"], first["updated_at"]);
    assert_eq!(
        server
            .add(&meeting, new_participant("a"), Some("key"))
            .await,
        again
    );
}

async fn a_token_is_valid_until_it_expires_or_its_participant_is_deleted(server: Server) {
    let meeting = server.meeting().await;
    let short = server.add(&meeting, json!({"custom_participant_id": "a", "preset_name": "group_call_host", "expires_in": 60}), None).await;
    let long = server.add(&meeting, new_participant("a"), None).await;
    assert_eq!(
        (
            server.verify_token(&short).await,
            server.verify_token(&long).await
        ),
        (Ok(()), Ok(()))
    );
    server.state.clock.advance_ms(61_000);
    assert_eq!(
        (
            server.verify_token(&short).await,
            server.verify_token(&long).await
        ),
        (Err(TokenError::Expired), Ok(()))
    );
    let path = format!("/{}/meetings/{meeting}/participants/custom:a", server.app);
    assert_eq!(
        server.send("DELETE", &path, json!({}), None).await.0,
        StatusCode::OK
    );
    assert_eq!(server.verify_token(&long).await, Err(TokenError::Revoked));
    let back = server.add(&meeting, new_participant("a"), None).await;
    assert_eq!(
        (
            server.verify_token(&long).await,
            server.verify_token(&back).await
        ),
        (Err(TokenError::Revoked), Ok(()))
    );
    let path = format!("/{}/meetings/{meeting}", server.app);
    assert_eq!(
        server.send("DELETE", &path, json!({}), None).await.0,
        StatusCode::OK
    );
    assert_eq!(server.verify_token(&back).await, Err(TokenError::Revoked));
}

async fn a_rotated_key_still_verifies(server: Server) {
    let meeting = server.meeting().await;
    let before = server.add(&meeting, new_participant("a"), None).await;
    let old = server.state.keys.current().id.clone();
    signing_keys::rotate(&server.state.db, server.state.clock.now_ms())
        .await
        .unwrap();
    server.state.keys.refresh(&server.state.db).await.unwrap();
    assert_ne!(server.state.keys.current().id, old);
    let after = server.add(&meeting, new_participant("b"), None).await;
    assert_eq!(
        (
            server.verify_token(&before).await,
            server.verify_token(&after).await
        ),
        (Ok(()), Ok(()))
    );
    assert_eq!(server.state.keys.jwks().len(), 2);
}

async fn the_sweeper_removes_every_row_of_a_deleted_app(server: Server) {
    let (kept, removed) = (server.meeting().await, server.meeting().await);
    for index in 0..20 {
        server
            .add(&kept, new_participant(&format!("k{index}")), None)
            .await;
        server
            .add(&removed, new_participant(&format!("g{index}")), None)
            .await;
    }
    let path = format!("/{}/meetings/{removed}", server.app);
    assert_eq!(
        server.send("DELETE", &path, json!({}), None).await.0,
        StatusCode::OK
    );
    sweeper::sweep(&server.state).await.unwrap();
    let [participants, meetings, words, presets, tallies] = server.count_rows().await;
    assert_eq!((participants, meetings, words, presets), (20, 1, 2, 7));
    assert!(tallies > 0);
    assert_eq!(
        server
            .send("DELETE", &format!("/apps/{}", server.app), json!({}), None)
            .await
            .0,
        StatusCode::OK
    );
    sweeper::sweep(&server.state).await.unwrap();
    server.state.clock.advance_ms(DAY_MS);
    sweeper::sweep(&server.state).await.unwrap();
    sweeper::sweep(&server.state).await.unwrap();
    assert_eq!(server.count_rows().await, [0; 5]);
}

impl Server {
    /// Writes a live session of a meeting, with `peers` peers, as many chat messages, and an entry.
    async fn insert_session(&self, meeting: &str, peers: usize) -> SessionId {
        let (clock, now_ms) = (&self.state.clock, self.state.clock.now_ms());
        let id = || clock.new_id(now_ms);
        let session = SessionId::from_uuid(id());
        let mut records = vec![
            Record::Session(SessionRecord {
                id: session,
                title: String::new(),
                started_ms: now_ms,
                ended_ms: None,
                live: 1,
                peak: 1,
                total: 1,
                consumed_ms: 0,
            }),
            Record::Entry {
                session,
                kind: EntryKind::Poll,
                key: "poll".to_owned(),
                value: Some(vec![1].into()),
            },
        ];
        for _ in 0..peers {
            let (peer, participant) = (PeerId::from_uuid(id()), ParticipantId::from_uuid(id()));
            records.push(Record::Peer(PeerRecord {
                session,
                peer,
                participant,
                custom_id: String::new(),
                name: None,
                picture: None,
                preset: PresetId::from_uuid(id()),
                preset_name: String::new(),
                view: ViewType::GroupCall,
                created_ms: now_ms,
                joined_ms: now_ms,
                entered_ms: now_ms,
                left_ms: None,
                consumed_ms: 0,
            }));
            records.push(Record::Chat(ChatMessage {
                id: id(),
                session,
                peer,
                participant,
                name: String::new(),
                kind: PayloadType::Text,
                payload: "hello".to_owned(),
                pinned: false,
                edited: false,
                targets: Vec::new(),
                at_ms: now_ms,
            }));
        }
        let (app, meeting) = (self.app.parse().unwrap(), meeting.parse().unwrap());
        let unit = records::unit(app, meeting, now_ms, &records);
        self.state.db.commit(unit).await.unwrap();
        session
    }

    /// Returns the number of sessions, peers, messages and entries, and the sum of the tallies.
    async fn count_session_rows(&self) -> [i64; 5] {
        static COUNT: Statement = Statement::new(
            "test.count_sessions",
            "SELECT (SELECT COUNT(*) FROM sessions), (SELECT COUNT(*) FROM session_peers),
                    (SELECT COUNT(*) FROM chat_messages), (SELECT COUNT(*) FROM session_entries),
                    (SELECT CAST(COALESCE(SUM(added - removed), 0) AS BIGINT) FROM tallies)",
        );
        let rows = self.state.db.scan::<Row>(&COUNT, vec![]).await.unwrap();
        std::array::from_fn(|column| rows[0].get(column).unwrap())
    }
}

async fn the_sweeper_removes_every_session_of_a_deleted_app(server: Server) {
    let (kept, removed) = (server.meeting().await, server.meeting().await);
    // More rows than the sweeper deletes in one step.
    server.insert_session(&removed, 700).await;
    server.insert_session(&kept, 3).await;
    // The tallies count both meetings, and each session twice: for the app and for its meeting.
    assert_eq!(server.count_session_rows().await, [2, 703, 703, 2, 2 + 4]);
    let path = format!("/{}/meetings/{removed}", server.app);
    let deleted = server.send("DELETE", &path, json!({}), None).await;
    assert_eq!(deleted.0, StatusCode::OK);
    sweeper::sweep(&server.state).await.unwrap();
    assert_eq!(server.count_session_rows().await, [1, 3, 3, 1, 1 + 2]);
    // Rows that a room writes after the deletion are removed by the second pass.
    server.insert_session(&removed, 1).await;
    server.state.clock.advance_ms(DAY_MS);
    sweeper::sweep(&server.state).await.unwrap();
    assert_eq!(server.count_session_rows().await, [1, 3, 3, 1, 1 + 2]);
    let path = format!("/apps/{}", server.app);
    let deleted = server.send("DELETE", &path, json!({}), None).await;
    assert_eq!(deleted.0, StatusCode::OK);
    for _ in 0..3 {
        sweeper::sweep(&server.state).await.unwrap();
        server.state.clock.advance_ms(DAY_MS);
    }
    assert_eq!(server.count_session_rows().await, [0; 5]);
}

async fn a_chat_link_is_valid_for_a_week(server: Server) {
    let meeting = server.meeting().await;
    let session = server.insert_session(&meeting, 1).await;
    let path = format!("/{}/sessions/{session}/chat", server.app);
    // A request within the process has no connection, so the test must set the host.
    let url = format!("/client/v4/accounts/{}/realtime/kit{path}", server.account);
    let get = async |url: &str| {
        let request = Request::builder()
            .uri(url)
            .header("host", "parlor.example")
            .header("authorization", format!("Bearer {SECRET}"))
            .body(Body::empty())
            .unwrap();
        let response = server.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (
            status,
            response.into_body().collect().await.unwrap().to_bytes(),
        )
    };
    let (status, body) = get(&url).await;
    assert_eq!(status, StatusCode::OK);
    let body: Value = serde_json::from_slice(&body).unwrap();
    let link = body["data"]["chat_download_url"].as_str().unwrap();
    let link = link.strip_prefix("http://parlor.example").unwrap();
    signing_keys::rotate(&server.state.db, server.state.clock.now_ms())
        .await
        .unwrap();
    server.state.clock.advance_ms(7 * DAY_MS - 60_000);
    let (status, csv) = get(link).await;
    assert_eq!(status, StatusCode::OK);
    assert!(csv.ends_with(b"Z\r\n"), "{csv:?}");
    server.state.clock.advance_ms(60_000);
    let (status, body) = get(link).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(String::from_utf8_lossy(&body).contains("has expired"));
}
