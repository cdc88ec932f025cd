//! `POST …/participants/bulk`, which adds all given participants or none.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{new_participant, new_participant_with};
use crate::http::participants::tokens::claims;
use crate::http::resource::{Resource, UNKNOWN_ID};
use crate::http::response::assert_shape;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    the_response_has_the_order_of_the_request,
    each_participant_gets_its_own_token,
    each_item_is_added_or_updated,
    one_unknown_preset_rejects_the_whole_request,
    an_invalid_item_is_reported_by_its_pointer,
    a_custom_id_may_not_be_listed_twice,
    a_request_takes_at_most_a_thousand_participants,
    one_existing_participant_rejects_the_whole_request_on_request,
    racing_requests_with_the_same_participants_all_succeed,
    an_unknown_meeting_is_rejected,
];

/// Returns a body with these custom ids.
fn bulk_body<'a>(ids: impl IntoIterator<Item = &'a str>) -> Value {
    json!({ "participants": ids.into_iter().map(new_participant).collect::<Vec<_>>() })
}

/// Returns a body with numbered custom ids.
fn numbered_body(numbers: impl IntoIterator<Item = usize>) -> Value {
    let participants: Vec<Value> = numbers
        .into_iter()
        .map(|number| new_participant(&format!("participant {number}")))
        .collect();
    json!({ "participants": participants })
}

fn custom_ids(data: &Value) -> Vec<&str> {
    let participants = data.as_array().unwrap().iter();
    participants
        .map(|participant| participant["custom_participant_id"].as_str().unwrap())
        .collect()
}

async fn count(meeting: &Resource) -> u64 {
    meeting.get("/participants").await.page().total
}

async fn the_response_has_the_order_of_the_request(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let shuffled = (0..60).map(|number| number * 37 % 60);
    let body = numbered_body(shuffled);
    let added = meeting.post("/participants/bulk", &body).await.data(201);
    assert_eq!(custom_ids(&added), custom_ids(&body["participants"]));
    let two = meeting
        .post("/participants/bulk", &bulk_body(["one", "two"]))
        .await;
    two.data(201);
    assert_shape("participants_added", &two.json());
}

async fn each_participant_gets_its_own_token(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let mut body = bulk_body(["one", "two", "three"]);
    body["participants"][1]["expires_in"] = json!(60);
    body["participants"][2]["preset_name"] = json!("webinar_viewer");
    let added = meeting.post("/participants/bulk", &body).await.data(201);
    for (participant, lifetime) in added
        .as_array()
        .unwrap()
        .iter()
        .zip([8_640_000, 60, 8_640_000])
    {
        let claims = claims(participant["token"].as_str().unwrap());
        assert_eq!(claims["participantId"], participant["id"]);
        assert_eq!(claims["presetId"], participant["preset_id"]);
        assert_eq!(
            claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
            lifetime
        );
    }
    assert_ne!(added[2]["preset_id"], added[0]["preset_id"]);
}

async fn each_item_is_added_or_updated(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let old = meeting
        .post("/participants", &new_participant_with("old", "name", "Old"))
        .await
        .data(201);
    let body = json!({ "participants": [new_participant("new"), new_participant_with("old", "name", "Older")] });
    let added = meeting.post("/participants/bulk", &body).await.data(201);
    assert_eq!(
        (&added[1]["id"], &added[1]["created_at"]),
        (&old["id"], &old["created_at"])
    );
    assert_eq!(added[1]["name"], "Older");
    assert_eq!(count(&meeting).await, 2);
}

async fn one_unknown_preset_rejects_the_whole_request(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let mut body = numbered_body(0..10);
    body["participants"][7]["preset_name"] = json!("grup_call_host");
    let error = meeting
        .post("/participants/bulk", &body)
        .await
        .expect_error(404);
    let message = "No preset found with name grup_call_host; did you mean \"group_call_host\"?";
    error.assert_message(message, Some("/participants/7/preset_name"));
    assert_eq!(count(&meeting).await, 0);
    assert_eq!(meeting.get("/participants").await.page().items.len(), 0);
}

async fn an_invalid_item_is_reported_by_its_pointer(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let with = |second: Value| json!({ "participants": [new_participant("fine"), second] });
    let cases = [
        (json!({}), "/participants"),
        (json!({ "participants": null }), "/participants"),
        (json!({ "participants": {} }), "/participants"),
        (json!({ "participants": [] }), "/participants"),
        (json!([new_participant("fine")]), ""),
        (
            json!({ "participants": [new_participant("fine"), 5] }),
            "/participants/1",
        ),
        (
            with(json!({ "preset_name": "x" })),
            "/participants/1/custom_participant_id",
        ),
        (
            with(new_participant("")),
            "/participants/1/custom_participant_id",
        ),
        (
            with(new_participant_with("x", "name", "x".repeat(257))),
            "/participants/1/name",
        ),
        (
            with(new_participant_with("x", "picture", "x.png")),
            "/participants/1/picture",
        ),
        (
            with(new_participant_with("x", "expires_in", 0)),
            "/participants/1/expires_in",
        ),
        (
            with(new_participant_with("x", "expires_in", "60")),
            "/participants/1/expires_in",
        ),
    ];
    for (body, pointer) in cases {
        let error = meeting
            .post("/participants/bulk", &body)
            .await
            .expect_error(400);
        assert_eq!(
            error.pointers,
            [Some(pointer.to_owned())],
            "{body}: {error:?}"
        );
    }
    assert_eq!(count(&meeting).await, 0);
}

async fn a_custom_id_may_not_be_listed_twice(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let error = meeting
        .post("/participants/bulk", &bulk_body(["a", "b", "c", "b"]))
        .await
        .expect_error(400);
    assert_eq!(
        error.pointers,
        [Some("/participants/3/custom_participant_id".to_owned())]
    );
    assert_eq!(count(&meeting).await, 0);
}

async fn a_request_takes_at_most_a_thousand_participants(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let error = meeting
        .post("/participants/bulk", &numbered_body(0..1001))
        .await
        .expect_error(400);
    assert_eq!(error.pointers, [Some("/participants".to_owned())]);
    assert_eq!(count(&meeting).await, 0);
    let body = numbered_body(0..1000);
    let added = meeting.post("/participants/bulk", &body).await.data(201);
    assert_eq!(custom_ids(&added), custom_ids(&body["participants"]));
    assert_eq!(count(&meeting).await, 1000);
    meeting.post("/participants/bulk", &body).await.data(201);
    assert_eq!(count(&meeting).await, 1000);
}

async fn one_existing_participant_rejects_the_whole_request_on_request(server: &Server) {
    let meeting = server.app().await.meeting().await;
    meeting
        .post("/participants", &new_participant("existing"))
        .await
        .data(201);
    let strict = meeting.with_header("parlor-if-exists", "reject");
    let error = strict
        .post(
            "/participants/bulk",
            &bulk_body(["a", "b", "existing", "c"]),
        )
        .await
        .expect_error(409);
    let message =
        "a participant with custom_participant_id existing already exists in this meeting";
    error.assert_message(message, Some("/participants/2/custom_participant_id"));
    assert_eq!(count(&meeting).await, 1);
    strict
        .post("/participants/bulk", &bulk_body(["a", "b", "c"]))
        .await
        .data(201);
    assert_eq!(count(&meeting).await, 4);
}

async fn racing_requests_with_the_same_participants_all_succeed(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let bodies: Vec<Value> = (0..8)
        .map(|index| {
            if index % 2 == 0 {
                numbered_body(0..50)
            } else {
                numbered_body((0..50).rev())
            }
        })
        .collect();
    let bulk = join_all(
        bodies
            .iter()
            .map(|body| meeting.post("/participants/bulk", body)),
    );
    let single = new_participant("participant 25");
    let singles = join_all((0..8).map(|_| meeting.post("/participants", &single)));
    let (bulk, singles) = tokio::join!(bulk, singles);
    for (body, response) in bodies.iter().zip(&bulk) {
        assert_eq!(
            custom_ids(&response.data(201)),
            custom_ids(&body["participants"])
        );
    }
    for response in &singles {
        assert_eq!(response.data(201)["id"], bulk[0].data(201)[25]["id"]);
    }
    let page = meeting.get("/participants?per_page=1000").await.page();
    assert_eq!((page.total, page.items.len()), (50, 50));
}

async fn an_unknown_meeting_is_rejected(server: &Server) {
    let app = server.app().await;
    let error = app
        .post(
            &format!("/meetings/{UNKNOWN_ID}/participants/bulk"),
            &bulk_body(["a"]),
        )
        .await
        .expect_error(404);
    error.assert_message("Error: resource not found: no such meeting", None);
}
