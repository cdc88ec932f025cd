//! A fresh place for the records of one test.

use std::sync::Arc;

use parlor_store::{Db, Observer, Options, Place};
use parlor_testkit::Postgres;
use tempfile::TempDir;

use crate::rooms;

/// An empty database that goes away with this.
pub(crate) struct Home {
    pub(crate) place: Place,
    _directory: TempDir,
}

impl Home {
    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            place: Place::Sqlite(directory.path().join("parlor.db")),
            _directory: directory,
        }
    }

    pub(crate) async fn postgres() -> Self {
        let url = Postgres::shared_durable()
            .await
            .unwrap()
            .database()
            .await
            .unwrap();
        Self {
            place: Place::Postgres(url),
            _directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Opens the database without touching its schema.
    pub(crate) async fn open(&self) -> Db {
        self.open_watched(Arc::new(())).await
    }

    pub(crate) async fn open_watched(&self, observer: Arc<dyn Observer>) -> Db {
        Db::open(&self.place, Options::default(), observer)
            .await
            .unwrap()
    }

    /// Opens the database with the tables of [`rooms`].
    pub(crate) async fn with_rooms(&self) -> Db {
        let db = self.open().await;
        db.migrate(&rooms::MIGRATIONS).await.unwrap();
        db
    }
}
