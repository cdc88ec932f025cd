use std::sync::Arc;

use parlor_protocol::ids::{AppId, MeetingId};
use parlor_store::{Place, Unit};
use parlor_testkit::Postgres;

use super::*;
use crate::config::Settings;
use crate::files::Files;
use crate::files::links::File;
use crate::limits::Limits;
use crate::state::{Edge, Parlor};

/// A server with a directory of files, and a file of a chat.
struct Scene {
    parlor: Arc<Parlor>,
    file: File,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn on(place: Place, folder: tempfile::TempDir) -> Self {
        let parlor = Parlor::open(&place, Limits::default()).await.unwrap();
        let settings = Settings {
            data_dir: Some(folder.path().into()),
            ..Settings::default()
        };
        let parlor = Arc::new(parlor.with_edge(Edge::open(&settings).unwrap()));
        let file = File {
            app: AppId::from_uuid(parlor.clock.random_id()),
            meeting: MeetingId::from_uuid(parlor.clock.random_id()),
            id: parlor.clock.random_id(),
            name: "a.txt".to_owned(),
        };
        Self {
            parlor,
            file,
            _folder: folder,
        }
    }

    fn files(&self) -> &Files {
        self.parlor.files.storage.as_ref().unwrap()
    }

    fn key(&self) -> [Uuid; 3] {
        let File {
            app, meeting, id, ..
        } = &self.file;
        [app.uuid(), meeting.uuid(), *id]
    }

    /// The row of the file, after its bytes were reserved and written.
    async fn written(&self) -> FileRow {
        let reserved = records::reserve(&self.parlor.files, &self.file, 4).await;
        reserved.unwrap();
        self.files().put(self.key(), "half").await;
        self.row().await.unwrap()
    }

    async fn settle(&self) -> bool {
        let settled = records::settle(&self.parlor.files, &self.file, 4, 4).await;
        settled.unwrap()
    }

    async fn row(&self) -> Option<FileRow> {
        records::find(&self.parlor.files, self.key()).await.unwrap()
    }

    async fn is_stored(&self) -> bool {
        self.files().exists(self.key()).await.unwrap()
    }
}

async fn on_both(test: impl AsyncFn(Scene)) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Sqlite(folder.path().join("parlor.db"));
    test(Scene::on(place, folder).await).await;
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    test(Scene::on(Place::Postgres(url), tempfile::tempdir().unwrap()).await).await;
}

#[tokio::test]
async fn a_file_that_is_stored_after_a_round_has_seen_it_unfinished_stays() {
    on_both(async |scene: Scene| {
        let seen = scene.written().await;
        assert!(scene.settle().await);
        let deleted = delete(&scene.parlor.files, vec![seen], "unfinished").await;
        assert!(deleted.unwrap());
        assert!(scene.is_stored().await, "an acknowledged upload is lost");
        assert_eq!(scene.row().await.unwrap().bytes, 4);
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_being_removed_is_not_stored_any_more() {
    on_both(async |scene: Scene| {
        let seen = scene.written().await;
        let claimed = records::claim(&scene.parlor.files, &seen).await.unwrap();
        assert!(!scene.settle().await);
        let again = records::claim(&scene.parlor.files, &seen).await.unwrap();
        assert_eq!(again, None, "somebody else removes it");
        // The process dies, or the storage fails: a round goes on.
        assert_eq!(scene.row().await, claimed);
        round(&scene.parlor.files).await.unwrap();
        assert!(scene.row().await.is_none() && !scene.is_stored().await);
    })
    .await;
}

#[tokio::test]
async fn a_process_is_alive_as_long_as_it_shows_new_signs_whatever_its_clock_says() {
    static OF_ANOTHER: Statement =
        Statement::new("test.of_another", "UPDATE files SET process = $1");
    static BEAT: Statement = Statement::new(
        "test.beat",
        "INSERT INTO servers (id, alive_at) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET alive_at = excluded.alive_at",
    );
    on_both(async |scene: Scene| {
        scene.written().await;
        let clock = &scene.parlor.clock;
        let other = clock.random_id();
        let commit = async |of: &'static Statement, row| {
            let unit = Unit::default().then(of, row);
            scene.parlor.db.commit(unit).await.unwrap();
        };
        commit(&OF_ANOTHER, values![other]).await;
        // Its clock is years behind.
        for beat in 1..5_i64 {
            commit(&BEAT, values![other, beat]).await;
            round(&scene.parlor.files).await.unwrap();
            assert!(scene.row().await.is_some(), "{beat}");
            clock.advance_ms(DEAD_MS - 60_000);
        }
        round(&scene.parlor.files).await.unwrap();
        assert!(scene.row().await.is_some());
        clock.advance_ms(60_000);
        round(&scene.parlor.files).await.unwrap();
        assert!(scene.row().await.is_none() && !scene.is_stored().await);
    })
    .await;
}
