//! What happens as time passes, on a clock that the test moves: expiry, revocation, rotation, and
//! what the sweeper takes away. In process, on both databases.
#![allow(unused, clippy::all)]

use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use parlor_live::{ChatMessage, EntryKind, PayloadType, PeerRecord, Record, SessionRecord};
use parlor_protocol::ids::{AccountId, ParticipantId, PeerId, PresetId, SessionId};
use parlor_protocol::preset::ViewType;
use parlor_server::api_tokens::NewToken;
use parlor_server::parlor::{Limits, Parlor};
use parlor_server::participants::join_token::Refused;
use parlor_server::{
    accounts, api, api_tokens, apps, live_records, participants, signing_keys, sweeper,
};
use parlor_store::{FromRow, Place, Row, Statement};
use parlor_testkit::Postgres;
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

const SECRET: &str = "a secret that is long enough to be one";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

struct Server {
    parlor: Arc<Parlor>,
    router: axum::Router,
    account: AccountId,
    app: String,
    _dir: Option<tempfile::TempDir>,
}

impl Server {
    async fn on(place: Place, dir: Option<tempfile::TempDir>) -> Self {
        let parlor = Arc::new(Parlor::open(&place, Limits::default()).await.unwrap());
        let account = AccountId::from_uuid(Uuid::from_u128(7));
        accounts::create(&parlor, account, "test").await.unwrap();
        let token = NewToken {
            account,
            name: String::new(),
            permissions: vec!["Realtime".to_owned()],
            apps: None,
            expires_in_secs: None,
        };
        api_tokens::create(&parlor, token, SECRET).await.unwrap();
        let app = apps::create(&parlor, account, "test")
            .await
            .unwrap()
            .id
            .to_string();
        let router = api::router(&parlor);
        Self {
            parlor,
            router,
            account,
            app,
            _dir: dir,
        }
    }

    async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(Place::Sqlite(dir.path().join("parlor.db")), Some(dir)).await
    }

    async fn postgres() -> Self {
        let url = Postgres::shared().await.unwrap().database().await.unwrap();
        Self::on(Place::Postgres(url), None).await
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

    async fn admits(&self, added: &Value) -> Result<(), Refused> {
        participants::joining(&self.parlor, added["token"].as_str().unwrap())
            .await
            .unwrap()
            .map(drop)
    }

    /// Rows in every table that belongs to apps.
    async fn rows(&self) -> [i64; 5] {
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
        self.parlor
            .db
            .scan::<Counts>(&COUNT, vec![])
            .await
            .unwrap()
            .pop()
            .unwrap()
            .0
    }
}

fn person(id: &str) -> Value {
    json!({"custom_participant_id": id, "preset_name": "group_call_host", "name": id})
}

/// One test for each database.
macro_rules! on_both {
    ($($name:ident)*) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                super::$name(super::Server::sqlite().await).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                super::$name(super::Server::postgres().await).await;
            }
        }
    )*};
}

on_both! { scale }


async fn scale(server: Server) {
    use std::time::Instant;
    const N: i64 = 300;
    let mut meetings = Vec::new();
    for _ in 0..N { meetings.push(server.meeting().await); }
    let now = server.parlor.clock.now_ms();
    let start = Instant::now();
    let app: parlor_protocol::ids::AppId = server.app.parse().unwrap();
    let mut last = None;
    for round in 0..2i64 {
      for (m, meeting) in meetings.iter().enumerate() {
        let mut records = Vec::new();
        for i in 0..500i64 {
            let at = now - 86_400_000 * 60 + ((round * 500 + i) * N + m as i64) * 17_000;
            let id = SessionId::from_uuid(server.parlor.clock.new_id(at));
            last = Some(id);
            records.push(Record::Session(SessionRecord { id, title: "x".into(), started_ms: at, ended_ms: Some(at + 60_000 + i * 977), live: 0, peak: i % 50, total: i, consumed_ms: (i * 7919 + m as i64 * 31) % 1_000_000 }));
        }
        let unit = live_records::unit(app, meeting.parse().unwrap(), now, &records);
        server.parlor.db.commit(unit).await.unwrap();
      }
    }
    println!("seeded {:?} in {:?}", N * 1000, start.elapsed());
    let live = server.hold(&meetings[0], 5000).await;
    // joins, one unit each, many at once
    let started = Instant::now();
    let mut joins = Vec::new();
    for k in 0..2000i64 {
        let id = || server.parlor.clock.new_id(now);
        let records = [
            Record::Peer(PeerRecord { session: live, peer: PeerId::from_uuid(id()), participant: ParticipantId::from_uuid(id()), custom_id: "c".into(), name: Some("Somebody".into()), picture: None, preset: PresetId::from_uuid(id()), preset_name: "group_call_host".into(), view: ViewType::GroupCall, created_ms: now, joined_ms: now + k, entered_ms: now + k, left_ms: None, consumed_ms: 0 }),
            Record::Session(SessionRecord { id: live, title: "".into(), started_ms: now, ended_ms: None, live: 5000 + k, peak: 5000 + k, total: 5000 + k, consumed_ms: 0 }),
        ];
        joins.push(server.parlor.db.commit(live_records::unit(app, meetings[0].parse().unwrap(), now, &records)));
    }
    for chunk in { let mut v = Vec::new(); while !joins.is_empty() { v.push(joins.split_off(joins.len().saturating_sub(50))); } v } {
        for r in futures_util::future::join_all(chunk).await { r.unwrap(); }
    }
    println!("2000 joins, 50 at once: {:?}", started.elapsed());
    let m = &meetings[3];
    for path in [
        "/sessions".to_owned(), "/sessions?sort_order=ASC&page_no=2".into(), "/sessions?page_no=3000&per_page=50".into(), "/sessions?page_no=3001&per_page=50".into(),
        format!("/sessions?associated_id={m}"), format!("/sessions?associated_id={m}&sort_by=minutesConsumed"), format!("/sessions?associated_id={m}&status=ENDED"),
        "/sessions?status=LIVE".into(), "/sessions?status=ENDED".into(), "/sessions?sort_by=minutesConsumed".into(), "/sessions?sort_by=minutesConsumed&sort_order=ASC".into(), "/sessions?sort_by=minutesConsumed&status=ENDED&page_no=100".into(),
        "/sessions?participants=49:49".into(), "/sessions?participants=5000:".into(), "/sessions?start_time=2026-11-22T00:00:00Z".into(), "/sessions?start_time=2020-11-22T00:00:00Z".into(), "/sessions?search=one".into(), format!("/sessions?search={m}"), 
        format!("/sessions/{live}"), format!("/sessions/{live}/participants"), format!("/sessions/{live}/participants?page_no=30&per_page=200"), format!("/sessions/{live}/participants?sort_by=duration"), format!("/sessions/{live}/participants?view=consolidated"), format!("/sessions/{live}/participants?search=somebody"), format!("/sessions/{live}/participants?search=nobody"), format!("/sessions/{live}/participants?search=nobody&view=consolidated"), format!("/sessions/{live}/chat"),
        format!("/meetings/{}/active-session", meetings[0]), format!("/meetings/{m}/active-session"), "/analytics/daywise".into(), "/analytics/daywise?start_date=2026-01-01".into(),
    ] {
        let url = format!("/{}{path}", server.app);
        let mut best = std::time::Duration::MAX; let mut out = (StatusCode::OK, Value::Null);
        for _ in 0..3 { let t = Instant::now(); 
          let request = Request::builder().uri(format!("/client/v4/accounts/{}/realtime/kit{url}", server.account)).header("host", "x").header("authorization", format!("Bearer {SECRET}")).body(Body::empty()).unwrap();
          let response = server.router.clone().oneshot(request).await.unwrap(); let st = response.status(); let b = response.into_body().collect().await.unwrap().to_bytes();
          best = best.min(t.elapsed()); out = (st, serde_json::from_slice(&b).unwrap()); }
        println!("{:>10.2?} {} total {} {path}", best, out.0.as_u16(), out.1["paging"]["total_count"]);
    }
    let t = Instant::now();
    server.parlor.db.scan::<Row>(&OPENS, vec![]).await.unwrap();
    println!("open {:?}", t.elapsed());
}
static OPENS: Statement = Statement::new("t", "SELECT app_id, meeting_id FROM sessions WHERE ended_at IS NULL ORDER BY app_id, meeting_id");
impl Server {
    /// Keeps a live session of a meeting with everything that a session can have.
    async fn hold(&self, meeting: &str, people: usize) -> SessionId {
        let (clock, now_ms) = (&self.parlor.clock, self.parlor.clock.now_ms());
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
                value: Some(vec![1]),
            },
        ];
        for _ in 0..people {
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
        let unit = live_records::unit(app, meeting, now_ms, &records);
        self.parlor.db.commit(unit).await.unwrap();
        session
    }

    /// Sessions, peers, messages and entries that there are, and what the tallies add up to.
    async fn session_rows(&self) -> [i64; 5] {
        static COUNT: Statement = Statement::new(
            "test.count_sessions",
            "SELECT (SELECT COUNT(*) FROM sessions), (SELECT COUNT(*) FROM session_peers),
                    (SELECT COUNT(*) FROM chat_messages), (SELECT COUNT(*) FROM session_entries),
                    (SELECT CAST(COALESCE(SUM(added - removed), 0) AS BIGINT) FROM tallies)",
        );
        let rows = self.parlor.db.scan::<Row>(&COUNT, vec![]).await.unwrap();
        std::array::from_fn(|column| rows[0].get(column).unwrap())
    }
}

