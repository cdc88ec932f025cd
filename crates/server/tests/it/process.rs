//! Processes of the server binary, and the databases and data directories that they use.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use parlor_store::DatabaseLocation;
use parlor_testkit::server::Builder;
use parlor_testkit::{Postgres, ServerProcess};
use tempfile::TempDir;

/// Path of the server binary.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_parlor");

/// Defines `Server::sqlite` and `Server::postgres`, the two servers that the tests of a module
/// share. They are started by `Server::start` with an empty database, which is kept until the
/// process exits.
macro_rules! shared_servers {
    () => {
        /// Returns the shared server on SQLite.
        pub(crate) async fn sqlite() -> &'static Self {
            static SHARED: tokio::sync::OnceCell<Server> = tokio::sync::OnceCell::const_new();
            let storage = || $crate::process::Storage::until_exit(None);
            let start = async || Self::start(storage(), &[]).await;
            SHARED.get_or_init(start).await
        }

        /// Returns the shared server on PostgreSQL.
        pub(crate) async fn postgres() -> &'static Self {
            static SHARED: tokio::sync::OnceCell<Server> = tokio::sync::OnceCell::const_new();
            let start = async || {
                let database = $crate::process::new_database().await;
                let storage = $crate::process::Storage::until_exit(Some(database));
                Self::start(storage, &[]).await
            };
            SHARED.get_or_init(start).await
        }
    };
}
pub(crate) use shared_servers;

/// A running server.
pub(crate) struct TestServer {
    pub(crate) process: ServerProcess,
    pub(crate) storage: Storage,
    builder: Builder,
}

/// The data directory of a server and, on PostgreSQL, its database. Clones share both.
#[derive(Clone)]
pub(crate) struct Storage {
    folder: Arc<Folder>,
    database: Option<String>,
}

struct Folder {
    path: PathBuf,
    _removed_on_drop: Option<TempDir>,
    _removed_at_exit: Option<Child>,
}

impl TestServer {
    /// Starts a server on the given storage, with additional arguments.
    pub(crate) async fn start(storage: Storage, arguments: &[&str]) -> Self {
        let mut builder = ServerProcess::builder(BINARY).data_dir(&storage.folder.path);
        if let Some(url) = &storage.database {
            builder = builder.database(url);
        }
        let builder = arguments.iter().fold(builder, Builder::argument);
        Self {
            process: builder.start().await.unwrap(),
            storage,
            builder,
        }
    }

    /// Restarts the server after it was stopped or killed, on the same storage and another port.
    pub(crate) async fn restart(&mut self) {
        self.process = self.builder.start().await.unwrap();
    }

    /// Runs a command of the server binary on the server's storage.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear();
        command.env("PARLOR_DATA_DIR", &self.storage.folder.path);
        if let Some(url) = &self.storage.database {
            command.env("PARLOR_DATABASE", url);
        }
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        output
    }
}

impl Storage {
    /// Creates empty storage, which is removed together with its last clone.
    pub(crate) fn new(database: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::within(folder.path().to_owned(), database, Some(folder), None)
    }

    /// Creates empty storage on the same kind of database as `other`.
    pub(crate) async fn same_kind_as(other: &Self) -> Self {
        Self::new(match other.database {
            Some(_) => Some(new_database().await),
            None => None,
        })
    }

    /// Uses SQLite in a directory that the caller removes.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self::within(folder.to_owned(), None, None, None)
    }

    /// Creates empty storage for a server in a `static`, which is never dropped. A shell removes
    /// the directory after this process has exited.
    pub(crate) fn until_exit(database: Option<String>) -> Self {
        let path = tempfile::tempdir().unwrap().keep();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", r#"read -r _; sleep 1; rm -rf "$0""#])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let shell = shell.spawn().unwrap();
        Self::within(path, database, None, Some(shell))
    }

    fn within(
        path: PathBuf,
        database: Option<String>,
        removed_on_drop: Option<TempDir>,
        removed_at_exit: Option<Child>,
    ) -> Self {
        let folder = Folder {
            path,
            _removed_on_drop: removed_on_drop,
            _removed_at_exit: removed_at_exit,
        };
        Self {
            folder: Arc::new(folder),
            database,
        }
    }

    /// Returns whether the database is in PostgreSQL.
    pub(crate) fn is_on_postgres(&self) -> bool {
        self.database.is_some()
    }

    /// Returns the location of the database, for tests that access it directly.
    pub(crate) fn location(&self) -> DatabaseLocation {
        match &self.database {
            Some(url) => DatabaseLocation::Postgres(url.clone()),
            None => DatabaseLocation::Sqlite(self.folder.path.join("parlor.db")),
        }
    }
}

/// Creates an empty database on the PostgreSQL server of this process, and returns its URL.
pub(crate) async fn new_database() -> String {
    Postgres::shared().await.unwrap().database().await.unwrap()
}
