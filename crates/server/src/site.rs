//! Public endpoints without authentication: health checks, public keys, the API description and its
//! page. Also the metrics, which are served on a separate listener.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use http::{Method, StatusCode, header};

use crate::client::http::location;
use crate::http::{ApiError, ApiResponse, Data};
use crate::ops::readiness::Readiness;
use crate::rest::openapi;
use crate::state::ServerState;

/// Restricts the page to its own files and its own server.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn router(state: &Arc<ServerState>) -> Router {
    let (ready, keys) = (Arc::clone(state), Arc::clone(state));
    let readiness = Arc::new(Readiness::default());
    let description = serde_json::to_vec(&openapi::document(&state.limits))
        .expect("the description is plain JSON");
    // Serialized once and shared by all requests.
    let description = Bytes::from(description);
    let router = Router::new()
        .route("/", any(home))
        .route("/healthz", get(async || "ok\n"))
        .route(
            "/readyz",
            get(async move || readiness.respond(&ready).await),
        )
        .route("/.well-known/jwks.json", get(async move || jwks(&keys)))
        .route(
            "/openapi.json",
            get(async move || public(JSON, description.clone())),
        )
        .route(
            "/docs",
            get(async || page(HTML, include_str!("../assets/docs.html"))),
        )
        .route(
            "/docs/docs.js",
            get(async || page(SCRIPT, include_str!("../assets/docs.js"))),
        )
        .route(
            "/docs/docs.css",
            get(async || page(STYLE, include_str!("../assets/docs.css"))),
        );
    if std::env::var_os("PARLOR_BENCH_ECHO").is_some() {
        router.route("/bench/echo", post(echo))
    } else {
        router
    }
}

/// Builds the router of the metrics listener.
pub fn metrics_router(state: &Arc<ServerState>) -> Router {
    let state = Arc::clone(state);
    let text = async move || {
        let media = state.edge.media.as_ref();
        let media = media.map(parlor_sfu::Media::stats).unwrap_or_default();
        text(METRICS, state.metrics.encode(&media))
    };
    Router::new().route("/metrics", get(text))
}

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The root path. Redirects browsers to the documentation, and answers clients on the hosts that
/// they query for their location.
async fn home(request: Request) -> Response {
    if let Some(response) = location::answer(&request) {
        return response;
    }
    match *request.method() {
        Method::GET | Method::HEAD => {
            (StatusCode::FOUND, [(header::LOCATION, "/docs")]).into_response()
        }
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

fn jwks(state: &ServerState) -> Response {
    let keys = serde_json::json!({"keys": state.keys.jwks()});
    public(JSON, keys.to_string())
}

fn text(kind: &'static str, body: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

/// A response that pages of any origin may read, because it contains no secrets.
fn public(kind: &'static str, body: impl IntoResponse) -> Response {
    let open = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::CACHE_CONTROL, "public, max-age=60"),
    ];
    (open, text(kind, body)).into_response()
}

fn page(kind: &'static str, body: &'static str) -> Response {
    let guards = [
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (guards, text(kind, body)).into_response()
}

/// The minimal cost of an operation: parses a body and returns it in the envelope. For benchmarks
/// only.
async fn echo(body: bytes::Bytes) -> Response {
    let kind = (header::CONTENT_TYPE, JSON);
    match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(value) => ([kind], Data(value).to_json()).into_response(),
        Err(error) => ApiError::bad_request(error).into_response(),
    }
}
