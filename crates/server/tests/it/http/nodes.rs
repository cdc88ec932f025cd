//! Several servers on the same database.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::http::participants::new_participant;
use crate::http::resource::Resource;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    servers_that_start_together_initialise_the_database_once,
    a_write_through_one_server_is_visible_through_the_others,
    racing_adds_through_all_servers_make_one_participant,
    one_key_through_all_servers_gets_one_response,
];

/// Number of servers that share the database.
const NODES: usize = 3;

/// Returns the same resource, addressed through each server.
fn through_each_node(nodes: &[Server], resource: &Resource) -> Vec<Resource> {
    let path = resource.path();
    let on_node = |node: &Server| {
        node.public()
            .with_token(parlor_testkit::server::API_TOKEN)
            .join(path)
    };
    nodes.iter().map(on_node).collect()
}

async fn servers_that_start_together_initialise_the_database_once(server: &Server) {
    let nodes = Server::cluster(server, NODES).await;
    let mut seen = BTreeSet::new();
    for node in &nodes {
        let apps = node.account().get("/apps").await.page();
        let keys = node.public().get("/.well-known/jwks.json").await.json();
        let keys = keys["keys"].as_array().unwrap();
        assert_eq!((apps.total, keys.len()), (1, 1));
        seen.insert((
            apps.texts("id")[0].to_owned(),
            keys[0]["kid"].as_str().unwrap().to_owned(),
        ));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}

async fn a_write_through_one_server_is_visible_through_the_others(server: &Server) {
    let nodes = Server::cluster(server, NODES).await;
    let meeting = nodes[0].app().await.meeting().await;
    let resources = through_each_node(&nodes, &meeting);
    for (round, writer) in resources.iter().enumerate() {
        let body = new_participant(&round.to_string());
        let key = format!("node-{round}");
        let first = writer
            .with_idempotency_key(&key)
            .post("/participants", &body)
            .await;
        first.data(201);
        for reader in &resources {
            assert_eq!(
                reader.get("/participants").await.page().total,
                round as u64 + 1
            );
            let again = reader
                .with_idempotency_key(&key)
                .post("/participants", &body)
                .await;
            assert_eq!(again.text(), first.text());
        }
    }
    resources[1].delete("").await.data(200);
    for resource in &resources {
        resource.get("").await.expect_error(404);
        resource
            .post("/participants", &new_participant("late"))
            .await
            .expect_error(404);
    }
}

async fn racing_adds_through_all_servers_make_one_participant(server: &Server) {
    let nodes = Server::cluster(server, NODES).await;
    let meeting = nodes[0].app().await.meeting().await;
    let resources = through_each_node(&nodes, &meeting);
    let body = new_participant("raced");
    let adds = (0..30).map(|index| resources[index % NODES].post("/participants", &body));
    let responses = join_all(adds).await;
    let ids: BTreeSet<String> = responses
        .iter()
        .map(|response| response.data(201)["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    for resource in &resources {
        let page = resource.get("/participants").await.page();
        let found: Vec<&Value> = page.items.iter().collect();
        assert_eq!((page.total, found.len()), (1, 1), "{found:?}");
    }
}

async fn one_key_through_all_servers_gets_one_response(server: &Server) {
    let nodes = Server::cluster(server, NODES).await;
    let app = nodes[0].app().await;
    let body = json!({ "title": "Raced" });
    for round in 0..5 {
        let keyed: Vec<Resource> = through_each_node(&nodes, &app)
            .iter()
            .map(|resource| resource.with_idempotency_key(&format!("round-{round}")))
            .collect();
        let posts = (0..12).map(|index| keyed[index % NODES].post("/meetings", &body));
        let responses = join_all(posts).await;
        for response in &responses {
            response.data(201);
            assert_eq!(response.text(), responses[0].text());
        }
        assert_eq!(app.get("/meetings").await.page().total, round + 1);
    }
}
