//! `/presets`.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::http::participants::new_participant;
use crate::http::resource::{Resource, UNKNOWN_ID};
use crate::http::response::assert_shape;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_new_app_has_the_seven_presets,
    a_built_in_preset_is_returned_in_full,
    a_list_contains_no_permissions,
    presets_are_searched_and_paged,
    a_preset_with_only_a_name_gets_the_defaults,
    undocumented_but_known_fields_are_accepted,
    an_invalid_field_is_reported_by_its_pointer,
    a_taken_name_is_rejected,
    racing_requests_with_one_name_create_one_preset,
    a_patch_changes_only_the_given_fields,
    a_put_resets_the_absent_fields,
    a_renamed_preset_is_found_by_its_new_name,
    a_deleted_preset_frees_its_name,
    an_unknown_preset_and_a_malformed_id_get_different_errors,
];

async fn create(app: &Resource, body: Value) -> Value {
    app.post("/presets", &body).await.data(200)
}

fn path(preset: &Value) -> String {
    format!("/presets/{}", preset["id"].as_str().unwrap())
}

async fn a_new_app_has_the_seven_presets(server: &Server) {
    let app = server.app().await;
    let page = app.get("/presets?sort_order=ASC").await.page();
    let built_in = [
        "group_call_host",
        "group_call_participant",
        "group_call_guest",
        "webinar_presenter",
        "webinar_viewer",
        "livestream_host",
        "livestream_viewer",
    ];
    assert_eq!(page.texts("name"), built_in);
    for preset in &page.items {
        let full = app.get(&path(preset)).await.data(200);
        assert_eq!(
            full["permissions"]["transcription_enabled"], true,
            "{}",
            full["name"]
        );
    }
}

async fn a_built_in_preset_is_returned_in_full(server: &Server) {
    let app = server.app().await;
    let host = app.get("/presets?search=group_call_host").await.page();
    let host = app.get(&path(&host.items[0])).await;
    host.data(200);
    assert_shape("preset_group_call_host", &host.json());
}

async fn a_list_contains_no_permissions(server: &Server) {
    let app = server.app().await;
    let listed = app.get("/presets?per_page=1").await;
    assert_eq!((listed.page().total, listed.page().offsets), (7, (1, 1)));
    assert_shape("preset_list", &listed.json());
}

async fn presets_are_searched_and_paged(server: &Server) {
    let app = server.app().await;
    let names = async |query: &str| {
        app.get(&format!("/presets?{query}"))
            .await
            .page()
            .texts("name")
            .join(" ")
    };
    assert_eq!(
        names("search=WEBINAR").await,
        "webinar_viewer webinar_presenter"
    );
    assert_eq!(
        names("search=viewer&sort_order=ASC").await,
        "webinar_viewer livestream_viewer"
    );
    assert_eq!(names("search=none").await, "");
    assert_eq!(names("per_page=3&page_no=3").await, "group_call_host");
    assert_eq!(names("per_page=3&page_no=4").await, "");
    app.get("/presets?per_page=1001").await.expect_error(400);
}

async fn a_preset_with_only_a_name_gets_the_defaults(server: &Server) {
    let app = server.app().await;
    let created = app.post("/presets", &json!({ "name": "plain" })).await;
    let preset = created.data(200);
    assert_shape("preset_of_defaults", &created.json());
    assert_eq!(app.get(&path(&preset)).await.data(200), preset);
    for body in [
        json!({}),
        json!({ "name": null }),
        json!({ "name": "" }),
        json!({ "name": "x".repeat(257) }),
    ] {
        let error = app.post("/presets", &body).await.expect_error(400);
        assert_eq!(error.pointers, [Some("/name".to_owned())], "{body}");
    }
    create(&app, json!({ "name": "x".repeat(256) })).await;
}

async fn undocumented_but_known_fields_are_accepted(server: &Server) {
    let app = server.app().await;
    let extras = json!({
        "name": "extras",
        "config": { "media": { "video": { "simulcast": true } }, "track_recording": { "subscriptions": [] } },
        "ui": { "config_diff": {} },
        "permissions": { "plugins": { "config": { "a-plugin": { "access_control": "VIEW_ONLY", "own": [1] } } } },
    });
    let created = create(&app, extras).await;
    assert_eq!(created["config"]["media"]["video"]["simulcast"], true);
    assert_eq!(
        created["permissions"]["plugins"]["config"]["a-plugin"]["access_control"],
        "VIEW_ONLY"
    );
}

async fn an_invalid_field_is_reported_by_its_pointer(server: &Server) {
    let app = server.app().await;
    let preset = create(&app, json!({ "name": "fine" })).await;
    let cases = [
        (
            json!({ "config": { "view_type": "CHAT" } }),
            "/config/view_type",
        ),
        (
            json!({ "config": { "media": { "video": { "frame_rate": 31 } } } }),
            "/config/media/video/frame_rate",
        ),
        (
            json!({ "config": { "max_screenshare_count": -1 } }),
            "/config/max_screenshare_count",
        ),
        (
            json!({ "permissions": { "can_record": 1 } }),
            "/permissions/can_record",
        ),
        (
            json!({ "permissions": { "media": { "audio": { "can_produce": "MAYBE" } } } }),
            "/permissions/media/audio/can_produce",
        ),
        (
            json!({ "ui": { "design_tokens": { "theme": "pink" } } }),
            "/ui/design_tokens/theme",
        ),
        (
            json!({ "ui": { "design_tokens": { "colors": { "brand": { "500": "blue" } } } } }),
            "/ui/design_tokens/colors/brand/500",
        ),
        (json!({ "ui": 5 }), "/ui"),
    ];
    for (mut body, pointer) in cases {
        let changed = app.patch(&path(&preset), &body).await;
        body["name"] = json!("wrong");
        for response in [
            changed,
            app.post("/presets", &body).await,
            app.put(&path(&preset), &body).await,
        ] {
            assert_eq!(
                response.expect_error(400).pointers,
                [Some(pointer.to_owned())],
                "{}",
                response.text()
            );
        }
    }
    assert_eq!(app.get(&path(&preset)).await.data(200), preset);
    assert_eq!(app.get("/presets").await.page().total, 8);
}

async fn a_taken_name_is_rejected(server: &Server) {
    let app = server.app().await;
    let mine = create(&app, json!({ "name": "mine" })).await;
    let taken = json!({ "name": "group_call_host" });
    let responses = [
        app.post("/presets", &taken).await,
        app.patch(&path(&mine), &taken).await,
        app.put(&path(&mine), &taken).await,
    ];
    for response in responses {
        let message = "a preset with the name group_call_host exists already";
        response
            .expect_error(409)
            .assert_message(message, Some("/name"));
    }
    assert_eq!(app.get(&path(&mine)).await.data(200), mine);
    app.put(&path(&mine), &json!({ "name": "mine" }))
        .await
        .data(200);
    create(&server.app().await, json!({ "name": "mine" })).await;
    create(&app, json!({ "name": "Group_Call_Host" })).await;
}

async fn racing_requests_with_one_name_create_one_preset(server: &Server) {
    let app = server.app().await;
    let body = json!({ "name": "raced" });
    let responses = join_all((0..16).map(|_| app.post("/presets", &body))).await;
    let (created, rejected): (Vec<_>, Vec<_>) = responses
        .iter()
        .partition(|response| response.status == 200);
    assert_eq!(created.len(), 1);
    for response in rejected {
        response.expect_error(409);
    }
    assert_eq!(app.get("/presets?search=raced").await.page().total, 1);
}

async fn a_patch_changes_only_the_given_fields(server: &Server) {
    let app = server.app().await;
    let before = create(&app, json!({ "name": "changing" })).await;
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let change = json!({
        "config": { "view_type": "WEBINAR" },
        "permissions": { "chat": { "public": { "files": false } }, "can_record": true },
        "ui": { "design_tokens": { "colors": { "brand": { "500": "#123456" } } } },
    });
    let changed = app.patch(&path(&before), &change).await.data(200);
    assert!(changed["updated_at"].as_str() > before["updated_at"].as_str());
    let mut expected = before;
    parlor_protocol::merge_patch(&mut expected, change);
    expected["updated_at"] = changed["updated_at"].clone();
    assert_eq!(changed, expected);
    assert_eq!(app.get(&path(&changed)).await.data(200), expected);
    let reset = json!({ "permissions": null, "config": { "view_type": null } });
    let reset = app.patch(&path(&changed), &reset).await.data(200);
    assert_eq!(reset["config"]["view_type"], "GROUP_CALL");
    assert_eq!(reset["ui"], expected["ui"]);
}

async fn a_put_resets_the_absent_fields(server: &Server) {
    let app = server.app().await;
    let defaults = create(&app, json!({ "name": "defaults" })).await;
    let body = json!({ "name": "full", "permissions": { "can_record": true } });
    let before = create(&app, body).await;
    let replaced = app
        .put(&path(&before), &json!({ "name": "bare" }))
        .await
        .data(200);
    assert_eq!(
        (&replaced["id"], &replaced["created_at"]),
        (&before["id"], &before["created_at"])
    );
    assert_eq!(replaced["permissions"], defaults["permissions"]);
    assert_eq!(replaced["name"], "bare");
    assert_eq!(app.get(&path(&before)).await.data(200), replaced);
    app.put(&path(&before), &json!({})).await.expect_error(400);
}

async fn a_renamed_preset_is_found_by_its_new_name(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    let preset = create(&app, json!({ "name": "before" })).await;
    let added = json!({ "custom_participant_id": "one", "preset_name": "before" });
    meeting.post("/participants", &added).await.data(201);
    app.patch(&path(&preset), &json!({ "name": "after" }))
        .await
        .data(200);
    meeting
        .post("/participants", &added)
        .await
        .expect_error(404);
    let one = meeting.get("/participants/custom:one").await.data(200);
    assert_eq!(one["preset_name"], "after");
    let again = json!({ "custom_participant_id": "one", "preset_name": "after" });
    let again = meeting.post("/participants", &again).await.data(201);
    assert_eq!(again["preset_id"], preset["id"]);
}

async fn a_deleted_preset_frees_its_name(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    let preset = create(&app, json!({ "name": "brief" })).await;
    let body = json!({ "custom_participant_id": "one", "preset_name": "brief" });
    meeting.post("/participants", &body).await.data(201);
    assert_eq!(app.delete(&path(&preset)).await.data(200), preset);
    app.get(&path(&preset)).await.expect_error(404);
    app.delete(&path(&preset)).await.expect_error(404);
    app.patch(&path(&preset), &json!({}))
        .await
        .expect_error(404);
    app.put(&path(&preset), &json!({ "name": "brief" }))
        .await
        .expect_error(404);
    assert_eq!(app.get("/presets").await.page().total, 7);
    let late = json!({ "custom_participant_id": "two", "preset_name": "brief" });
    meeting.post("/participants", &late).await.expect_error(404);
    let one = meeting.get("/participants/custom:one").await.data(200);
    assert_eq!(one["preset_name"], "brief");
    let successor = create(&app, json!({ "name": "brief" })).await;
    assert_ne!(successor["id"], preset["id"]);
    meeting.post("/participants", &late).await.data(201);
    meeting
        .post("/participants", &new_participant("three"))
        .await
        .data(201);
}

async fn an_unknown_preset_and_a_malformed_id_get_different_errors(server: &Server) {
    let app = server.app().await;
    app.get(&format!("/presets/{UNKNOWN_ID}"))
        .await
        .expect_error(404);
    let theirs = create(&server.app().await, json!({ "name": "theirs" })).await;
    app.get(&path(&theirs)).await.expect_error(404);
    app.delete(&path(&theirs)).await.expect_error(404);
    let error = app.get("/presets/group_call_host").await.expect_error(400);
    error.assert_message(
        "BAD_REQUEST \"id\" must be a valid GUID (path parameter \"preset_id\")",
        None,
    );
}
