//! The error body of the API, and the mapping of failures to status codes.
//!
//! The body follows two conventions: `RealtimeKit` clients read `error.message`, Cloudflare's SDKs
//! read `errors[]`. Both are always set. `x-should-retry: false` accompanies every error that a
//! retry cannot resolve, because the SDKs otherwise retry each 409 twice.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use crate::identity::signed_links::LinkError;
use crate::rates::{Exceeded, Remaining};

/// The error code of Cloudflare's gateway for every authentication and authorization failure.
pub(crate) const AUTHENTICATION_CODE: u16 = 10_000;

/// Response header that tells Cloudflare's SDKs whether to retry the request.
pub(crate) static X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// One error in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A message that a developer can act on.
    pub message: String,
    /// JSON pointer to the part of the body that caused the error, if any.
    pub pointer: Option<String>,
}

impl Problem {
    /// A problem with the request as a whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            pointer: None,
        }
    }

    /// A problem at a JSON pointer into the body.
    pub fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            pointer: Some(pointer.into()),
        }
    }
}

/// An error response.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    problems: Vec<Problem>,
    retry_after_secs: Option<u64>,
    allow: Option<String>,
    cause: Option<String>,
    key_race: bool,
    quota: Option<Remaining>,
}

impl ApiError {
    fn new(status: StatusCode, problems: Vec<Problem>) -> Self {
        debug_assert!(!problems.is_empty() && !status.is_success());
        Self {
            status,
            problems,
            retry_after_secs: None,
            allow: None,
            cause: None,
            key_race: false,
            quota: None,
        }
    }

    /// 400 with one or more problems.
    pub fn invalid(problems: Vec<Problem>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, problems)
    }

    /// 400 with one message.
    pub fn bad_request(message: impl fmt::Display) -> Self {
        Self::invalid(vec![Problem::new(format!("BAD_REQUEST: {message}"))])
    }

    /// 401: missing or invalid credentials.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            vec![Problem::new("Authentication error")],
        )
    }

    /// 401 with a custom message.
    pub(crate) fn unauthorized_with(message: impl fmt::Display) -> Self {
        let message = format!("Unauthorized: {message}");
        Self::new(StatusCode::UNAUTHORIZED, vec![Problem::new(message)])
    }

    /// 403 with a custom message.
    pub(crate) fn forbidden_with(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, vec![Problem::new(message)])
    }

    /// 416: the requested range lies outside the file.
    pub(crate) fn range_not_satisfiable() -> Self {
        let message = "the file has no bytes in this range";
        Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            vec![Problem::new(message)],
        )
    }

    /// 403: valid credentials without access to this resource. The message is the same whether or
    /// not the account or app exists.
    pub fn forbidden() -> Self {
        let message = "Authentication error: this API token does not allow this operation here";
        Self::new(StatusCode::FORBIDDEN, vec![Problem::new(message)])
    }

    /// 404 with a custom problem.
    pub fn not_found(problem: Problem) -> Self {
        Self::new(StatusCode::NOT_FOUND, vec![problem])
    }

    /// 404 for the resource that the path addresses.
    pub fn missing(resource: &str) -> Self {
        Self::not_found(Problem::new(format!(
            "Error: resource not found: no such {resource}"
        )))
    }

    /// 405 with the methods that the path supports.
    pub fn method_not_allowed(allow: String) -> Self {
        let message = format!("this path answers to {allow} only");
        let mut error = Self::new(StatusCode::METHOD_NOT_ALLOWED, vec![Problem::new(message)]);
        error.allow = Some(allow);
        error
    }

    /// 408: the body did not arrive in time.
    pub fn request_timeout() -> Self {
        let message = "the request body did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, vec![Problem::new(message)])
    }

    /// 409. `x-should-retry: false` tells the SDKs not to retry.
    pub fn conflict(problem: Problem) -> Self {
        Self::new(StatusCode::CONFLICT, vec![problem])
    }

    /// 413 for a body over the limit.
    pub fn payload_too_large(limit: usize) -> Self {
        let message = format!("the request body is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, vec![Problem::new(message)])
    }

    /// 422: an `Idempotency-Key` was reused with a different request.
    pub fn idempotency_key_reused() -> Self {
        let message = "this Idempotency-Key was used with a different request in the last 24 hours";
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            vec![Problem::new(message)],
        )
    }

    /// 429 with the number of seconds to wait.
    pub fn too_many_requests(retry_after_secs: u64) -> Self {
        let message = format!("rate limit reached; try again in {retry_after_secs} s");
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, vec![Problem::new(message)]);
        error.retry_after_secs = Some(retry_after_secs);
        error
    }

    /// 501: an operation of RealtimeKit that this version does not implement.
    pub fn not_implemented(operation: &str) -> Self {
        let message = format!(
            "Parlor does not have this operation yet ({operation}); the README lists what works"
        );
        Self::new(StatusCode::NOT_IMPLEMENTED, vec![Problem::new(message)])
    }

    /// 503: the database is unavailable or the server is shutting down. The request may or may not
    /// have taken effect; retrying it with the same `Idempotency-Key` is safe.
    pub fn unavailable(cause: impl Into<String>) -> Self {
        let message = "the service is not available right now; try again";
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, vec![Problem::new(message)]);
        error.retry_after_secs = Some(1);
        error.cause = Some(cause.into());
        error
    }

    /// 507: a quota or the disk is full.
    pub(crate) fn insufficient_storage(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            vec![Problem::new(message)],
        )
    }

    /// 500. The cause is logged and never sent to the client.
    pub fn internal(cause: impl Into<String>) -> Self {
        let message = "an internal error occurred; the log has its cause under this request id";
        let mut error = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            vec![Problem::new(message)],
        );
        error.cause = Some(cause.into());
        error
    }

    /// Another request with the same `Idempotency-Key` was committed first. This error never
    /// reaches the client: the endpoint replays that request's response instead.
    pub(crate) fn key_race() -> Self {
        let mut error = Self::internal("an idempotency race was not resolved");
        error.key_race = true;
        error
    }

    pub(crate) fn is_key_race(&self) -> bool {
        self.key_race
    }

    /// The HTTP status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Adds the caller's remaining quota to the response headers.
    pub(crate) fn with_quota(mut self, quota: Remaining) -> Self {
        self.quota = Some(quota);
        self
    }

    /// The internal cause, for the log only.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The problems, in order.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Prefixes every pointer, for a body that nests the validated value.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        for problem in &mut self.problems {
            let pointer = problem.pointer.take().unwrap_or_default();
            problem.pointer = Some(format!("{prefix}{pointer}"));
        }
        self
    }

    fn body(&self) -> ErrorBody<'_> {
        let status = self.status.as_u16();
        let is_auth = matches!(
            self.status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        );
        let code = if is_auth { AUTHENTICATION_CODE } else { status };
        let errors = self.problems.iter().map(|problem| ErrorItem {
            code,
            message: &problem.message,
            source: problem
                .pointer
                .as_deref()
                .map(|pointer| ErrorSource { pointer }),
        });
        ErrorBody {
            success: false,
            error: ErrorSummary {
                code: status,
                message: &self.problems[0].message,
            },
            errors: errors.collect(),
            messages: [],
            result: None,
        }
    }
}

impl From<Exceeded> for ApiError {
    fn from(exceeded: Exceeded) -> Self {
        Self::too_many_requests(exceeded.retry_secs).with_quota(exceeded.quota)
    }
}

impl From<LinkError> for ApiError {
    fn from(bad: LinkError) -> Self {
        match bad {
            LinkError::Forged => {
                Self::forbidden_with("Access denied: this link was not made by this server")
            }
            LinkError::NoOwner => Self::forbidden_with("Access denied: this link names no owner"),
            LinkError::Expired => Self::forbidden_with("Access denied: this link has expired"),
            LinkError::KeysUnavailable(error) => error.into(),
        }
    }
}

impl From<parlor_store::Error> for ApiError {
    fn from(error: parlor_store::Error) -> Self {
        match error {
            parlor_store::Error::Unavailable(cause) => Self::unavailable(cause),
            other => Self::internal(other.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.body()).expect("strings and numbers always serialise");
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if matches!(
            self.status,
            StatusCode::CONFLICT | StatusCode::NOT_IMPLEMENTED | StatusCode::INSUFFICIENT_STORAGE
        ) {
            headers.insert(X_SHOULD_RETRY.clone(), HeaderValue::from_static("false"));
        }
        if let Some(quota) = &self.quota {
            quota.write(headers);
        }
        if let Some(seconds) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| allow.parse().ok()) {
            headers.insert(header::ALLOW, allow);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let schemes = HeaderValue::from_static("Bearer, Basic realm=\"Parlor\"");
            headers.insert(header::WWW_AUTHENTICATE, schemes);
        }
        response
    }
}

/// An error response. `error` and `errors` describe the same failure in two formats.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody<'a> {
    /// Always `false`.
    #[schemars(extend("const" = false))]
    success: bool,
    /// The first error.
    error: ErrorSummary<'a>,
    /// All errors found in the request, in order.
    #[schemars(length(min = 1))]
    errors: Vec<ErrorItem<'a>>,
    /// Always an empty array.
    #[schemars(with = "Vec<String>", length(max = 0))]
    messages: [&'a str; 0],
    /// Always `null`.
    result: Option<()>,
}

/// The first error of a failed request.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ErrorSummary")]
struct ErrorSummary<'a> {
    /// The HTTP status code.
    #[schemars(range(min = 400, max = 599))]
    code: u16,
    /// A human-readable message.
    message: &'a str,
}

/// One error in a request.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ErrorItem")]
struct ErrorItem<'a> {
    /// 10000 for authentication and authorization errors, otherwise the HTTP status code.
    code: u16,
    /// A human-readable message.
    message: &'a str,
    /// The part of the request body that caused the error. Absent when the error concerns the
    /// request as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<ErrorSource<'a>>,
}

/// The location of an error in the request body.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ErrorSource")]
struct ErrorSource<'a> {
    /// JSON pointer (RFC 6901) into the request body.
    pointer: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_conventions_carry_the_message_and_the_pointer() {
        let error = ApiError::not_found(Problem::at("/preset_name", "No preset found with name x"));
        let body = serde_json::to_value(error.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "success": false,
                "error": {"code": 404, "message": "No preset found with name x"},
                "errors": [{
                    "code": 404,
                    "message": "No preset found with name x",
                    "source": {"pointer": "/preset_name"},
                }],
                "messages": [],
                "result": null,
            })
        );
    }

    #[test]
    fn authentication_errors_carry_the_gateway_code() {
        let body = serde_json::to_value(ApiError::unauthorized().body()).unwrap();
        assert_eq!(body["error"]["code"], 401);
        assert_eq!(body["errors"][0]["code"], AUTHENTICATION_CODE);
        assert_eq!(body["errors"][0]["message"], "Authentication error");
    }

    #[test]
    fn an_unavailable_database_is_retryable_and_a_broken_one_is_not() {
        let unavailable = parlor_store::Error::Unavailable("no answer in time".to_owned());
        let response = ApiError::from(unavailable).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let broken = parlor_store::Error::Broken("no such table".to_owned());
        let response = ApiError::from(broken).into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn a_conflict_is_not_retryable() {
        let response = ApiError::conflict(Problem::new("taken")).into_response();
        assert_eq!(response.headers()[&X_SHOULD_RETRY], "false");
    }
}
