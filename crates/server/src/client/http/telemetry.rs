//! POST /otel/logs and POST /api/v1/message: what a client reports about itself. It is counted and
//! dropped; a client that is not answered would keep it all and try again for ever.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::json;

use super::json;
use crate::http::ApiError;
use crate::state::Parlor;

/// Bytes that are read of a report, so that its sender gets to the answer.
const READ_BYTES: u64 = 1 << 20;

pub(super) async fn answer(parlor: &Parlor, request: Request) -> Result<Response, ApiError> {
    let reading = drain(request.into_body());
    let read = tokio::time::timeout(parlor.limits.body_timeout(), reading).await;
    parlor.metrics.telemetry(read.unwrap_or_default());
    Ok(json(&json!({})))
}

/// How many bytes there were.
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
