//! `Idempotency-Key`: the first answer to a POST, again, for 24 hours.
//!
//! The reply is written by the same transaction that does the work, and sealed with AES-256-GCM
//! under a key that is derived from the caller's own API token. The database holds only that
//! token's hash, so nobody who reads it can open a reply and the join token inside.

use aws_lc_rs::{aead, digest, hkdf};
use http::request::Parts;
use parlor_store::{FromRow, Row, Statement, Unit, values};

use super::auth::Caller;
use super::error::ApiError;
use super::reply::Reply;
use crate::state::Parlor;
use parlor_protocol::ids::TokenId;

/// How long an answer is remembered.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// The longest key.
pub(crate) const KEY_MAX: usize = 255;

static FIND: Statement = Statement::new(
    "idempotency_keys.find",
    "SELECT fingerprint, reply FROM idempotency_keys
     WHERE token_id = $1 AND key = $2 AND created_at > $3",
);

static REMEMBER: Statement = Statement::new(
    "idempotency_keys.remember",
    "INSERT INTO idempotency_keys (token_id, key, fingerprint, reply, created_at)
     VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (token_id, key) DO UPDATE
     SET fingerprint = excluded.fingerprint, reply = excluded.reply, created_at = excluded.created_at
     WHERE idempotency_keys.created_at <= $6",
);

/// Touches nothing, so that the unit it ends is undone.
static NOTHING: Statement = Statement::new(
    "idempotency_keys.nothing",
    "DELETE FROM idempotency_keys WHERE token_id = $1 AND key = $2 AND created_at < 0",
);

pub(crate) static FORGET: Statement = Statement::new(
    "idempotency_keys.forget",
    "DELETE FROM idempotency_keys WHERE (token_id, key) IN
     (SELECT token_id, key FROM idempotency_keys WHERE created_at <= $1 LIMIT 1000)
     RETURNING created_at",
);

pub(crate) static STATEMENTS: [&Statement; 4] = [&FIND, &REMEMBER, &NOTHING, &FORGET];

/// A request's `Idempotency-Key`, bound to the token and to the request itself.
#[derive(Clone)]
pub(crate) struct Key {
    token: TokenId,
    text: String,
    fingerprint: [u8; 32],
    seal: [u8; 32],
}

impl Key {
    /// The key of a request, if it carries one.
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
            seal: derive(caller.secret.bytes(), key),
        }))
    }

    fn seal(&self, reply: &[u8]) -> Vec<u8> {
        let mut sealed = reply.to_vec();
        let nonce = self
            .cipher()
            .seal_in_place_append_tag(aead::Aad::from(&self.fingerprint), &mut sealed);
        let nonce = nonce.expect("a reply is far below the cipher's limit of 64 GiB");
        let mut stored = nonce.as_ref().to_vec();
        stored.append(&mut sealed);
        stored
    }

    fn open(&self, stored: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = stored.split_at_checked(aead::NONCE_LEN)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let opened =
            self.cipher()
                .open_in_place(nonce, aead::Aad::from(&self.fingerprint), &mut sealed);
        Some(opened.ok()?.to_vec())
    }

    fn cipher(&self) -> aead::RandomizedNonceKey {
        aead::RandomizedNonceKey::new(&aead::AES_256_GCM, &self.seal).expect("the key has 32 bytes")
    }
}

/// The same method, path, conditions and body give the same fingerprint.
fn fingerprint(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let strict = parts
        .headers
        .get("parlor-if-exists")
        .map_or(&b""[..], |value| value.as_bytes());
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    for part in [
        parts.method.as_str().as_bytes(),
        path.as_bytes(),
        strict,
        body,
    ] {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    context
        .finish()
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

/// HKDF-SHA256 (RFC 5869) of the caller's secret, salted with the key.
fn derive(secret: &[u8], key: &str) -> [u8; 32] {
    let mut derived = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, key.as_bytes())
        .extract(secret)
        .expand(&[b"parlor idempotent reply v1"], hkdf::HKDF_SHA256)
        .and_then(|output| output.fill(&mut derived))
        .expect("32 bytes is a length that HKDF-SHA256 gives");
    derived
}

struct Stored {
    fingerprint: Vec<u8>,
    reply: Vec<u8>,
}

impl FromRow for Stored {
    fn from_row(mut row: Row) -> Result<Self, parlor_store::Error> {
        Ok(Self {
            fingerprint: row.take(0)?,
            reply: row.take(1)?,
        })
    }
}

/// What was remembered by then is forgotten. A clock that was set forward must not have work done
/// twice that somebody repeats.
pub(crate) fn forgotten_ms(parlor: &Parlor) -> i64 {
    parlor.clock.settled_ms() - KEPT_MS
}

/// The remembered answer to a request, if there is one.
///
/// # Errors
/// 422 when the key was used with another request.
pub(crate) async fn replay(
    parlor: &Parlor,
    key: Option<&Key>,
) -> Result<Option<Vec<u8>>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    let found = parlor.db.read::<Stored>(
        &FIND,
        values![key.token.uuid(), key.text.as_str(), forgotten_ms(parlor)],
    );
    let Some(stored) = found.await?.pop() else {
        return Ok(None);
    };
    if stored.fingerprint != key.fingerprint {
        return Err(ApiError::key_reused());
    }
    let reply = key.open(&stored.reply);
    Ok(Some(reply.ok_or_else(|| {
        ApiError::internal("a remembered reply could not be opened")
    })?))
}

/// Why a unit was not committed.
#[derive(Debug)]
pub enum Uncommitted {
    /// A unique index refused it.
    Conflict,
    /// This step did not find what it was about.
    WrongCount(usize),
    /// Anything else.
    Failed(ApiError),
}

impl From<Uncommitted> for ApiError {
    fn from(reason: Uncommitted) -> Self {
        match reason {
            Uncommitted::Conflict => Self::internal("a conflict that no handler explains"),
            Uncommitted::WrongCount(step) => Self::internal(format!("step {step} found nothing")),
            Uncommitted::Failed(error) => error,
        }
    }
}

impl From<parlor_store::Error> for Uncommitted {
    fn from(error: parlor_store::Error) -> Self {
        match error {
            parlor_store::Error::Conflict { .. } => Self::Conflict,
            parlor_store::Error::WrongCount { step } => Self::WrongCount(step),
            other => Self::Failed(other.into()),
        }
    }
}

/// Commits a unit, with its reply remembered when there is a key.
pub(crate) async fn commit<R: Reply>(
    parlor: &Parlor,
    key: Option<&Key>,
    now_ms: i64,
    unit: Unit,
    reply: impl Fn(&[Vec<Row>]) -> Result<R, ApiError> + Clone + Send + 'static,
) -> Result<R, Uncommitted> {
    let Some(key) = key else {
        let rows = parlor.db.commit(unit).await?;
        return reply(&rows).map_err(Uncommitted::Failed);
    };
    let (remembered, answer) = (key.clone(), reply.clone());
    let forgotten_ms = forgotten_ms(parlor);
    let unit = unit.finish(move |rows| match answer(rows) {
        Ok(reply) => {
            let sealed = remembered.seal(&reply.to_json());
            let fingerprint = &remembered.fingerprint[..];
            let (token, key) = (remembered.token.uuid(), remembered.text.as_str());
            (
                &REMEMBER,
                values![token, key, fingerprint, sealed, now_ms, forgotten_ms],
            )
        }
        Err(_) => (
            &NOTHING,
            values![remembered.token.uuid(), remembered.text.as_str()],
        ),
    });
    match parlor.db.commit(unit).await {
        Ok(rows) => reply(&rows).map_err(Uncommitted::Failed),
        Err(error) => match replay(parlor, Some(key)).await {
            Ok(Some(_)) => Err(Uncommitted::Failed(ApiError::key_race())),
            Ok(None) => Err(error.into()),
            Err(reused) => Err(Uncommitted::Failed(reused)),
        },
    }
}
