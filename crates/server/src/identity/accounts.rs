//! Accounts, the owners of apps and API tokens. They are managed from the command line only.

use parlor_protocol::ids::AccountId;
use parlor_store::{Db, Error, FromRow, Row, Statement, Unit, values};
use serde::Serialize;

use crate::clock::rfc3339;

static INSERT: Statement = Statement::new(
    "accounts.insert",
    "INSERT INTO accounts (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING",
);
static LIST: Statement = Statement::new(
    "accounts.list",
    "SELECT id, name, created_at FROM accounts ORDER BY id LIMIT 10000",
);

pub(crate) static STATEMENTS: [&Statement; 2] = [&INSERT, &LIST];

/// An account.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    /// The account id: 32 lowercase hex digits.
    pub id: AccountId,
    /// The display name.
    pub name: String,
    /// When the account was created, in RFC 3339.
    pub created_at: String,
}

impl FromRow for Account {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let created_at: i64 = row.take(2)?;
        Ok(Self {
            id: AccountId::from_uuid(row.take(0)?),
            name: row.take(1)?,
            created_at: rfc3339(created_at),
        })
    }
}

/// Adds a new account to a unit, which is rolled back if the account exists.
pub(crate) fn insert(unit: Unit, id: AccountId, name: &str, now_ms: i64) -> Unit {
    unit.exactly_one(&INSERT, values![id.uuid(), name, now_ms])
}

/// Creates an account.
///
/// # Errors
/// `WrongCount` when the account exists.
pub async fn create(db: &Db, id: AccountId, name: &str, now_ms: i64) -> Result<Account, Error> {
    db.commit(insert(Unit::default(), id, name, now_ms)).await?;
    Ok(Account {
        id,
        name: name.to_owned(),
        created_at: rfc3339(now_ms),
    })
}

/// Lists all accounts, up to 10,000.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &Db) -> Result<Vec<Account>, Error> {
    db.scan(&LIST, values![]).await
}
