//! The files of chats: `PUT` and `GET /uploads/{app}/{meeting}/{id}/{name}`, by signed links.
//!
//! A file is written once and never changed. It may contain anything and is served from the origin
//! of the API, so browsers must not execute it: anything but plain images, audio and video is
//! served as a download, regardless of its declared type (see `kinds`).

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
use crate::files::links::{Access, File, segment};
use crate::files::storage::{Files, ReadError};
use crate::http::ApiError;
use crate::net::PieceBytes;
use crate::rest::{meetings, participants};
use crate::state::ServerState;

/// The path of files.
pub(super) const PATH: &str = "/uploads/{app_id}/{meeting_id}/{file_id}/{name}";

/// A file may be displayed and played, but must not run scripts or load resources.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// Verifies a signed link. Returns its file and the participant that it was issued to, if its
/// meeting and that participant still exist.
async fn verify_link(
    state: &ServerState,
    request: &mut Request,
    access: Access,
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
    let owner = file.check(&state.links, access, query).await?;
    if state.owners.owner_of(file.app).await?.is_none() {
        return Err(ApiError::missing("app"));
    }
    meetings::must_exist(state, file.app, file.meeting).await?;
    if let Some(owner) = owner {
        check_owner(state, &file, owner).await?;
    }
    Ok((file, owner))
}

/// Checks that the participant to whom a link was issued still exists.
///
/// # Errors
/// 403 otherwise.
async fn check_owner(
    state: &ServerState,
    file: &File,
    owner: ParticipantId,
) -> Result<(), ApiError> {
    let found = participants::by_id(state, file.app, file.meeting, owner).await?;
    let gone = "Access denied: the participant to whom this link was issued no longer exists";
    found
        .map(drop)
        .ok_or_else(|| ApiError::forbidden_with(gone))
}

fn files(state: &ServerState) -> Result<&Files, ApiError> {
    let none = || ApiError::not_implemented("files without a storage");
    state.files.storage.as_ref().ok_or_else(none)
}

/// Stores a file.
pub(super) async fn put(
    state: Arc<ServerState>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let (file, owner) = verify_link(&state, &mut request, Access::Put).await?;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let length = request.body().size_hint().exact().or(length);
    let upload = Upload {
        files: files(&state)?.clone(),
        // Each file whose link has no participant counts as a separate participant.
        participant: owner.map_or(file.id, ParticipantId::uuid),
        state,
        file,
        length,
    };
    // In a separate task, which cleans up even if the client disconnects.
    let writing = tokio::spawn(upload.run(request.into_body()));
    let panicked = |_| ApiError::internal("the task that writes a file panicked");
    let written = writing.await.map_err(panicked)??;
    Ok(json(&json!({"success": true, "data": {"size": written}})))
}

/// Serves a file.
pub(super) async fn get(state: &ServerState, mut request: Request) -> Result<Response, ApiError> {
    let (file, _) = verify_link(state, &mut request, Access::Get).await?;
    let tag = format!("\"{}\"", file.id.simple());
    let headers = request.headers();
    if header_equals(headers, header::IF_NONE_MATCH, &tag) {
        return Ok(with_file_headers(
            StatusCode::NOT_MODIFIED,
            &tag,
            Body::empty(),
        ));
    }
    let of_this =
        !headers.contains_key(header::IF_RANGE) || header_equals(headers, header::IF_RANGE, &tag);
    let range = headers.get(header::RANGE).filter(|_| of_this);
    let range = range.and_then(|range| range.to_str().ok());
    let found = files(state)?.read(&file, range).await;
    let found = found.map_err(read_error)?;
    let status = match found.part {
        None => StatusCode::OK,
        Some(_) => StatusCode::PARTIAL_CONTENT,
    };
    let mut response = with_file_headers(status, &tag, Body::from_stream(found.bytes));
    let pieces = PieceBytes(found.piece_bytes);
    response.extensions_mut().insert(pieces);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(found.length));
    let kind = HeaderValue::from_static(found.kind.mime());
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(
        header::CONTENT_DISPOSITION,
        disposition(found.kind.is_inline(), &file.name),
    );
    if let Some(part) = found.part {
        let part = HeaderValue::try_from(part).expect("numbers are a header value");
        headers.insert(header::CONTENT_RANGE, part);
    }
    Ok(response)
}

fn read_error(why: ReadError) -> ApiError {
    match why {
        ReadError::Missing => ApiError::missing("file"),
        ReadError::OutOfRange => ApiError::range_not_satisfiable(),
        ReadError::Failed(error) => storage_error(&error),
    }
}

fn storage_error(error: &object_store::Error) -> ApiError {
    ApiError::unavailable(format!("storage: {error}"))
}

fn header_equals(headers: &HeaderMap, name: header::HeaderName, tag: &str) -> bool {
    headers.get(name).is_some_and(|given| given == tag)
}

/// Builds a response with the headers that all files have.
fn with_file_headers(status: StatusCode, tag: &str, body: Body) -> Response {
    let tag = HeaderValue::try_from(tag).expect("hex digits are a header value");
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // The link is a secret that must not leak through links inside the file.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::ACCEPT_RANGES, "bytes"),
        // The file never changes, but its link expires.
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

/// RFC 6266: the name as ASCII, and again in full.
fn disposition(is_inline: bool, name: &str) -> HeaderValue {
    let how = if is_inline { "inline" } else { "attachment" };
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
