//! A process of the binary under test, and where it keeps its records.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use parlor_store::Place;
use parlor_testkit::server::Builder;
use parlor_testkit::{Parlor, Postgres};
use tempfile::TempDir;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_parlor");

/// The two servers that the tests of a module share: what its `Server::start` makes of empty records,
/// which stay until the process ends.
macro_rules! shared_servers {
    () => {
        /// The server of this process that keeps its records in SQLite.
        pub(crate) async fn sqlite() -> &'static Self {
            static SHARED: tokio::sync::OnceCell<Server> = tokio::sync::OnceCell::const_new();
            let records = || $crate::process::Records::until_exit(None);
            let start = async || Self::start(records(), &[]).await;
            SHARED.get_or_init(start).await
        }

        /// The server of this process that keeps its records in PostgreSQL.
        pub(crate) async fn postgres() -> &'static Self {
            static SHARED: tokio::sync::OnceCell<Server> = tokio::sync::OnceCell::const_new();
            let start = async || {
                let database = $crate::process::new_database().await;
                let records = $crate::process::Records::until_exit(Some(database));
                Self::start(records, &[]).await
            };
            SHARED.get_or_init(start).await
        }
    };
}
pub(crate) use shared_servers;

/// A running server.
pub(crate) struct ServerProcess {
    pub(crate) parlor: Parlor,
    pub(crate) records: Records,
    builder: Builder,
}

/// A data directory, and the database of a server on PostgreSQL. Clones are the same place.
#[derive(Clone)]
pub(crate) struct Records {
    folder: Arc<Folder>,
    database: Option<String>,
}

struct Folder {
    path: PathBuf,
    _removed_on_drop: Option<TempDir>,
    _removed_at_exit: Option<Child>,
}

impl ServerProcess {
    /// Starts a server with these arguments besides those that say where its records are.
    pub(crate) async fn start(records: Records, arguments: &[&str]) -> Self {
        let mut builder = Parlor::builder(BINARY).data_dir(&records.folder.path);
        if let Some(url) = &records.database {
            builder = builder.database(url);
        }
        let builder = arguments.iter().fold(builder, Builder::argument);
        Self {
            parlor: builder.start().await.unwrap(),
            records,
            builder,
        }
    }

    /// Starts it again after it was stopped or killed, on the same records and another port.
    pub(crate) async fn start_again(&mut self) {
        self.parlor = self.builder.start().await.unwrap();
    }

    /// Runs the command line on its records.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear();
        command.env("PARLOR_DATA_DIR", &self.records.folder.path);
        if let Some(url) = &self.records.database {
            command.env("PARLOR_DATABASE", url);
        }
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        output
    }
}

impl Records {
    /// Empty records, which go with the last server on them.
    pub(crate) fn new(database: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::within(folder.path().to_owned(), database, Some(folder), None)
    }

    /// Empty records on the same kind of database as others.
    pub(crate) async fn like(others: &Self) -> Self {
        Self::new(match others.database {
            Some(_) => Some(new_database().await),
            None => None,
        })
    }

    /// SQLite in a directory that the caller removes.
    pub(crate) fn at(folder: &Path) -> Self {
        Self::within(folder.to_owned(), None, None, None)
    }

    /// Empty records for a server in a `static`, which is never dropped: a shell removes the
    /// directory when this process has ended.
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

    /// Whether they are in PostgreSQL.
    pub(crate) fn are_on_postgres(&self) -> bool {
        self.database.is_some()
    }

    /// Where they are, to look at them behind the server's back.
    pub(crate) fn place(&self) -> Place {
        match &self.database {
            Some(url) => Place::Postgres(url.clone()),
            None => Place::Sqlite(self.folder.path.join("parlor.db")),
        }
    }
}

/// The URL of an empty database on the PostgreSQL server of this process.
pub(crate) async fn new_database() -> String {
    Postgres::shared().await.unwrap().database().await.unwrap()
}
