//! An empty database for each test.

use std::sync::Arc;

use parlor_store::{DatabaseLocation, Db, Observer, Options};
use parlor_testkit::Postgres;
use tempfile::TempDir;

use crate::rooms;

/// An empty database, removed when dropped.
pub(crate) struct TestDatabase {
    pub(crate) location: DatabaseLocation,
    _directory: TempDir,
}

impl TestDatabase {
    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            location: DatabaseLocation::Sqlite(directory.path().join("parlor.db")),
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
            location: DatabaseLocation::Postgres(url),
            _directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Opens the database without migrating it.
    pub(crate) async fn open(&self) -> Db {
        self.open_with_observer(Arc::new(())).await
    }

    pub(crate) async fn open_with_observer(&self, observer: Arc<dyn Observer>) -> Db {
        Db::open(&self.location, Options::default(), observer)
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
