//! What the official client SDKs call over HTTP, next to their socket (docs/spec/signalling.md 3).
//!
//! Browsers call from pages of any origin, with the participant's join token as Bearer. Several
//! paths are those of RealtimeKit's REST API: there the scheme of the credentials says who calls,
//! [`first`] is where that is decided.
//!
//! | file | what it answers |
//! |---|---|
//! | `participant_details` | who the caller is, and what they may do |
//! | `ice_servers`, `active_livestream` | what the SDK asks for on its way into a meeting |
//! | `chat_upload`, `files`, `links` | files of chats: permission, bytes, signed links |
//! | `transcript` | the captions so far: none in this version |
//! | `telemetry`, `location` | what the SDK reports about itself, and asks about its place |
//! | `cors`, `origin` | pages of other origins; what this server is called from outside |

mod active_livestream;
mod chat_upload;
mod cors;
mod files;
mod ice_servers;
pub(crate) mod location;
mod participant_details;
mod telemetry;
mod transcript;

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Serialize;

use crate::http::{ApiError, auth, respond_to_client};
use crate::identity::join_token::Refused;
use crate::rest::participants::{self, Joining};
use crate::state::Parlor;

/// How a call is answered.
type Handler = fn(Arc<Parlor>, Request) -> BoxFuture<'static, Result<Response, ApiError>>;

/// One call of the client SDKs.
pub(crate) struct ClientCall {
    /// Its method.
    pub(crate) method: Method,
    /// Its path, as the router takes it.
    pub(crate) path: &'static str,
    operation: &'static str,
    /// Whether it is the REST API's as well, which is called with other credentials.
    shared: bool,
    handler: Handler,
}

impl ClientCall {
    const fn new(
        method: Method,
        path: &'static str,
        operation: &'static str,
        handler: Handler,
    ) -> Self {
        Self {
            method,
            path,
            operation,
            shared: false,
            handler,
        }
    }

    fn shared(self) -> Self {
        Self {
            shared: true,
            ..self
        }
    }

    fn takes(&self, method: &Method, headers: &HeaderMap) -> bool {
        let is_it = self.method == method || (self.method == Method::GET && method == Method::HEAD);
        is_it && (!self.shared || auth::bearer(headers).is_some())
    }
}

/// Turns an `async fn` into a [`Handler`].
macro_rules! handler {
    ($function:path) => {
        |parlor, request| Box::pin(async move { $function(&parlor, request).await })
    };
}

/// Every call.
pub(crate) fn calls() -> Vec<ClientCall> {
    use ClientCall as C;
    let (get, post, put) = (|| Method::GET, || Method::POST, || Method::PUT);
    let not_built: Handler = handler!(not_built);
    let livestreams = "/v2/meetings/{meeting_id}/livestreams";
    let stop = "/v2/meetings/{meeting_id}/active-livestream/stop";
    vec![
        C::new(
            get(),
            "/v2/internals/participant-details",
            "participantDetails",
            handler!(participant_details::answer),
        ),
        C::new(
            get(),
            "/iceservers",
            "iceServers",
            handler!(ice_servers::answer),
        ),
        C::new(
            get(),
            "/v2/meetings/{meeting_id}/active-livestream",
            "activeLivestream",
            handler!(active_livestream::answer),
        )
        .shared(),
        C::new(post(), livestreams, "startLivestream", not_built).shared(),
        C::new(post(), stop, "stopLivestream", not_built).shared(),
        C::new(post(), "/v2/recordings", "startRecording", not_built).shared(),
        C::new(
            put(),
            "/v2/recordings/{recording_id}",
            "updateRecording",
            not_built,
        )
        .shared(),
        C::new(
            get(),
            "/v2/meetings/{meeting_id}/active-transcript",
            "activeTranscript",
            handler!(transcript::answer),
        ),
        C::new(
            get(),
            transcript::EMPTY,
            "emptyTranscript",
            handler!(transcript::empty),
        ),
        C::new(
            post(),
            "/v2/meetings/chat-upload",
            "chatUpload",
            handler!(chat_upload::answer),
        ),
        C::new(put(), files::PATH, "putFile", |parlor, request| {
            Box::pin(files::put(parlor, request))
        }),
        C::new(get(), files::PATH, "getFile", handler!(files::get)),
        C::new(
            post(),
            "/otel/logs",
            "clientLogs",
            handler!(telemetry::answer),
        ),
        C::new(
            post(),
            "/api/v1/message",
            "clientStatistics",
            handler!(telemetry::answer),
        ),
    ]
}

/// Answers what the client SDKs call, and lets everything else of the path through.
pub(crate) async fn first(
    parlor: Arc<Parlor>,
    calls: Arc<[ClientCall]>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() == Method::OPTIONS {
        return cors::preflight();
    }
    let call = calls
        .iter()
        .find(|call| call.takes(request.method(), request.headers()));
    let response = match call {
        None => next.run(request).await,
        Some(call) => {
            let (parlor, handler) = (Arc::clone(&parlor), call.handler);
            let shared = Arc::clone(&parlor);
            respond_to_client(&parlor, call.operation, request, |request| {
                handler(shared, request)
            })
            .await
        }
    };
    cors::open(response)
}

/// Who calls, by their join token.
///
/// # Errors
/// 401 without a token of ours that has not expired, 404 when it was revoked.
async fn visitor(parlor: &Parlor, headers: &HeaderMap) -> Result<Joining, ApiError> {
    let token = auth::bearer(headers)
        .ok_or_else(|| ApiError::refused("this takes a participant's token as Bearer"))?;
    match participants::joining(parlor, token).await? {
        Ok(joining) => Ok(joining),
        Err(Refused::Revoked) => Err(ApiError::missing("participant")),
        Err(refused) => Err(ApiError::refused(refused)),
    }
}

/// JSON that no cache may keep. Always with a body: the SDK takes an empty one that says it is JSON
/// for a broken network, and calls again.
fn json(body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("answers are plain data with string keys");
    let kind = HeaderValue::from_static("application/json");
    let fresh = HeaderValue::from_static("no-store");
    (
        [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, fresh)],
        body,
    )
        .into_response()
}

/// What RealtimeKit has and this version does not.
async fn not_built(parlor: &Parlor, request: Request) -> Result<Response, ApiError> {
    visitor(parlor, request.headers()).await?;
    Err(ApiError::not_built(
        "recordings and livestreams from a client",
    ))
}
