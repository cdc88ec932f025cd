//! The Ed25519 keys that sign join tokens.
//!
//! The keys are stored in the database, so all nodes that share it sign and verify with the same
//! keys. The newest key that is not retired signs; retired keys still verify, so a rotation does
//! not invalidate issued tokens. A running server reloads the keys every few seconds.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, RwLock};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use parlor_sfu::Secret;
use parlor_store::{Db, Error, FromRow, Row, Statement, Unit, values};
use schemars::JsonSchema;
use serde::Serialize;

use crate::clock::rfc3339;

/// Minimum interval between two reloads that unknown key ids cause.
const RELOAD_INTERVAL_MS: i64 = 1000;

static INSERT: Statement = Statement::new(
    "signing_keys.insert",
    "INSERT INTO signing_keys (id, current, secret, public, created_at) VALUES ($1, 1, $2, $3, $4)",
);
static INSERT_FIRST: Statement = Statement::new(
    "signing_keys.insert_first",
    "INSERT INTO signing_keys (id, current, secret, public, created_at) VALUES ($1, 1, $2, $3, $4)
     ON CONFLICT (current) DO NOTHING",
);
static RETIRE: Statement = Statement::new(
    "signing_keys.retire",
    "UPDATE signing_keys SET current = NULL, retired_at = $1 WHERE current = 1",
);
static LIST: Statement = Statement::new(
    "signing_keys.list",
    "SELECT id, secret, public, created_at, retired_at FROM signing_keys ORDER BY created_at, id",
);

pub(crate) static STATEMENTS: [&Statement; 4] = [&INSERT, &INSERT_FIRST, &RETIRE, &LIST];

struct StoredKey {
    id: String,
    secret: Vec<u8>,
    public: Vec<u8>,
    created_ms: i64,
    retired_ms: Option<i64>,
}

impl FromRow for StoredKey {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.take(0)?,
            secret: row.take(1)?,
            public: row.take(2)?,
            created_ms: row.take(3)?,
            retired_ms: row.take(4)?,
        })
    }
}

/// A key pair that can sign.
pub struct SigningKey {
    /// The key id in the header of a token.
    pub id: String,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// Generates a key that is not stored.
    pub fn ephemeral() -> Self {
        let (id, secret, _) = generate();
        let pair = Ed25519KeyPair::from_pkcs8(&secret).expect("a generated key is valid");
        Self { id, pair }
    }

    /// Returns an Ed25519 signature (RFC 8032) of 64 bytes.
    pub fn sign(&self, message: &[u8]) -> signature::Signature {
        self.pair.sign(message)
    }
}

/// A public key as a JSON Web Key (RFC 8037).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Jwk {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    kid: String,
    x: String,
}

/// The non-secret attributes of a key, for the command line.
#[derive(Debug, Clone, Serialize)]
pub struct KeySummary {
    /// The key id.
    pub id: String,
    /// When the key was created, in RFC 3339.
    pub created_at: String,
    /// When the key was retired, in RFC 3339; absent for the current key.
    pub retired_at: Option<String>,
}

/// All keys, as last read from the database.
struct Keys {
    current: Arc<SigningKey>,
    media: Secret,
    public: Vec<(String, Vec<u8>)>,
}

/// The keys of a running server.
pub struct SigningKeys {
    keys: RwLock<Keys>,
    /// When an unknown key id last caused a reload, by the monotonic clock.
    last_reload_ms: AtomicI64,
}

impl SigningKeys {
    /// Reads the keys, and creates the first key if there is none.
    ///
    /// # Errors
    /// When the database fails or holds no usable key.
    pub async fn load(db: &Db, now_ms: i64) -> Result<Self, Error> {
        let (id, secret, public) = generate();
        db.commit(Unit::default().then(&INSERT_FIRST, values![id, secret, public, now_ms]))
            .await?;
        Ok(Self {
            keys: RwLock::new(read(db).await?),
            last_reload_ms: AtomicI64::new(-RELOAD_INTERVAL_MS),
        })
    }

    /// Reloads the keys, to notice a rotation by another process.
    ///
    /// # Errors
    /// When the database fails; the known keys stay in use.
    pub async fn refresh(&self, db: &Db) -> Result<(), Error> {
        let keys = read(db).await?;
        *self.keys.write().expect("no holder of this lock panics") = keys;
        Ok(())
    }

    /// Reloads the keys if this key id is unknown, at most once a second: another node may have
    /// just created it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh_if_unknown(
        &self,
        db: &Db,
        id: Option<String>,
        monotonic_ms: i64,
    ) -> Result<(), Error> {
        let Some(id) = id else { return Ok(()) };
        let known = self
            .keys
            .read()
            .expect("no holder of this lock panics")
            .public
            .iter()
            .any(|(known, _)| *known == id);
        let last_ms = self.last_reload_ms.load(Ordering::Relaxed);
        if known || monotonic_ms - last_ms < RELOAD_INTERVAL_MS {
            return Ok(());
        }
        self.last_reload_ms.store(monotonic_ms, Ordering::Relaxed);
        self.refresh(db).await
    }

    /// Returns the key that signs.
    pub fn current(&self) -> Arc<SigningKey> {
        Arc::clone(
            &self
                .keys
                .read()
                .expect("no holder of this lock panics")
                .current,
        )
    }

    /// Returns the secret from which the media plane derives its passwords. It is the same on every
    /// node and after every restart, until the signing key is rotated.
    pub fn media_secret(&self) -> Secret {
        let keys = self.keys.read().expect("no holder of this lock panics");
        keys.media.clone()
    }

    /// Whether the key with this id made the signature.
    pub fn verify(&self, id: &str, message: &[u8], signature: &[u8]) -> bool {
        let keys = self.keys.read().expect("no holder of this lock panics");
        let key = keys.public.iter().find(|(known, _)| known == id);
        key.is_some_and(|(_, public)| {
            signature::UnparsedPublicKey::new(&signature::ED25519, public)
                .verify(message, signature)
                .is_ok()
        })
    }

    /// Returns all public keys, for `/.well-known/jwks.json`.
    pub fn jwks(&self) -> Vec<Jwk> {
        let keys = self.keys.read().expect("no holder of this lock panics");
        let jwk = |(id, public): &(String, Vec<u8>)| Jwk {
            kty: "OKP",
            crv: "Ed25519",
            alg: "EdDSA",
            usage: "sig",
            kid: id.clone(),
            x: BASE64_URL_SAFE_NO_PAD.encode(public),
        };
        keys.public.iter().map(jwk).collect()
    }
}

/// Creates a new signing key. The older keys only verify from now on.
///
/// # Errors
/// When the database fails.
pub async fn rotate(db: &Db, now_ms: i64) -> Result<KeySummary, Error> {
    let (id, secret, public) = generate();
    let unit = Unit::default()
        .exactly_one(&RETIRE, values![now_ms])
        .exactly_one(&INSERT, values![id.as_str(), secret, public, now_ms]);
    db.commit(unit).await?;
    Ok(KeySummary {
        id,
        created_at: rfc3339(now_ms),
        retired_at: None,
    })
}

/// Lists all keys, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &Db) -> Result<Vec<KeySummary>, Error> {
    let summary = |key: StoredKey| KeySummary {
        id: key.id,
        created_at: rfc3339(key.created_ms),
        retired_at: key.retired_ms.map(rfc3339),
    };
    Ok(db
        .read::<StoredKey>(&LIST, values![])
        .await?
        .into_iter()
        .map(summary)
        .collect())
}

async fn read(db: &Db) -> Result<Keys, Error> {
    let stored = db.read::<StoredKey>(&LIST, values![]).await?;
    let broken = || Error::Broken("signing_keys: there is no usable key".into());
    let newest = stored
        .iter()
        .rev()
        .find(|key| key.retired_ms.is_none())
        .ok_or_else(broken)?;
    let pair = Ed25519KeyPair::from_pkcs8(&newest.secret).map_err(|_| broken())?;
    let current = Arc::new(SigningKey {
        id: newest.id.clone(),
        pair,
    });
    let media = hmac::Key::new(hmac::HMAC_SHA256, &newest.secret);
    let media = hmac::sign(&media, b"the media plane");
    let media = media.as_ref().first_chunk::<32>();
    let media = *media.expect("a SHA-256 digest has 32 bytes");
    Ok(Keys {
        current,
        media: media.into(),
        public: stored.into_iter().map(|key| (key.id, key.public)).collect(),
    })
}

/// Generates a key and returns its id (the first 8 bytes of the public key's SHA-256, in hex), its
/// PKCS #8 encoding and its public key.
fn generate() -> (String, Vec<u8>, Vec<u8>) {
    let secret = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .expect("the system provides random bytes");
    let pair = Ed25519KeyPair::from_pkcs8(secret.as_ref()).expect("a generated key is valid");
    let public = pair.public_key().as_ref().to_vec();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &public);
    let id = digest.as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    (id, secret.as_ref().to_vec(), public)
}
