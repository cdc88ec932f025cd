//! What is served to everybody: health, public keys, the API description and its page; and the metrics, on a listener of their own.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use http::{Method, StatusCode, header};

use crate::client::http::location;
use crate::http::{ApiError, Data, Reply};
use crate::ops::readiness::Readiness;
use crate::rest::openapi;
use crate::state::Parlor;

/// The page may load its own files and call its own server, nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn router(parlor: &Arc<Parlor>) -> Router {
    let (ready, keys) = (Arc::clone(parlor), Arc::clone(parlor));
    let readiness = Arc::new(Readiness::default());
    let description = serde_json::to_vec(&openapi::document(&parlor.limits))
        .expect("the description is plain JSON");
    // One copy, whoever asks for it.
    let description = Bytes::from(description);
    let router = Router::new()
        .route("/", any(home))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || readiness.answer(&ready).await))
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

/// What is served on the listener of metrics, and nowhere else.
pub fn metrics_router(parlor: &Arc<Parlor>) -> Router {
    let parlor = Arc::clone(parlor);
    let text = async move || {
        let media = parlor.edge.media.as_ref();
        let media = media.map(parlor_sfu::Media::stats).unwrap_or_default();
        text(METRICS, parlor.metrics.text(&media))
    };
    Router::new().route("/metrics", get(text))
}

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The door of the host: elsewhere for people, an answer on the hosts where a client asks where it
/// is.
async fn home(request: Request) -> Response {
    if let Some(answer) = location::answer(&request) {
        return answer;
    }
    match *request.method() {
        Method::GET | Method::HEAD => {
            (StatusCode::FOUND, [(header::LOCATION, "/docs")]).into_response()
        }
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

fn jwks(parlor: &Parlor) -> Response {
    let keys = serde_json::json!({"keys": parlor.keys.jwks()});
    public(JSON, keys.to_string())
}

fn text(kind: &'static str, body: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

/// Readable by pages of any origin: nothing in it is secret.
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

/// What an operation costs at the least: a parsed body in the envelope. Only for measurements.
async fn echo(body: bytes::Bytes) -> Response {
    let kind = (header::CONTENT_TYPE, JSON);
    match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(value) => ([kind], Data(value).to_json()).into_response(),
        Err(error) => ApiError::bad_request(error).into_response(),
    }
}
