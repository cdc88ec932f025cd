//! `GET …/sessions/{session_id}/chat`: returns a download link to a session's chat, and serves the
//! download.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::{Method, header};
use parlor_protocol::ids::{AppId, SessionId};
use schemars::JsonSchema;
use serde::Serialize;

use super::{SessionPath, find};
use crate::clock::rfc3339;
use crate::http::{ApiError, Call, Data, Endpoint, Problem};
use crate::net::PieceBytes;
use crate::rooms::records::{CHAT_PIECE_BYTES, chat_csv, has_chat};
use crate::state::ServerState;

/// Lifetime of a link, in seconds.
const LINK_LIFE_SECS: i64 = 7 * 24 * 60 * 60;
/// The path of the download.
const DOWNLOAD: &str = "/downloads/{app_id}/sessions/{session_id}/chat.csv";

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/sessions/{session_id}/chat",
        "getSessionChat",
        handle,
    )
    .describe(
        "Get a session's chat",
        "Returns a link to a CSV file with the session's chat messages. The link is valid for seven days and requires no \
         credentials. For a live session, the file contains the messages sent so far. Private messages are not \
         included. Returns 404 if the session has no chat messages.",
    )
}

/// A download link to a session's chat.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ChatLink")]
struct ChatLink {
    /// URL of the CSV file. Anyone with this URL can read it.
    #[schemars(extend("format" = "uri"))]
    chat_download_url: String,
    /// When the URL expires. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    chat_download_url_expiry: String,
}

fn link_resource(app: AppId, session: SessionId) -> String {
    format!("chat of a session\n{app}\n{session}")
}

async fn handle(call: Call<SessionPath>) -> Result<Data<ChatLink>, ApiError> {
    let (state, app, session) = (&call.state, call.app, call.path.session_id);
    find(state, app, session, call.now_ms).await?;
    if !has_chat(&state.live, app, session).await? {
        let message = "Error: resource not found: no chat in this session";
        return Err(ApiError::not_found(Problem::new(message)));
    }
    let expires = call.now_ms / 1000 + LINK_LIFE_SECS;
    let signed_query = state
        .links
        .sign_query(&link_resource(app, session), expires);
    let path = DOWNLOAD
        .replace("{app_id}", &app.to_string())
        .replace("{session_id}", &session.to_string());
    let origin = crate::net::origin(&call.headers, &call.extensions)?;
    Ok(Data(ChatLink {
        chat_download_url: format!("{origin}{path}?{signed_query}"),
        chat_download_url_expiry: rfc3339(expires * 1000),
    }))
}

/// Builds the router of the downloads.
pub(crate) fn download_router(state: &Arc<ServerState>) -> Router {
    let state = Arc::clone(state);
    Router::new().route(
        DOWNLOAD,
        get(async move |path, query| {
            download(state, path, query)
                .await
                .unwrap_or_else(IntoResponse::into_response)
        }),
    )
}

async fn download(
    state: Arc<ServerState>,
    path: Result<Path<(AppId, SessionId)>, axum::extract::rejection::PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Ok(Path((app, session))) = path else {
        return Err(ApiError::missing("download"));
    };
    let query = query.unwrap_or_default();
    state
        .links
        .verify(&link_resource(app, session), &query)
        .await?;
    let now_ms = state.clock.now_ms();
    // The session, its meeting or its app may have been deleted since the link was issued.
    state
        .owners
        .owner_of(app)
        .await?
        .ok_or_else(|| ApiError::missing("app"))?;
    find(&state, app, session, now_ms).await?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"chat.csv\"",
        ),
        (header::CACHE_CONTROL, "private, no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ];
    let body = Body::from_stream(chat_csv(Arc::clone(&state.live), app, session));
    let pieces = Extension(PieceBytes(CHAT_PIECE_BYTES));
    Ok((headers, pieces, body).into_response())
}
