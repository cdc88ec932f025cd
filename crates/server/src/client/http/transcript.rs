//! GET /v2/meetings/{meeting_id}/active-transcript: the captions so far, for participants who join
//! late.
//!
//! This version does not transcribe. The SDK makes this call by itself, and browsers log every
//! error response, so it gets an empty transcript.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::json;

use super::{authenticate, json};
use crate::http::ApiError;
use crate::net::origin;
use crate::state::ServerState;

/// The path of the empty transcript.
pub(super) const EMPTY: &str = "/v2/internals/empty-transcript.csv";

pub(super) async fn handle(state: &ServerState, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    authenticate(state, &parts.headers).await?;
    let origin = origin(&parts.headers, &parts.extensions)?;
    let url = format!("{origin}{EMPTY}");
    Ok(json(
        &json!({"success": true, "data": {"transcript_download_url": url}}),
    ))
}

/// Serves the empty transcript, without authentication.
pub(super) async fn empty(_: &ServerState, _: Request) -> Result<Response, ApiError> {
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], "").into_response())
}
