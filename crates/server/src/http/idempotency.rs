//! `Idempotency-Key`: replays the first response to a POST for 24 hours.
//!
//! The response is stored by the transaction that does the work, and encrypted with AES-256-GCM
//! under a key derived from the caller's API token. The database holds only the hash of that token,
//! so a reader of the database cannot decrypt a response or the join token in it.

use aws_lc_rs::{aead, digest, hkdf};
use http::request::Parts;
use parlor_store::{FromRow, Row, Statement, Unit, values};

use super::auth::Caller;
use super::error::ApiError;
use super::response::ApiResponse;
use crate::state::ServerState;
use parlor_protocol::ids::TokenId;

/// How long a response is kept.
const RETENTION_MS: i64 = 24 * 60 * 60 * 1000;
/// Maximum length of a key, in characters.
pub(crate) const KEY_MAX: usize = 255;

static FIND: Statement = Statement::new(
    "idempotency_keys.find",
    "SELECT fingerprint, reply FROM idempotency_keys
     WHERE token_id = $1 AND key = $2 AND created_at > $3",
);

static INSERT: Statement = Statement::new(
    "idempotency_keys.remember",
    "INSERT INTO idempotency_keys (token_id, key, fingerprint, reply, created_at)
     VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (token_id, key) DO UPDATE
     SET fingerprint = excluded.fingerprint, reply = excluded.reply, created_at = excluded.created_at
     WHERE idempotency_keys.created_at <= $6",
);

/// The last step of a unit whose response cannot be built. It matches no row, so that the unit is
/// rolled back.
static ROLL_BACK: Statement = Statement::new(
    "idempotency_keys.nothing",
    "DELETE FROM idempotency_keys WHERE token_id = $1 AND key = $2 AND created_at < 0",
);

pub(crate) static DELETE_EXPIRED: Statement = Statement::new(
    "idempotency_keys.forget",
    "DELETE FROM idempotency_keys WHERE (token_id, key) IN
     (SELECT token_id, key FROM idempotency_keys WHERE created_at <= $1 LIMIT 1000)
     RETURNING created_at",
);

pub(crate) static STATEMENTS: [&Statement; 4] = [&FIND, &INSERT, &ROLL_BACK, &DELETE_EXPIRED];

/// A request's `Idempotency-Key`, bound to the API token and to the request itself.
#[derive(Clone)]
pub(crate) struct IdempotencyKey {
    token: TokenId,
    text: String,
    fingerprint: [u8; 32],
    encryption_key: [u8; 32],
}

impl IdempotencyKey {
    /// Reads the key of a request, if it has one.
    pub(crate) fn of(
        caller: &Caller,
        parts: &Parts,
        body: &[u8],
    ) -> Result<Option<Self>, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(None);
        };
        let key = value.to_str().unwrap_or_default();
        if key.is_empty() || key.len() > KEY_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic())
        {
            let message =
                format!("\"Idempotency-Key\" must have 1 to {KEY_MAX} visible ASCII characters");
            return Err(ApiError::bad_request(message));
        }
        Ok(Some(Self {
            token: caller.token.id,
            text: key.to_owned(),
            fingerprint: fingerprint(parts, body),
            encryption_key: derive(caller.secret.bytes(), key),
        }))
    }

    fn encrypt(&self, response: &[u8]) -> Vec<u8> {
        let mut sealed = response.to_vec();
        let nonce = self
            .cipher()
            .seal_in_place_append_tag(aead::Aad::from(&self.fingerprint), &mut sealed);
        let nonce = nonce.expect("a response is far below the cipher's limit of 64 GiB");
        let mut stored = nonce.as_ref().to_vec();
        stored.append(&mut sealed);
        stored
    }

    fn decrypt(&self, stored: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = stored.split_at_checked(aead::NONCE_LEN)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let opened =
            self.cipher()
                .open_in_place(nonce, aead::Aad::from(&self.fingerprint), &mut sealed);
        Some(opened.ok()?.to_vec())
    }

    fn cipher(&self) -> aead::RandomizedNonceKey {
        aead::RandomizedNonceKey::new(&aead::AES_256_GCM, &self.encryption_key)
            .expect("the key has 32 bytes")
    }
}

/// Requests with the same method, path, `Parlor-If-Exists` and body have the same fingerprint.
fn fingerprint(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let if_exists = parts
        .headers
        .get("parlor-if-exists")
        .map_or(&b""[..], |value| value.as_bytes());
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    for part in [
        parts.method.as_str().as_bytes(),
        path.as_bytes(),
        if_exists,
        body,
    ] {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    context
        .finish()
        .as_ref()
        .try_into()
        .expect("a SHA-256 digest has 32 bytes")
}

/// HKDF-SHA256 (RFC 5869) of the caller's secret, salted with the key.
fn derive(secret: &[u8], key: &str) -> [u8; 32] {
    let mut derived = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, key.as_bytes())
        .extract(secret)
        .expand(&[b"parlor idempotent reply v1"], hkdf::HKDF_SHA256)
        .and_then(|output| output.fill(&mut derived))
        .expect("HKDF-SHA256 can output 32 bytes");
    derived
}

struct StoredResponse {
    fingerprint: Vec<u8>,
    sealed: Vec<u8>,
}

impl FromRow for StoredResponse {
    fn from_row(mut row: Row) -> Result<Self, parlor_store::Error> {
        Ok(Self {
            fingerprint: row.take(0)?,
            sealed: row.take(1)?,
        })
    }
}

/// Returns the time at or before which stored responses have expired. It is based on the settled
/// time: if the clock is set forward, responses do not expire early, which would let a retried
/// request run twice.
pub(crate) fn expiry_cutoff_ms(state: &ServerState) -> i64 {
    state.clock.settled_ms() - RETENTION_MS
}

/// Returns the stored response to a request, if there is one.
///
/// # Errors
/// 422 when the key was used with a different request.
pub(crate) async fn replay(
    state: &ServerState,
    key: Option<&IdempotencyKey>,
) -> Result<Option<Vec<u8>>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    let found = state.db.read::<StoredResponse>(
        &FIND,
        values![key.token.uuid(), key.text.as_str(), expiry_cutoff_ms(state)],
    );
    let Some(stored) = found.await?.pop() else {
        return Ok(None);
    };
    if stored.fingerprint != key.fingerprint {
        return Err(ApiError::idempotency_key_reused());
    }
    let response = key.decrypt(&stored.sealed);
    Ok(Some(response.ok_or_else(|| {
        ApiError::internal("a stored response could not be decrypted")
    })?))
}

/// Why a unit was not committed.
#[derive(Debug)]
pub enum CommitError {
    /// A uniqueness constraint was violated.
    Conflict,
    /// The step with this index did not affect the expected number of rows.
    WrongCount(usize),
    /// Any other failure.
    Failed(ApiError),
}

impl From<CommitError> for ApiError {
    fn from(reason: CommitError) -> Self {
        match reason {
            CommitError::Conflict => Self::internal("no handler expected this conflict"),
            CommitError::WrongCount(step) => Self::internal(format!("step {step} affected no row")),
            CommitError::Failed(error) => error,
        }
    }
}

impl From<parlor_store::Error> for CommitError {
    fn from(error: parlor_store::Error) -> Self {
        match error {
            parlor_store::Error::Conflict { .. } => Self::Conflict,
            parlor_store::Error::WrongCount { step } => Self::WrongCount(step),
            other => Self::Failed(other.into()),
        }
    }
}

/// Commits a unit. If the request has a key, also stores the response.
pub(crate) async fn commit<R: ApiResponse>(
    state: &ServerState,
    key: Option<&IdempotencyKey>,
    now_ms: i64,
    unit: Unit,
    respond: impl Fn(&[Vec<Row>]) -> Result<R, ApiError> + Clone + Send + 'static,
) -> Result<R, CommitError> {
    let Some(key) = key else {
        let rows = state.db.commit(unit).await?;
        return respond(&rows).map_err(CommitError::Failed);
    };
    let (stored_key, build) = (key.clone(), respond.clone());
    let cutoff_ms = expiry_cutoff_ms(state);
    let unit = unit.finish(move |rows| match build(rows) {
        Ok(response) => {
            let sealed = stored_key.encrypt(&response.to_json());
            let fingerprint = &stored_key.fingerprint[..];
            let (token, key) = (stored_key.token.uuid(), stored_key.text.as_str());
            (
                &INSERT,
                values![token, key, fingerprint, sealed, now_ms, cutoff_ms],
            )
        }
        Err(_) => (
            &ROLL_BACK,
            values![stored_key.token.uuid(), stored_key.text.as_str()],
        ),
    });
    match state.db.commit(unit).await {
        Ok(rows) => respond(&rows).map_err(CommitError::Failed),
        Err(error) => match replay(state, Some(key)).await {
            Ok(Some(_)) => Err(CommitError::Failed(ApiError::key_race())),
            Ok(None) => Err(error.into()),
            Err(reused) => Err(CommitError::Failed(reused)),
        },
    }
}
