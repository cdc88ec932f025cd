//! The connections that read.

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
    deadline::{late, within},
    queue::closed,
};

use super::{
    execute::{check_types, execute},
    explain::{explain, unreachable},
    server::{READER, Server},
};

/// How long a connection has to show that it works after its caller has gone.
const CHECK: Duration = Duration::from_secs(1);

/// A pool of connections that cannot write; they are made when first needed.
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
                    .batch_execute(READER)
                    .await
                    .map_err(HookError::Backend)
            })
        }))
        .build()
        .map_err(|error| Error::Broken(error.to_string()))
}

/// Runs a statement that only reads. `limit` is for all of it, waiting for a connection included.
pub(super) async fn read(
    pool: &Pool,
    statement: &'static Statement,
    values: &[Value],
    limit: Duration,
) -> Result<Vec<Row>, Error> {
    let started = Instant::now();
    let borrowed = within(limit, borrow(pool)).await?;
    let left = limit.saturating_sub(started.elapsed());
    let answer = timeout(left, query(borrowed.client(), statement, values)).await;
    borrowed.settle(answer)
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
        // A migration changed what the statement returns: plan it anew next time.
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
    let borrowed = within(limit, borrow(pool)).await?;
    let prepare = async {
        let prepared = borrowed.client().prepare(statement.postgres()).await;
        check_types(statement, &prepared.map_err(explain)?)
    };
    let answer = timeout(limit, prepare).await;
    borrowed.settle(answer)
}

async fn borrow(pool: &Pool) -> Result<Borrowed, Error> {
    let client = pool.get().await.map_err(|error| match error {
        PoolError::Closed => closed(),
        PoolError::Backend(error) => unreachable(error),
        PoolError::Timeout(_) => late(),
        error => Error::Unavailable(error.to_string()),
    })?;
    Ok(Borrowed(Some(client)))
}

/// A connection of the pool, which takes it back only when it has answered.
struct Borrowed(Option<Object>);

impl Borrowed {
    fn client(&self) -> &Object {
        self.0.as_ref().expect("it leaves only at the end")
    }

    /// Gives the connection back, or closes it when its answer is late.
    fn settle<T>(mut self, answer: Result<Result<T, Error>, Elapsed>) -> Result<T, Error> {
        let client = self.0.take().expect("it leaves only here");
        answer.unwrap_or_else(|_| {
            close(client);
            tracing::warn!("PostgreSQL does not answer a reader; the connection was closed");
            Err(late())
        })
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // Its caller has gone in the middle. If the server is there, it is asked whether it has
        // finished; closing would let callers that come and go wear the server out.
        let Some(client) = self.0.take() else { return };
        let Ok(runtime) = Handle::try_current() else {
            return close(client);
        };
        runtime.spawn(async move {
            let checked = timeout(CHECK, client.simple_query("")).await;
            if !matches!(checked, Ok(Ok(_))) {
                close(client);
            }
        });
    }
}

/// Takes a connection out of the pool and closes its socket.
fn close(client: Object) {
    drop(Object::take(client));
}
