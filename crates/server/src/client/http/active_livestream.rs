//! GET /v2/meetings/{meeting_id}/active-livestream, called by a client. There are no livestreams in
//! this version.

use axum::extract::Request;
use axum::response::Response;
use serde_json::json;

use super::{authenticate, json};
use crate::http::ApiError;
use crate::state::ServerState;

pub(super) async fn handle(state: &ServerState, request: Request) -> Result<Response, ApiError> {
    authenticate(state, request.headers()).await?;
    // The SDK reads fields of `data` unconditionally, which fails on null.
    Ok(json(&json!({"success": true, "data": {}})))
}
