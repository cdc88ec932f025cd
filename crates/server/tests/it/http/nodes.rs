//! Several servers on the same records.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::http::participants::person;
use crate::http::place::Place;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    servers_that_start_together_make_the_records_once,
    what_one_server_wrote_the_others_know,
    racing_adds_through_all_servers_make_one_participant,
    one_key_through_all_servers_gets_one_answer,
];

/// How many servers share the records.
const NODES: usize = 3;

/// The same place, reached through each server.
fn through_each(nodes: &[Server], place: &Place) -> Vec<Place> {
    let path = place.path();
    let same = |node: &Server| {
        node.public()
            .bearing(parlor_testkit::server::API_TOKEN)
            .at(path)
    };
    nodes.iter().map(same).collect()
}

async fn servers_that_start_together_make_the_records_once(server: &Server) {
    let nodes = Server::together(server, NODES).await;
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

async fn what_one_server_wrote_the_others_know(server: &Server) {
    let nodes = Server::together(server, NODES).await;
    let meeting = nodes[0].app().await.meeting().await;
    let places = through_each(&nodes, &meeting);
    for (turn, writer) in places.iter().enumerate() {
        let body = person(&turn.to_string());
        let key = format!("node-{turn}");
        let first = writer.keyed(&key).post("/participants", &body).await;
        first.data(201);
        for reader in &places {
            assert_eq!(
                reader.get("/participants").await.page().total,
                turn as u64 + 1
            );
            let again = reader.keyed(&key).post("/participants", &body).await;
            assert_eq!(again.text(), first.text());
        }
    }
    places[1].delete("").await.data(200);
    for place in &places {
        place.get("").await.refused(404);
        place
            .post("/participants", &person("late"))
            .await
            .refused(404);
    }
}

async fn racing_adds_through_all_servers_make_one_participant(server: &Server) {
    let nodes = Server::together(server, NODES).await;
    let meeting = nodes[0].app().await.meeting().await;
    let places = through_each(&nodes, &meeting);
    let body = person("raced");
    let adds = (0..30).map(|turn| places[turn % NODES].post("/participants", &body));
    let answers = join_all(adds).await;
    let ids: BTreeSet<String> = answers
        .iter()
        .map(|answer| answer.data(201)["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    for place in &places {
        let page = place.get("/participants").await.page();
        let found: Vec<&Value> = page.items.iter().collect();
        assert_eq!((page.total, found.len()), (1, 1), "{found:?}");
    }
}

async fn one_key_through_all_servers_gets_one_answer(server: &Server) {
    let nodes = Server::together(server, NODES).await;
    let app = nodes[0].app().await;
    let body = json!({ "title": "Raced" });
    for round in 0..5 {
        let keyed: Vec<Place> = through_each(&nodes, &app)
            .iter()
            .map(|place| place.keyed(&format!("round-{round}")))
            .collect();
        let posts = (0..12).map(|turn| keyed[turn % NODES].post("/meetings", &body));
        let answers = join_all(posts).await;
        for answer in &answers {
            answer.data(201);
            assert_eq!(answer.text(), answers[0].text());
        }
        assert_eq!(app.get("/meetings").await.page().total, round + 1);
    }
}
