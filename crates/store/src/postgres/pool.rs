//! The pool of read-only connections.

use std::time::{Duration, Instant};

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use tokio::{
    runtime::Handle,
    time::{error::Elapsed, timeout},
};
use tokio_postgres::error::SqlState;

use crate::{
    Error, Row, Statement, Value,
    deadline::{timed_out, with_deadline},
    queue::closed,
};

use super::{
    execute::{check_types, execute},
    explain::{explain, unreachable},
    server::{READER_SETTINGS, Server},
};

/// How long a connection may take to finish the query of a caller that stopped waiting.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Creates a pool of read-only connections, which are established on demand.
pub(super) fn open(server: &Server, size: usize) -> Result<Pool, Error> {
    let settings = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let connections = Manager::from_config(server.config.clone(), server.tls.clone(), settings);
    Pool::builder(connections)
        .max_size(size.max(1))
        .runtime(Runtime::Tokio1)
        .create_timeout(Some(server.timeout))
        .post_create(Hook::async_fn(|client, _| {
            Box::pin(async {
                client
                    .batch_execute(READER_SETTINGS)
                    .await
                    .map_err(HookError::Backend)
            })
        }))
        .build()
        .map_err(|error| Error::Broken(error.to_string()))
}

/// Runs a read-only statement. `limit` covers the whole call, including the wait for a connection.
pub(super) async fn read(
    pool: &Pool,
    statement: &'static Statement,
    values: &[Value],
    limit: Duration,
) -> Result<Vec<Row>, Error> {
    let started = Instant::now();
    let pooled = with_deadline(limit, check_out(pool)).await?;
    let left = limit.saturating_sub(started.elapsed());
    let result = timeout(left, query(pooled.client(), statement, values)).await;
    pooled.finish(result)
}

async fn query(
    client: &Object,
    statement: &'static Statement,
    values: &[Value],
) -> Result<Vec<Row>, Error> {
    let sql = statement.postgres();
    let prepared = client.prepare_cached(sql).await.map_err(explain)?;
    let executed = execute(client, &prepared, values).await;
    if let Err(error) = &executed
        && error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
    {
        // A migration changed the columns of the result; prepare the statement again next time.
        client.statement_cache.remove(sql, &[]);
    }
    Ok(executed.map_err(explain)?.rows)
}

/// Checks a statement without running it.
pub(super) async fn prepare(
    pool: &Pool,
    statement: &'static Statement,
    limit: Duration,
) -> Result<(), Error> {
    let pooled = with_deadline(limit, check_out(pool)).await?;
    let prepare = async {
        let prepared = pooled.client().prepare(statement.postgres()).await;
        check_types(statement, &prepared.map_err(explain)?)
    };
    let result = timeout(limit, prepare).await;
    pooled.finish(result)
}

async fn check_out(pool: &Pool) -> Result<PooledClient, Error> {
    let client = pool.get().await.map_err(|error| match error {
        PoolError::Closed => closed(),
        PoolError::Backend(error) => unreachable(error),
        PoolError::Timeout(_) => timed_out(),
        error => Error::Unavailable(error.to_string()),
    })?;
    Ok(PooledClient(Some(client)))
}

/// A checked-out connection. It returns to the pool only after its query has completed.
struct PooledClient(Option<Object>);

impl PooledClient {
    fn client(&self) -> &Object {
        self.0
            .as_ref()
            .expect("the client is taken only by `finish` and `drop`")
    }

    /// Returns the connection to the pool, or closes it if the query timed out.
    fn finish<T>(mut self, result: Result<Result<T, Error>, Elapsed>) -> Result<T, Error> {
        let client = self
            .0
            .take()
            .expect("the client is taken only by `finish` and `drop`");
        result.unwrap_or_else(|_| {
            close(client);
            tracing::warn!("a PostgreSQL read timed out; the connection was closed");
            Err(timed_out())
        })
    }
}

impl Drop for PooledClient {
    fn drop(&mut self) {
        // The caller stopped waiting. Check in the background whether the server has finished the
        // query; closing at once would let cancelled calls exhaust the server with reconnects.
        let Some(client) = self.0.take() else { return };
        let Ok(runtime) = Handle::try_current() else {
            return close(client);
        };
        runtime.spawn(async move {
            let checked = timeout(CHECK_TIMEOUT, client.simple_query("")).await;
            if !matches!(checked, Ok(Ok(_))) {
                close(client);
            }
        });
    }
}

/// Removes a connection from the pool and closes its socket.
fn close(client: Object) {
    drop(Object::take(client));
}
