//! Wraps every request with a request id, a log line and metrics, and responds even if the handler
//! panics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, StatusCode};
use tracing::Instrument;

use super::endpoint::{Endpoint, IncomingRequest, Surface};
use super::error::ApiError;
use crate::state::ServerState;

/// Identifies a request in logs and responses. A valid id sent by the client is kept.
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(crate) async fn to_endpoint(
    state: Arc<ServerState>,
    endpoint: Arc<Endpoint>,
    surface: Surface,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response {
    let (success, operation) = (endpoint.success, endpoint.id);
    let labels = RequestLabels {
        operation,
        surface: surface.as_str(),
    };
    instrumented(&state, labels, request, async |request| {
        let params = params.map_err(|_| ApiError::bad_request("the path is not valid UTF-8"))?;
        let state = Arc::clone(&state);
        (endpoint.handler)(IncomingRequest {
            state,
            surface,
            params,
            request,
            success,
        })
        .await
    })
    .await
}

pub(crate) async fn not_implemented(
    state: Arc<ServerState>,
    operation: &'static str,
    surface: Surface,
    request: Request,
) -> Response {
    let labels = RequestLabels {
        operation,
        surface: surface.as_str(),
    };
    instrumented(&state, labels, request, async |_| {
        Err(ApiError::not_implemented(operation))
    })
    .await
}

pub(crate) async fn not_found(state: Arc<ServerState>, request: Request) -> Response {
    let labels = RequestLabels {
        operation: "unknown",
        surface: "",
    };
    instrumented(&state, labels, request, async |_| {
        Err(ApiError::missing("path"))
    })
    .await
}

pub(crate) async fn method_not_allowed(
    state: Arc<ServerState>,
    allow: String,
    request: Request,
) -> Response {
    let labels = RequestLabels {
        operation: "unknown",
        surface: "",
    };
    instrumented(&state, labels, request, async |_| {
        Err(ApiError::method_not_allowed(allow))
    })
    .await
}

/// Middleware of the routes that need no authentication.
pub(crate) async fn site(state: Arc<ServerState>, request: Request, next: Next) -> Response {
    let labels = RequestLabels {
        operation: "site",
        surface: "",
    };
    instrumented(&state, labels, request, async |request| {
        let response = next.run(request).await;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            return Err(ApiError::method_not_allowed("GET, HEAD".to_owned()));
        }
        Ok(response)
    })
    .await
}

/// Runs a request of a client SDK.
pub(crate) async fn client<F: Future<Output = Result<Response, ApiError>>>(
    state: &ServerState,
    operation: &'static str,
    request: Request,
    handle: impl FnOnce(Request) -> F,
) -> Response {
    let labels = RequestLabels {
        operation,
        surface: "client",
    };
    instrumented(state, labels, request, handle).await
}

/// The labels of a request in logs and metrics.
#[derive(Clone, Copy)]
struct RequestLabels {
    operation: &'static str,
    surface: &'static str,
}

async fn instrumented<F: Future<Output = Result<Response, ApiError>>>(
    state: &ServerState,
    labels: RequestLabels,
    request: Request,
    handle: impl FnOnce(Request) -> F,
) -> Response {
    let started = Instant::now();
    let id = request_id(state, &request);
    let name = id.to_str().unwrap_or_default();
    let span = tracing::debug_span!("request", id = name, operation = labels.operation, method = %request.method());
    let response = AssertUnwindSafe(handle(request))
        .catch_unwind()
        .instrument(span);
    let result = response
        .await
        .unwrap_or_else(|_| Err(ApiError::internal("the handler panicked")));
    if let Some(cause) = result.as_ref().err().and_then(ApiError::cause) {
        tracing::error!(
            id = name,
            operation = labels.operation,
            cause,
            "a request failed"
        );
    }
    let mut response = result.unwrap_or_else(IntoResponse::into_response);
    let (took, status) = (started.elapsed(), response.status().as_u16());
    tracing::debug!(
        id = name,
        operation = labels.operation,
        status,
        micros = took.as_micros(),
        "request completed"
    );
    state
        .metrics
        .record_request(labels.operation, labels.surface, status, took);
    response.headers_mut().insert(X_REQUEST_ID.clone(), id);
    response
}

fn request_id(state: &ServerState, request: &Request) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=128).contains(&bytes.len())
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/=".contains(byte))
    };
    let given = request.headers().get(&X_REQUEST_ID).filter(sane).cloned();
    given.unwrap_or_else(|| {
        let mut text = [0; 32];
        let id = state
            .clock
            .random_id()
            .simple()
            .encode_lower(&mut text)
            .as_bytes()
            .to_vec();
        HeaderValue::from_bytes(&id).expect("hex digits are a header value")
    })
}
