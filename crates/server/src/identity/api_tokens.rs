//! API tokens, with which a backend calls the API.
//!
//! A token belongs to one account, carries permissions, and may be restricted to some apps and
//! expire. Its secret is shown once; only the SHA-256 is stored.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use parlor_protocol::ids::{AccountId, AppId, TokenId};
use parlor_store::{Db, Error, FromRow, Row, Statement, Unit, values};
use serde::Serialize;

use crate::cache::Cache;
use crate::clock::{Clock, rfc3339};

static INSERT: Statement = Statement::new(
    "api_tokens.insert",
    "INSERT INTO api_tokens (account_id, id, name, secret_hash, permissions, app_ids, created_at, expires_at)
     SELECT a.id, $2, $3, $4, $5, $6, $7, $8 FROM accounts a WHERE a.id = $1",
);
static BY_SECRET_HASH: Statement = Statement::new(
    "api_tokens.by_secret_hash",
    "SELECT account_id, id, name, permissions, app_ids, created_at, expires_at, revoked_at
     FROM api_tokens WHERE secret_hash = $1",
);
static LIST: Statement = Statement::new(
    "api_tokens.list",
    "SELECT account_id, id, name, permissions, app_ids, created_at, expires_at, revoked_at
     FROM api_tokens WHERE account_id = $1 ORDER BY id LIMIT 10000",
);
static REVOKE: Statement = Statement::new(
    "api_tokens.revoke",
    "UPDATE api_tokens SET revoked_at = $3 WHERE account_id = $1 AND id = $2 AND revoked_at IS NULL",
);

pub(crate) static STATEMENTS: [&Statement; 4] = [&INSERT, &BY_SECRET_HASH, &LIST, &REVOKE];

/// An API token without its secret.
#[derive(Debug, Clone, Serialize)]
pub struct ApiToken {
    /// The account that owns the token.
    pub account_id: AccountId,
    /// The token id, with which the token can be revoked.
    pub id: TokenId,
    /// The display name.
    pub name: String,
    /// The token's permissions. Operations require `Realtime Admin` or `Realtime`.
    pub permissions: Vec<String>,
    /// The apps that the token can access; absent means all apps of the account.
    pub app_ids: Option<Vec<AppId>>,
    /// When the token was created, in RFC 3339.
    pub created_at: String,
    /// When the token expires, in RFC 3339; absent means never.
    pub expires_at: Option<String>,
    /// When the token was revoked, in RFC 3339; absent if it was not.
    pub revoked_at: Option<String>,
    #[serde(skip)]
    expires_ms: Option<i64>,
}

impl ApiToken {
    /// Whether the token grants access to this app of its account.
    pub fn can_access(&self, app: AppId) -> bool {
        self.app_ids.as_ref().is_none_or(|apps| apps.contains(&app))
    }

    /// Whether the token has neither expired nor been revoked.
    pub fn is_active(&self, now_ms: i64) -> bool {
        self.revoked_at.is_none() && self.expires_ms.is_none_or(|end| now_ms < end)
    }
}

impl FromRow for ApiToken {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let broken = |error: serde_json::Error| Error::Broken(format!("api_tokens: {error}"));
        let permissions: String = row.take(3)?;
        let app_ids: Option<String> = row.take(4)?;
        let created_ms: i64 = row.take(5)?;
        let expires_ms: Option<i64> = row.take(6)?;
        let revoked_ms: Option<i64> = row.take(7)?;
        Ok(Self {
            account_id: AccountId::from_uuid(row.take(0)?),
            id: TokenId::from_uuid(row.take(1)?),
            name: row.take(2)?,
            permissions: serde_json::from_str(&permissions).map_err(broken)?,
            app_ids: app_ids
                .map(|text| serde_json::from_str(&text))
                .transpose()
                .map_err(broken)?,
            created_at: rfc3339(created_ms),
            expires_at: expires_ms.map(rfc3339),
            revoked_at: revoked_ms.map(rfc3339),
            expires_ms,
        })
    }
}

/// The parameters of a new API token.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The account that owns the token.
    pub account: AccountId,
    /// The display name.
    pub name: String,
    /// The token's permissions.
    pub permissions: Vec<String>,
    /// The apps that the token can access; `None` means all apps of the account.
    pub apps: Option<Vec<AppId>>,
    /// Lifetime in seconds; `None` means that the token never expires.
    pub expires_in_secs: Option<u32>,
}

/// Generates a secret: 256 random bits with a prefix that secret scanners can detect.
pub fn new_secret() -> String {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system provides random bytes");
    format!("parlor_{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Adds a new token to a unit, which is rolled back if the account does not exist.
pub(crate) fn insert(
    unit: Unit,
    clock: &Clock,
    new: NewToken,
    secret: &str,
    now_ms: i64,
) -> (Unit, ApiToken) {
    let id = TokenId::from_uuid(clock.new_id(now_ms));
    let expires_ms = new
        .expires_in_secs
        .map(|seconds| now_ms + i64::from(seconds) * 1000);
    let permissions = serde_json::to_string(&new.permissions).expect("strings serialise");
    let apps = new
        .apps
        .as_ref()
        .map(|apps| serde_json::to_string(apps).expect("ids serialise"));
    let (account, name) = (new.account.uuid(), new.name.as_str());
    let row = values![
        account,
        id.uuid(),
        name,
        &hash(secret)[..],
        permissions,
        apps,
        now_ms,
        expires_ms
    ];
    let token = ApiToken {
        account_id: new.account,
        id,
        name: new.name,
        permissions: new.permissions,
        app_ids: new.apps,
        created_at: rfc3339(now_ms),
        expires_at: expires_ms.map(rfc3339),
        revoked_at: None,
        expires_ms,
    };
    (unit.exactly_one(&INSERT, row), token)
}

/// The SHA-256 of a secret, the only form in which it is stored.
fn hash(secret: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, secret.as_bytes());
    digest
        .as_ref()
        .try_into()
        .expect("a SHA-256 digest has 32 bytes")
}

/// The store of API tokens, with a cache.
pub struct ApiTokens {
    db: Db,
    clock: Arc<Clock>,
    /// Tokens by the hash of their secret.
    cache: Cache<[u8; 32], Arc<ApiToken>>,
}

impl ApiTokens {
    /// Creates a store on a database.
    pub(crate) fn new(db: Db, clock: Arc<Clock>) -> Self {
        Self {
            db,
            clock,
            cache: Cache::default(),
        }
    }

    /// Creates a token with this secret.
    ///
    /// # Errors
    /// `WrongCount` when the account does not exist, `Conflict` when the secret is taken.
    pub async fn create(&self, new: NewToken, secret: &str) -> Result<ApiToken, Error> {
        let now_ms = self.clock.now_ms();
        let (unit, token) = insert(Unit::default(), &self.clock, new, secret, now_ms);
        self.db.commit(unit).await?;
        Ok(token)
    }

    /// Looks up the token with this secret, active or not.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn by_secret(&self, secret: &str) -> Result<Option<Arc<ApiToken>>, Error> {
        let (hash, monotonic_ms) = (hash(secret), self.clock.monotonic_ms());
        if let Some(token) = self.cache.get(&hash, monotonic_ms) {
            return Ok(Some(token));
        }
        let found = self
            .db
            .read::<ApiToken>(&BY_SECRET_HASH, values![&hash[..]])
            .await?
            .pop();
        let token = found.map(Arc::new);
        if let Some(token) = &token {
            self.cache.put(hash, Arc::clone(token), monotonic_ms);
        }
        Ok(token)
    }

    /// Lists the tokens of an account, up to 10,000.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self, account: AccountId) -> Result<Vec<ApiToken>, Error> {
        self.db.scan(&LIST, values![account.uuid()]).await
    }

    /// Revokes a token. Running servers notice within a second.
    ///
    /// # Errors
    /// `WrongCount` when there is no such token, or it is revoked already.
    pub async fn revoke(&self, account: AccountId, id: TokenId) -> Result<(), Error> {
        let now_ms = self.clock.now_ms();
        let key = values![account.uuid(), id.uuid(), now_ms];
        let unit = Unit::default().exactly_one(&REVOKE, key);
        self.db.commit(unit).await.map(drop)
    }
}
