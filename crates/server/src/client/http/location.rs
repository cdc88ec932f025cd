//! GET / on `location.…` and POST / on `location-legacy.…`: the caller's geographic location, which
//! the SDK requests for its statistics. The response is always "unknown"; no geolocation database
//! is queried.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::json;

use super::{cors, json};

/// Answers requests to either of the two hosts. Returns `None` for other hosts.
pub(crate) fn answer(request: &Request) -> Option<Response> {
    let host = first_label(request.headers())?;
    let method = match host {
        "location" => Method::GET,
        "location-legacy" => Method::POST,
        _ => return None,
    };
    if request.method() == Method::OPTIONS {
        return Some(cors::preflight());
    }
    if request.method() != method {
        return Some(cors::open(StatusCode::METHOD_NOT_ALLOWED.into_response()));
    }
    // The SDK splits `loc` at the comma, and asks another service if it is shorter than this.
    let unknown = json!({"ip": "", "city": "", "region": "", "country": "", "loc": "0.0000,0.0000", "timezone": "UTC"});
    Some(cors::open(json(&unknown)))
}

fn first_label(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    host.split_once('.').map(|(label, _)| label)
}
