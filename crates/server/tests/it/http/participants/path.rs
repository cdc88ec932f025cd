//! The path of `POST …/participants`: accepted id formats, and the order of the checks.

use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};
use serde_json::json;

use super::{new_participant, new_participant_with};
use crate::http::resource::UNKNOWN_ID;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    the_path_is_checked_before_anything_is_looked_up,
    every_form_of_account_and_app_ids_is_accepted,
    the_body_is_checked_before_the_meeting_and_that_before_the_preset,
];

async fn the_path_is_checked_before_anything_is_looked_up(server: &Server) {
    let app = server.app().await;
    let malformed = app
        .post("/meetings/weekly/participants", &new_participant("ada"))
        .await
        .expect_error(400);
    malformed.assert_message(
        "BAD_REQUEST \"id\" must be a valid GUID (path parameter \"meeting_id\")",
        None,
    );
    let unknown = app
        .post(
            &format!("/meetings/{UNKNOWN_ID}/participants"),
            &new_participant("ada"),
        )
        .await
        .expect_error(404);
    unknown.assert_message("Error: resource not found: no such meeting", None);
    let theirs = server.app().await.meeting().await;
    let theirs = app
        .post(
            &format!("/meetings/{}/participants", theirs.id()),
            &new_participant("ada"),
        )
        .await;
    assert_eq!(theirs.expect_error(404), unknown);
}

async fn every_form_of_account_and_app_ids_is_accepted(server: &Server) {
    let app = server.app().await;
    let rest = format!("/meetings/{}/participants", app.meeting().await.id());
    let hyphenated = uuid::Uuid::parse_str(app.id())
        .unwrap()
        .hyphenated()
        .to_string();
    for form in [app.id(), &hyphenated, &app.id().to_uppercase()] {
        let added = server
            .account()
            .post(&format!("/{form}{rest}"), &new_participant("ada"))
            .await;
        added.data(201);
    }
    assert_eq!(app.get(&rest).await.page().total, 1);
    let long = server
        .account_with(&"a".repeat(33), API_TOKEN)
        .post(&format!("/{}{rest}", app.id()), &new_participant("ada"))
        .await;
    assert!(
        long.expect_error(400).message.contains("\"account_id\""),
        "{}",
        long.text()
    );
    let long = server
        .account_with(ACCOUNT_ID, API_TOKEN)
        .post(
            &format!("/{}{rest}", "a".repeat(37)),
            &new_participant("ada"),
        )
        .await;
    assert!(
        long.expect_error(400).message.contains("\"app_id\""),
        "{}",
        long.text()
    );
    for unknown in ["x", "0123456789abcdef0123456789abcdef", UNKNOWN_ID] {
        server
            .account()
            .post(&format!("/{unknown}{rest}"), &new_participant("ada"))
            .await
            .expect_error(404);
    }
}

async fn the_body_is_checked_before_the_meeting_and_that_before_the_preset(server: &Server) {
    let app = server.app().await;
    let unknown_meeting = format!("/meetings/{UNKNOWN_ID}/participants");
    app.post(&unknown_meeting, &json!({}))
        .await
        .expect_error(400);
    let unknown = app
        .post(
            &unknown_meeting,
            &new_participant_with("ada", "preset_name", "none"),
        )
        .await
        .expect_error(404);
    unknown.assert_message("Error: resource not found: no such meeting", None);
    let no_app = server
        .account()
        .post(&format!("/{UNKNOWN_ID}{unknown_meeting}"), &json!({}))
        .await
        .expect_error(404);
    no_app.assert_message("Error: resource not found: no such app", None);
}
