//! `POST …/participants/bulk`: many people at once, all of them or none.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{person, person_with};
use crate::http::answer::assert_shape;
use crate::http::participants::tokens::claims;
use crate::http::place::{NOBODYS_ID, Place};
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    the_answer_has_the_order_of_the_request,
    each_person_gets_a_token_of_their_own,
    the_people_of_a_request_are_added_or_changed,
    one_unknown_preset_keeps_everybody_out,
    a_wrong_item_is_named_by_its_place,
    nobody_may_stand_there_twice,
    a_thousand_people_are_the_most,
    one_who_is_there_keeps_everybody_out_on_request,
    racing_requests_with_the_same_people_all_succeed,
    an_unknown_meeting_takes_nobody,
];

fn people<'a>(ids: impl IntoIterator<Item = &'a str>) -> Value {
    json!({ "participants": ids.into_iter().map(person).collect::<Vec<_>>() })
}

fn numbered(numbers: impl IntoIterator<Item = usize>) -> Value {
    let people: Vec<Value> = numbers
        .into_iter()
        .map(|number| person(&format!("person {number}")))
        .collect();
    json!({ "participants": people })
}

fn custom_ids(data: &Value) -> Vec<&str> {
    let people = data.as_array().unwrap().iter();
    people
        .map(|person| person["custom_participant_id"].as_str().unwrap())
        .collect()
}

async fn count(meeting: &Place) -> u64 {
    meeting.get("/participants").await.page().total
}

async fn the_answer_has_the_order_of_the_request(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let shuffled = (0..60).map(|number| number * 37 % 60);
    let body = numbered(shuffled);
    let added = meeting.post("/participants/bulk", &body).await.data(201);
    assert_eq!(custom_ids(&added), custom_ids(&body["participants"]));
    let two = meeting
        .post("/participants/bulk", &people(["one", "two"]))
        .await;
    two.data(201);
    assert_shape("participants_added", &two.json());
}

async fn each_person_gets_a_token_of_their_own(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let mut body = people(["one", "two", "three"]);
    body["participants"][1]["expires_in"] = json!(60);
    body["participants"][2]["preset_name"] = json!("webinar_viewer");
    let added = meeting.post("/participants/bulk", &body).await.data(201);
    for (person, life) in added
        .as_array()
        .unwrap()
        .iter()
        .zip([8_640_000, 60, 8_640_000])
    {
        let claims = claims(person["token"].as_str().unwrap());
        assert_eq!(claims["participantId"], person["id"]);
        assert_eq!(claims["presetId"], person["preset_id"]);
        assert_eq!(
            claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
            life
        );
    }
    assert_ne!(added[2]["preset_id"], added[0]["preset_id"]);
}

async fn the_people_of_a_request_are_added_or_changed(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let old = meeting
        .post("/participants", &person_with("old", "name", "Old"))
        .await
        .data(201);
    let body = json!({ "participants": [person("new"), person_with("old", "name", "Older")] });
    let added = meeting.post("/participants/bulk", &body).await.data(201);
    assert_eq!(
        (&added[1]["id"], &added[1]["created_at"]),
        (&old["id"], &old["created_at"])
    );
    assert_eq!(added[1]["name"], "Older");
    assert_eq!(count(&meeting).await, 2);
}

async fn one_unknown_preset_keeps_everybody_out(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let mut body = numbered(0..10);
    body["participants"][7]["preset_name"] = json!("grup_call_host");
    let refusal = meeting.post("/participants/bulk", &body).await.refused(404);
    let message = "No preset found with name grup_call_host; did you mean \"group_call_host\"?";
    refusal.is(message, Some("/participants/7/preset_name"));
    assert_eq!(count(&meeting).await, 0);
    assert_eq!(meeting.get("/participants").await.page().items.len(), 0);
}

async fn a_wrong_item_is_named_by_its_place(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let with = |second: Value| json!({ "participants": [person("fine"), second] });
    let cases = [
        (json!({}), "/participants"),
        (json!({ "participants": null }), "/participants"),
        (json!({ "participants": {} }), "/participants"),
        (json!({ "participants": [] }), "/participants"),
        (json!([person("fine")]), ""),
        (
            json!({ "participants": [person("fine"), 5] }),
            "/participants/1",
        ),
        (
            with(json!({ "preset_name": "x" })),
            "/participants/1/custom_participant_id",
        ),
        (with(person("")), "/participants/1/custom_participant_id"),
        (
            with(person_with("x", "name", "x".repeat(257))),
            "/participants/1/name",
        ),
        (
            with(person_with("x", "picture", "x.png")),
            "/participants/1/picture",
        ),
        (
            with(person_with("x", "expires_in", 0)),
            "/participants/1/expires_in",
        ),
        (
            with(person_with("x", "expires_in", "60")),
            "/participants/1/expires_in",
        ),
    ];
    for (body, pointer) in cases {
        let refusal = meeting.post("/participants/bulk", &body).await.refused(400);
        assert_eq!(
            refusal.pointers,
            [Some(pointer.to_owned())],
            "{body}: {refusal:?}"
        );
    }
    assert_eq!(count(&meeting).await, 0);
}

async fn nobody_may_stand_there_twice(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let refusal = meeting
        .post("/participants/bulk", &people(["a", "b", "c", "b"]))
        .await
        .refused(400);
    assert_eq!(
        refusal.pointers,
        [Some("/participants/3/custom_participant_id".to_owned())]
    );
    assert_eq!(count(&meeting).await, 0);
}

async fn a_thousand_people_are_the_most(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let refusal = meeting
        .post("/participants/bulk", &numbered(0..1001))
        .await
        .refused(400);
    assert_eq!(refusal.pointers, [Some("/participants".to_owned())]);
    assert_eq!(count(&meeting).await, 0);
    let body = numbered(0..1000);
    let added = meeting.post("/participants/bulk", &body).await.data(201);
    assert_eq!(custom_ids(&added), custom_ids(&body["participants"]));
    assert_eq!(count(&meeting).await, 1000);
    meeting.post("/participants/bulk", &body).await.data(201);
    assert_eq!(count(&meeting).await, 1000);
}

async fn one_who_is_there_keeps_everybody_out_on_request(server: &Server) {
    let meeting = server.app().await.meeting().await;
    meeting
        .post("/participants", &person("there"))
        .await
        .data(201);
    let strict = meeting.with_header("parlor-if-exists", "reject");
    let refusal = strict
        .post("/participants/bulk", &people(["a", "b", "there", "c"]))
        .await
        .refused(409);
    let message = "a participant with custom_participant_id there already exists in this meeting";
    refusal.is(message, Some("/participants/2/custom_participant_id"));
    assert_eq!(count(&meeting).await, 1);
    strict
        .post("/participants/bulk", &people(["a", "b", "c"]))
        .await
        .data(201);
    assert_eq!(count(&meeting).await, 4);
}

async fn racing_requests_with_the_same_people_all_succeed(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let bodies: Vec<Value> = (0..8)
        .map(|turn| {
            if turn % 2 == 0 {
                numbered(0..50)
            } else {
                numbered((0..50).rev())
            }
        })
        .collect();
    let bulk = join_all(
        bodies
            .iter()
            .map(|body| meeting.post("/participants/bulk", body)),
    );
    let single = person("person 25");
    let singles = join_all((0..8).map(|_| meeting.post("/participants", &single)));
    let (bulk, singles) = tokio::join!(bulk, singles);
    for (body, answer) in bodies.iter().zip(&bulk) {
        assert_eq!(
            custom_ids(&answer.data(201)),
            custom_ids(&body["participants"])
        );
    }
    for answer in &singles {
        assert_eq!(answer.data(201)["id"], bulk[0].data(201)[25]["id"]);
    }
    let page = meeting.get("/participants?per_page=1000").await.page();
    assert_eq!((page.total, page.items.len()), (50, 50));
}

async fn an_unknown_meeting_takes_nobody(server: &Server) {
    let app = server.app().await;
    let refusal = app
        .post(
            &format!("/meetings/{NOBODYS_ID}/participants/bulk"),
            &people(["a"]),
        )
        .await
        .refused(404);
    refusal.is("Error: resource not found: no such meeting", None);
}
