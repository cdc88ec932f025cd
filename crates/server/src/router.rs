//! Every route of the server.

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
use crate::http::respond;
use crate::rest::{self, operations, sessions};
use crate::site;
use crate::state::Parlor;

/// The whole router.
pub fn router(parlor: &Arc<Parlor>) -> Router {
    breakout::attach(parlor);
    let mut routes = Routes::default();
    for endpoint in rest::endpoints() {
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
    for operation in operations::planned() {
        for (surface, path) in operation.mounts() {
            let parlor = Arc::clone(parlor);
            routes.add(path, &operation.method(), move |request: Request| {
                respond::not_built(Arc::clone(&parlor), operation.name, surface, request)
            });
        }
    }
    for call in client::http::calls() {
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
        .merge(websocket::router(parlor))
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
                    client::http::first(Arc::clone(&parlor), Arc::clone(&clients), request, next)
                });
                router.route(&path, routed.layer(first))
            })
    }
}
