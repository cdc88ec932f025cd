//! Around every request: its id, its log line, its metrics, and an answer even if a handler panics.

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

use super::endpoint::{Endpoint, Incoming, Surface};
use super::error::ApiError;
use crate::state::Parlor;

/// Names a request in logs and answers. A caller's own is kept if it is sane.
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(crate) async fn to_endpoint(
    parlor: Arc<Parlor>,
    endpoint: Arc<Endpoint>,
    surface: Surface,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response {
    let (success, operation) = (endpoint.success, endpoint.id);
    let about = About {
        operation,
        surface: surface.as_str(),
    };
    observed(&parlor, about, request, async |request| {
        let params = params.map_err(|_| ApiError::bad_request("the path is not valid UTF-8"))?;
        let parlor = Arc::clone(&parlor);
        (endpoint.handler)(Incoming {
            parlor,
            surface,
            params,
            request,
            success,
        })
        .await
    })
    .await
}

pub(crate) async fn not_built(
    parlor: Arc<Parlor>,
    operation: &'static str,
    surface: Surface,
    request: Request,
) -> Response {
    let about = About {
        operation,
        surface: surface.as_str(),
    };
    observed(&parlor, about, request, async |_| {
        Err(ApiError::not_built(operation))
    })
    .await
}

pub(crate) async fn not_found(parlor: Arc<Parlor>, request: Request) -> Response {
    let about = About {
        operation: "unknown",
        surface: "",
    };
    observed(&parlor, about, request, async |_| {
        Err(ApiError::missing("path"))
    })
    .await
}

pub(crate) async fn wrong_method(parlor: Arc<Parlor>, allow: String, request: Request) -> Response {
    let about = About {
        operation: "unknown",
        surface: "",
    };
    observed(&parlor, about, request, async |_| {
        Err(ApiError::method_not_allowed(allow))
    })
    .await
}

/// Around what is served to everybody.
pub(crate) async fn site(parlor: Arc<Parlor>, request: Request, next: Next) -> Response {
    let about = About {
        operation: "site",
        surface: "",
    };
    observed(&parlor, about, request, async |request| {
        let response = next.run(request).await;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            return Err(ApiError::method_not_allowed("GET, HEAD".to_owned()));
        }
        Ok(response)
    })
    .await
}

/// Around what the client SDKs call.
pub(crate) async fn client<F: Future<Output = Result<Response, ApiError>>>(
    parlor: &Parlor,
    operation: &'static str,
    request: Request,
    handle: impl FnOnce(Request) -> F,
) -> Response {
    let about = About {
        operation,
        surface: "client",
    };
    observed(parlor, about, request, handle).await
}

/// What a request turned out to be about.
#[derive(Clone, Copy)]
struct About {
    operation: &'static str,
    surface: &'static str,
}

async fn observed<F: Future<Output = Result<Response, ApiError>>>(
    parlor: &Parlor,
    about: About,
    request: Request,
    handle: impl FnOnce(Request) -> F,
) -> Response {
    let started = Instant::now();
    let id = request_id(parlor, &request);
    let name = id.to_str().unwrap_or_default();
    let span = tracing::debug_span!("request", id = name, operation = about.operation, method = %request.method());
    let answer = AssertUnwindSafe(handle(request))
        .catch_unwind()
        .instrument(span);
    let result = answer
        .await
        .unwrap_or_else(|_| Err(ApiError::internal("the handler panicked")));
    if let Some(cause) = result.as_ref().err().and_then(ApiError::cause) {
        tracing::error!(
            id = name,
            operation = about.operation,
            cause,
            "a request failed"
        );
    }
    let mut response = result.unwrap_or_else(IntoResponse::into_response);
    let (took, status) = (started.elapsed(), response.status().as_u16());
    tracing::debug!(
        id = name,
        operation = about.operation,
        status,
        micros = took.as_micros(),
        "answered"
    );
    parlor
        .metrics
        .answered(about.operation, about.surface, status, took);
    response.headers_mut().insert(X_REQUEST_ID.clone(), id);
    response
}

fn request_id(parlor: &Parlor, request: &Request) -> HeaderValue {
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
        let id = parlor
            .clock
            .random_id()
            .simple()
            .encode_lower(&mut text)
            .as_bytes()
            .to_vec();
        HeaderValue::from_bytes(&id).expect("hex digits are a header value")
    })
}
