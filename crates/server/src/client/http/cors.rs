//! Pages of any origin may call: what they may do is in the token that they must have, and no
//! cookie is ever taken.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

/// What pages may use.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// What pages may send: what the SDK does, and what its tracing may add.
const HEADERS: &str = "authorization, content-type, content-encoding, range, traceparent, tracestate, tracing-id, \
     x-realtimekit-version, x-request-id";
/// What pages may read.
const EXPOSED: &str = "x-request-id, retry-after, content-disposition, content-range";
/// How long a browser keeps the answer, in seconds: the longest that Chrome does.
const MAX_AGE_SECS: &str = "7200";

/// The answer to a question that a browser asks before the call.
pub(super) fn preflight() -> Response {
    let answer = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECS),
    ];
    (StatusCode::NO_CONTENT, answer).into_response()
}

/// The same answer, readable by pages of any origin.
pub(super) fn open(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(EXPOSED),
    );
    response
}
