//! What an operation of the API is: one value that the router, the API description, the metrics
//! and the tests all read.
//!
//! A handler is a plain `async fn(Call<Path, Query, Body>) -> Result<impl Reply, ApiError>`. By the
//! time it runs, the caller is authenticated and may act on the account and the app, the app
//! exists, and path, query and body have been parsed and checked.

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
use super::idempotency::{self, Key, Uncommitted};
use super::input::{FromPath, Input, PathParams, parse_body, parse_query};
use super::reply::Reply;
use crate::state::Parlor;

/// Marks an answer that was given before, for the same `Idempotency-Key`.
pub(crate) static IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Where an operation is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Under the account, surface A only.
    Account,
    /// Under the app on surface A, and on surface B where RealtimeKit has it there.
    App {
        /// Whether surface B has it.
        on_v2: bool,
    },
}

/// Which of the two surfaces a request came in on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    /// `/client/v4/accounts/{account_id}/realtime/kit`, API tokens.
    A,
    /// `/v2`, `app_id:token` as HTTP Basic.
    B,
}

impl Surface {
    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

type Handler =
    Arc<dyn Fn(Incoming) -> BoxFuture<'static, Result<Response, ApiError>> + Send + Sync>;

/// A request on its way to its handler.
pub(crate) struct Incoming {
    pub(crate) parlor: Arc<Parlor>,
    pub(crate) surface: Surface,
    pub(crate) params: RawPathParams,
    pub(crate) request: Request,
    pub(crate) success: StatusCode,
}

/// What is done with an operation's types: describing and parsing them.
#[derive(Clone, Copy)]
pub(crate) struct Shapes {
    pub(crate) path: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) query: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) body: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) reply: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) parse_query: fn(&str),
    pub(crate) parse_body: fn(&[u8]),
}

/// One operation.
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
    pub(crate) shapes: Shapes,
    pub(crate) handler: Handler,
}

impl Endpoint {
    /// An operation on an app, on both surfaces, that answers 200.
    ///
    /// `path` is what follows the app; `id` is the operation's name in RealtimeKit's description.
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
        R: Reply,
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
            // The app itself may be missing.
            not_found: true,
            conflict: false,
            headers: &[],
            shapes: Shapes {
                path: |generator| P::json_schema(generator),
                query: |generator| Q::json_schema(generator),
                body: |generator| generator.subschema_for::<B>(),
                reply: R::schema,
                parse_query: |text| drop(parse_query::<Q>(text)),
                parse_body: |bytes| drop(parse_body::<B>(bytes)),
            },
            handler: Arc::new(move |incoming| {
                let handler = handler.clone();
                Box::pin(async move { run(incoming, handler).await })
            }),
        }
    }

    /// The title and the text of the operation in the API description.
    #[must_use]
    pub fn describe(mut self, title: &'static str, description: &'static str) -> Self {
        (self.title, self.description) = (title, description);
        self
    }

    /// Answers 201.
    #[must_use]
    pub fn created(mut self) -> Self {
        self.success = StatusCode::CREATED;
        self
    }

    /// Under the account instead of an app.
    #[must_use]
    pub fn on_account(mut self) -> Self {
        self.scope = Scope::Account;
        self
    }

    /// Not on surface B.
    #[must_use]
    pub fn only_on_a(mut self) -> Self {
        self.scope = Scope::App { on_v2: false };
        self
    }

    /// May answer 409.
    #[must_use]
    pub fn may_conflict(mut self) -> Self {
        self.conflict = true;
        self
    }

    /// Reads these request headers: name and meaning.
    #[must_use]
    pub fn reads(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }

    /// The paths it is mounted at.
    pub fn mounts(&self) -> Vec<(Surface, String)> {
        mounts(self.scope, self.path)
    }

    /// Parses foreign bytes as its query and as its body, for fuzzers.
    pub fn fuzz(&self, bytes: &[u8]) {
        (self.shapes.parse_body)(bytes);
        if let Ok(text) = std::str::from_utf8(bytes) {
            (self.shapes.parse_query)(text);
        }
    }

    /// The HTTP method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// What follows the account or the app in its path.
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

/// Where a path of a scope is mounted.
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

/// A request that has passed every check that is common to all.
pub struct Call<P = super::Nothing, Q = super::Nothing, B = super::Nothing> {
    /// The running server.
    pub parlor: Arc<Parlor>,
    /// Who calls.
    pub caller: Caller,
    /// The account that is acted on.
    pub account: AccountId,
    /// The app that is acted on. Nil for the operations on an account.
    pub app: AppId,
    /// The rest of the path's parameters.
    pub path: P,
    /// The query string.
    pub query: Q,
    /// The body.
    pub body: B,
    /// The request's headers.
    pub headers: HeaderMap,
    /// What is known of the connection.
    pub extensions: http::Extensions,
    /// When the request arrived, Unix milliseconds.
    pub now_ms: i64,
    key: Option<Key>,
}

impl<P, Q, B> Call<P, Q, B> {
    /// Whether the request carries an `Idempotency-Key`.
    pub fn is_idempotent(&self) -> bool {
        self.key.is_some()
    }

    /// Commits a unit and turns its rows into the reply. With an `Idempotency-Key` the reply is
    /// remembered in the same transaction, so there is no moment in which one exists without the
    /// other.
    ///
    /// `reply` may run twice on the same rows and must give the same reply.
    ///
    /// # Errors
    /// What kept the unit from being committed.
    pub async fn commit<R: Reply>(
        &self,
        unit: Unit,
        reply: impl Fn(&[Vec<parlor_store::Row>]) -> Result<R, ApiError> + Clone + Send + 'static,
    ) -> Result<R, Uncommitted> {
        idempotency::commit(&self.parlor, self.key.as_ref(), self.now_ms, unit, reply).await
    }
}

async fn run<P, Q, B, R, F>(
    incoming: Incoming,
    handler: impl Fn(Call<P, Q, B>) -> F,
) -> Result<Response, ApiError>
where
    P: FromPath,
    Q: Input,
    B: Input,
    R: Reply,
    F: Future<Output = Result<R, ApiError>>,
{
    let Incoming {
        parlor,
        surface,
        params,
        request,
        success,
    } = incoming;
    let (parts, body) = request.into_parts();
    let params = PathParams(&params);
    let (caller, account, app) = admit(&parlor, surface, &params, &parts.headers).await?;
    let quota = parlor.rates.take(&caller.token.id)?;
    let outcome = async {
        let path = P::from_path(&params)?;
        let query = parse_query(parts.uri.query().unwrap_or_default())?;
        let has_body = !matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE);
        let bytes = if has_body {
            read_body(&parlor, body).await?
        } else {
            Bytes::new()
        };
        // After the body, which may take its time: rows must not look older than they are.
        let now_ms = parlor.clock.now_ms();
        let parsed = parse_body(&bytes)?;
        let key = match parts.method {
            Method::POST => Key::of(&caller, &parts, &bytes)?,
            _ => None,
        };
        if let Some(reply) = idempotency::replay(&parlor, key.as_ref()).await? {
            return Ok(answer(success, reply, true));
        }
        let call = Call {
            parlor: Arc::clone(&parlor),
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
            Ok(reply) => Ok(answer(success, reply.to_json(), false)),
            Err(error) if error.is_key_race() => {
                let reply = idempotency::replay(&parlor, key.as_ref())
                    .await?
                    .ok_or(error)?;
                Ok(answer(success, reply, true))
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

/// Authenticates the caller and settles which account and app the request is about.
async fn admit(
    parlor: &Parlor,
    surface: Surface,
    params: &PathParams<'_>,
    headers: &HeaderMap,
) -> Result<(Caller, AccountId, AppId), ApiError> {
    if surface == Surface::B {
        let (caller, app) = auth::by_app_key(parlor, headers).await?;
        let account = caller.token.account_id;
        let owner = parlor.owners.of(app).await?;
        if owner != Some(account) {
            return Err(ApiError::unauthorized());
        }
        caller.may_use_account(account)?;
        caller.may_use_app(app)?;
        return Ok((caller, account, app));
    }
    let caller = auth::by_token(parlor, headers).await?;
    let account = account_id(params)?;
    let app = params
        .raw("app_id")
        .map(|text| text.parse::<AppId>().map_err(|_| text.chars().count()))
        .transpose();
    // An id longer than any form that we issue is malformed; a shorter one just names nothing.
    let app = match app {
        Ok(app) => app,
        Err(length) if length > 32 => return Err(too_long("app_id")),
        Err(_) => return Err(no_such_app(&caller, account)),
    };
    let account = account.ok_or_else(ApiError::forbidden)?;
    caller.may_use_account(account)?;
    let Some(app) = app else {
        return Ok((caller, account, AppId::from_uuid(Uuid::nil())));
    };
    caller.may_use_app(app)?;
    if parlor.owners.of(app).await? == Some(account) {
        Ok((caller, account, app))
    } else {
        Err(ApiError::missing("app"))
    }
}

fn no_such_app(caller: &Caller, account: Option<AccountId>) -> ApiError {
    let allowed = account.is_some_and(|account| caller.may_use_account(account).is_ok());
    if allowed && caller.token.app_ids.is_none() {
        ApiError::missing("app")
    } else {
        ApiError::forbidden()
    }
}

/// The account of the path; `None` when it has a good length but cannot be one of ours.
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

/// The whole body, within the bounds on bodies.
///
/// # Errors
/// 408, 413, or 400 when it broke off.
pub(crate) async fn read_body(parlor: &Parlor, body: Body) -> Result<Bytes, ApiError> {
    let collected = collect(body, parlor.limits.body_bytes);
    let collected = tokio::time::timeout(parlor.limits.body_timeout(), collected).await;
    collected.unwrap_or_else(|_| Err(ApiError::too_slow()))
}

/// Bytes of a body that is too large which are still read, so that its sender is not cut off
/// before it has heard why.
const DRAINED_BYTES: usize = 64 * 1024 * 1024;

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let (mut whole, mut length) = (BytesMut::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("the request body broke off"))?;
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
        Err(ApiError::too_large(limit))
    } else {
        Ok(whole.freeze())
    }
}

fn answer(status: StatusCode, body: Vec<u8>, replayed: bool) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    // Of every operation, since any may answer with a token or about people.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if replayed {
        headers.insert(
            IDEMPOTENT_REPLAYED.clone(),
            HeaderValue::from_static("true"),
        );
    }
    response
}
