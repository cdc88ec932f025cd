//! `/meetings`.

mod list;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::http::participants::new_participant;
use crate::http::resource::{Resource, UNKNOWN_ID};
use crate::http::response::assert_shape;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_meeting_needs_no_field_at_all,
    responses_contain_everything_but_the_secrets,
    the_old_name_of_the_bucket_config_is_accepted,
    an_invalid_setting_is_reported_by_its_pointer,
    limits_are_exact,
    a_patch_changes_only_the_given_fields,
    a_null_restores_the_default,
    a_put_resets_the_absent_fields,
    racing_patches_are_all_applied,
    an_inactive_meeting_still_accepts_participants,
    deleting_a_meeting_deletes_its_participants,
    an_unknown_meeting_and_a_malformed_id_get_different_errors,
];

async fn create(app: &Resource, body: Value) -> Value {
    app.post("/meetings", &body).await.data(201)
}

async fn a_meeting_needs_no_field_at_all(server: &Server) {
    let app = server.app().await;
    let empty = app.post("/meetings", &json!({})).await;
    empty.data(201);
    assert_shape("meeting_of_defaults", &empty.json());
    let no_body = app
        .send(reqwest::Method::POST, "/meetings", None)
        .await
        .data(201);
    assert_eq!(no_body["session_keep_alive_time_in_secs"], 60);
    let nulls = json!({ "title": null, "record_on_start": null, "live_stream_on_start": null });
    assert_eq!(create(&app, nulls).await["record_on_start"], false);
}

/// A body with every field.
fn everything() -> Value {
    json!({
        "title": "Weekly Review",
        "record_on_start": true, "live_stream_on_start": true, "persist_chat": true,
        "summarize_on_end": true, "transcribe_on_end": true,
        "session_keep_alive_time_in_secs": 600, "preferred_region": "eu-central-1",
        "recording_config": {
            "max_seconds": 86400, "file_name_prefix": "weekly",
            "video_config": {
                "codec": "VP9", "width": 1920, "height": 1, "export_file": false,
                "watermark": {
                    "url": "https://example.com/logo.png", "position": "right bottom",
                    "size": { "width": 1, "height": 2 },
                },
            },
            "audio_config": { "codec": "MP3", "channel": "mono", "export_file": false },
            "storage_config": {
                "type": "aws", "bucket": "recordings", "path": "weekly", "region": "eu-west-1",
                "access_key": "NEVER-RETURNED", "secret": "NEVER-RETURNED",
                "password": "NEVER-RETURNED", "private_key": "NEVER-RETURNED",
            },
            "realtimekit_bucket_config": { "enabled": true },
            "live_streaming_config": { "rtmp_url": "rtmps://live.example.com/app" },
        },
        "ai_config": {
            "transcription": { "keywords": ["Parlor"], "language": "de", "profanity_filter": true },
            "summarization": { "word_limit": 150, "text_format": "plain_text", "summary_type": "team_meeting" },
        },
    })
}

async fn responses_contain_everything_but_the_secrets(server: &Server) {
    let app = server.app().await;
    let created = app.post("/meetings", &everything()).await;
    let id = created.data(201)["id"].as_str().unwrap().to_owned();
    assert_shape("meeting_with_everything", &created.json());
    let path = format!("/meetings/{id}");
    let responses = [
        app.get(&path).await,
        app.patch(&path, &json!({ "title": "Weekly Review" })).await,
        app.put(&path, &everything()).await,
        app.get("/meetings").await,
        app.delete(&path).await,
    ];
    for response in [created].iter().chain(&responses) {
        let text = response.text();
        assert!(
            text.contains("Weekly Review") && !text.contains("NEVER-RETURNED"),
            "{text}"
        );
        let config = &response.json()["data"];
        let config = config.get(0).unwrap_or(config);
        assert_eq!(
            config["recording_config"]["storage_config"]["bucket"], "recordings",
            "{text}"
        );
    }
}

async fn the_old_name_of_the_bucket_config_is_accepted(server: &Server) {
    let app = server.app().await;
    let older = json!({ "recording_config": { "dyte_bucket_config": { "enabled": true } } });
    let created = create(&app, older.clone()).await;
    assert_eq!(
        created["recording_config"],
        json!({ "realtimekit_bucket_config": { "enabled": true } })
    );
    let path = format!("/meetings/{}", created["id"].as_str().unwrap());
    let off = json!({ "recording_config": { "dyte_bucket_config": { "enabled": false } } });
    let changed = app.patch(&path, &off).await.data(200);
    assert_eq!(
        changed["recording_config"],
        json!({ "realtimekit_bucket_config": { "enabled": false } })
    );
}

async fn an_invalid_setting_is_reported_by_its_pointer(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    let cases = [
        (json!({ "title": 5 }), "/title"),
        (json!({ "title": "x".repeat(1025) }), "/title"),
        (json!({ "record_on_start": "yes" }), "/record_on_start"),
        (
            json!({ "session_keep_alive_time_in_secs": "60" }),
            "/session_keep_alive_time_in_secs",
        ),
        (json!({ "preferred_region": "moon-1" }), "/preferred_region"),
        (json!({ "recording_config": [] }), "/recording_config"),
        (
            json!({ "recording_config": { "max_seconds": 59 } }),
            "/recording_config/max_seconds",
        ),
        (
            json!({ "recording_config": { "video_config": { "width": 1921 } } }),
            "/recording_config/video_config/width",
        ),
        (
            json!({ "recording_config": { "video_config": { "codec": "AV1" } } }),
            "/recording_config/video_config/codec",
        ),
        (
            json!({ "recording_config": { "storage_config": { "type": "aws", "region": "x" } } }),
            "/recording_config/storage_config/access_key",
        ),
        (
            json!({ "recording_config": { "live_streaming_config": { "rtmp_url": "https://a" } } }),
            "/recording_config/live_streaming_config/rtmp_url",
        ),
        (
            json!({ "ai_config": { "transcription": { "keywords": ["ok", 5] } } }),
            "/ai_config/transcription/keywords/1",
        ),
        (
            json!({ "ai_config": { "summarization": { "word_limit": 149 } } }),
            "/ai_config/summarization/word_limit",
        ),
    ];
    for (body, pointer) in cases {
        for response in [
            app.post("/meetings", &body).await,
            meeting.patch("", &body).await,
            meeting.put("", &body).await,
        ] {
            let pointers = response.expect_error(400).pointers;
            assert_eq!(
                pointers,
                [Some(pointer.to_owned())],
                "{body}: {}",
                response.text()
            );
        }
    }
    assert_eq!(app.get("/meetings").await.page().total, 1);
}

async fn limits_are_exact(server: &Server) {
    let app = server.app().await;
    for (seconds, status) in [(59, 400), (60, 201), (600, 201), (601, 400)] {
        let body = json!({ "session_keep_alive_time_in_secs": seconds });
        assert_eq!(
            app.post("/meetings", &body).await.status,
            status,
            "{seconds}"
        );
    }
    create(&app, json!({ "title": "é".repeat(1024) })).await;
}

async fn a_patch_changes_only_the_given_fields(server: &Server) {
    let app = server.app().await;
    let created = create(&app, everything()).await;
    let path = format!("/meetings/{}", created["id"].as_str().unwrap());
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let change = json!({
        "status": "INACTIVE",
        "recording_config": { "video_config": { "height": 1080 } },
    });
    let changed = app.patch(&path, &change).await.data(200);
    assert!(changed["updated_at"].as_str() > created["updated_at"].as_str());
    let mut expected = created;
    expected["status"] = json!("INACTIVE");
    expected["recording_config"]["video_config"]["height"] = json!(1080);
    expected["updated_at"] = changed["updated_at"].clone();
    assert_eq!(changed, expected);
    assert_eq!(app.get(&path).await.data(200), expected);
    app.patch(&path, &json!({ "status": "CLOSED" }))
        .await
        .expect_error(400);
    assert_eq!(app.get(&path).await.data(200), expected);
    let back = app
        .patch(&path, &json!({ "status": "ACTIVE" }))
        .await
        .data(200);
    assert_eq!(back["status"], "ACTIVE");
}

async fn a_null_restores_the_default(server: &Server) {
    let app = server.app().await;
    let created = create(&app, everything()).await;
    let path = format!("/meetings/{}", created["id"].as_str().unwrap());
    let nulls = json!({
        "title": null, "persist_chat": null, "session_keep_alive_time_in_secs": null,
        "ai_config": null, "recording_config": { "video_config": { "width": null } },
    });
    let changed = app.patch(&path, &nulls).await.data(200);
    assert_eq!(changed.get("title"), None);
    assert_eq!(changed["persist_chat"], false);
    assert_eq!(changed["session_keep_alive_time_in_secs"], 60);
    assert_eq!(changed.get("ai_config"), None);
    assert_eq!(changed["recording_config"]["video_config"]["width"], 1280);
    assert_eq!(changed["recording_config"]["video_config"]["codec"], "VP9");
}

async fn a_put_resets_the_absent_fields(server: &Server) {
    let app = server.app().await;
    let created = create(&app, everything()).await;
    let path = format!("/meetings/{}", created["id"].as_str().unwrap());
    app.patch(&path, &json!({ "status": "INACTIVE" }))
        .await
        .data(200);
    let replaced = app
        .put(&path, &json!({ "title": "Replaced" }))
        .await
        .data(200);
    let mut expected = create(&app, json!({ "title": "Replaced" })).await;
    for kept in ["id", "created_at"] {
        expected[kept] = created[kept].clone();
    }
    expected["status"] = json!("INACTIVE");
    expected["updated_at"] = replaced["updated_at"].clone();
    assert_eq!(replaced, expected);
    assert_eq!(app.get(&path).await.data(200), expected);
}

async fn racing_patches_are_all_applied(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let changes = [
        json!({ "title": "Raced" }),
        json!({ "record_on_start": true }),
        json!({ "live_stream_on_start": true }),
        json!({ "persist_chat": true }),
        json!({ "summarize_on_end": true }),
        json!({ "transcribe_on_end": true }),
        json!({ "session_keep_alive_time_in_secs": 61 }),
        json!({ "recording_config": { "max_seconds": 61 } }),
        json!({ "recording_config": { "file_name_prefix": "raced" } }),
    ];
    let responses = join_all(changes.iter().map(|change| meeting.patch("", change))).await;
    assert!(
        responses.iter().all(|response| response.status == 200),
        "{responses:?}"
    );
    let current = meeting.get("").await.data(200);
    for change in &changes {
        let mut merged = current.clone();
        parlor_protocol::merge_patch(&mut merged, change.clone());
        assert_eq!(merged, current, "{change} was lost");
    }
}

async fn an_inactive_meeting_still_accepts_participants(server: &Server) {
    let meeting = server.app().await.meeting().await;
    meeting
        .patch("", &json!({ "status": "INACTIVE" }))
        .await
        .data(200);
    meeting
        .post("/participants", &new_participant("early"))
        .await
        .data(201);
}

async fn deleting_a_meeting_deletes_its_participants(server: &Server) {
    let app = server.app().await;
    let (meeting, kept) = (app.meeting().await, app.meeting().await);
    let added = meeting
        .post("/participants", &new_participant("one"))
        .await
        .data(201);
    let before = meeting.get("").await.data(200);
    assert_eq!(meeting.delete("").await.data(200), before);
    let participant = format!("/participants/{}", added["id"].as_str().unwrap());
    let responses = [
        meeting.get("").await,
        meeting.patch("", &json!({ "title": "x" })).await,
        meeting.put("", &json!({})).await,
        meeting.delete("").await,
        meeting.get("/participants").await,
        meeting.post("/participants", &new_participant("two")).await,
        meeting.get(&participant).await,
        meeting.get("/participants/custom:one").await,
        meeting.delete(&participant).await,
        meeting
            .post(&format!("{participant}/token"), &json!({}))
            .await,
    ];
    for response in responses {
        response
            .expect_error(404)
            .assert_message("Error: resource not found: no such meeting", None);
    }
    let listed = app.get("/meetings").await.page();
    assert_eq!((listed.total, listed.texts("id")), (1, vec![kept.id()]));
}

async fn an_unknown_meeting_and_a_malformed_id_get_different_errors(server: &Server) {
    let app = server.app().await;
    let other = server.app().await.meeting().await;
    let unknown = app
        .get(&format!("/meetings/{UNKNOWN_ID}"))
        .await
        .expect_error(404);
    assert_eq!(
        app.get(&format!("/meetings/{}", other.id()))
            .await
            .expect_error(404),
        unknown
    );
    for malformed in [
        "x",
        "0190f3c0a0b17c1d8e2f0123456789ab",
        "%7B0190f3c0-a0b1-7c1d-8e2f-0123456789ab%7D",
    ] {
        let error = app
            .get(&format!("/meetings/{malformed}"))
            .await
            .expect_error(400);
        let message = "BAD_REQUEST \"id\" must be a valid GUID (path parameter \"meeting_id\")";
        error.assert_message(message, None);
    }
    let upper = other.id().to_uppercase();
    app.get(&format!("/meetings/{upper}"))
        .await
        .expect_error(404);
}
