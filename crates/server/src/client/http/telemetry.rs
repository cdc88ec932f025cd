//! POST /otel/logs and POST /api/v1/message: a client's reports about itself. They are counted and
//! discarded. A client that gets no response would keep them all and retry forever.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::json;

use super::json;
use crate::http::ApiError;
use crate::state::ServerState;

/// Maximum bytes of a report that are read, so that the sender receives the response.
const READ_BYTES: u64 = 1 << 20;

pub(super) async fn handle(state: &ServerState, request: Request) -> Result<Response, ApiError> {
    let reading = drain(request.into_body());
    let read = tokio::time::timeout(state.limits.body_timeout(), reading).await;
    state.metrics.telemetry(read.unwrap_or_default());
    Ok(json(&json!({})))
}

/// Reads and discards the body, and returns its length in bytes.
async fn drain(mut body: Body) -> u64 {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, bytes::Bytes::len);
        read += u64::try_from(bytes).unwrap_or(u64::MAX);
        if read >= READ_BYTES {
            break;
        }
    }
    read
}
