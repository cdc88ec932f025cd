//! People who come and go at the same moment, by every way there is.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::person;
use crate::http::place::Place;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![the_count_is_right_after_everybody_came_and_went];

/// How many people come and go.
const PEOPLE: usize = 6;

fn custom_id(number: usize) -> String {
    format!("person-{}", number % PEOPLE)
}

/// One of the ways in and out, chosen by the number of the turn.
async fn turn(meeting: &Place, lane: usize, turn: usize) -> u16 {
    let who = custom_id(lane * 5 + turn);
    let path = format!("/participants/custom:{who}");
    let answer = match (lane + turn) % 5 {
        0 => meeting.post("/participants", &person(&who)).await,
        1 => meeting.delete(&path).await,
        2 => {
            let people: Vec<Value> = (0..PEOPLE)
                .map(|number| person(&custom_id(number + lane)))
                .collect();
            let body = json!({ "participants": people });
            meeting.post("/participants/bulk", &body).await
        }
        3 => {
            meeting
                .patch(&path, &json!({ "name": format!("Turn {turn}") }))
                .await
        }
        _ => {
            let keyed = meeting.keyed(&format!("{}-{lane}-{turn}", meeting.id()));
            keyed.post("/participants", &person(&who)).await
        }
    };
    answer.status
}

async fn the_count_is_right_after_everybody_came_and_went(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let lane = async |lane: usize| -> Vec<u16> {
        let mut statuses = Vec::new();
        for number in 0..20 {
            statuses.push(turn(&meeting, lane, number).await);
        }
        statuses
    };
    let statuses = join_all((0..8).map(lane)).await.concat();
    assert!(
        statuses
            .iter()
            .all(|status| [200, 201, 404].contains(status)),
        "{statuses:?}"
    );
    let page = meeting.get("/participants?per_page=1000").await.page();
    assert_eq!(page.total, page.items.len() as u64);
    let mut found = 0;
    for number in 0..PEOPLE {
        let one = meeting
            .get(&format!("/participants/custom:{}", custom_id(number)))
            .await;
        found += usize::from(one.status == 200);
    }
    assert_eq!(found, page.items.len());
    for participant in page.items {
        let path = format!("/participants/{}", participant["id"].as_str().unwrap());
        meeting.delete(&path).await.data(200);
    }
    assert_eq!(meeting.get("/participants").await.page().total, 0);
}
