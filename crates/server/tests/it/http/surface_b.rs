//! `/v2`, where the credentials identify the app instead of the path.

use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};
use serde_json::json;

use crate::http::participants::{new_participant, new_participant_with};
use crate::http::resource::{UNKNOWN_ID, basic_auth};
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    both_surfaces_show_the_same_records,
    every_form_of_basic_credentials_is_accepted,
    every_operation_of_the_surface_works,
    operations_that_the_surface_lacks_are_rejected,
    a_token_that_is_limited_to_the_app_is_sufficient,
    idempotency_and_errors_work_as_on_the_other_surface,
];

async fn both_surfaces_show_the_same_records(server: &Server) {
    let app = server.app().await;
    let b = server.surface_b(app.id(), API_TOKEN);
    let meeting = b.meeting().await;
    let added = meeting
        .post("/participants", &new_participant_with("ada", "name", "Ada"))
        .await
        .data(201);
    let on_a = app.join(&format!("/meetings/{}", meeting.id()));
    assert_eq!(
        on_a.get("").await.data(200),
        meeting.get("").await.data(200)
    );
    let found = on_a.get("/participants/custom:ada").await.data(200);
    assert_eq!(found["id"], added["id"]);
    assert_eq!(
        meeting.get("/participants").await.json(),
        on_a.get("/participants").await.json()
    );
    assert_eq!(
        b.get("/presets").await.json(),
        app.get("/presets").await.json()
    );
    assert_eq!(
        b.get("/meetings").await.json(),
        app.get("/meetings").await.json()
    );
}

async fn every_form_of_basic_credentials_is_accepted(server: &Server) {
    let app = server.app().await;
    let hyphenated = uuid::Uuid::parse_str(app.id())
        .unwrap()
        .hyphenated()
        .to_string();
    let padded = basic_auth(app.id(), API_TOKEN);
    let forms = [
        padded.clone(),
        padded.trim_end_matches('=').to_owned(),
        padded.replacen("Basic", "basic", 1),
        padded.replacen("Basic ", "BASIC  ", 1),
        basic_auth(&hyphenated, API_TOKEN),
        basic_auth(&app.id().to_uppercase(), API_TOKEN),
    ];
    for form in forms {
        let response = server
            .public()
            .with_header("authorization", &form)
            .get("/v2/meetings")
            .await;
        assert_eq!(response.page().total, 0, "{form}");
    }
}

async fn every_operation_of_the_surface_works(server: &Server) {
    let app = server.app().await;
    let b = server.surface_b(app.id(), API_TOKEN);
    let preset = b
        .post("/presets", &json!({ "name": "mine" }))
        .await
        .data(200);
    let preset = format!("/presets/{}", preset["id"].as_str().unwrap());
    b.get(&preset).await.data(200);
    b.patch(&preset, &json!({ "name": "yours" }))
        .await
        .data(200);
    b.delete(&preset).await.data(200);
    let meeting = b.meeting().await;
    meeting
        .patch("", &json!({ "title": "One" }))
        .await
        .data(200);
    meeting.put("", &json!({ "title": "Two" })).await.data(200);
    let both = json!({ "participants": [new_participant("ada"), new_participant("eve")] });
    meeting.post("/participants/bulk", &both).await.data(201);
    meeting
        .patch("/participants/custom:ada", &json!({ "name": "Ada" }))
        .await
        .data(200);
    meeting
        .post("/participants/custom:ada/token", &json!({}))
        .await
        .data(200);
    meeting.delete("/participants/custom:ada").await.data(200);
    assert_eq!(meeting.get("/participants").await.page().total, 1);
    assert_eq!(b.get("/meetings?search=two").await.page().total, 1);
    meeting.delete("").await.data(200);
}

async fn operations_that_the_surface_lacks_are_rejected(server: &Server) {
    let app = server.app().await;
    let b = server.surface_b(app.id(), API_TOKEN);
    let meeting = b.meeting().await;
    let put = meeting
        .put(
            &format!("/participants/{UNKNOWN_ID}"),
            &new_participant("ada"),
        )
        .await;
    put.expect_error(405);
    assert!(
        !put.header("allow").unwrap().contains("PUT"),
        "{:?}",
        put.headers
    );
    b.put(&format!("/presets/{UNKNOWN_ID}"), &json!({ "name": "x" }))
        .await
        .expect_error(405);
    b.get("/apps").await.expect_error(404);
    b.post("/apps", &json!({ "name": "x" }))
        .await
        .expect_error(404);
}

async fn a_token_that_is_limited_to_the_app_is_sufficient(server: &Server) {
    let app = server.app().await;
    let token = server.token(ACCOUNT_ID, &["--permission", "Realtime", "--app", app.id()]);
    server.surface_b(app.id(), &token.secret).meeting().await;
    assert_eq!(app.get("/meetings").await.page().total, 1);
}

async fn idempotency_and_errors_work_as_on_the_other_surface(server: &Server) {
    let app = server.app().await;
    let meeting = server.surface_b(app.id(), API_TOKEN).meeting().await;
    let keyed = meeting.with_idempotency_key("on-surface-b");
    let first = keyed.post("/participants", &new_participant("ada")).await;
    let again = keyed.post("/participants", &new_participant("ada")).await;
    assert_eq!((first.status, &first.bytes), (201, &again.bytes));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let error = meeting
        .post("/participants", &json!({ "preset_name": "x" }))
        .await
        .expect_error(400);
    error.assert_message(
        "BAD_REQUEST: \"custom_participant_id\" is required",
        Some("/custom_participant_id"),
    );
}
