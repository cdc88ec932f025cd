//! The database handle, independent of the engine.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    DatabaseLocation, Engine, Error, FromRow, Migration, Observer, Options, Row, Statement, Unit,
    Value,
    deadline::{refusal_reason, with_deadline},
    postgres::Postgres,
    sqlite::Sqlite,
};

static PING: Statement = Statement::new("store.ping", "SELECT CAST(1 AS BIGINT)");

/// A database handle. Cheap to clone; all clones share connections and writers.
#[derive(Clone)]
pub struct Db {
    driver: Driver,
    observer: Arc<dyn Observer>,
    timeout: Duration,
    scan_timeout: Duration,
}

#[derive(Clone)]
enum Driver {
    Sqlite(Arc<Sqlite>),
    Postgres(Arc<Postgres>),
}

impl Db {
    /// Opens the database and starts its writers. Creates the SQLite file if it is missing. Returns
    /// [`Error::Unavailable`] if the database cannot be reached.
    pub async fn open(
        location: &DatabaseLocation,
        options: Options,
        observer: Arc<dyn Observer>,
    ) -> Result<Db, Error> {
        let engine_observer = Arc::clone(&observer);
        let timeout = options.timeout;
        let scan_timeout = options.scan_timeout.max(timeout);
        let driver = match location {
            DatabaseLocation::Sqlite(path) => {
                let sqlite = Sqlite::open(path.clone(), options, engine_observer).await?;
                Driver::Sqlite(Arc::new(sqlite))
            }
            DatabaseLocation::Postgres(url) => {
                let postgres = Postgres::open(url, &options, &engine_observer).await?;
                Driver::Postgres(Arc::new(postgres))
            }
        };
        Ok(Db {
            driver,
            observer,
            timeout,
            scan_timeout,
        })
    }

    /// Applies the missing migrations in order, each in its own transaction. Several processes may
    /// call this concurrently. Returns [`Error::Newer`] if the database contains a migration that
    /// is not in `all`, and [`Error::Broken`] if a migration was changed after it was applied.
    pub async fn migrate(&self, all: &[Migration]) -> Result<(), Error> {
        match &self.driver {
            Driver::Sqlite(sqlite) => sqlite.migrate(all).await,
            Driver::Postgres(postgres) => postgres.migrate(all).await,
        }
    }

    /// Runs a unit of work, which is durable when this returns `Ok`. Returns the rows of each step;
    /// those of the finishing step come last.
    pub async fn commit(&self, unit: Unit) -> Result<Vec<Vec<Row>>, Error> {
        let committing = async {
            match &self.driver {
                Driver::Sqlite(sqlite) => sqlite.commit(unit).await,
                Driver::Postgres(postgres) => postgres.commit(unit).await,
            }
        };
        self.report_refusal(with_deadline(self.timeout, committing).await)
    }

    /// Runs a query that an index answers quickly.
    pub async fn read<R: FromRow>(
        &self,
        statement: &'static Statement,
        values: Vec<Value>,
    ) -> Result<Vec<R>, Error> {
        let started = Instant::now();
        let rows = match &self.driver {
            Driver::Sqlite(sqlite) => {
                with_deadline(self.timeout, sqlite.read(statement, values)).await
            }
            Driver::Postgres(postgres) => postgres.read(statement, &values, self.timeout).await,
        };
        self.finish_query(statement, started, rows)
    }

    /// Runs a query that may visit many index rows, off the threads that serve requests.
    pub async fn scan<R: FromRow>(
        &self,
        statement: &'static Statement,
        values: Vec<Value>,
    ) -> Result<Vec<R>, Error> {
        let started = Instant::now();
        let limit = self.scan_timeout;
        let rows = match &self.driver {
            Driver::Sqlite(sqlite) => with_deadline(limit, sqlite.scan(statement, values)).await,
            Driver::Postgres(postgres) => postgres.read(statement, &values, limit).await,
        };
        self.finish_query(statement, started, rows)
    }

    fn finish_query<R: FromRow>(
        &self,
        statement: &'static Statement,
        started: Instant,
        rows: Result<Vec<Row>, Error>,
    ) -> Result<Vec<R>, Error> {
        self.observer.queried(statement.name(), started.elapsed());
        let rows = self.report_refusal(rows)?;
        rows.into_iter().map(R::from_row).collect()
    }

    /// Reports an [`Error::Unavailable`] to the observer.
    fn report_refusal<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Unavailable(text)) = &result {
            self.observer.refused(refusal_reason(text));
        }
        result
    }

    /// Checks a statement against the schema without running it. On PostgreSQL, also checks that
    /// every parameter and column has a type that [`Value`] supports.
    pub async fn prepare(&self, statement: &'static Statement) -> Result<(), Error> {
        match &self.driver {
            Driver::Sqlite(sqlite) => sqlite.prepare(statement).await,
            Driver::Postgres(postgres) => postgres.prepare(statement).await,
        }
    }

    /// Checks that the database responds.
    pub async fn ping(&self) -> Result<(), Error> {
        self.read::<Row>(&PING, Vec::new()).await.map(drop)
    }

    /// The database engine.
    pub fn engine(&self) -> Engine {
        match self.driver {
            Driver::Sqlite(_) => Engine::Sqlite,
            Driver::Postgres(_) => Engine::Postgres,
        }
    }

    /// Commits every accepted unit, then closes the database. Later commits and reads on any clone
    /// return [`Error::Unavailable`]. Waits for a database that hangs for at most the scan timeout.
    pub async fn close(&self) {
        let closing = async {
            match &self.driver {
                Driver::Sqlite(sqlite) => sqlite.close().await,
                Driver::Postgres(postgres) => postgres.close().await,
            }
            Ok(())
        };
        if with_deadline(self.scan_timeout, closing).await.is_err() {
            tracing::warn!("the database did not close in time");
        }
    }
}
