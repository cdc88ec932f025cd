//! The HTTP calls of the official client SDKs, besides their socket (docs/spec/signalling.md 3).
//!
//! Browsers call from pages of any origin, with the participant's join token as Bearer. Several
//! paths are shared with RealtimeKit's REST API; [`dispatch`] selects the handler by the
//! scheme of the credentials.
//!
//! | file | content |
//! |---|---|
//! | `participant_details` | the caller's participant, preset and permissions |
//! | `ice_servers`, `active_livestream` | other calls of the SDK while it joins a meeting |
//! | `chat_upload`, `files` | files in chats: signed links, upload and download |
//! | `transcript` | the captions so far: none in this version |
//! | `telemetry`, `location` | logs and statistics from the SDK, and the caller's location |
//! | `cors` | access from pages of other origins |

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

use crate::http::{ApiError, auth, dispatch_client};
use crate::identity::join_token::TokenError;
use crate::rest::participants::{self, JoinContext};
use crate::state::ServerState;

/// The function that handles a call.
type Handler = fn(Arc<ServerState>, Request) -> BoxFuture<'static, Result<Response, ApiError>>;

/// One call of the client SDKs.
pub(crate) struct ClientCall {
    /// The HTTP method.
    pub(crate) method: Method,
    /// The path, in the router's syntax.
    pub(crate) path: &'static str,
    operation: &'static str,
    /// Whether the path also belongs to the REST API, which uses other credentials.
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

    fn matches_request(&self, method: &Method, headers: &HeaderMap) -> bool {
        let has_method =
            self.method == method || (self.method == Method::GET && method == Method::HEAD);
        has_method && (!self.shared || auth::bearer(headers).is_some())
    }
}

/// Turns an `async fn` into a [`Handler`].
macro_rules! handler {
    ($function:path) => {
        |state, request| Box::pin(async move { $function(&state, request).await })
    };
}

/// Returns every call.
pub(crate) fn calls() -> Vec<ClientCall> {
    use ClientCall as C;
    let (get, post, put) = (|| Method::GET, || Method::POST, || Method::PUT);
    let reject_unimplemented: Handler = handler!(reject_unimplemented);
    let livestreams = "/v2/meetings/{meeting_id}/livestreams";
    let stop = "/v2/meetings/{meeting_id}/active-livestream/stop";
    vec![
        C::new(
            get(),
            "/v2/internals/participant-details",
            "participantDetails",
            handler!(participant_details::handle),
        ),
        C::new(
            get(),
            "/iceservers",
            "iceServers",
            handler!(ice_servers::handle),
        ),
        C::new(
            get(),
            "/v2/meetings/{meeting_id}/active-livestream",
            "activeLivestream",
            handler!(active_livestream::handle),
        )
        .shared(),
        C::new(post(), livestreams, "startLivestream", reject_unimplemented).shared(),
        C::new(post(), stop, "stopLivestream", reject_unimplemented).shared(),
        C::new(
            post(),
            "/v2/recordings",
            "startRecording",
            reject_unimplemented,
        )
        .shared(),
        C::new(
            put(),
            "/v2/recordings/{recording_id}",
            "updateRecording",
            reject_unimplemented,
        )
        .shared(),
        C::new(
            get(),
            "/v2/meetings/{meeting_id}/active-transcript",
            "activeTranscript",
            handler!(transcript::handle),
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
            handler!(chat_upload::handle),
        ),
        C::new(put(), files::PATH, "putFile", |state, request| {
            Box::pin(files::put(state, request))
        }),
        C::new(get(), files::PATH, "getFile", handler!(files::get)),
        C::new(
            post(),
            "/otel/logs",
            "clientLogs",
            handler!(telemetry::handle),
        ),
        C::new(
            post(),
            "/api/v1/message",
            "clientStatistics",
            handler!(telemetry::handle),
        ),
    ]
}

/// Handles the calls of client SDKs, and passes all other requests to `next`.
pub(crate) async fn dispatch(
    state: Arc<ServerState>,
    calls: Arc<[ClientCall]>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() == Method::OPTIONS {
        return cors::preflight();
    }
    let call = calls
        .iter()
        .find(|call| call.matches_request(request.method(), request.headers()));
    let response = match call {
        None => next.run(request).await,
        Some(call) => {
            let (state, handler) = (Arc::clone(&state), call.handler);
            let shared = Arc::clone(&state);
            dispatch_client(&state, call.operation, request, |request| {
                handler(shared, request)
            })
            .await
        }
    };
    cors::open(response)
}

/// Authenticates the caller by its join token.
///
/// # Errors
/// 401 without a valid token of this server, 404 if the token was revoked.
async fn authenticate(state: &ServerState, headers: &HeaderMap) -> Result<JoinContext, ApiError> {
    let token = auth::bearer(headers).ok_or_else(|| {
        ApiError::unauthorized_with("this call requires a participant's token as Bearer")
    })?;
    match participants::verify_join_token(state, token).await? {
        Ok(joining) => Ok(joining),
        Err(TokenError::Revoked) => Err(ApiError::missing("participant")),
        Err(refused) => Err(ApiError::unauthorized_with(refused)),
    }
}

/// Builds a JSON response that must not be cached. It always has a body: the SDK treats an empty
/// one with a JSON content type as a network failure, and retries.
fn json(body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("responses are plain data with string keys");
    let kind = HeaderValue::from_static("application/json");
    let no_store = HeaderValue::from_static("no-store");
    (
        [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, no_store),
        ],
        body,
    )
        .into_response()
}

/// Rejects the calls that RealtimeKit supports and this version does not.
async fn reject_unimplemented(state: &ServerState, request: Request) -> Result<Response, ApiError> {
    authenticate(state, request.headers()).await?;
    Err(ApiError::not_implemented(
        "recordings and livestreams from a client",
    ))
}
