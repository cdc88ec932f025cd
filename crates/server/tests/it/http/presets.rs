//! `/presets`: what kinds of participants may do.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::http::answer::assert_shape;
use crate::http::participants::person;
use crate::http::place::{NOBODYS_ID, Place};
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_new_app_has_the_seven_presets,
    a_stock_preset_is_answered_whole,
    a_list_has_no_permissions_in_it,
    presets_are_searched_and_paged,
    a_preset_of_only_a_name_is_answered_whole,
    known_extras_are_taken,
    a_wrong_part_is_named_by_its_place,
    a_taken_name_is_refused,
    racing_makers_of_one_name_make_one_preset,
    a_change_touches_what_it_names,
    a_replacement_forgets_everything_else,
    a_renamed_preset_is_found_by_its_new_name,
    a_deleted_preset_frees_its_name,
    an_unknown_preset_is_told_apart_from_a_malformed_id,
];

async fn create(app: &Place, body: Value) -> Value {
    app.post("/presets", &body).await.data(200)
}

fn path(preset: &Value) -> String {
    format!("/presets/{}", preset["id"].as_str().unwrap())
}

async fn a_new_app_has_the_seven_presets(server: &Server) {
    let app = server.app().await;
    let page = app.get("/presets?sort_order=ASC").await.page();
    let stock = [
        "group_call_host",
        "group_call_participant",
        "group_call_guest",
        "webinar_presenter",
        "webinar_viewer",
        "livestream_host",
        "livestream_viewer",
    ];
    assert_eq!(page.texts("name"), stock);
    for preset in &page.items {
        let whole = app.get(&path(preset)).await.data(200);
        assert_eq!(
            whole["permissions"]["transcription_enabled"], true,
            "{}",
            whole["name"]
        );
    }
}

async fn a_stock_preset_is_answered_whole(server: &Server) {
    let app = server.app().await;
    let host = app.get("/presets?search=group_call_host").await.page();
    let host = app.get(&path(&host.items[0])).await;
    host.data(200);
    assert_shape("preset_group_call_host", &host.json());
}

async fn a_list_has_no_permissions_in_it(server: &Server) {
    let app = server.app().await;
    let listed = app.get("/presets?per_page=1").await;
    assert_eq!((listed.page().total, listed.page().span), (7, (1, 1)));
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
    app.get("/presets?per_page=1001").await.refused(400);
}

async fn a_preset_of_only_a_name_is_answered_whole(server: &Server) {
    let app = server.app().await;
    let made = app.post("/presets", &json!({ "name": "plain" })).await;
    let preset = made.data(200);
    assert_shape("preset_of_defaults", &made.json());
    assert_eq!(app.get(&path(&preset)).await.data(200), preset);
    for body in [
        json!({}),
        json!({ "name": null }),
        json!({ "name": "" }),
        json!({ "name": "x".repeat(257) }),
    ] {
        let refusal = app.post("/presets", &body).await.refused(400);
        assert_eq!(refusal.pointers, [Some("/name".to_owned())], "{body}");
    }
    create(&app, json!({ "name": "x".repeat(256) })).await;
}

async fn known_extras_are_taken(server: &Server) {
    let app = server.app().await;
    let extras = json!({
        "name": "extras",
        "config": { "media": { "video": { "simulcast": true } }, "track_recording": { "subscriptions": [] } },
        "ui": { "config_diff": {} },
        "permissions": { "plugins": { "config": { "a-plugin": { "access_control": "VIEW_ONLY", "own": [1] } } } },
    });
    let made = create(&app, extras).await;
    assert_eq!(made["config"]["media"]["video"]["simulcast"], true);
    assert_eq!(
        made["permissions"]["plugins"]["config"]["a-plugin"]["access_control"],
        "VIEW_ONLY"
    );
}

async fn a_wrong_part_is_named_by_its_place(server: &Server) {
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
        for answer in [
            changed,
            app.post("/presets", &body).await,
            app.put(&path(&preset), &body).await,
        ] {
            assert_eq!(
                answer.refused(400).pointers,
                [Some(pointer.to_owned())],
                "{}",
                answer.text()
            );
        }
    }
    assert_eq!(app.get(&path(&preset)).await.data(200), preset);
    assert_eq!(app.get("/presets").await.page().total, 8);
}

async fn a_taken_name_is_refused(server: &Server) {
    let app = server.app().await;
    let mine = create(&app, json!({ "name": "mine" })).await;
    let taken = json!({ "name": "group_call_host" });
    let refusals = [
        app.post("/presets", &taken).await,
        app.patch(&path(&mine), &taken).await,
        app.put(&path(&mine), &taken).await,
    ];
    for answer in refusals {
        let message = "a preset with the name group_call_host exists already";
        answer.refused(409).is(message, Some("/name"));
    }
    assert_eq!(app.get(&path(&mine)).await.data(200), mine);
    app.put(&path(&mine), &json!({ "name": "mine" }))
        .await
        .data(200);
    create(&server.app().await, json!({ "name": "mine" })).await;
    create(&app, json!({ "name": "Group_Call_Host" })).await;
}

async fn racing_makers_of_one_name_make_one_preset(server: &Server) {
    let app = server.app().await;
    let body = json!({ "name": "raced" });
    let answers = join_all((0..16).map(|_| app.post("/presets", &body))).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(made.len(), 1);
    for answer in refused {
        answer.refused(409);
    }
    assert_eq!(app.get("/presets?search=raced").await.page().total, 1);
}

async fn a_change_touches_what_it_names(server: &Server) {
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

async fn a_replacement_forgets_everything_else(server: &Server) {
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
    app.put(&path(&before), &json!({})).await.refused(400);
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
    meeting.post("/participants", &added).await.refused(404);
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
    app.get(&path(&preset)).await.refused(404);
    app.delete(&path(&preset)).await.refused(404);
    app.patch(&path(&preset), &json!({})).await.refused(404);
    app.put(&path(&preset), &json!({ "name": "brief" }))
        .await
        .refused(404);
    assert_eq!(app.get("/presets").await.page().total, 7);
    let late = json!({ "custom_participant_id": "two", "preset_name": "brief" });
    meeting.post("/participants", &late).await.refused(404);
    let one = meeting.get("/participants/custom:one").await.data(200);
    assert_eq!(one["preset_name"], "brief");
    let successor = create(&app, json!({ "name": "brief" })).await;
    assert_ne!(successor["id"], preset["id"]);
    meeting.post("/participants", &late).await.data(201);
    meeting
        .post("/participants", &person("three"))
        .await
        .data(201);
}

async fn an_unknown_preset_is_told_apart_from_a_malformed_id(server: &Server) {
    let app = server.app().await;
    app.get(&format!("/presets/{NOBODYS_ID}"))
        .await
        .refused(404);
    let theirs = create(&server.app().await, json!({ "name": "theirs" })).await;
    app.get(&path(&theirs)).await.refused(404);
    app.delete(&path(&theirs)).await.refused(404);
    let refusal = app.get("/presets/group_call_host").await.refused(400);
    refusal.is(
        "BAD_REQUEST \"id\" must be a valid GUID (path parameter \"preset_id\")",
        None,
    );
}
