//! Planned operations, which return a 501 error until they are implemented.

use std::collections::HashSet;

use parlor_server::http::Surface;
use parlor_server::rest::{endpoints, operations};
use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};

use crate::http::resource::{UNKNOWN_ID, basic_auth};
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    every_planned_operation_returns_501,
    an_operation_is_either_implemented_or_planned
];

async fn every_planned_operation_returns_501(server: &Server) {
    let app = server.app().await;
    let mut routes = 0;
    for operation in operations::planned() {
        for (surface, path) in operation.mounts() {
            let path = path
                .replace("{account_id}", ACCOUNT_ID)
                .replace("{app_id}", app.id());
            let fill = |part| {
                if str::starts_with(part, '{') {
                    UNKNOWN_ID
                } else {
                    part
                }
            };
            let path: Vec<&str> = path.split('/').map(fill).collect();
            let resource = match surface {
                Surface::A => server.public().with_token(API_TOKEN),
                Surface::B => server
                    .public()
                    .with_header("authorization", &basic_auth(app.id(), API_TOKEN)),
            };
            let response = resource
                .send(operation.method(), &path.join("/"), None)
                .await;
            let error = response.expect_error(501);
            assert!(error.message.contains(operation.name), "{error:?}");
            routes += 1;
        }
    }
    println!("{routes} routes of planned operations");
    assert!(routes > 60, "{routes}");
}

async fn an_operation_is_either_implemented_or_planned(_: &Server) {
    let planned: HashSet<&str> = operations::planned()
        .iter()
        .map(|operation| operation.name)
        .collect();
    let numbers: HashSet<u8> = operations::OPERATIONS
        .iter()
        .map(|operation| operation.number)
        .collect();
    assert_eq!(numbers.len(), operations::OPERATIONS.len());
    let implemented: Vec<_> = endpoints();
    for operation in &operations::OPERATIONS {
        let endpoint = implemented
            .iter()
            .find(|endpoint| endpoint.id() == operation.name);
        assert_eq!(
            endpoint.is_none(),
            planned.contains(operation.name),
            "{}",
            operation.name
        );
        let Some(endpoint) = endpoint else { continue };
        assert_eq!(*endpoint.method(), operation.method(), "{}", operation.name);
        let mounts: Vec<String> = endpoint
            .mounts()
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        let contracted: Vec<String> = operation
            .mounts()
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        assert_eq!(mounts, contracted, "{}", operation.name);
    }
    let mut implemented = (1..=27).chain(46..=51).chain([64]);
    assert!(implemented.all(|number: u8| {
        let operation = operations::OPERATIONS
            .iter()
            .find(|operation| operation.number == number);
        operation.is_some_and(|operation| !planned.contains(operation.name))
    }));
}
