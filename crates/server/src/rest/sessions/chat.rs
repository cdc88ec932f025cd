//! `GET …/sessions/{session_id}/chat`: a link to what was said, and the link's other end.

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

use super::{OneSession, find};
use crate::clock::rfc3339;
use crate::http::{ApiError, Call, Data, Endpoint, Problem};
use crate::net::PieceBytes;
use crate::rooms::records::{CHAT_PIECE_BYTES, chat_csv, has_chat};
use crate::state::Parlor;

/// How long a link works, in seconds.
const LIFE_SECS: i64 = 7 * 24 * 60 * 60;
/// Where links lead.
const DOWNLOAD: &str = "/downloads/{app_id}/sessions/{session_id}/chat.csv";

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/sessions/{session_id}/chat",
        "getSessionChat",
        answer,
    )
    .describe(
        "Get a session's chat",
        "A link to the session's messages as CSV, which needs no credentials and works for seven days. Of a live \
         session it gives what was said so far. Private messages are not in it. 404 while nothing was said.",
    )
}

/// Where the chat is.
#[derive(Debug, Serialize, JsonSchema)]
struct ChatLink {
    /// The CSV. Whoever has this URL can read it.
    #[schemars(extend("format" = "uri"))]
    chat_download_url: String,
    /// When the URL stops working. RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    chat_download_url_expiry: String,
}

fn right_to_it(app: AppId, session: SessionId) -> String {
    format!("chat of a session\n{app}\n{session}")
}

async fn answer(call: Call<OneSession>) -> Result<Data<ChatLink>, ApiError> {
    let (parlor, app, session) = (&call.parlor, call.app, call.path.session_id);
    find(parlor, app, session, call.now_ms).await?;
    if !has_chat(&parlor.live, app, session).await? {
        let message = "Error: resource not found: no chat in this session";
        return Err(ApiError::not_found(Problem::new(message)));
    }
    let expires = call.now_ms / 1000 + LIFE_SECS;
    let proof = parlor.links.proof(&right_to_it(app, session), expires);
    let path = DOWNLOAD
        .replace("{app_id}", &app.to_string())
        .replace("{session_id}", &session.to_string());
    let origin = crate::net::origin(&call.headers, &call.extensions)?;
    Ok(Data(ChatLink {
        chat_download_url: format!("{origin}{path}?{proof}"),
        chat_download_url_expiry: rfc3339(expires * 1000),
    }))
}

/// The other end of the links.
pub(crate) fn download_router(parlor: &Arc<Parlor>) -> Router {
    let parlor = Arc::clone(parlor);
    Router::new().route(
        DOWNLOAD,
        get(async move |path, query| {
            download(parlor, path, query)
                .await
                .unwrap_or_else(IntoResponse::into_response)
        }),
    )
}

async fn download(
    parlor: Arc<Parlor>,
    path: Result<Path<(AppId, SessionId)>, axum::extract::rejection::PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Ok(Path((app, session))) = path else {
        return Err(ApiError::missing("download"));
    };
    let query = query.unwrap_or_default();
    parlor
        .links
        .check(&right_to_it(app, session), &query)
        .await?;
    let now_ms = parlor.clock.now_ms();
    // The session, its meeting or its app may be gone since.
    parlor
        .owners
        .of(app)
        .await?
        .ok_or_else(|| ApiError::missing("app"))?;
    find(&parlor, app, session, now_ms).await?;
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
    let body = Body::from_stream(chat_csv(Arc::clone(&parlor.live), app, session));
    let pieces = Extension(PieceBytes(CHAT_PIECE_BYTES));
    Ok((headers, pieces, body).into_response())
}
