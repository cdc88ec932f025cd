//! CORS: pages of any origin may call, because access depends on the token alone and cookies are
//! never accepted.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

/// Allowed methods.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// Allowed request headers: those of the SDK, and those that its tracing may add.
const HEADERS: &str = "authorization, content-type, content-encoding, range, traceparent, tracestate, tracing-id, \
     x-realtimekit-version, x-request-id";
/// Exposed response headers.
const EXPOSED: &str = "x-request-id, retry-after, content-disposition, content-range";
/// How long browsers may cache a preflight response, in seconds: the maximum that Chrome accepts.
const MAX_AGE_SECS: &str = "7200";

/// Answers a preflight request.
pub(super) fn preflight() -> Response {
    let answer = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECS),
    ];
    (StatusCode::NO_CONTENT, answer).into_response()
}

/// Makes a response readable by pages of any origin.
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
