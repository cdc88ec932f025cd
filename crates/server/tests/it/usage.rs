//! What is stored is counted, bounded and deleted: files of chats and messages, on a clock that the
//! test moves. In process, on both databases.

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
use parlor_server::state::{Edge, Parlor};
use parlor_store::{Place, Row, Statement, Unit, values};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use uuid::Uuid;

use crate::process::new_database;
use crate::{on_both_databases, owner};

const SECRET: &str = "a secret that is long enough to be one";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

struct Server {
    parlor: Arc<Parlor>,
    router: axum::Router,
    account: AccountId,
    app: String,
    place: Place,
    folder: Arc<tempfile::TempDir>,
}

/// Somebody in a meeting.
struct Person {
    meeting: String,
    token: String,
}

impl Server {
    async fn on(place: Place, folder: tempfile::TempDir) -> Self {
        let folder = Arc::new(folder);
        let parlor = opened(&place, &folder, limits()).await;
        let (account, app) = owner::create(&parlor, SECRET).await;
        Self {
            router: router::router(&parlor),
            parlor,
            account,
            app,
            place,
            folder,
        }
    }

    /// Another server on the same records and the same storage.
    async fn again(&self, limits: Limits) -> Self {
        let parlor = opened(&self.place, &self.folder, limits).await;
        Self {
            router: router::router(&parlor),
            parlor,
            account: self.account,
            app: self.app.clone(),
            place: self.place.clone(),
            folder: Arc::clone(&self.folder),
        }
    }

    async fn and_another(self) -> (Self, Self) {
        let other = self.again(self.parlor.limits.clone()).await;
        (self, other)
    }

    /// The same with other quotas.
    async fn with(self, quotas: Quotas) -> Self {
        let limits = Limits {
            quotas,
            ..self.parlor.limits.clone()
        };
        self.again(limits).await
    }

    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Sqlite(folder.path().join("parlor.db"));
        Self::on(place, folder).await
    }

    async fn postgres() -> Self {
        let url = new_database().await;
        let folder = tempfile::tempdir().unwrap();
        Self::on(Place::Postgres(url), folder).await
    }

    async fn ask(
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
            .ask(method, &path, Some(SECRET), body.to_string())
            .await;
        assert!(status < 300, "{status} {body}");
        body["data"].take()
    }

    /// Somebody in a new meeting of an app.
    async fn person_of(&self, app: &str) -> Person {
        let path = format!("/{app}/meetings");
        let meeting = self.rest("POST", &path, json!({"title": "Weekly"})).await;
        let meeting = meeting["id"].as_str().unwrap().to_owned();
        let path = format!("/{app}/meetings/{meeting}/participants");
        let person = json!({"custom_participant_id": "ada", "preset_name": "group_call_host"});
        let added = self.rest("POST", &path, person).await;
        let token = added["token"].as_str().unwrap().to_owned();
        Person { meeting, token }
    }

    async fn person(&self) -> Person {
        self.person_of(&self.app).await
    }

    /// Paths to put a file at and to get it from.
    async fn links(&self, person: &Person) -> [String; 2] {
        let body = json!({"roomUUID": person.meeting, "filename": "a.txt"}).to_string();
        let path = "/v2/meetings/chat-upload";
        let (status, body) = self.ask("POST", path, Some(&person.token), body).await;
        assert_eq!(status, 200, "{body}");
        ["put_location", "get_location"].map(|name| {
            let link = body["data"][name].as_str().unwrap();
            link.strip_prefix("http://parlor.example")
                .unwrap()
                .to_owned()
        })
    }

    /// The status of an upload of so many bytes.
    async fn put(&self, path: &str, bytes: usize) -> u16 {
        self.ask("PUT", path, None, vec![b'x'; bytes]).await.0
    }

    async fn upload(&self, person: &Person, bytes: usize) -> u16 {
        let [to_put, _] = self.links(person).await;
        self.put(&to_put, bytes).await
    }

    async fn delete_meeting(&self, person: &Person) {
        let path = format!("/{}/meetings/{}", self.app, person.meeting);
        self.rest("DELETE", &path, json!({})).await;
    }

    /// Everything that is in the storage, temporary files included.
    fn stored(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.folder.path().join("uploads"), &mut found);
        found
    }
}

async fn opened(place: &Place, folder: &tempfile::TempDir, limits: Limits) -> Arc<Parlor> {
    let parlor = Parlor::open(place, limits).await.unwrap();
    let settings = Settings {
        data_dir: Some(folder.path().into()),
        // Slots are no matter here.
        uploads_per_person: Some(0),
        uploads_per_meeting: Some(0),
        ..Settings::default()
    };
    Arc::new(parlor.with_edge(Edge::open(&settings).unwrap()))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path);
        }
    }
}

mod rooms;

on_both_databases![
    #[tokio::test(flavor = "multi_thread")]
    files_go_with_their_meeting,
    files_go_with_their_app,
    files_go_when_they_are_old,
    a_clock_that_is_set_forward_deletes_no_files,
    files_of_an_app_that_the_database_does_not_know_stay,
    a_client_that_did_not_hear_the_answer_may_send_the_file_again,
    an_upload_whose_fate_is_not_known_is_answered_503,
    a_meeting_has_room_for_so_many_bytes_of_files,
    an_app_has_room_for_so_many_bytes_of_files,
    many_uploads_at_once_never_take_more_than_there_is_room_for,
    an_upload_that_fails_gives_back_what_was_reserved_for_it,
    what_a_crashed_server_left_behind_goes,
    an_upload_whose_row_another_has_taken_removes_nothing,
    a_file_that_comes_while_its_meeting_is_deleted_goes_with_it,
    what_older_versions_stored_is_counted,
    messages_are_counted_however_often_they_are_kept,
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
    /// Bytes of files and of messages of a meeting, its app, or of everything.
    async fn used(&self, app: Option<&str>, meeting: Option<&str>) -> [i64; 2] {
        static USED: Statement = Statement::new(
            "test.used",
            "SELECT CAST(COALESCE(SUM(file_bytes), 0) AS BIGINT), CAST(COALESCE(SUM(chat_bytes), 0) AS BIGINT)
             FROM usage WHERE app_id = $1 AND meeting_id = $2",
        );
        let id = |text: Option<&str>| text.map_or(Uuid::nil(), |text| text.parse().unwrap());
        let key = values![id(app), id(meeting)];
        let rows = self.parlor.db.scan::<Row>(&USED, key).await.unwrap();
        [0, 1].map(|column| rows[0].get(column).unwrap())
    }

    async fn files_of(&self, person: &Person) -> i64 {
        let app = Some(self.app.as_str());
        let [of_meeting, _] = self.used(app, Some(&person.meeting)).await;
        of_meeting
    }

    /// What files take by the counts of the app, of everything, and by what is in the storage.
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
        let rows = self.parlor.db.scan::<Row>(of, values![]).await.unwrap();
        rows[0].get(0).unwrap()
    }

    async fn sweep(&self) {
        sweeper::sweep(&self.parlor).await.unwrap();
    }

    async fn tidy(&self) {
        sweeper::tidy(&self.parlor).await.unwrap();
    }

    /// An upload whose bytes come as they are sent here; its answer follows when that is dropped.
    fn slowly(
        &self,
        path: &str,
        length: Option<usize>,
    ) -> (mpsc::Sender<Vec<u8>>, JoinHandle<u16>) {
        let (bytes, coming) = mpsc::channel(1);
        let stream =
            futures_util::stream::unfold(coming, |mut coming: mpsc::Receiver<Vec<u8>>| async {
                let piece = coming.recv().await?;
                Some((Ok::<_, std::io::Error>(piece), coming))
            });
        let mut request = Request::builder().method("PUT").uri(path);
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let request = request.body(Body::from_stream(stream.fuse())).unwrap();
        let router = self.router.clone();
        let answer = async move { router.oneshot(request).await.unwrap().status().as_u16() };
        (bytes, tokio::spawn(answer))
    }

    /// Waits until so many files are being written.
    async fn written_at_once(&self, count: i64) {
        for _ in 0..1000 {
            if self.rows(&UNFINISHED).await == count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("there are no {count} files that are being written");
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

async fn files_go_with_their_meeting(server: Server) {
    let (gone, kept) = (server.person().await, server.person().await);
    for _ in 0..3 {
        assert_eq!(server.upload(&gone, 1000).await, 200);
    }
    assert_eq!(server.upload(&kept, 500).await, 200);
    assert_eq!(
        (server.files_of(&gone).await, server.files_of(&kept).await),
        (3000, 500)
    );
    assert_eq!(server.files().await, [3500; 3]);
    server.delete_meeting(&gone).await;
    server.sweep().await;
    let left = server.stored();
    let of_gone = left
        .iter()
        .filter(|path| path.to_string_lossy().contains(&gone.meeting));
    assert_eq!(of_gone.count(), 0, "{left:?}");
    assert_eq!(server.files().await, [500; 3]);
    server.parlor.clock.advance_ms(DAY_MS);
    server.sweep().await;
    assert_eq!(server.files().await, [500; 3]);
    assert_eq!(server.rows(&FILES).await, 1);
}

async fn files_go_with_their_app(server: Server) {
    let (ada, bob) = (server.person().await, server.person().await);
    for person in [&ada, &bob] {
        assert_eq!(server.upload(person, 1000).await, 200);
    }
    server
        .rest("DELETE", &format!("/apps/{}", server.app), json!({}))
        .await;
    for _ in 0..3 {
        server.sweep().await;
        server.parlor.clock.advance_ms(DAY_MS);
    }
    assert_eq!(server.files().await, [0; 3]);
    assert_eq!(server.rows(&FILES).await, 0);
    assert_eq!(
        server.rows(&USAGE).await,
        0,
        "no counts are left of the app"
    );
}

async fn files_go_when_they_are_old(server: Server) {
    let ada = server.person().await;
    assert_eq!(server.upload(&ada, 1000).await, 200);
    server.parlor.clock.advance_ms(29 * DAY_MS);
    assert_eq!(server.upload(&ada, 500).await, 200);
    server.tidy().await;
    assert_eq!(server.files().await, [1500; 3]);
    server.parlor.clock.advance_ms(2 * DAY_MS);
    server.tidy().await;
    assert_eq!(server.files().await, [500; 3]);
}

async fn a_clock_that_is_set_forward_deletes_no_files(server: Server) {
    let ada = server.person().await;
    assert_eq!(server.upload(&ada, 1000).await, 200);
    server.tidy().await;
    server.parlor.clock.step_ms(400 * DAY_MS);
    server.tidy().await;
    assert_eq!(server.files().await, [1000; 3], "while it runs");
    // The next processes start with the wrong clock.
    for start in 0..3 {
        let next = server.again(server.parlor.limits.clone()).await;
        next.parlor.clock.step_ms(400 * DAY_MS);
        for _ in 0..3 {
            next.tidy().await;
            assert_eq!(next.files().await, [1000; 3], "start {start}");
            next.parlor.clock.advance_ms(DAY_MS / 4);
        }
    }
    // What lasts counts in the end.
    server.parlor.clock.advance_ms(2 * DAY_MS);
    server.tidy().await;
    server.parlor.clock.advance_ms(DAY_MS);
    server.tidy().await;
    assert_eq!(server.files().await, [0; 3]);
}

async fn files_of_an_app_that_the_database_does_not_know_stay(server: Server) {
    let random = || server.parlor.clock.random_id().to_string();
    let folder = server.folder.path().join("uploads");
    let app = server.parlor.clock.random_id().simple().to_string();
    let folder = folder.join(app).join(random());
    std::fs::create_dir_all(&folder).unwrap();
    let long_ago = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    for name in [random(), format!("{}.taken", random())] {
        let path = folder.join(name);
        std::fs::write(&path, "of another installation").unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_times(long_ago).unwrap();
    }
    server.tidy().await;
    assert_eq!(server.stored().len(), 2);
    let metrics = server.parlor.metrics.text(&parlor_sfu::Stats::default());
    assert!(metrics.contains("parlor_files_unknown 2"), "{metrics}");
}

async fn a_client_that_did_not_hear_the_answer_may_send_the_file_again(server: Server) {
    let ada = server.person().await;
    let [to_put, _] = server.links(&ada).await;
    assert_eq!(server.put(&to_put, 1000).await, 200);
    assert_eq!(server.put(&to_put, 1000).await, 200);
    let other = server.ask("PUT", &to_put, None, vec![b'y'; 1000]).await;
    assert_eq!(other.0, 409, "it is another file");
    assert_eq!(server.put(&to_put, 999).await, 409);
    assert_eq!(server.files().await, [1000; 3]);
}

async fn an_upload_whose_fate_is_not_known_is_answered_503(server: Server) {
    static UNKNOWN: Statement = Statement::new(
        "test.unknown",
        "UPDATE files SET stored_at = NULL WHERE bytes = 1000",
    );
    let ada = server.person().await;
    let [to_put, _] = server.links(&ada).await;
    assert_eq!(server.put(&to_put, 1000).await, 200);
    // As if the last commit had been lost together with its answer.
    let unit = Unit::default().then(&UNKNOWN, values![]);
    server.parlor.db.commit(unit).await.unwrap();
    assert_eq!(server.put(&to_put, 1000).await, 503);
    server.tidy().await;
    assert_eq!(server.files().await, [0; 3]);
    assert_eq!(server.put(&to_put, 1000).await, 200);
    assert_eq!(server.files().await, [1000; 3]);
}

async fn a_meeting_has_room_for_so_many_bytes_of_files(server: Server) {
    let (ada, bob) = (server.person().await, server.person().await);
    assert_eq!(server.upload(&ada, 3000).await, 200);
    let [to_put, to_get] = server.links(&ada).await;
    assert_eq!(server.put(&to_put, 2001).await, 507);
    assert_eq!(server.ask("GET", &to_get, None, Body::empty()).await.0, 404);
    // The link was not used up.
    assert_eq!(server.put(&to_put, 2000).await, 200);
    assert_eq!(server.upload(&ada, 1).await, 507);
    assert_eq!(server.upload(&ada, 0).await, 200);
    assert_eq!(server.upload(&bob, 5000).await, 200);
    assert_eq!(server.files().await, [10_000; 3]);
    let refused = "parlor_uploads_refused_total{reason=\"meeting_quota\"} 2";
    let metrics = server.parlor.metrics.text(&parlor_sfu::Stats::default());
    assert!(metrics.contains(refused), "{metrics}");
}

async fn an_app_has_room_for_so_many_bytes_of_files(server: Server) {
    for _ in 0..2 {
        let person = server.person().await;
        assert_eq!(server.upload(&person, 4000).await, 200);
    }
    let person = server.person().await;
    assert_eq!(server.upload(&person, 2001).await, 507);
    assert_eq!(server.upload(&person, 2000).await, 200);
    let metrics = server.parlor.metrics.text(&parlor_sfu::Stats::default());
    assert!(metrics.contains("parlor_uploads_refused_total{reason=\"app_quota\"} 1"));
}

async fn many_uploads_at_once_never_take_more_than_there_is_room_for(server: Server) {
    let (server, other) = server.and_another().await;
    let ada = server.person().await;
    let mut links = Vec::new();
    for _ in 0..20 {
        links.push(server.links(&ada).await);
    }
    let nodes = [&server, &other];
    let putting = links
        .iter()
        .enumerate()
        .map(|(index, [to_put, _])| nodes[index % 2].put(to_put, 1000));
    let answers = futures_util::future::join_all(putting).await;
    let of = |status: u16| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!((of(200), of(507)), (5, 15), "{answers:?}");
    assert_eq!(server.files().await, [5000; 3]);
}

async fn an_upload_that_fails_gives_back_what_was_reserved_for_it(server: Server) {
    let ada = server.person().await;
    let [to_put, _] = server.links(&ada).await;
    // Without its length, room for the largest is needed; more than there is of the meeting's.
    let (bytes, answer) = server.slowly(&to_put, None);
    drop(bytes);
    assert_eq!(answer.await.unwrap(), 507);
    assert_eq!(server.put(&to_put, 1000).await, 200);
    // Its sender announces more than comes.
    let [to_put, _] = server.links(&ada).await;
    let pieces = [
        Ok(vec![b'x'; 10]),
        Err(std::io::Error::other("the line is cut")),
    ];
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    let request = Request::builder()
        .method("PUT")
        .uri(&to_put)
        .header("content-length", 100);
    let request = request.body(body).unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status().as_u16(), 400);
    assert_eq!(server.files().await, [1000; 3]);
    assert_eq!(server.rows(&FILES).await, 1);
    assert_eq!(server.put(&to_put, 1000).await, 200);
}

async fn what_a_crashed_server_left_behind_goes(server: Server) {
    static CRASHED: Statement = Statement::new(
        "test.crashed",
        "INSERT INTO files (app_id, meeting_id, id, process, bytes, created_at, stored_at) VALUES ($1, $2, $3, $4, 700, 0, NULL)",
    );
    static COUNTED: Statement = Statement::new(
        "test.counted",
        "INSERT INTO usage (app_id, meeting_id, lane, file_bytes, chat_bytes) VALUES ($1, $2, 77, 700, 0)",
    );
    let ada = server.person().await;
    let [app, meeting]: [Uuid; 2] = [&server.app, &ada.meeting].map(|id| id.parse().unwrap());
    let id = server.parlor.clock.random_id();
    let unit = Unit::default()
        .then(
            &CRASHED,
            values![app, meeting, id, server.parlor.clock.random_id()],
        )
        .then(&COUNTED, values![app, meeting])
        .then(&COUNTED, values![app, Uuid::nil()])
        .then(&COUNTED, values![Uuid::nil(), Uuid::nil()]);
    server.parlor.db.commit(unit).await.unwrap();
    // It had just been finished, or not.
    let folder = server
        .folder
        .path()
        .join(format!("uploads/{}/{}", server.app, ada.meeting));
    std::fs::create_dir_all(&folder).unwrap();
    for name in [format!("{id}"), format!("{id}#1")] {
        std::fs::write(folder.join(name), "half").unwrap();
    }
    server.tidy().await;
    assert_eq!(server.rows(&FILES).await, 1, "it may be alive");
    server.parlor.clock.advance_ms(2 * 60_000);
    server.tidy().await;
    assert_eq!(server.files().await, [0; 3]);
    assert_eq!(server.rows(&FILES).await, 0);
}

async fn an_upload_whose_row_another_has_taken_removes_nothing(server: Server) {
    static TAKEN: Statement = Statement::new(
        "test.taken",
        "UPDATE files SET process = $1, stored_at = $2",
    );
    let ada = server.person().await;
    let [to_put, to_get] = server.links(&ada).await;
    let (send, answer) = server.slowly(&to_put, Some(20));
    send.send(vec![b'x'; 10]).await.unwrap();
    server.written_at_once(1).await;
    // This process was taken for dead, and the client has sent the file to another one.
    let clock = &server.parlor.clock;
    let unit = Unit::default().then(&TAKEN, values![clock.random_id(), clock.now_ms()]);
    server.parlor.db.commit(unit).await.unwrap();
    send.send(vec![b'x'; 10]).await.unwrap();
    drop(send);
    assert_eq!(answer.await.unwrap(), 503);
    server.tidy().await;
    assert_eq!(server.files().await, [20; 3]);
    assert_eq!(server.rows(&FILES).await, 1);
    assert_eq!(server.ask("GET", &to_get, None, Body::empty()).await.0, 200);
}

async fn a_file_that_comes_while_its_meeting_is_deleted_goes_with_it(server: Server) {
    let ada = server.person().await;
    let [to_put, _] = server.links(&ada).await;
    let (send, answer) = server.slowly(&to_put, Some(20));
    send.send(vec![b'x'; 10]).await.unwrap();
    server.written_at_once(1).await;
    server.delete_meeting(&ada).await;
    server.sweep().await;
    server.parlor.clock.advance_ms(DAY_MS);
    // Neither as one of a deleted meeting nor as one that a crash has left: it is being written.
    server.sweep().await;
    server.tidy().await;
    assert_eq!(server.rows(&UNFINISHED).await, 1);
    send.send(vec![b'x'; 10]).await.unwrap();
    drop(send);
    assert_eq!(answer.await.unwrap(), 200);
    server.parlor.clock.advance_ms(DAY_MS);
    server.sweep().await;
    assert_eq!(server.files().await, [0; 3]);
    assert_eq!(server.rows(&FILES).await, 0);
}

async fn what_older_versions_stored_is_counted(server: Server) {
    let ada = server.person().await;
    let [to_put, to_get] = server.links(&ada).await;
    let id = to_put.split('/').nth(4).unwrap().to_owned();
    let root = server.folder.path().join("uploads").join(&server.app);
    let long_ago_secs = server.parlor.clock.now_ms().unsigned_abs() / 1000 - 2 * 60 * 60;
    let long_ago = std::fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(long_ago_secs));
    let nobody = server.parlor.clock.random_id().to_string();
    for (meeting, name) in [
        (ada.meeting.as_str(), id.clone()),
        (&ada.meeting, format!("{id}.taken")),
        (&nobody, id.clone()),
        (&nobody, format!("{id}.taken")),
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
    // Before it is counted, too.
    assert_eq!(server.put(&to_put, 5).await, 409);
    for _ in 0..2 {
        server.tidy().await;
        assert_eq!(server.files().await, [10; 3]);
        assert_eq!(server.stored().len(), 1);
    }
    assert_eq!(server.files_of(&ada).await, 10);
    assert_eq!(server.put(&to_put, 5).await, 409);
    assert_eq!(server.ask("GET", &to_get, None, Body::empty()).await.0, 200);
    server.parlor.clock.advance_ms(31 * DAY_MS);
    server.tidy().await;
    assert_eq!(server.files().await, [0; 3], "it gets old like others");
}

async fn messages_are_counted_however_often_they_are_kept(server: Server) {
    static OLD: Statement =
        Statement::new("test.old", "UPDATE chat_messages SET bytes = 0, grown = 0");
    static NO_USAGE: Statement = Statement::new("test.no_usage", "DELETE FROM usage");
    let ada = server.person().await;
    let (app, meeting) = (server.app.parse().unwrap(), ada.meeting.parse().unwrap());
    let clock = &server.parlor.clock;
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
    let keep = async |records: &[Record]| {
        let unit = records::unit(app, meeting, now_ms, records);
        server.parlor.db.commit(unit).await.unwrap();
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
    assert_eq!(keep(&records).await, [both; 3]);
    assert_eq!(keep(&records).await, [both; 3], "kept twice is kept once");
    let after = size(&first) + size(&edited);
    assert_eq!(keep(&[Record::Chat(edited.clone())]).await, [after; 3]);
    let gone = [Record::ChatDeleted(first.id), Record::ChatDeleted(first.id)];
    assert_eq!(keep(&gone).await, [size(&edited); 3]);
    assert_eq!(keep(&gone).await, [size(&edited); 3]);
    // As an older version left them.
    let old = Unit::default()
        .then(&OLD, values![])
        .then(&NO_USAGE, values![]);
    server.parlor.db.commit(old).await.unwrap();
    server.tidy().await;
    assert_eq!(keep(&[]).await, [size(&edited); 3]);
    server.tidy().await;
    assert_eq!(keep(&[]).await, [size(&edited); 3]);
    server.delete_meeting(&ada).await;
    server.sweep().await;
    assert_eq!(keep(&[]).await, [0; 3]);
}

async fn the_disk_is_not_filled_up(server: Server) {
    let quotas = Quotas {
        disk_reserve: 1 << 60,
        ..server.parlor.limits.quotas.clone()
    };
    let server = server.with(quotas).await;
    let ada = server.person().await;
    assert_eq!(server.upload(&ada, 10).await, 507);
    assert_eq!(server.rows(&FILES).await, 0);
    // Records are still written.
    server.person().await;
    let metrics = server.parlor.metrics.text(&parlor_sfu::Stats::default());
    assert!(metrics.contains("parlor_uploads_refused_total{reason=\"disk_reserve\"} 1"));
}
