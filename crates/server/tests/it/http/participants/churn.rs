//! Concurrent additions and deletions of the same participants, through every operation.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::new_participant;
use crate::http::resource::Resource;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![the_count_is_right_after_racing_adds_and_deletes];

/// Number of participants.
const PARTICIPANTS: usize = 6;

fn custom_id(number: usize) -> String {
    format!("person-{}", number % PARTICIPANTS)
}

/// Sends one request, chosen by the numbers of the worker and of the round. Returns the status.
async fn step(meeting: &Resource, worker: usize, round: usize) -> u16 {
    let target = custom_id(worker * 5 + round);
    let path = format!("/participants/custom:{target}");
    let response = match (worker + round) % 5 {
        0 => {
            meeting
                .post("/participants", &new_participant(&target))
                .await
        }
        1 => meeting.delete(&path).await,
        2 => {
            let participants: Vec<Value> = (0..PARTICIPANTS)
                .map(|number| new_participant(&custom_id(number + worker)))
                .collect();
            let body = json!({ "participants": participants });
            meeting.post("/participants/bulk", &body).await
        }
        3 => {
            meeting
                .patch(&path, &json!({ "name": format!("Round {round}") }))
                .await
        }
        _ => {
            let keyed = meeting.with_idempotency_key(&format!("{}-{worker}-{round}", meeting.id()));
            keyed.post("/participants", &new_participant(&target)).await
        }
    };
    response.status
}

async fn the_count_is_right_after_racing_adds_and_deletes(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let run_worker = async |worker: usize| -> Vec<u16> {
        let mut statuses = Vec::new();
        for round in 0..20 {
            statuses.push(step(&meeting, worker, round).await);
        }
        statuses
    };
    let statuses = join_all((0..8).map(run_worker)).await.concat();
    assert!(
        statuses
            .iter()
            .all(|status| [200, 201, 404].contains(status)),
        "{statuses:?}"
    );
    let page = meeting.get("/participants?per_page=1000").await.page();
    assert_eq!(page.total, page.items.len() as u64);
    let mut found = 0;
    for number in 0..PARTICIPANTS {
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
