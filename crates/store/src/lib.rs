//! Durable records in SQLite or PostgreSQL, from one set of SQL statements, with group commit.
//!
//! **Statements** are `static`s written once, in PostgreSQL syntax: `$1`…`$n`, `INSERT … SELECT`,
//! `ON CONFLICT`, `RETURNING`, `CAST($1 AS UUID)`. `{lane}`, the part of a counter that a connection
//! updates, expands to a number from 0 to 63 that is nearly unique per connection, on SQLite to 0. Each statement is translated to SQLite
//! syntax once, see [`Statement`].
//!
//! **A unit of work is a value**, not a closure over a transaction: a [`Unit`] lists statements,
//! their parameters and how many rows each must affect. Its steps commit together or not at all.
//! Conditions are expressed in SQL (`UPDATE … WHERE version = $2` with [`Unit::exactly_one`]) or,
//! when the last statement depends on the rows returned by the earlier ones, in [`Unit::finish`].
//! Counters are updated with [`Unit::sum`], which writes each counter once per batch.
//!
//! **Group commit.** [`Db::commit`] queues the unit. A writer takes all units that were queued
//! during its last commit and runs them in one transaction. A unit that fails is rolled back
//! without affecting the other units of its batch. When `commit` returns `Ok`, the unit is durable.
//! When it returns [`Error::Unavailable`], the outcome is unknown: the connection can break before
//! the response to `COMMIT` arrives, or the response can take longer than [`Options::timeout`]. A
//! call that is cancelled may still commit.
//!
//! **Everything has a deadline.** Every commit, read and scan has a client-side timeout, because a
//! frozen database host still acknowledges TCP data but never responds. When the timeout expires,
//! the connection is closed and replaced. [`Options::queue_units`] and [`Options::queue_bytes`]
//! bound the queues.
//!
//! **Reads** see every unit that was acknowledged before them. [`Db::read`] is for index lookups,
//! [`Db::scan`] for longer queries. Neither can write.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | writers | one thread | `postgres_writers` connections, chosen by [`Unit::keyed`] |
//! | reads | a few read-only connections, one thread each | a pool of read-only connections |
//! | durability | WAL, `synchronous=FULL` | `synchronous_commit=on` |
//! | types | `BLOB`, `INTEGER`, `TEXT`, strict tables | `UUID`, `BYTEA`, `BIGINT`, `BOOLEAN`, `TEXT` |
//!
//! ```
//! use parlor_store::{Statement, Unit, values};
//! static RENAME: Statement = Statement::new(
//!     "rooms.rename",
//!     "UPDATE rooms SET name = $2, version = version + 1 WHERE id = $1 AND version = $3",
//! );
//! let unit = Unit::default().exactly_one(&RENAME, values!["lobby", "Lobby", 4_i64]);
//! # let _ = unit;
//! ```

mod db;
mod deadline;
mod error;
mod lower;
mod migrate;
mod observer;
mod options;
mod postgres;
mod queue;
mod sqlite;
mod statement;
mod unit;
mod value;

pub use db::Db;
pub use error::Error;
pub use migrate::Migration;
pub use observer::{Observer, Refusal};
pub use options::{DatabaseLocation, Engine, Options};
pub use statement::Statement;
pub use unit::Unit;
pub use value::{FromRow, FromValue, Row, Value};
