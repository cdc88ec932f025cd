//! SQLite: one writer thread, several reader threads and one checkpoint thread.
//!
//! No thread of the async runtime does disk I/O: if a disk hangs, it would block the threads that
//! serve requests and enforce deadlines.

mod checkpoint;
mod connection;
mod execute;
mod explain;
mod readers;
mod writer;

use std::{path::PathBuf, sync::Arc, thread, time::Duration};

use rusqlite::Connection;
use tokio::task::spawn_blocking;

use crate::{
    Error, Migration, Observer, Options, Row, Statement, Unit, Value, lower,
    migrate::{self, Applied},
    queue::{self, Outcome, Queue},
};
use execute::execute;
use explain::explain;
use readers::Readers;
use writer::Writer;

/// How long a migration waits for the migration of another process.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);

/// A database file and its threads.
pub(crate) struct Sqlite {
    path: PathBuf,
    queue: Queue,
    readers: Readers,
}

impl Sqlite {
    pub(crate) async fn open(
        path: PathBuf,
        options: Options,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        blocking(move || {
            let (queue, queue_receiver) = queue::bounded(&options);
            let writer = Writer::open(&path, queue_receiver, observer)?;
            let readers = Readers::open(&path, options.sqlite_readers, options.queue_units)?;
            thread::Builder::new()
                .name("store-writer".to_owned())
                .spawn(move || writer.run())
                .map_err(|error| Error::Unavailable(error.to_string()))?;
            Ok(Self {
                path,
                queue,
                readers,
            })
        })
        .await
    }

    pub(crate) async fn commit(&self, unit: Unit) -> Outcome {
        self.queue.commit(unit).await
    }

    pub(crate) async fn read(
        &self,
        statement: &'static Statement,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let read = move |connection: &Connection| {
            let executed = execute(connection, statement, &values)?;
            Ok(executed.rows)
        };
        self.readers.run(read).await
    }

    pub(crate) async fn scan(
        &self,
        statement: &'static Statement,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let permit = self.readers.permit_scan().await?;
        let read = move |connection: &Connection| {
            let _permit = permit;
            let executed = execute(connection, statement, &values)?;
            Ok(executed.rows)
        };
        self.readers.run(read).await
    }

    pub(crate) async fn prepare(&self, statement: &'static Statement) -> Result<(), Error> {
        let prepare = move |connection: &Connection| {
            let prepared = connection.prepare(statement.sqlite());
            prepared
                .map(drop)
                .map_err(|error| explain(connection, error))
        };
        self.readers.run(prepare).await
    }

    pub(crate) async fn migrate(&self, all: &[Migration]) -> Result<(), Error> {
        let (path, all) = (self.path.clone(), all.to_vec());
        blocking(move || {
            let connection = connection::open_writer(&path)?;
            connection
                .busy_timeout(MIGRATION_TIMEOUT)
                .map_err(|error| explain(&connection, error))?;
            while migrate_one(&connection, &all)? {}
            Ok(())
        })
        .await
    }

    pub(crate) async fn close(&self) {
        // Close readers first: the last connection to close removes the write-ahead log, which
        // needs write access.
        self.readers.close().await;
        self.queue.close().await;
    }
}

/// Applies the next missing migration. Returns `false` when there is none.
fn migrate_one(connection: &Connection, all: &[Migration]) -> Result<bool, Error> {
    let run = |sql: &str| {
        connection
            .execute_batch(sql)
            .map_err(|error| explain(connection, error))
    };
    run("BEGIN EXCLUSIVE")?;
    let applied = (|| {
        run(migrate::HISTORY.sqlite())?;
        let applied = execute::<Applied>(connection, &migrate::APPLIED, &[])?.rows;
        let Some(migration) = migrate::next(all, &applied)? else {
            return Ok(false);
        };
        run(&lower::to_sqlite(migration.sql))?;
        execute::<Applied>(connection, &migrate::RECORD, &migrate::record(migration))?;
        Ok(true)
    })();
    match applied {
        Ok(_) => run("COMMIT")?,
        // Some errors end the transaction by themselves.
        Err(_) if connection.is_autocommit() => {}
        Err(_) => run("ROLLBACK")?,
    }
    applied
}

/// Runs blocking disk I/O off the threads that serve requests.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
}
