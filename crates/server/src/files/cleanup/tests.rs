use std::sync::Arc;

use parlor_protocol::ids::{AppId, MeetingId};
use parlor_store::{DatabaseLocation, Unit};
use parlor_testkit::Postgres;

use super::*;
use crate::config::Settings;
use crate::files::Files;
use crate::files::links::File;
use crate::limits::Limits;
use crate::state::{Edge, ServerState};

/// A server with a file storage directory, and a chat file.
struct Fixture {
    state: Arc<ServerState>,
    file: File,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn on(location: DatabaseLocation, folder: tempfile::TempDir) -> Self {
        let state = ServerState::open(&location, Limits::default())
            .await
            .unwrap();
        let settings = Settings {
            data_dir: Some(folder.path().into()),
            ..Settings::default()
        };
        let state = Arc::new(state.with_edge(Edge::open(&settings).unwrap()));
        let file = File {
            app: AppId::from_uuid(state.clock.random_id()),
            meeting: MeetingId::from_uuid(state.clock.random_id()),
            id: state.clock.random_id(),
            name: "a.txt".to_owned(),
        };
        Self {
            state,
            file,
            _folder: folder,
        }
    }

    fn files(&self) -> &Files {
        self.state.files.storage.as_ref().unwrap()
    }

    fn key(&self) -> [Uuid; 3] {
        let File {
            app, meeting, id, ..
        } = &self.file;
        [app.uuid(), meeting.uuid(), *id]
    }

    /// Reserves and writes the file, and returns its record.
    async fn written(&self) -> FileRow {
        let reserved = records::reserve(&self.state.files, &self.file, 4).await;
        reserved.unwrap();
        self.files().put(self.key(), "half").await;
        self.row().await.unwrap()
    }

    async fn settle(&self) -> bool {
        let settled = records::settle(&self.state.files, &self.file, 4, 4).await;
        settled.unwrap()
    }

    async fn row(&self) -> Option<FileRow> {
        records::find(&self.state.files, self.key()).await.unwrap()
    }

    async fn is_stored(&self) -> bool {
        self.files().exists(self.key()).await.unwrap()
    }
}

async fn on_both(test: impl AsyncFn(Fixture)) {
    let folder = tempfile::tempdir().unwrap();
    let location = DatabaseLocation::Sqlite(folder.path().join("parlor.db"));
    test(Fixture::on(location, folder).await).await;
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    test(
        Fixture::on(
            DatabaseLocation::Postgres(url),
            tempfile::tempdir().unwrap(),
        )
        .await,
    )
    .await;
}

#[tokio::test]
async fn a_file_completed_after_cleanup_saw_it_unfinished_is_kept() {
    on_both(async |fixture: Fixture| {
        let seen = fixture.written().await;
        assert!(fixture.settle().await);
        let deleted = delete(&fixture.state.files, vec![seen], "unfinished").await;
        assert!(deleted.unwrap());
        assert!(fixture.is_stored().await, "an acknowledged upload was lost");
        assert_eq!(fixture.row().await.unwrap().bytes, 4);
    })
    .await;
}

#[tokio::test]
async fn an_upload_of_a_file_being_removed_cannot_complete() {
    on_both(async |fixture: Fixture| {
        let seen = fixture.written().await;
        let claimed = records::claim(&fixture.state.files, &seen).await.unwrap();
        assert!(!fixture.settle().await);
        let again = records::claim(&fixture.state.files, &seen).await.unwrap();
        assert_eq!(again, None, "another process removes the file");
        // The process dies or the storage fails: the next run continues.
        assert_eq!(fixture.row().await, claimed);
        run(&fixture.state.files).await.unwrap();
        assert!(fixture.row().await.is_none() && !fixture.is_stored().await);
    })
    .await;
}

#[tokio::test]
async fn a_process_is_alive_while_it_sends_heartbeats_whatever_its_clock_shows() {
    static OF_ANOTHER: Statement =
        Statement::new("test.of_another", "UPDATE files SET process = $1");
    static BEAT: Statement = Statement::new(
        "test.beat",
        "INSERT INTO servers (id, alive_at) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET alive_at = excluded.alive_at",
    );
    on_both(async |fixture: Fixture| {
        fixture.written().await;
        let clock = &fixture.state.clock;
        let other = clock.random_id();
        let commit = async |of: &'static Statement, row| {
            let unit = Unit::default().then(of, row);
            fixture.state.db.commit(unit).await.unwrap();
        };
        commit(&OF_ANOTHER, values![other]).await;
        // The other process's clock is years behind.
        for beat in 1..5_i64 {
            commit(&BEAT, values![other, beat]).await;
            run(&fixture.state.files).await.unwrap();
            assert!(fixture.row().await.is_some(), "{beat}");
            clock.advance_ms(DEAD_MS - 60_000);
        }
        run(&fixture.state.files).await.unwrap();
        assert!(fixture.row().await.is_some());
        clock.advance_ms(60_000);
        run(&fixture.state.files).await.unwrap();
        assert!(fixture.row().await.is_none() && !fixture.is_stored().await);
    })
    .await;
}
