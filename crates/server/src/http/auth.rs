//! Authenticates callers and checks which accounts and apps their token may access.
//!
//! Surface A takes `Authorization: Bearer <token>` or Cloudflare's `X-Auth-Email` with
//! `X-Auth-Key`; surface B takes `Authorization: Basic app_id:token`. A token is looked up by the
//! SHA-256 of its secret, so the lookup reveals nothing about the secret through timing.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use http::{HeaderMap, header};
use parlor_protocol::ids::{AccountId, AppId};

use super::error::ApiError;
use crate::identity::api_tokens::ApiToken;
use crate::state::ServerState;

/// The permissions that grant access to the API. Every operation requires at least one of them.
pub const PERMISSIONS: [&str; 2] = ["Realtime Admin", "Realtime"];

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The API token of the request.
    pub token: Arc<ApiToken>,
    /// The token's secret, from which keys are derived that only this caller can derive again.
    pub(super) secret: Secret,
}

/// A secret from a request. Its `Debug` output is redacted.
#[derive(Clone)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl Caller {
    /// Checks that the token grants access to an account.
    ///
    /// # Errors
    /// 403 when the token belongs to another account or lacks the permission.
    pub fn authorize_account(&self, account: AccountId) -> Result<(), ApiError> {
        let permitted = self
            .token
            .permissions
            .iter()
            .any(|held| PERMISSIONS.contains(&held.as_str()));
        if permitted && self.token.account_id == account {
            Ok(())
        } else {
            Err(ApiError::forbidden())
        }
    }

    /// Checks that the token grants access to an app of its account.
    ///
    /// # Errors
    /// 403 when the token is restricted to other apps.
    pub fn authorize_app(&self, app: AppId) -> Result<(), ApiError> {
        if self.token.can_access(app) {
            Ok(())
        } else {
            Err(ApiError::forbidden())
        }
    }
}

/// Authenticates a request to surface A.
///
/// # Errors
/// 401 without a valid token.
pub(super) async fn by_token(state: &ServerState, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let secret = bearer(headers)
        .or_else(|| auth_key(headers))
        .ok_or_else(ApiError::unauthorized)?;
    by_secret(state, secret).await
}

/// Authenticates a request to surface B, whose Basic user name is the app id.
///
/// # Errors
/// 401 without a valid token or a well-formed app id.
pub(super) async fn by_app_key(
    state: &ServerState,
    headers: &HeaderMap,
) -> Result<(Caller, AppId), ApiError> {
    let (app, secret) = basic(headers).ok_or_else(ApiError::unauthorized)?;
    let app: AppId = app.parse().map_err(|_| ApiError::unauthorized())?;
    Ok((by_secret(state, &secret).await?, app))
}

async fn by_secret(state: &ServerState, secret: &str) -> Result<Caller, ApiError> {
    let token = state.tokens.by_secret(secret).await?;
    let token = token.filter(|token| token.is_active(state.clock.now_ms()));
    let token = token.ok_or_else(ApiError::unauthorized)?;
    Ok(Caller {
        token,
        secret: Secret(secret.to_owned()),
    })
}

fn text(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn credentials<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h str> {
    let (given, rest) = text(headers, header::AUTHORIZATION)?.split_once(' ')?;
    let rest = rest.trim();
    (given.eq_ignore_ascii_case(scheme) && !rest.is_empty()).then_some(rest)
}

/// Returns the token of an `Authorization: Bearer` header (RFC 6750).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    credentials(headers, "bearer")
}

fn auth_key(headers: &HeaderMap) -> Option<&str> {
    if headers.contains_key(header::AUTHORIZATION) {
        return None;
    }
    text(headers, "x-auth-email").filter(|email| !email.is_empty())?;
    text(headers, "x-auth-key").filter(|key| !key.is_empty())
}

/// Returns the user name and password of HTTP Basic credentials (RFC 7617).
pub fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = credentials(headers, "basic")?.trim_end_matches('=');
    let decoded = BASE64_STANDARD_NO_PAD.decode(encoded).ok()?;
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_bearer_scheme_is_case_insensitive() {
        assert_eq!(
            bearer(&headers(&[("authorization", "bEaReR abc")])),
            Some("abc")
        );
        assert_eq!(bearer(&headers(&[("authorization", "Bearer ")])), None);
        assert_eq!(bearer(&headers(&[("authorization", "Token abc")])), None);
    }

    #[test]
    fn an_auth_key_requires_an_email() {
        assert_eq!(auth_key(&headers(&[("x-auth-key", "k")])), None);
        assert_eq!(
            auth_key(&headers(&[("x-auth-key", "k"), ("x-auth-email", "a@b.c")])),
            Some("k")
        );
    }

    #[test]
    fn basic_credentials_round_trip() {
        let header = format!("Basic {}", BASE64_STANDARD.encode("app:se:cret"));
        let read = basic(&headers(&[("authorization", &header)]));
        assert_eq!(read, Some(("app".into(), "se:cret".into())));
        assert_eq!(basic(&headers(&[("authorization", "Basic ***")])), None);
    }
}
