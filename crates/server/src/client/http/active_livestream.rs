//! GET /v2/meetings/{meeting_id}/active-livestream, asked by a client: none runs in this version.

use axum::extract::Request;
use axum::response::Response;
use serde_json::json;

use super::{json, visitor};
use crate::http::ApiError;
use crate::state::Parlor;

pub(super) async fn answer(parlor: &Parlor, request: Request) -> Result<Response, ApiError> {
    visitor(parlor, request.headers()).await?;
    // The SDK reads fields of `data` whatever it is, and null has none.
    Ok(json(&json!({"success": true, "data": {}})))
}
