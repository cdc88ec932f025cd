//! GET /v2/meetings/{meeting_id}/active-transcript: the captions so far, for those who come late.
//!
//! Nothing is written down in this version. The SDK asks by itself, and a browser reports every
//! answer that is an error, so it is given a transcript without lines.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::json;

use super::{json, visitor};
use crate::http::ApiError;
use crate::net::origin;
use crate::state::Parlor;

/// Where the transcript without lines is.
pub(super) const EMPTY: &str = "/v2/internals/empty-transcript.csv";

pub(super) async fn answer(parlor: &Parlor, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    visitor(parlor, &parts.headers).await?;
    let origin = origin(&parts.headers, &parts.extensions)?;
    let url = format!("{origin}{EMPTY}");
    Ok(json(
        &json!({"success": true, "data": {"transcript_download_url": url}}),
    ))
}

/// The transcript itself, which nobody has to be let in for.
pub(super) async fn empty(_: &Parlor, _: Request) -> Result<Response, ApiError> {
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], "").into_response())
}
