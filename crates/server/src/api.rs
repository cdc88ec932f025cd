//! The HTTP API: every route on one screen, and what all of them share.
//!
//! | file | what it is for |
//! |---|---|
//! | `endpoint` | what an operation is, and the way of a request to its handler |
//! | `contract` | every operation of the contract, built or not |
//! | `auth`, `rates` | who calls, and how often they may |
//! | `input`, `patch` | bodies, queries and paths into checked values |
//! | `reply`, `error`, `paging` | what goes out |
//! | `idempotency` | the same answer to the same request |
//! | `openapi`, `site` | the API description, its page, and the keys for everybody |

pub mod auth;
pub mod contract;
mod endpoint;
mod error;
mod idempotency;
mod input;
pub mod openapi;
pub mod paging;
mod patch;
mod rates;
mod readiness;
mod reply;
mod respond;
mod site;

pub(crate) use endpoint::read_body;
pub use endpoint::{Call, Endpoint, Scope, Surface};
pub use error::{ApiError, Problem};
pub use idempotency::Uncommitted;
pub(crate) use idempotency::{FORGET, STATEMENTS, forgotten_ms};
pub use input::{FromPath, Input, Nothing, PathParams, checked, parse_body, parse_query};
pub use patch::Patch;
pub use rates::Rates;
pub use reply::{Data, Page, Reply};
pub(crate) use respond::client as respond_to_client;
pub use site::metrics_router;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::handler::Handler;
use axum::middleware::from_fn;
use axum::routing::{MethodFilter, MethodRouter};
use http::Method;

use crate::client_api::ClientCall;
use crate::parlor::Parlor;
use crate::{
    active_session, analytics, apps, client_api, meeting_page, meetings, participants, presets,
    sessions, signalling,
};

/// Matches that a search considers.
pub const SEARCH_MAX: i64 = 1000;

/// The end of the range of texts that start with a prefix.
pub fn prefix_end(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

/// Every operation that is built.
pub fn endpoints() -> Vec<Endpoint> {
    [
        apps::endpoints(),
        meetings::endpoints(),
        participants::endpoints(),
        presets::endpoints(),
        sessions::endpoints(),
        active_session::endpoints(),
        analytics::endpoints(),
    ]
    .concat()
}

/// The whole router.
pub fn router(parlor: &Arc<Parlor>) -> Router {
    let mut routes = Routes::default();
    for endpoint in endpoints() {
        let endpoint = Arc::new(endpoint);
        for (surface, path) in endpoint.mounts() {
            let (parlor, endpoint) = (Arc::clone(parlor), Arc::clone(&endpoint));
            let method = endpoint.method().clone();
            routes.add(
                path,
                &method,
                move |params: Result<RawPathParams, RawPathParamsRejection>, request: Request| {
                    respond::to_endpoint(
                        Arc::clone(&parlor),
                        Arc::clone(&endpoint),
                        surface,
                        params,
                        request,
                    )
                },
            );
        }
    }
    for operation in contract::planned() {
        for (surface, path) in operation.mounts() {
            let parlor = Arc::clone(parlor);
            routes.add(path, &operation.method(), move |request: Request| {
                respond::not_built(Arc::clone(&parlor), operation, surface, request)
            });
        }
    }
    for call in client_api::calls() {
        routes.add_client(call);
    }
    let unknown = Arc::clone(parlor);
    let fallback = move |request| respond::not_found(Arc::clone(&unknown), request);
    let around = Arc::clone(parlor);
    let around = from_fn(move |request, next| respond::site(Arc::clone(&around), request, next));
    let site = site::router(parlor)
        .merge(sessions::download_router(parlor))
        .merge(meeting_page::router())
        .layer(around);
    // The socket is in no layer: what measures answers would take its whole life for one.
    routes
        .into_router(parlor)
        .merge(site)
        .merge(signalling::router(parlor))
        .fallback(fallback)
}

/// What answers at a path.
#[derive(Default)]
struct Route {
    router: MethodRouter,
    methods: Vec<Method>,
    /// What the client SDKs call here, which comes first.
    clients: Vec<ClientCall>,
}

/// Path → its methods, so that each path knows what to say to the others.
#[derive(Default)]
struct Routes(BTreeMap<String, Route>);

impl Routes {
    fn add<T: 'static>(&mut self, path: String, method: &Method, handler: impl Handler<T, ()>) {
        let route = self.0.entry(path).or_default();
        let filter = MethodFilter::try_from(method.clone()).expect("operations use common methods");
        route.router = std::mem::take(&mut route.router).on(filter, handler);
        route.methods.push(method.clone());
    }

    fn add_client(&mut self, call: ClientCall) {
        let route = self.0.entry(call.path.to_owned()).or_default();
        if !route.methods.contains(&call.method) {
            route.methods.push(call.method.clone());
        }
        route.clients.push(call);
    }

    fn into_router(self, parlor: &Arc<Parlor>) -> Router {
        self.0
            .into_iter()
            .fold(Router::new(), |router, (path, route)| {
                let allow: Vec<&str> = route.methods.iter().map(Method::as_str).collect();
                let (allow, around) = (allow.join(", "), Arc::clone(parlor));
                let wrong = move |request| {
                    respond::wrong_method(Arc::clone(&around), allow.clone(), request)
                };
                let routed = route.router.fallback(wrong);
                if route.clients.is_empty() {
                    return router.route(&path, routed);
                }
                let (clients, parlor) =
                    (Arc::<[ClientCall]>::from(route.clients), Arc::clone(parlor));
                let first = from_fn(move |request, next| {
                    client_api::first(Arc::clone(&parlor), Arc::clone(&clients), request, next)
                });
                router.route(&path, routed.layer(first))
            })
    }
}
