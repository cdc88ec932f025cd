//! The door to the records, whichever engine keeps them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Engine, Error, FromRow, Migration, Observer, Options, Place, Row, Statement, Unit, Value,
    deadline::{refusal, within},
    postgres::Postgres,
    sqlite::Sqlite,
};

static PING: Statement = Statement::new("store.ping", "SELECT CAST(1 AS BIGINT)");

/// A database. Cheap to clone; all clones share connections and writers.
#[derive(Clone)]
pub struct Db {
    kept_by: KeptBy,
    observer: Arc<dyn Observer>,
    timeout: Duration,
    scan_timeout: Duration,
}

#[derive(Clone)]
enum KeptBy {
    Sqlite(Arc<Sqlite>),
    Postgres(Arc<Postgres>),
}

impl Db {
    /// Opens the database and starts its writers. Makes the SQLite file when it is
    /// missing. [`Error::Unavailable`] when the database cannot be reached.
    pub async fn open(
        place: &Place,
        options: Options,
        observer: Arc<dyn Observer>,
    ) -> Result<Db, Error> {
        let watching = Arc::clone(&observer);
        let timeout = options.timeout;
        let scan_timeout = options.scan_timeout.max(timeout);
        let kept_by = match place {
            Place::Sqlite(path) => {
                let sqlite = Sqlite::open(path.clone(), options, watching).await?;
                KeptBy::Sqlite(Arc::new(sqlite))
            }
            Place::Postgres(url) => {
                let postgres = Postgres::open(url, &options, &watching).await?;
                KeptBy::Postgres(Arc::new(postgres))
            }
        };
        Ok(Db {
            kept_by,
            observer,
            timeout,
            scan_timeout,
        })
    }

    /// Applies the migrations that are missing, in order, each in one transaction. Safe
    /// from several processes at once. [`Error::Newer`] when the database holds one
    /// that is not in `all`, [`Error::Broken`] when one was changed after it was applied.
    pub async fn migrate(&self, all: &[Migration]) -> Result<(), Error> {
        match &self.kept_by {
            KeptBy::Sqlite(sqlite) => sqlite.migrate(all).await,
            KeptBy::Postgres(postgres) => postgres.migrate(all).await,
        }
    }

    /// Runs a unit of work; it is durable when this returns. Answers with the rows of
    /// each step, the finishing one last.
    pub async fn commit(&self, unit: Unit) -> Result<Vec<Vec<Row>>, Error> {
        let committing = async {
            match &self.kept_by {
                KeptBy::Sqlite(sqlite) => sqlite.commit(unit).await,
                KeptBy::Postgres(postgres) => postgres.commit(unit).await,
            }
        };
        self.counted(within(self.timeout, committing).await)
    }

    /// Reads rows that an index finds at once.
    pub async fn read<R: FromRow>(
        &self,
        statement: &'static Statement,
        values: Vec<Value>,
    ) -> Result<Vec<R>, Error> {
        let started = Instant::now();
        let rows = match &self.kept_by {
            KeptBy::Sqlite(sqlite) => within(self.timeout, sqlite.read(statement, values)).await,
            KeptBy::Postgres(postgres) => postgres.read(statement, &values, self.timeout).await,
        };
        self.records(statement, started, rows)
    }

    /// Reads what may walk many index rows, away from the threads that serve requests.
    pub async fn scan<R: FromRow>(
        &self,
        statement: &'static Statement,
        values: Vec<Value>,
    ) -> Result<Vec<R>, Error> {
        let started = Instant::now();
        let limit = self.scan_timeout;
        let rows = match &self.kept_by {
            KeptBy::Sqlite(sqlite) => within(limit, sqlite.scan(statement, values)).await,
            KeptBy::Postgres(postgres) => postgres.read(statement, &values, limit).await,
        };
        self.records(statement, started, rows)
    }

    fn records<R: FromRow>(
        &self,
        statement: &'static Statement,
        started: Instant,
        rows: Result<Vec<Row>, Error>,
    ) -> Result<Vec<R>, Error> {
        self.observer.queried(statement.name(), started.elapsed());
        let rows = self.counted(rows)?;
        rows.into_iter().map(R::from_row).collect()
    }

    /// The same answer, counted when the database has given none.
    fn counted<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Unavailable(text)) = &answer {
            self.observer.refused(refusal(text));
        }
        answer
    }

    /// Checks a statement against the schema without running it. On PostgreSQL also that
    /// every parameter and column has a type that a [`Value`] can carry.
    pub async fn prepare(&self, statement: &'static Statement) -> Result<(), Error> {
        match &self.kept_by {
            KeptBy::Sqlite(sqlite) => sqlite.prepare(statement).await,
            KeptBy::Postgres(postgres) => postgres.prepare(statement).await,
        }
    }

    /// `Ok` when the database answers.
    pub async fn ping(&self) -> Result<(), Error> {
        self.read::<Row>(&PING, Vec::new()).await.map(drop)
    }

    /// Which engine keeps the records.
    pub fn engine(&self) -> Engine {
        match self.kept_by {
            KeptBy::Sqlite(_) => Engine::Sqlite,
            KeptBy::Postgres(_) => Engine::Postgres,
        }
    }

    /// Finishes every unit that was accepted, then lets go of the database. Every later
    /// commit or read on any clone answers [`Error::Unavailable`]. A database that hangs is
    /// waited for as long as for a scan.
    pub async fn close(&self) {
        let closing = async {
            match &self.kept_by {
                KeptBy::Sqlite(sqlite) => sqlite.close().await,
                KeptBy::Postgres(postgres) => postgres.close().await,
            }
            Ok(())
        };
        if within(self.scan_timeout, closing).await.is_err() {
            tracing::warn!("the database did not finish in time; it is left as it is");
        }
    }
}
