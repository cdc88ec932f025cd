//! Assembles every route of the server.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::handler::Handler;
use axum::middleware::from_fn;
use axum::routing::{MethodFilter, MethodRouter};
use http::Method;

use crate::breakout;
use crate::client::http::ClientCall;
use crate::client::{self, meeting_page, websocket};
use crate::http::dispatch;
use crate::rest::{self, operations, sessions};
use crate::site;
use crate::state::ServerState;

/// Builds the router of the public listener.
pub fn router(state: &Arc<ServerState>) -> Router {
    breakout::attach(state);
    let mut routes = Routes::default();
    for endpoint in rest::endpoints() {
        let endpoint = Arc::new(endpoint);
        for (surface, path) in endpoint.mounts() {
            let (state, endpoint) = (Arc::clone(state), Arc::clone(&endpoint));
            let method = endpoint.method().clone();
            routes.add(
                path,
                &method,
                move |params: Result<RawPathParams, RawPathParamsRejection>, request: Request| {
                    dispatch::to_endpoint(
                        Arc::clone(&state),
                        Arc::clone(&endpoint),
                        surface,
                        params,
                        request,
                    )
                },
            );
        }
    }
    for operation in operations::planned() {
        for (surface, path) in operation.mounts() {
            let state = Arc::clone(state);
            routes.add(path, &operation.method(), move |request: Request| {
                dispatch::not_implemented(Arc::clone(&state), operation.name, surface, request)
            });
        }
    }
    for call in client::http::calls() {
        routes.add_client(call);
    }
    let unknown = Arc::clone(state);
    let fallback = move |request| dispatch::not_found(Arc::clone(&unknown), request);
    let middleware = Arc::clone(state);
    let middleware =
        from_fn(move |request, next| dispatch::site(Arc::clone(&middleware), request, next));
    let site = site::router(state)
        .merge(sessions::download_router(state))
        .merge(meeting_page::router())
        .layer(middleware);
    // The WebSocket route has no middleware: its metrics would count the connection's whole
    // lifetime as the duration of one request.
    routes
        .into_router(state)
        .merge(site)
        .merge(websocket::router(state))
        .fallback(fallback)
}

/// The handlers of one path.
#[derive(Default)]
struct Route {
    router: MethodRouter,
    methods: Vec<Method>,
    /// Calls of the client SDKs to this path, which take precedence.
    clients: Vec<ClientCall>,
}

/// Routes by path, so that each path can list its allowed methods in a 405 response.
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

    fn into_router(self, state: &Arc<ServerState>) -> Router {
        self.0
            .into_iter()
            .fold(Router::new(), |router, (path, route)| {
                let allow: Vec<&str> = route.methods.iter().map(Method::as_str).collect();
                let (allow, fallback_state) = (allow.join(", "), Arc::clone(state));
                let method_not_allowed = move |request| {
                    dispatch::method_not_allowed(
                        Arc::clone(&fallback_state),
                        allow.clone(),
                        request,
                    )
                };
                let routed = route.router.fallback(method_not_allowed);
                if route.clients.is_empty() {
                    return router.route(&path, routed);
                }
                let (clients, state) =
                    (Arc::<[ClientCall]>::from(route.clients), Arc::clone(state));
                let first = from_fn(move |request, next| {
                    client::http::dispatch(Arc::clone(&state), Arc::clone(&clients), request, next)
                });
                router.route(&path, routed.layer(first))
            })
    }
}
