//! Durable records: one SQL text on SQLite and PostgreSQL, with group commit.
//!
//! **Statements** are `static`s written once, in PostgreSQL's spelling: `$1`…`$n`,
//! `INSERT … SELECT`, `ON CONFLICT`, `RETURNING`, `CAST($1 AS UUID)`. `{lane}` stands
//! for a number from 0 to 63 that is nearly the connection's own. What SQLite spells
//! differently is lowered once per statement, see [`Statement`].
//!
//! **A unit of work is a value**, not a closure over a transaction: [`Unit`] lists
//! statements, parameters and how many rows each must touch. Its steps commit
//! together or not at all. A decision is written in SQL (`UPDATE … WHERE version = $2`
//! with [`Unit::exactly_one`]) or, when the last statement depends on what the earlier
//! ones returned, in [`Unit::finish`]. Running counts go through [`Unit::sum`], which a
//! batch writes once.
//!
//! **Group commit.** [`Db::commit`] queues the unit. A writer takes everything that
//! queued up while its last commit was on its way to the disk, and runs it in one
//! transaction. Units of one batch do not share a fate: one that fails is undone alone.
//! When `commit` returns `Ok`, the unit is on the disk. When it returns
//! [`Error::Unavailable`], it may or may not be: the connection can break while the
//! answer to `COMMIT` is under way, or come later than [`Options::timeout`]. A call that is
//! dropped half-way may still commit.
//!
//! **Nothing waits for ever.** Every commit, read and scan has a deadline on this side, because a
//! database whose host is frozen acknowledges what it is sent and never answers. When it passes,
//! the connection is closed, and the next one is new. What waits is bounded by
//! [`Options::queue_units`] and [`Options::queue_bytes`].
//!
//! **Reads** see every unit that was answered before them. [`Db::read`] is for rows an
//! index finds at once, [`Db::scan`] for everything longer. Neither can write.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | writers | one thread | `postgres_writers` connections, chosen by [`Unit::keyed`] |
//! | reads | a few read-only connections, each with its thread | a pool of read-only connections |
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
mod place;
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
pub use place::{Engine, Options, Place};
pub use statement::Statement;
pub use unit::Unit;
pub use value::{FromRow, FromValue, Row, Value};
