//! The definition of an API operation: one value that the router, the API description, the metrics
//! and the tests all read.
//!
//! A handler is a plain `async fn(Call<Path, Query, Body>) -> Result<impl ApiResponse, ApiError>`.
//! By the time it runs, the caller is authenticated and authorized for the account and the app,
//! the app exists, and path, query and body have been parsed and validated.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use parlor_protocol::ids::{AccountId, AppId};
use parlor_store::Unit;
use schemars::{Schema, SchemaGenerator};
use uuid::Uuid;

use super::auth::{self, Caller};
use super::error::ApiError;
use super::idempotency::{self, CommitError, IdempotencyKey};
use super::input::{FromPath, Input, PathParams, parse_body, parse_query};
use super::response::ApiResponse;
use crate::state::ServerState;

/// Response header that marks a response replayed for its `Idempotency-Key`.
pub(crate) static IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Where an operation is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Under the account, on surface A only.
    Account,
    /// Under the app on surface A, and on surface B where RealtimeKit offers the operation there.
    App {
        /// Whether the operation is also mounted on surface B.
        on_v2: bool,
    },
}

/// The API surface of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    /// `/client/v4/accounts/{account_id}/realtime/kit`, authenticated with an API token.
    A,
    /// `/v2`, authenticated with `app_id:token` as HTTP Basic credentials.
    B,
}

impl Surface {
    /// The surface's name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

type Handler =
    Arc<dyn Fn(IncomingRequest) -> BoxFuture<'static, Result<Response, ApiError>> + Send + Sync>;

/// A routed request, before authentication and parsing.
pub(crate) struct IncomingRequest {
    pub(crate) state: Arc<ServerState>,
    pub(crate) surface: Surface,
    pub(crate) params: RawPathParams,
    pub(crate) request: Request,
    pub(crate) success: StatusCode,
}

/// Type-erased functions over an operation's types: schema generators and parsers.
#[derive(Clone, Copy)]
pub(crate) struct OperationTypes {
    pub(crate) path: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) query: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) body: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) response: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) parse_query: fn(&str),
    pub(crate) parse_body: fn(&[u8]),
}

/// An operation of the API.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) scope: Scope,
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    pub(crate) success: StatusCode,
    pub(crate) not_found: bool,
    pub(crate) conflict: bool,
    pub(crate) headers: &'static [(&'static str, &'static str)],
    pub(crate) types: OperationTypes,
    pub(crate) handler: Handler,
}

impl Endpoint {
    /// Creates an operation on an app, mounted on both surfaces, with success status 200.
    ///
    /// `path` is relative to the app; `id` is the operation's name in RealtimeKit's description.
    pub fn new<P, Q, B, R, F>(
        method: Method,
        path: &'static str,
        id: &'static str,
        handler: impl Fn(Call<P, Q, B>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        P: FromPath,
        Q: Input,
        B: Input,
        R: ApiResponse,
        F: Future<Output = Result<R, ApiError>> + Send + 'static,
    {
        Self {
            method,
            path,
            scope: Scope::App { on_v2: true },
            id,
            title: "",
            description: "",
            success: StatusCode::OK,
            // The app itself may not exist.
            not_found: true,
            conflict: false,
            headers: &[],
            types: OperationTypes {
                path: |generator| P::json_schema(generator),
                query: |generator| Q::json_schema(generator),
                body: |generator| generator.subschema_for::<B>(),
                response: R::schema,
                parse_query: |text| drop(parse_query::<Q>(text)),
                parse_body: |bytes| drop(parse_body::<B>(bytes)),
            },
            handler: Arc::new(move |incoming| {
                let handler = handler.clone();
                Box::pin(async move { run(incoming, handler).await })
            }),
        }
    }

    /// Sets the operation's summary and description in the API description.
    #[must_use]
    pub fn describe(mut self, title: &'static str, description: &'static str) -> Self {
        (self.title, self.description) = (title, description);
        self
    }

    /// Sets the success status to 201.
    #[must_use]
    pub fn created(mut self) -> Self {
        self.success = StatusCode::CREATED;
        self
    }

    /// Mounts the operation under the account instead of an app.
    #[must_use]
    pub fn on_account(mut self) -> Self {
        self.scope = Scope::Account;
        self
    }

    /// Mounts the operation on surface A only.
    #[must_use]
    pub fn only_on_a(mut self) -> Self {
        self.scope = Scope::App { on_v2: false };
        self
    }

    /// Documents that the operation may fail with 409.
    #[must_use]
    pub fn may_conflict(mut self) -> Self {
        self.conflict = true;
        self
    }

    /// Documents the request headers that the operation reads, as pairs of name and description.
    #[must_use]
    pub fn reads(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }

    /// The surfaces and paths where the operation is mounted.
    pub fn mounts(&self) -> Vec<(Surface, String)> {
        mounts(self.scope, self.path)
    }

    /// Parses untrusted input as the operation's query and body. For fuzzers.
    pub fn fuzz(&self, bytes: &[u8]) {
        (self.types.parse_body)(bytes);
        if let Ok(text) = std::str::from_utf8(bytes) {
            (self.types.parse_query)(text);
        }
    }

    /// The HTTP method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path relative to the account or the app.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// The operation's name.
    pub fn id(&self) -> &'static str {
        self.id
    }

    pub(crate) fn has_body(&self) -> bool {
        matches!(self.method, Method::POST | Method::PUT | Method::PATCH)
    }
}

/// The surfaces and full paths of an operation with this scope and relative path.
pub(crate) fn mounts(scope: Scope, path: &str) -> Vec<(Surface, String)> {
    const KIT: &str = "/client/v4/accounts/{account_id}/realtime/kit";
    match scope {
        Scope::Account => vec![(Surface::A, format!("{KIT}{path}"))],
        Scope::App { on_v2 } => {
            let mut mounts = vec![(Surface::A, format!("{KIT}/{{app_id}}{path}"))];
            if on_v2 {
                mounts.push((Surface::B, format!("/v2{path}")));
            }
            mounts
        }
    }
}

/// An authenticated, authorized and validated request.
pub struct Call<P = super::Empty, Q = super::Empty, B = super::Empty> {
    /// The running server.
    pub state: Arc<ServerState>,
    /// The authenticated caller.
    pub caller: Caller,
    /// The account of the request.
    pub account: AccountId,
    /// The app of the request. Nil for operations on an account.
    pub app: AppId,
    /// The path parameters after the account and the app.
    pub path: P,
    /// The parsed query string.
    pub query: Q,
    /// The parsed body.
    pub body: B,
    /// The request headers.
    pub headers: HeaderMap,
    /// The extensions of the request, which describe the connection.
    pub extensions: http::Extensions,
    /// When the request body was received, in Unix milliseconds.
    pub now_ms: i64,
    key: Option<IdempotencyKey>,
}

impl<P, Q, B> Call<P, Q, B> {
    /// Whether the request carries an `Idempotency-Key`.
    pub fn is_idempotent(&self) -> bool {
        self.key.is_some()
    }

    /// Commits a unit and builds the response from its rows. With an `Idempotency-Key` the
    /// response is stored in the same transaction, so that neither exists without the other.
    ///
    /// `respond` may run twice on the same rows and must return the same response.
    ///
    /// # Errors
    /// The reason why the unit was not committed.
    pub async fn commit<R: ApiResponse>(
        &self,
        unit: Unit,
        respond: impl Fn(&[Vec<parlor_store::Row>]) -> Result<R, ApiError> + Clone + Send + 'static,
    ) -> Result<R, CommitError> {
        idempotency::commit(&self.state, self.key.as_ref(), self.now_ms, unit, respond).await
    }
}

async fn run<P, Q, B, R, F>(
    incoming: IncomingRequest,
    handler: impl Fn(Call<P, Q, B>) -> F,
) -> Result<Response, ApiError>
where
    P: FromPath,
    Q: Input,
    B: Input,
    R: ApiResponse,
    F: Future<Output = Result<R, ApiError>>,
{
    let IncomingRequest {
        state,
        surface,
        params,
        request,
        success,
    } = incoming;
    let (parts, body) = request.into_parts();
    let params = PathParams(&params);
    let (caller, account, app) = authorize(&state, surface, &params, &parts.headers).await?;
    let quota = state.rates.take(&caller.token.id)?;
    let outcome = async {
        let path = P::from_path(&params)?;
        let query = parse_query(parts.uri.query().unwrap_or_default())?;
        let has_body = !matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE);
        let bytes = if has_body {
            read_body(&state, body).await?
        } else {
            Bytes::new()
        };
        // Read the clock after the body, which may arrive slowly: rows must not look older than
        // they are.
        let now_ms = state.clock.now_ms();
        let parsed = parse_body(&bytes)?;
        let key = match parts.method {
            Method::POST => IdempotencyKey::of(&caller, &parts, &bytes)?,
            _ => None,
        };
        if let Some(body) = idempotency::replay(&state, key.as_ref()).await? {
            return Ok(json_response(success, body, true));
        }
        let call = Call {
            state: Arc::clone(&state),
            caller,
            account,
            app,
            path,
            query,
            body: parsed,
            headers: parts.headers,
            extensions: parts.extensions,
            now_ms,
            key: key.clone(),
        };
        match handler(call).await {
            Ok(response) => Ok(json_response(success, response.to_json(), false)),
            Err(error) if error.is_key_race() => {
                let body = idempotency::replay(&state, key.as_ref())
                    .await?
                    .ok_or(error)?;
                Ok(json_response(success, body, true))
            }
            Err(error) => Err(error),
        }
    };
    match (outcome.await, quota) {
        (Ok(mut response), Some(quota)) => {
            quota.write(response.headers_mut());
            Ok(response)
        }
        (Err(error), Some(quota)) => Err(error.with_quota(quota)),
        (result, None) => result,
    }
}

/// Authenticates the caller and determines the account and the app of the request.
async fn authorize(
    state: &ServerState,
    surface: Surface,
    params: &PathParams<'_>,
    headers: &HeaderMap,
) -> Result<(Caller, AccountId, AppId), ApiError> {
    if surface == Surface::B {
        let (caller, app) = auth::by_app_key(state, headers).await?;
        let account = caller.token.account_id;
        let owner = state.owners.owner_of(app).await?;
        if owner != Some(account) {
            return Err(ApiError::unauthorized());
        }
        caller.authorize_account(account)?;
        caller.authorize_app(app)?;
        return Ok((caller, account, app));
    }
    let caller = auth::by_token(state, headers).await?;
    let account = account_id(params)?;
    let app = params
        .raw("app_id")
        .map(|text| text.parse::<AppId>().map_err(|_| text.chars().count()))
        .transpose();
    // An id longer than any id that Parlor issues is malformed; a shorter one is merely unknown.
    let app = match app {
        Ok(app) => app,
        Err(length) if length > 32 => return Err(too_long("app_id")),
        Err(_) => return Err(no_such_app(&caller, account)),
    };
    let account = account.ok_or_else(ApiError::forbidden)?;
    caller.authorize_account(account)?;
    let Some(app) = app else {
        return Ok((caller, account, AppId::from_uuid(Uuid::nil())));
    };
    caller.authorize_app(app)?;
    if state.owners.owner_of(app).await? == Some(account) {
        Ok((caller, account, app))
    } else {
        Err(ApiError::missing("app"))
    }
}

fn no_such_app(caller: &Caller, account: Option<AccountId>) -> ApiError {
    let allowed = account.is_some_and(|account| caller.authorize_account(account).is_ok());
    if allowed && caller.token.app_ids.is_none() {
        ApiError::missing("app")
    } else {
        ApiError::forbidden()
    }
}

/// The account id of the path; `None` when the length is valid but the id is not one that Parlor
/// issues.
fn account_id(params: &PathParams<'_>) -> Result<Option<AccountId>, ApiError> {
    let text = params.raw("account_id").unwrap_or_default();
    if text.chars().count() > 32 {
        return Err(too_long("account_id"));
    }
    Ok(text.parse().ok())
}

fn too_long(name: &str) -> ApiError {
    ApiError::bad_request(format!(
        "\"{name}\" length must be less than or equal to 32 characters long"
    ))
}

/// Reads the whole body, within the limits on size and time.
///
/// # Errors
/// 408 or 413 when a limit is exceeded, and 400 when the body was cut short.
pub(crate) async fn read_body(state: &ServerState, body: Body) -> Result<Bytes, ApiError> {
    let collected = collect(body, state.limits.body_bytes);
    let collected = tokio::time::timeout(state.limits.body_timeout(), collected).await;
    collected.unwrap_or_else(|_| Err(ApiError::request_timeout()))
}

/// Maximum number of bytes that are drained from an oversized body, so that the client receives the
/// error response before the connection is closed.
const DRAINED_BYTES: usize = 64 * 1024 * 1024;

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let (mut whole, mut length) = (BytesMut::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("the request body was cut short"))?;
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        length += chunk.len();
        if length > limit.max(DRAINED_BYTES) {
            break;
        }
        if length <= limit {
            whole.extend_from_slice(&chunk);
        }
    }
    if length > limit {
        Err(ApiError::payload_too_large(limit))
    } else {
        Ok(whole.freeze())
    }
}

fn json_response(status: StatusCode, body: Vec<u8>, replayed: bool) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    // Set on every response: any of them may contain a token or personal data.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if replayed {
        headers.insert(
            IDEMPOTENT_REPLAYED.clone(),
            HeaderValue::from_static("true"),
        );
    }
    response
}
