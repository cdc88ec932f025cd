//! The files of chats: `PUT` and `GET /uploads/{app}/{meeting}/{id}/{name}`, by signed links.
//!
//! A file is written once and never changed. It may hold anything, and is served from the origin of
//! the API, so browsers are told to run nothing in it: what is not plainly a picture, a sound or a
//! film is for downloading, whatever it calls itself (see `kinds`).

mod upload;

use std::sync::Arc;

use axum::RequestExt;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, Request};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId};
use serde_json::json;
use uuid::Uuid;

use self::upload::Upload;
use super::json;
use crate::files::links::{File, Right, segment};
use crate::files::storage::{Files, Unread};
use crate::http::ApiError;
use crate::net::PieceBytes;
use crate::rest::{meetings, participants};
use crate::state::Parlor;

/// Where files are.
pub(super) const PATH: &str = "/uploads/{app_id}/{meeting_id}/{file_id}/{name}";

/// A file may be shown and played, and runs nothing and loads nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// What the path and the query of a link name, and whom it was made for, if the link is good, and its
/// meeting and that person still there.
async fn linked(
    parlor: &Parlor,
    request: &mut Request,
    right: Right,
) -> Result<(File, Option<ParticipantId>), ApiError> {
    let none = || ApiError::missing("file");
    let Path((app, meeting, id, name)) = request
        .extract_parts::<Path<(String, String, String, String)>>()
        .await
        .map_err(|_| none())?;
    let file = File {
        app: app.parse::<AppId>().map_err(|_| none())?,
        meeting: meeting.parse::<MeetingId>().map_err(|_| none())?,
        id: id.parse::<Uuid>().map_err(|_| none())?,
        name,
    };
    let query = request.uri().query().unwrap_or_default();
    let owner = file.check(&parlor.links, right, query).await?;
    if parlor.owners.of(file.app).await?.is_none() {
        return Err(ApiError::missing("app"));
    }
    meetings::must_exist(parlor, file.app, file.meeting).await?;
    if let Some(owner) = owner {
        must_be_there(parlor, &file, owner).await?;
    }
    Ok((file, owner))
}

/// Checks that whom a link was made for is still a participant.
///
/// # Errors
/// 403 when they are not.
async fn must_be_there(parlor: &Parlor, file: &File, owner: ParticipantId) -> Result<(), ApiError> {
    let found = participants::by_id(parlor, file.app, file.meeting, owner).await?;
    let gone = "Access denied: whom this link was made for is no participant any more";
    found.map(drop).ok_or_else(|| ApiError::denied(gone))
}

fn files(parlor: &Parlor) -> Result<&Files, ApiError> {
    let none = || ApiError::not_built("files without a storage");
    parlor.files.storage.as_ref().ok_or_else(none)
}

/// Takes the bytes of a file.
pub(super) async fn put(parlor: Arc<Parlor>, mut request: Request) -> Result<Response, ApiError> {
    let (file, owner) = linked(&parlor, &mut request, Right::Put).await?;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let length = request.body().size_hint().exact().or(length);
    let upload = Upload {
        files: files(&parlor)?.clone(),
        // A link that names nobody is somebody's own.
        person: owner.map_or(file.id, ParticipantId::uuid),
        parlor,
        file,
        length,
    };
    // In a task of its own, which cleans up also when the client has gone.
    let writing = tokio::spawn(upload.run(request.into_body()));
    let panicked = |_| ApiError::internal("the task that writes a file panicked");
    let written = writing.await.map_err(panicked)??;
    Ok(json(&json!({"success": true, "data": {"size": written}})))
}

/// Serves a file.
pub(super) async fn get(parlor: &Parlor, mut request: Request) -> Result<Response, ApiError> {
    let (file, _) = linked(parlor, &mut request, Right::Get).await?;
    let tag = format!("\"{}\"", file.id.simple());
    let headers = request.headers();
    if is(headers, header::IF_NONE_MATCH, &tag) {
        return Ok(described(StatusCode::NOT_MODIFIED, &tag, Body::empty()));
    }
    let of_this = !headers.contains_key(header::IF_RANGE) || is(headers, header::IF_RANGE, &tag);
    let range = headers.get(header::RANGE).filter(|_| of_this);
    let range = range.and_then(|range| range.to_str().ok());
    let found = files(parlor)?.read(&file, range).await;
    let found = found.map_err(why_unread)?;
    let status = match found.part {
        None => StatusCode::OK,
        Some(_) => StatusCode::PARTIAL_CONTENT,
    };
    let mut response = described(status, &tag, Body::from_stream(found.bytes));
    let pieces = PieceBytes(found.piece_bytes);
    response.extensions_mut().insert(pieces);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(found.length));
    let kind = HeaderValue::from_static(found.kind.mime());
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(
        header::CONTENT_DISPOSITION,
        disposition(found.kind.is_shown(), &file.name),
    );
    if let Some(part) = found.part {
        let part = HeaderValue::try_from(part).expect("numbers are a header value");
        headers.insert(header::CONTENT_RANGE, part);
    }
    Ok(response)
}

fn why_unread(why: Unread) -> ApiError {
    match why {
        Unread::Missing => ApiError::missing("file"),
        Unread::OutOfRange => ApiError::outside(),
        Unread::Failed(error) => failed(&error),
    }
}

fn failed(error: &object_store::Error) -> ApiError {
    ApiError::unavailable(format!("storage: {error}"))
}

fn is(headers: &HeaderMap, name: header::HeaderName, tag: &str) -> bool {
    headers.get(name).is_some_and(|given| given == tag)
}

/// What is said of every file.
fn described(status: StatusCode, tag: &str, body: Body) -> Response {
    let tag = HeaderValue::try_from(tag).expect("hex digits are a header value");
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // The link is a secret, and the file's own links must not tell it to others.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::ACCEPT_RANGES, "bytes"),
        // It never changes, but its link expires.
        (header::CACHE_CONTROL, "private, max-age=3600"),
    ];
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("cross-origin"),
    );
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// RFC 6266: the name twice, the second time in any script.
fn disposition(is_shown: bool, name: &str) -> HeaderValue {
    let how = if is_shown { "inline" } else { "attachment" };
    let plain: String = name
        .chars()
        .map(|letter| match letter {
            ' ' | '-' | '_' | '.' => letter,
            _ if letter.is_ascii_alphanumeric() => letter,
            _ => '_',
        })
        .collect();
    let whole = segment(name);
    let text = format!("{how}; filename=\"{plain}\"; filename*=UTF-8''{whole}");
    HeaderValue::try_from(text).expect("both forms of the name are ASCII")
}
