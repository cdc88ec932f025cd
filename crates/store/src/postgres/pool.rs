//! The connections that read.

use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use tokio_postgres::error::SqlState;

use crate::{Error, Row, Statement, Value, queue::closed};

use super::{
    execute::{check_types, execute},
    explain::{explain, unreachable},
    server::{READER, Server},
};

/// How long a read waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// A pool of connections that cannot write; they are made when first needed.
pub(super) fn open(server: &Server, size: usize) -> Result<Pool, Error> {
    let settings = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let connections = Manager::from_config(server.config.clone(), server.tls.clone(), settings);
    Pool::builder(connections)
        .max_size(size.max(1))
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(PATIENCE))
        .create_timeout(Some(PATIENCE))
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

/// Runs a statement that only reads.
pub(super) async fn read(
    pool: &Pool,
    statement: &'static Statement,
    values: &[Value],
) -> Result<Vec<Row>, Error> {
    let client = borrow(pool).await?;
    let sql = statement.postgres();
    let prepared = client.prepare_cached(sql).await.map_err(explain)?;
    let executed = execute(&client, &prepared, values).await;
    if let Err(error) = &executed
        && error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
    {
        // A migration changed what the statement returns: plan it anew next time.
        client.statement_cache.remove(sql, &[]);
    }
    Ok(executed.map_err(explain)?.rows)
}

/// Checks a statement without running it.
pub(super) async fn prepare(pool: &Pool, statement: &'static Statement) -> Result<(), Error> {
    let client = borrow(pool).await?;
    let prepared = client
        .prepare(statement.postgres())
        .await
        .map_err(explain)?;
    check_types(statement, &prepared)
}

async fn borrow(pool: &Pool) -> Result<Object, Error> {
    pool.get().await.map_err(|error| match error {
        PoolError::Closed => closed(),
        PoolError::Backend(error) => unreachable(error),
        error => Error::Unavailable(error.to_string()),
    })
}
