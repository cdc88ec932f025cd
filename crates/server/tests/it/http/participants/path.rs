//! The path of `POST …/participants`: its forms, and when each part of it is looked at.

use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};
use serde_json::json;

use super::{person, person_with};
use crate::http::place::NOBODYS_ID;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    the_path_is_checked_before_anything_is_looked_up,
    the_account_and_the_app_are_read_in_their_forms,
    the_body_is_checked_before_the_meeting_and_that_before_the_preset,
];

async fn the_path_is_checked_before_anything_is_looked_up(server: &Server) {
    let app = server.app().await;
    let malformed = app
        .post("/meetings/weekly/participants", &person("ada"))
        .await
        .refused(400);
    malformed.is(
        "BAD_REQUEST \"id\" must be a valid GUID (path parameter \"meeting_id\")",
        None,
    );
    let unknown = app
        .post(
            &format!("/meetings/{NOBODYS_ID}/participants"),
            &person("ada"),
        )
        .await
        .refused(404);
    unknown.is("Error: resource not found: no such meeting", None);
    let theirs = server.app().await.meeting().await;
    let theirs = app
        .post(
            &format!("/meetings/{}/participants", theirs.id()),
            &person("ada"),
        )
        .await;
    assert_eq!(theirs.refused(404), unknown);
}

async fn the_account_and_the_app_are_read_in_their_forms(server: &Server) {
    let app = server.app().await;
    let rest = format!("/meetings/{}/participants", app.meeting().await.id());
    let hyphenated = uuid::Uuid::parse_str(app.id())
        .unwrap()
        .hyphenated()
        .to_string();
    for form in [app.id(), &hyphenated, &app.id().to_uppercase()] {
        let added = server
            .account()
            .post(&format!("/{form}{rest}"), &person("ada"))
            .await;
        added.data(201);
    }
    assert_eq!(app.get(&rest).await.page().total, 1);
    let long = server
        .account_of(&"a".repeat(33), API_TOKEN)
        .post(&format!("/{}{rest}", app.id()), &person("ada"))
        .await;
    assert!(
        long.refused(400).message.contains("\"account_id\""),
        "{}",
        long.text()
    );
    let long = server
        .account_of(ACCOUNT_ID, API_TOKEN)
        .post(&format!("/{}{rest}", "a".repeat(37)), &person("ada"))
        .await;
    assert!(
        long.refused(400).message.contains("\"app_id\""),
        "{}",
        long.text()
    );
    for unknown in ["x", "0123456789abcdef0123456789abcdef", NOBODYS_ID] {
        server
            .account()
            .post(&format!("/{unknown}{rest}"), &person("ada"))
            .await
            .refused(404);
    }
}

async fn the_body_is_checked_before_the_meeting_and_that_before_the_preset(server: &Server) {
    let app = server.app().await;
    let nowhere = format!("/meetings/{NOBODYS_ID}/participants");
    app.post(&nowhere, &json!({})).await.refused(400);
    let unknown = app
        .post(&nowhere, &person_with("ada", "preset_name", "none"))
        .await
        .refused(404);
    unknown.is("Error: resource not found: no such meeting", None);
    let no_app = server
        .account()
        .post(&format!("/{NOBODYS_ID}{nowhere}"), &json!({}))
        .await
        .refused(404);
    no_app.is("Error: resource not found: no such app", None);
}
