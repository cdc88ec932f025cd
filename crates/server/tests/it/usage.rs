//! Counting, limiting and deleting what is stored: chat files and messages. These tests run in
//! process, on both databases, and control the clock.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use futures_util::StreamExt as _;
use http::Request;
use http_body_util::BodyExt;
use parlor_live::{ChatMessage, PayloadType, Record};
use parlor_protocol::ids::{AccountId, ParticipantId, PeerId, SessionId};
use parlor_server::config::Settings;
use parlor_server::limits::Limits;
use parlor_server::limits::Quotas;
use parlor_server::ops::sweeper;
use parlor_server::rooms::records;
use parlor_server::router;
use parlor_server::state::{Edge, ServerState};
use parlor_store::{DatabaseLocation, Row, Statement, Unit, values};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use uuid::Uuid;

use crate::process::new_database;
use crate::{fixtures, on_both_databases};

const SECRET: &str = "a secret that is long enough to be one";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

struct Server {
    state: Arc<ServerState>,
    router: axum::Router,
    account: AccountId,
    app: String,
    location: DatabaseLocation,
    folder: Arc<tempfile::TempDir>,
}

/// A participant of a meeting.
struct Participant {
    meeting: String,
    token: String,
}

impl Server {
    async fn open(location: DatabaseLocation, folder: tempfile::TempDir) -> Self {
        let folder = Arc::new(folder);
        let state = open_state(&location, &folder, limits()).await;
        let (account, app) = fixtures::create_account_and_app(&state, SECRET).await;
        Self {
            router: router::router(&state),
            state,
            account,
            app,
            location,
            folder,
        }
    }

    /// Opens another server on the same records and the same file storage.
    async fn another_node(&self, limits: Limits) -> Self {
        let state = open_state(&self.location, &self.folder, limits).await;
        Self {
            router: router::router(&state),
            state,
            account: self.account,
            app: self.app.clone(),
            location: self.location.clone(),
            folder: Arc::clone(&self.folder),
        }
    }

    async fn with_second_node(self) -> (Self, Self) {
        let other = self.another_node(self.state.limits.clone()).await;
        (self, other)
    }

    /// Reopens the server with other quotas.
    async fn with_quotas(self, quotas: Quotas) -> Self {
        let limits = Limits {
            quotas,
            ..self.state.limits.clone()
        };
        self.another_node(limits).await
    }

    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = DatabaseLocation::Sqlite(folder.path().join("parlor.db"));
        Self::open(location, folder).await
    }

    async fn postgres() -> Self {
        let url = new_database().await;
        let folder = tempfile::tempdir().unwrap();
        Self::open(DatabaseLocation::Postgres(url), folder).await
    }

    async fn request(
        &self,
        method: &str,
        path: &str,
        secret: Option<&str>,
        body: impl Into<Body>,
    ) -> (u16, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "parlor.example");
        if let Some(secret) = secret {
            request = request.header("authorization", format!("Bearer {secret}"));
        }
        let request = request.body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn rest(&self, method: &str, path: &str, body: Value) -> Value {
        let path = format!("/client/v4/accounts/{}/realtime/kit{path}", self.account);
        let (status, mut body) = self
            .request(method, &path, Some(SECRET), body.to_string())
            .await;
        assert!(status < 300, "{status} {body}");
        body["data"].take()
    }

    /// Adds a participant to a new meeting of an app.
    async fn participant_in(&self, app: &str) -> Participant {
        let path = format!("/{app}/meetings");
        let meeting = self.rest("POST", &path, json!({"title": "Weekly"})).await;
        let meeting = meeting["id"].as_str().unwrap().to_owned();
        let path = format!("/{app}/meetings/{meeting}/participants");
        let participant = json!({"custom_participant_id": "ada", "preset_name": "group_call_host"});
        let added = self.rest("POST", &path, participant).await;
        let token = added["token"].as_str().unwrap().to_owned();
        Participant { meeting, token }
    }

    async fn participant(&self) -> Participant {
        self.participant_in(&self.app).await
    }

    /// Returns the paths for uploading and downloading a file.
    async fn links(&self, participant: &Participant) -> [String; 2] {
        let body = json!({"roomUUID": participant.meeting, "filename": "a.txt"}).to_string();
        let path = "/v2/meetings/chat-upload";
        let (status, body) = self
            .request("POST", path, Some(&participant.token), body)
            .await;
        assert_eq!(status, 200, "{body}");
        ["put_location", "get_location"].map(|name| {
            let link = body["data"][name].as_str().unwrap();
            link.strip_prefix("http://parlor.example")
                .unwrap()
                .to_owned()
        })
    }

    /// Uploads this many bytes and returns the status.
    async fn put(&self, path: &str, bytes: usize) -> u16 {
        self.request("PUT", path, None, vec![b'x'; bytes]).await.0
    }

    async fn upload(&self, participant: &Participant, bytes: usize) -> u16 {
        let [put_path, _] = self.links(participant).await;
        self.put(&put_path, bytes).await
    }

    async fn delete_meeting(&self, participant: &Participant) {
        let path = format!("/{}/meetings/{}", self.app, participant.meeting);
        self.rest("DELETE", &path, json!({})).await;
    }

    /// Returns the paths of all stored files, including temporary ones.
    fn stored(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect_files(&self.folder.path().join("uploads"), &mut found);
        found
    }
}

async fn open_state(
    location: &DatabaseLocation,
    folder: &tempfile::TempDir,
    limits: Limits,
) -> Arc<ServerState> {
    let state = ServerState::open(location, limits).await.unwrap();
    let settings = Settings {
        data_dir: Some(folder.path().into()),
        // Upload slots are not tested here.
        uploads_per_person: Some(0),
        uploads_per_meeting: Some(0),
        ..Settings::default()
    };
    Arc::new(state.with_edge(Edge::open(&settings).unwrap()))
}

fn collect_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, found);
        } else {
            found.push(path);
        }
    }
}

mod rooms;

on_both_databases![
    #[tokio::test(flavor = "multi_thread")]
    files_are_deleted_with_their_meeting,
    files_are_deleted_with_their_app,
    files_are_deleted_after_their_retention,
    a_clock_that_is_set_forward_deletes_no_files,
    files_of_an_unknown_app_are_kept,
    an_upload_can_be_repeated_after_a_lost_response,
    an_upload_with_an_unknown_outcome_returns_503,
    the_file_quota_of_a_meeting_is_enforced,
    the_file_quota_of_an_app_is_enforced,
    concurrent_uploads_never_exceed_the_quota,
    a_failed_upload_releases_its_reservation,
    leftovers_of_a_crashed_server_are_removed,
    an_upload_whose_row_was_taken_over_removes_nothing,
    a_file_uploaded_while_its_meeting_is_deleted_is_deleted_too,
    files_stored_by_older_versions_are_counted,
    messages_are_counted_once_however_often_they_are_written,
    the_disk_is_not_filled_up,
];

const QUOTA: u64 = 5000;

fn limits() -> Limits {
    Limits {
        quotas: Quotas {
            files_per_meeting: QUOTA,
            files_per_app: 2 * QUOTA,
            file_retention_ms: 30 * DAY_MS,
            disk_reserve: 1,
            ..Quotas::default()
        },
        ..Limits::default()
    }
}

impl Server {
    /// Returns the counted bytes of files and of messages of a meeting, of an app, or in total.
    async fn used(&self, app: Option<&str>, meeting: Option<&str>) -> [i64; 2] {
        static USED: Statement = Statement::new(
            "test.used",
            "SELECT CAST(COALESCE(SUM(file_bytes), 0) AS BIGINT), CAST(COALESCE(SUM(chat_bytes), 0) AS BIGINT)
             FROM usage WHERE app_id = $1 AND meeting_id = $2",
        );
        let id = |text: Option<&str>| text.map_or(Uuid::nil(), |text| text.parse().unwrap());
        let key = values![id(app), id(meeting)];
        let rows = self.state.db.scan::<Row>(&USED, key).await.unwrap();
        [0, 1].map(|column| rows[0].get(column).unwrap())
    }

    async fn files_of(&self, participant: &Participant) -> i64 {
        let app = Some(self.app.as_str());
        let [of_meeting, _] = self.used(app, Some(&participant.meeting)).await;
        of_meeting
    }

    /// Returns the bytes of files: as counted for the app, as counted in total, and as stored.
    async fn files(&self) -> [i64; 3] {
        let [of_app, _] = self.used(Some(&self.app), None).await;
        let [of_all, _] = self.used(None, None).await;
        let sizes = self
            .stored()
            .into_iter()
            .map(|path| path.metadata().unwrap().len());
        [of_app, of_all, i64::try_from(sizes.sum::<u64>()).unwrap()]
    }

    async fn rows(&self, of: &'static Statement) -> i64 {
        let rows = self.state.db.scan::<Row>(of, values![]).await.unwrap();
        rows[0].get(0).unwrap()
    }

    async fn sweep(&self) {
        sweeper::sweep(&self.state).await.unwrap();
    }

    async fn tidy(&self) {
        sweeper::tidy(&self.state).await.unwrap();
    }

    /// Starts an upload and returns a sender for its body and a handle for its status. Dropping the
    /// sender ends the body.
    fn slow_upload(
        &self,
        path: &str,
        length: Option<usize>,
    ) -> (mpsc::Sender<Vec<u8>>, JoinHandle<u16>) {
        let (body, receiver) = mpsc::channel(1);
        let stream =
            futures_util::stream::unfold(receiver, |mut receiver: mpsc::Receiver<Vec<u8>>| async {
                let chunk = receiver.recv().await?;
                Some((Ok::<_, std::io::Error>(chunk), receiver))
            });
        let mut request = Request::builder().method("PUT").uri(path);
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let request = request.body(Body::from_stream(stream.fuse())).unwrap();
        let router = self.router.clone();
        let status = async move { router.oneshot(request).await.unwrap().status().as_u16() };
        (body, tokio::spawn(status))
    }

    /// Waits until this many uploads are unfinished.
    async fn wait_for_unfinished(&self, count: i64) {
        for _ in 0..1000 {
            if self.rows(&UNFINISHED).await == count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("there are not {count} unfinished uploads");
    }
}

static UNFINISHED: Statement = Statement::new(
    "test.unfinished",
    "SELECT COUNT(*) FROM files WHERE stored_at IS NULL",
);
static FILES: Statement = Statement::new("test.files", "SELECT COUNT(*) FROM files");
static USAGE: Statement = Statement::new(
    "test.usage",
    "SELECT COUNT(*) FROM usage WHERE app_id <> meeting_id",
);

async fn files_are_deleted_with_their_meeting(server: Server) {
    let (deleted, kept) = (server.participant().await, server.participant().await);
    for _ in 0..3 {
        assert_eq!(server.upload(&deleted, 1000).await, 200);
    }
    assert_eq!(server.upload(&kept, 500).await, 200);
    assert_eq!(
        (
            server.files_of(&deleted).await,
            server.files_of(&kept).await
        ),
        (3000, 500)
    );
    assert_eq!(server.files().await, [3500; 3]);
    server.delete_meeting(&deleted).await;
    server.sweep().await;
    let left = server.stored();
    let of_deleted = left
        .iter()
        .filter(|path| path.to_string_lossy().contains(&deleted.meeting));
    assert_eq!(of_deleted.count(), 0, "{left:?}");
    assert_eq!(server.files().await, [500; 3]);
    server.state.clock.advance_ms(DAY_MS);
    server.sweep().await;
    assert_eq!(server.files().await, [500; 3]);
    assert_eq!(server.rows(&FILES).await, 1);
}

async fn files_are_deleted_with_their_app(server: Server) {
    let (ada, bob) = (server.participant().await, server.participant().await);
    for participant in [&ada, &bob] {
        assert_eq!(server.upload(participant, 1000).await, 200);
    }
    server
        .rest("DELETE", &format!("/apps/{}", server.app), json!({}))
        .await;
    for _ in 0..3 {
        server.sweep().await;
        server.state.clock.advance_ms(DAY_MS);
    }
    assert_eq!(server.files().await, [0; 3]);
    assert_eq!(server.rows(&FILES).await, 0);
    assert_eq!(
        server.rows(&USAGE).await,
        0,
        "the counts of the app are deleted"
    );
}

async fn files_are_deleted_after_their_retention(server: Server) {
    let ada = server.participant().await;
    assert_eq!(server.upload(&ada, 1000).await, 200);
    server.state.clock.advance_ms(29 * DAY_MS);
    assert_eq!(server.upload(&ada, 500).await, 200);
    server.tidy().await;
    assert_eq!(server.files().await, [1500; 3]);
    server.state.clock.advance_ms(2 * DAY_MS);
    server.tidy().await;
    assert_eq!(server.files().await, [500; 3]);
}

async fn a_clock_that_is_set_forward_deletes_no_files(server: Server) {
    let ada = server.participant().await;
    assert_eq!(server.upload(&ada, 1000).await, 200);
    server.tidy().await;
    server.state.clock.step_ms(400 * DAY_MS);
    server.tidy().await;
    assert_eq!(server.files().await, [1000; 3], "while the server runs");
    // The next processes start with a wrong clock.
    for start in 0..3 {
        let next = server.another_node(server.state.limits.clone()).await;
        next.state.clock.step_ms(400 * DAY_MS);
        for _ in 0..3 {
            next.tidy().await;
            assert_eq!(next.files().await, [1000; 3], "start {start}");
            next.state.clock.advance_ms(DAY_MS / 4);
        }
    }
    // A change of the clock that lasts is accepted eventually.
    server.state.clock.advance_ms(2 * DAY_MS);
    server.tidy().await;
    server.state.clock.advance_ms(DAY_MS);
    server.tidy().await;
    assert_eq!(server.files().await, [0; 3]);
}

async fn files_of_an_unknown_app_are_kept(server: Server) {
    let random = || server.state.clock.random_id().to_string();
    let folder = server.folder.path().join("uploads");
    let app = server.state.clock.random_id().simple().to_string();
    let folder = folder.join(app).join(random());
    std::fs::create_dir_all(&folder).unwrap();
    let long_ago = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    for name in [random(), format!("{}.taken", random())] {
        let path = folder.join(name);
        std::fs::write(&path, "from another installation").unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_times(long_ago).unwrap();
    }
    server.tidy().await;
    assert_eq!(server.stored().len(), 2);
    let metrics = server.state.metrics.encode(&parlor_sfu::Stats::default());
    assert!(metrics.contains("parlor_files_unknown 2"), "{metrics}");
}

async fn an_upload_can_be_repeated_after_a_lost_response(server: Server) {
    let ada = server.participant().await;
    let [put_path, _] = server.links(&ada).await;
    assert_eq!(server.put(&put_path, 1000).await, 200);
    assert_eq!(server.put(&put_path, 1000).await, 200);
    let other = server
        .request("PUT", &put_path, None, vec![b'y'; 1000])
        .await;
    assert_eq!(other.0, 409, "the contents differ");
    assert_eq!(server.put(&put_path, 999).await, 409);
    assert_eq!(server.files().await, [1000; 3]);
}

async fn an_upload_with_an_unknown_outcome_returns_503(server: Server) {
    static UNKNOWN: Statement = Statement::new(
        "test.unknown",
        "UPDATE files SET stored_at = NULL WHERE bytes = 1000",
    );
    let ada = server.participant().await;
    let [put_path, _] = server.links(&ada).await;
    assert_eq!(server.put(&put_path, 1000).await, 200);
    // As if the last commit and its response had been lost.
    let unit = Unit::default().then(&UNKNOWN, values![]);
    server.state.db.commit(unit).await.unwrap();
    assert_eq!(server.put(&put_path, 1000).await, 503);
    server.tidy().await;
    assert_eq!(server.files().await, [0; 3]);
    assert_eq!(server.put(&put_path, 1000).await, 200);
    assert_eq!(server.files().await, [1000; 3]);
}

async fn the_file_quota_of_a_meeting_is_enforced(server: Server) {
    let (ada, bob) = (server.participant().await, server.participant().await);
    assert_eq!(server.upload(&ada, 3000).await, 200);
    let [put_path, get_path] = server.links(&ada).await;
    assert_eq!(server.put(&put_path, 2001).await, 507);
    assert_eq!(
        server
            .request("GET", &get_path, None, Body::empty())
            .await
            .0,
        404
    );
    // The refused upload has not used up the link.
    assert_eq!(server.put(&put_path, 2000).await, 200);
    assert_eq!(server.upload(&ada, 1).await, 507);
    assert_eq!(server.upload(&ada, 0).await, 200);
    assert_eq!(server.upload(&bob, 5000).await, 200);
    assert_eq!(server.files().await, [10_000; 3]);
    let refused = "parlor_uploads_refused_total{reason=\"meeting_quota\"} 2";
    let metrics = server.state.metrics.encode(&parlor_sfu::Stats::default());
    assert!(metrics.contains(refused), "{metrics}");
}

async fn the_file_quota_of_an_app_is_enforced(server: Server) {
    for _ in 0..2 {
        let participant = server.participant().await;
        assert_eq!(server.upload(&participant, 4000).await, 200);
    }
    let participant = server.participant().await;
    assert_eq!(server.upload(&participant, 2001).await, 507);
    assert_eq!(server.upload(&participant, 2000).await, 200);
    let metrics = server.state.metrics.encode(&parlor_sfu::Stats::default());
    assert!(metrics.contains("parlor_uploads_refused_total{reason=\"app_quota\"} 1"));
}

async fn concurrent_uploads_never_exceed_the_quota(server: Server) {
    let (server, other) = server.with_second_node().await;
    let ada = server.participant().await;
    let mut links = Vec::new();
    for _ in 0..20 {
        links.push(server.links(&ada).await);
    }
    let nodes = [&server, &other];
    let uploads = links
        .iter()
        .enumerate()
        .map(|(index, [put_path, _])| nodes[index % 2].put(put_path, 1000));
    let statuses = futures_util::future::join_all(uploads).await;
    let of = |status: u16| statuses.iter().filter(|other| **other == status).count();
    assert_eq!((of(200), of(507)), (5, 15), "{statuses:?}");
    assert_eq!(server.files().await, [5000; 3]);
}

async fn a_failed_upload_releases_its_reservation(server: Server) {
    let ada = server.participant().await;
    let [put_path, _] = server.links(&ada).await;
    // Without a length the largest file size is reserved, which exceeds the quota of the meeting.
    let (body, status) = server.slow_upload(&put_path, None);
    drop(body);
    assert_eq!(status.await.unwrap(), 507);
    assert_eq!(server.put(&put_path, 1000).await, 200);
    // The body is shorter than its announced length.
    let [put_path, _] = server.links(&ada).await;
    let chunks = [
        Ok(vec![b'x'; 10]),
        Err(std::io::Error::other("the connection was cut")),
    ];
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    let request = Request::builder()
        .method("PUT")
        .uri(&put_path)
        .header("content-length", 100);
    let request = request.body(body).unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status().as_u16(), 400);
    assert_eq!(server.files().await, [1000; 3]);
    assert_eq!(server.rows(&FILES).await, 1);
    assert_eq!(server.put(&put_path, 1000).await, 200);
}

async fn leftovers_of_a_crashed_server_are_removed(server: Server) {
    static CRASHED: Statement = Statement::new(
        "test.crashed",
        "INSERT INTO files (app_id, meeting_id, id, process, bytes, created_at, stored_at) VALUES ($1, $2, $3, $4, 700, 0, NULL)",
    );
    static COUNTED: Statement = Statement::new(
        "test.counted",
        "INSERT INTO usage (app_id, meeting_id, lane, file_bytes, chat_bytes) VALUES ($1, $2, 77, 700, 0)",
    );
    let ada = server.participant().await;
    let [app, meeting]: [Uuid; 2] = [&server.app, &ada.meeting].map(|id| id.parse().unwrap());
    let id = server.state.clock.random_id();
    let unit = Unit::default()
        .then(
            &CRASHED,
            values![app, meeting, id, server.state.clock.random_id()],
        )
        .then(&COUNTED, values![app, meeting])
        .then(&COUNTED, values![app, Uuid::nil()])
        .then(&COUNTED, values![Uuid::nil(), Uuid::nil()]);
    server.state.db.commit(unit).await.unwrap();
    // Either the finished file or the temporary one may be left.
    let folder = server
        .folder
        .path()
        .join(format!("uploads/{}/{}", server.app, ada.meeting));
    std::fs::create_dir_all(&folder).unwrap();
    for name in [format!("{id}"), format!("{id}#1")] {
        std::fs::write(folder.join(name), "half").unwrap();
    }
    server.tidy().await;
    assert_eq!(
        server.rows(&FILES).await,
        1,
        "the process may still be running"
    );
    server.state.clock.advance_ms(2 * 60_000);
    server.tidy().await;
    assert_eq!(server.files().await, [0; 3]);
    assert_eq!(server.rows(&FILES).await, 0);
}

async fn an_upload_whose_row_was_taken_over_removes_nothing(server: Server) {
    static TAKEN: Statement = Statement::new(
        "test.taken",
        "UPDATE files SET process = $1, stored_at = $2",
    );
    let ada = server.participant().await;
    let [put_path, get_path] = server.links(&ada).await;
    let (body, status) = server.slow_upload(&put_path, Some(20));
    body.send(vec![b'x'; 10]).await.unwrap();
    server.wait_for_unfinished(1).await;
    // Another process has declared this one dead, and has received the file from the client.
    let clock = &server.state.clock;
    let unit = Unit::default().then(&TAKEN, values![clock.random_id(), clock.now_ms()]);
    server.state.db.commit(unit).await.unwrap();
    body.send(vec![b'x'; 10]).await.unwrap();
    drop(body);
    assert_eq!(status.await.unwrap(), 503);
    server.tidy().await;
    assert_eq!(server.files().await, [20; 3]);
    assert_eq!(server.rows(&FILES).await, 1);
    assert_eq!(
        server
            .request("GET", &get_path, None, Body::empty())
            .await
            .0,
        200
    );
}

async fn a_file_uploaded_while_its_meeting_is_deleted_is_deleted_too(server: Server) {
    let ada = server.participant().await;
    let [put_path, _] = server.links(&ada).await;
    let (body, status) = server.slow_upload(&put_path, Some(20));
    body.send(vec![b'x'; 10]).await.unwrap();
    server.wait_for_unfinished(1).await;
    server.delete_meeting(&ada).await;
    server.sweep().await;
    server.state.clock.advance_ms(DAY_MS);
    // The upload is in progress, so neither the sweep of deleted meetings nor the cleanup after
    // crashes removes it.
    server.sweep().await;
    server.tidy().await;
    assert_eq!(server.rows(&UNFINISHED).await, 1);
    body.send(vec![b'x'; 10]).await.unwrap();
    drop(body);
    assert_eq!(status.await.unwrap(), 200);
    server.state.clock.advance_ms(DAY_MS);
    server.sweep().await;
    assert_eq!(server.files().await, [0; 3]);
    assert_eq!(server.rows(&FILES).await, 0);
}

async fn files_stored_by_older_versions_are_counted(server: Server) {
    let ada = server.participant().await;
    let [put_path, get_path] = server.links(&ada).await;
    let id = put_path.split('/').nth(4).unwrap().to_owned();
    let root = server.folder.path().join("uploads").join(&server.app);
    let long_ago_secs = server.state.clock.now_ms().unsigned_abs() / 1000 - 2 * 60 * 60;
    let long_ago = std::fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(long_ago_secs));
    let unknown_meeting = server.state.clock.random_id().to_string();
    for (meeting, name) in [
        (ada.meeting.as_str(), id.clone()),
        (&ada.meeting, format!("{id}.taken")),
        (&unknown_meeting, id.clone()),
        (&unknown_meeting, format!("{id}.taken")),
    ] {
        let folder = root.join(meeting);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        let bytes: &[u8] = if path.extension().is_some() {
            b""
        } else {
            b"some bytes"
        };
        std::fs::write(&path, bytes).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_times(long_ago).unwrap();
    }
    // The existing file is found even before it is counted.
    assert_eq!(server.put(&put_path, 5).await, 409);
    for _ in 0..2 {
        server.tidy().await;
        assert_eq!(server.files().await, [10; 3]);
        assert_eq!(server.stored().len(), 1);
    }
    assert_eq!(server.files_of(&ada).await, 10);
    assert_eq!(server.put(&put_path, 5).await, 409);
    assert_eq!(
        server
            .request("GET", &get_path, None, Body::empty())
            .await
            .0,
        200
    );
    server.state.clock.advance_ms(31 * DAY_MS);
    server.tidy().await;
    assert_eq!(
        server.files().await,
        [0; 3],
        "the retention applies to these files, too"
    );
}

async fn messages_are_counted_once_however_often_they_are_written(server: Server) {
    static OLD: Statement =
        Statement::new("test.old", "UPDATE chat_messages SET bytes = 0, grown = 0");
    static NO_USAGE: Statement = Statement::new("test.no_usage", "DELETE FROM usage");
    let ada = server.participant().await;
    let (app, meeting) = (server.app.parse().unwrap(), ada.meeting.parse().unwrap());
    let clock = &server.state.clock;
    let now_ms = clock.now_ms();
    let message = |payload: &str| ChatMessage {
        id: clock.new_id(now_ms),
        session: SessionId::from_uuid(clock.new_id(now_ms)),
        peer: PeerId::from_uuid(clock.new_id(now_ms)),
        participant: ParticipantId::from_uuid(clock.new_id(now_ms)),
        name: "Ad\u{e4}".to_owned(),
        kind: PayloadType::Text,
        payload: payload.to_owned(),
        pinned: false,
        edited: false,
        targets: vec![ParticipantId::from_uuid(clock.new_id(now_ms))],
        at_ms: now_ms,
    };
    let write = async |records: &[Record]| {
        let unit = records::unit(app, meeting, now_ms, records);
        server.state.db.commit(unit).await.unwrap();
        let (app, meeting) = (Some(server.app.as_str()), Some(ada.meeting.as_str()));
        let mut bytes = [0; 3];
        for (index, of) in [(app, meeting), (app, None), (None, None)]
            .into_iter()
            .enumerate()
        {
            [_, bytes[index]] = server.used(of.0, of.1).await;
        }
        bytes
    };
    let (first, second) = (message("h\u{e9}llo"), message(&"x".repeat(10_000)));
    let edited = ChatMessage {
        payload: "b".to_owned(),
        ..second.clone()
    };
    let size = |message: &ChatMessage| i64::try_from(message.stored_bytes()).unwrap();
    let both = size(&first) + size(&second);
    let records = [first.clone(), second.clone()].map(Record::Chat);
    assert_eq!(write(&records).await, [both; 3]);
    assert_eq!(
        write(&records).await,
        [both; 3],
        "a message written twice is counted once"
    );
    let after = size(&first) + size(&edited);
    assert_eq!(write(&[Record::Chat(edited.clone())]).await, [after; 3]);
    let deleted = [Record::ChatDeleted(first.id), Record::ChatDeleted(first.id)];
    assert_eq!(write(&deleted).await, [size(&edited); 3]);
    assert_eq!(write(&deleted).await, [size(&edited); 3]);
    // The state that an older version leaves.
    let old = Unit::default()
        .then(&OLD, values![])
        .then(&NO_USAGE, values![]);
    server.state.db.commit(old).await.unwrap();
    server.tidy().await;
    assert_eq!(write(&[]).await, [size(&edited); 3]);
    server.tidy().await;
    assert_eq!(write(&[]).await, [size(&edited); 3]);
    server.delete_meeting(&ada).await;
    server.sweep().await;
    assert_eq!(write(&[]).await, [0; 3]);
}

async fn the_disk_is_not_filled_up(server: Server) {
    let quotas = Quotas {
        disk_reserve: 1 << 60,
        ..server.state.limits.quotas.clone()
    };
    let server = server.with_quotas(quotas).await;
    let ada = server.participant().await;
    assert_eq!(server.upload(&ada, 10).await, 507);
    assert_eq!(server.rows(&FILES).await, 0);
    // Records can still be written.
    server.participant().await;
    let metrics = server.state.metrics.encode(&parlor_sfu::Stats::default());
    assert!(metrics.contains("parlor_uploads_refused_total{reason=\"disk_reserve\"} 1"));
}
