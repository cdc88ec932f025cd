//! Join tokens, with which a client joins a meeting.
//!
//! A token is a JWT (RFC 7519) signed with Ed25519 (RFC 8037). The official web SDK decodes its
//! payload with `atob`, which rejects `-` and `_`. The base64url encoding of our claims (ids and
//! numbers in ASCII) never contains either, as a property test verifies.
//!
//! The token identifies a participant; whether that participant still exists is checked on use.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PresetId};
use serde::{Deserialize, Serialize};

use crate::identity::signing_keys::{SigningKey, SigningKeys};

/// The claims of a token, under the names that the official SDKs read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The app id.
    pub org_id: AppId,
    /// The meeting id.
    pub meeting_id: MeetingId,
    /// The participant id.
    pub participant_id: ParticipantId,
    /// The id of the participant's preset at the time of signing.
    pub preset_id: PresetId,
    /// When the token was signed, in Unix seconds.
    pub iat: i64,
    /// When the token expires, in Unix seconds.
    pub exp: i64,
}

/// The reason why a join token is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token was not issued by this server.
    #[error("this is not a token of this server")]
    Invalid,
    /// The token has expired.
    #[error("this token has expired")]
    Expired,
    /// The token's participant, meeting or app no longer exists.
    #[error("this token has been revoked")]
    Revoked,
}

/// Signs claims and returns the token.
pub fn sign(key: &SigningKey, claims: &Claims) -> String {
    let mut token = String::with_capacity(512);
    let header = format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{}"}}"#, key.id);
    BASE64_URL_SAFE_NO_PAD.encode_string(header, &mut token);
    token.push('.');
    let payload = serde_json::to_vec(claims).expect("ids and numbers serialise");
    BASE64_URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// A parsed token whose signature has not been verified.
pub struct ParsedToken<'t> {
    signed: &'t str,
    header: Header,
    claims: Claims,
    signature: Vec<u8>,
}

/// Parses a token without verifying it.
///
/// # Errors
/// `Invalid` when the token is malformed.
pub fn parse(token: &str) -> Result<ParsedToken<'_>, TokenError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenError::Invalid)?;
    let decode = |part: &str| {
        BASE64_URL_SAFE_NO_PAD
            .decode(part)
            .map_err(|_| TokenError::Invalid)
    };
    let header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Invalid)?;
    let claims = serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Invalid)?;
    Ok(ParsedToken {
        signed,
        header,
        claims,
        signature: decode(signature)?,
    })
}

/// The key id in a token's header, not verified.
pub fn key_id(token: &str) -> Option<String> {
    parse(token).ok().map(|parsed| parsed.header.kid)
}

/// Verifies a token's signature and expiry and returns its claims.
///
/// # Errors
/// `Invalid` or `Expired`. Revocation is not checked here.
pub fn verify(keys: &SigningKeys, token: &str, now_ms: i64) -> Result<Claims, TokenError> {
    let ParsedToken {
        signed,
        header,
        claims,
        signature,
    } = parse(token)?;
    if header.alg != "EdDSA" || !keys.verify(&header.kid, signed.as_bytes(), &signature) {
        return Err(TokenError::Invalid);
    }
    if now_ms / 1000 >= claims.exp {
        Err(TokenError::Expired)
    } else {
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use parlor_store::{DatabaseLocation, Db, Options};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn keys() -> SigningKeys {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let location = DatabaseLocation::Sqlite(dir.path().join("keys.db"));
            let db = Db::open(&location, Options::default(), std::sync::Arc::new(()))
                .await
                .unwrap();
            db.migrate(crate::schema::MIGRATIONS).await.unwrap();
            SigningKeys::load(&db, 0).await.unwrap()
        })
    }

    fn claims(ids: [u128; 4], iat: i64, exp: i64) -> Claims {
        let [app, meeting, participant, preset] = ids.map(Uuid::from_u128);
        Claims {
            org_id: AppId::from_uuid(app),
            meeting_id: MeetingId::from_uuid(meeting),
            participant_id: ParticipantId::from_uuid(participant),
            preset_id: PresetId::from_uuid(preset),
            iat,
            exp,
        }
    }

    #[test]
    fn every_token_can_be_decoded_by_atob_and_verified() {
        let keys = keys();
        proptest!(|(ids in any::<[u128; 4]>(), iat in 0_i64..1 << 40, life in 1_i64..1 << 33)| {
            let claims = claims(ids, iat, iat + life);
            let token = sign(&keys.current(), &claims);
            let payload = token.split('.').nth(1).unwrap();
            prop_assert!(token.starts_with("eyJ"));
            prop_assert!(!payload.contains(['-', '_']));
            prop_assert_eq!(verify(&keys, &token, iat * 1000).unwrap(), claims);
            prop_assert_eq!(verify(&keys, &token, (iat + life) * 1000), Err(TokenError::Expired));
        });
    }

    #[test]
    fn a_modified_token_is_rejected() {
        let keys = keys();
        let token = sign(&keys.current(), &claims([1, 2, 3, 4], 0, 100));
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(
                verify(&keys, &changed, 0),
                Err(TokenError::Invalid),
                "byte {index}"
            );
        }
        for nonsense in ["", ".", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
            assert_eq!(verify(&keys, nonsense, 0), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn another_servers_token_is_rejected() {
        let (ours, theirs) = (keys(), keys());
        let token = sign(&theirs.current(), &claims([1, 2, 3, 4], 0, 100));
        assert_eq!(verify(&ours, &token, 0), Err(TokenError::Invalid));
    }
}
