//! PostgreSQL: a few connections for group commit and a pool for reads.

mod connection;
mod execute;
mod explain;
mod pool;
mod server;
mod types;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::Pool;
use tokio_postgres::Client;

use crate::{
    Error, FromRow, Migration, Observer, Options, Row, Statement, Unit, Value,
    deadline::with_deadline,
    migrate::{self, Applied},
    queue::{self, Outcome, Queue},
};
use execute::execute;
use explain::explain;
use server::Server;
use writer::Writer;

/// Serializes nodes that migrate the same database. A migration has no statement timeout. The
/// lock's key is "parlor" in ASCII.
const BEGIN_MIGRATION: &str = "BEGIN; SET LOCAL statement_timeout = 0; \
                               SELECT pg_advisory_xact_lock(123563833847666)";

/// Timeout of one migration, including the wait for another node's migration.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The connections to one database.
pub(crate) struct Postgres {
    server: Arc<Server>,
    queues: Vec<Queue>,
    unkeyed: AtomicUsize,
    pool: Pool,
}

impl Postgres {
    pub(crate) async fn open(
        url: &str,
        options: &Options,
        observer: &Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        let server = Arc::new(Server::new(url, options.timeout)?);
        let mut queues = Vec::new();
        for _ in 0..options.postgres_writers.max(1) {
            let (queue, receiver) = queue::bounded(options);
            let observer = Arc::clone(observer);
            let writer = Writer::open(Arc::clone(&server), receiver, observer).await?;
            tokio::spawn(writer.run());
            queues.push(queue);
        }
        Ok(Self {
            pool: pool::open(&server, options.postgres_readers)?,
            server,
            queues,
            unkeyed: AtomicUsize::new(0),
        })
    }

    pub(crate) async fn commit(&self, unit: Unit) -> Outcome {
        let writers = self.queues.len();
        let writer = match unit.key {
            Some(key) => usize::try_from(key % writers as u64).unwrap_or_default(),
            None => self.unkeyed.fetch_add(1, Ordering::Relaxed) % writers,
        };
        self.queues[writer].commit(unit).await
    }

    /// Runs a query, and closes the connection if it takes longer than `limit`.
    pub(crate) async fn read(
        &self,
        statement: &'static Statement,
        values: &[Value],
        limit: Duration,
    ) -> Result<Vec<Row>, Error> {
        pool::read(&self.pool, statement, values, limit).await
    }

    pub(crate) async fn prepare(&self, statement: &'static Statement) -> Result<(), Error> {
        pool::prepare(&self.pool, statement, self.server.timeout).await
    }

    pub(crate) async fn migrate(&self, all: &[Migration]) -> Result<(), Error> {
        // Closing the connection rolls back a failed transaction.
        let connected = self.server.connect().await?;
        loop {
            let next = migrate_one(&connected.client, all);
            match with_deadline(MIGRATION_TIMEOUT, next).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    connected.abort();
                    return Err(error);
                }
            }
        }
    }

    pub(crate) async fn close(&self) {
        for queue in &self.queues {
            queue.close().await;
        }
        self.pool.close();
    }
}

/// Applies the next missing migration. Returns `false` when there is none.
async fn migrate_one(client: &Client, all: &[Migration]) -> Result<bool, Error> {
    let run = async |sql: &str| client.batch_execute(sql).await.map_err(explain);
    run(BEGIN_MIGRATION).await?;
    run(migrate::HISTORY.postgres()).await?;
    let mut applied = Vec::new();
    for row in query(client, &migrate::APPLIED, &[]).await? {
        applied.push(Applied::from_row(row)?);
    }
    let next = migrate::next(all, &applied)?;
    if let Some(migration) = next {
        run(migration.sql).await?;
        query(client, &migrate::RECORD, &migrate::record(migration)).await?;
    }
    run("COMMIT").await?;
    Ok(next.is_some())
}

async fn query(
    client: &Client,
    statement: &'static Statement,
    values: &[Value],
) -> Result<Vec<crate::Row>, Error> {
    let prepared = client
        .prepare(statement.postgres())
        .await
        .map_err(explain)?;
    let executed = execute(client, &prepared, values).await.map_err(explain)?;
    Ok(executed.rows)
}
