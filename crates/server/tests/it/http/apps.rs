//! `/apps`.

use parlor_testkit::server::ACCOUNT_ID;
use serde_json::json;

use crate::http::participants::new_participant;
use crate::http::resource::Resource;
use crate::http::response::assert_shape;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_created_app_is_nested_one_level_down,
    an_app_is_returned_alone_and_in_the_list,
    apps_are_listed_newest_first_and_by_page,
    a_name_of_an_app_has_limits,
    an_app_can_be_renamed,
    deleting_an_app_deletes_everything_in_it,
    a_token_that_is_limited_to_an_app_sees_only_that_app,
    an_account_sees_its_own_apps_only,
];

async fn create(account: &Resource, name: &str) -> String {
    let created = account
        .post("/apps", &json!({ "name": name }))
        .await
        .data(200);
    created["app"]["id"].as_str().unwrap().to_owned()
}

/// Creates an account that no other test uses. Returns its id and its resource.
fn fresh_account(server: &Server) -> (String, Resource) {
    let created = server.run(&["account", "create", "--name", "Test"]);
    let id = created["id"].as_str().unwrap().to_owned();
    let token = server.token(&id, &["--permission", "Realtime"]);
    let account = server.account_with(&id, &token.secret);
    (id, account)
}

async fn a_created_app_is_nested_one_level_down(server: &Server) {
    let created = server
        .account()
        .post("/apps", &json!({ "name": "Class room" }))
        .await;
    created.data(200);
    assert_shape("app_created", &created.json());
}

async fn an_app_is_returned_alone_and_in_the_list(server: &Server) {
    let (_, account) = fresh_account(server);
    let id = create(&account, "Class room").await;
    let single = account.get(&format!("/apps/{id}")).await;
    single.data(200);
    assert_shape("app", &single.json());
    let listed = account.get("/apps").await;
    assert_eq!(listed.page().items, [single.data(200)]);
    assert_shape("app_list", &listed.json());
    let hyphenated = uuid::Uuid::parse_str(&id).unwrap().hyphenated().to_string();
    assert_eq!(
        account.get(&format!("/apps/{hyphenated}")).await.data(200),
        single.data(200)
    );
    account
        .get("/apps/0123456789abcdef0123456789abcdef")
        .await
        .expect_error(404);
}

async fn apps_are_listed_newest_first_and_by_page(server: &Server) {
    let (_, account) = fresh_account(server);
    assert_eq!(account.get("/apps").await.page().total, 0);
    for name in ["Alpha", "Beta", "Alphabet"] {
        create(&account, name).await;
    }
    let names = async |query: &str| {
        let page = account.get(&format!("/apps{query}")).await.page();
        (page.texts("name").join(" "), page.total, page.offsets)
    };
    assert_eq!(names("").await, ("Alphabet Beta Alpha".into(), 3, (1, 3)));
    assert_eq!(
        names("?sort_order=ASC").await,
        ("Alpha Beta Alphabet".into(), 3, (1, 3))
    );
    assert_eq!(
        names("?per_page=2&page_no=2").await,
        ("Alpha".into(), 3, (3, 3))
    );
    assert_eq!(
        names("?per_page=2&page_no=3").await,
        (String::new(), 3, (0, 0))
    );
    assert_eq!(
        names("?search=ALPHA").await,
        ("Alphabet Alpha".into(), 2, (1, 2))
    );
    assert_eq!(names("?search=nothing").await, (String::new(), 0, (0, 0)));
    account
        .get(&format!("/apps?search={}", "x".repeat(125)))
        .await
        .data(200);
    account
        .get(&format!("/apps?search={}", "x".repeat(126)))
        .await
        .expect_error(400);
    account.get("/apps?sort_order=UP").await.expect_error(400);
}

async fn a_name_of_an_app_has_limits(server: &Server) {
    let account = server.account();
    let create = async |body| account.post("/apps", &body).await;
    create(json!({ "name": "é".repeat(256) })).await.data(200);
    let error = create(json!({ "name": "é".repeat(257) }))
        .await
        .expect_error(400);
    assert_eq!(error.pointers, [Some("/name".to_owned())]);
    let empty = create(json!({ "name": "" })).await.expect_error(400);
    empty.assert_message(
        "BAD_REQUEST: \"name\" is not allowed to be empty",
        Some("/name"),
    );
    let absent = create(json!({})).await.expect_error(400);
    absent.assert_message("BAD_REQUEST: \"name\" is required", Some("/name"));
}

async fn an_app_can_be_renamed(server: &Server) {
    let app = server.app().await;
    let path = format!("/apps/{}", app.id());
    let before = server.account().get(&path).await.data(200);
    let renamed = server
        .account()
        .patch(&path, &json!({ "name": "New" }))
        .await
        .data(200);
    assert_eq!(
        renamed,
        json!({ "id": app.id(), "name": "New", "created_at": before["created_at"] })
    );
    assert_eq!(server.account().get(&path).await.data(200), renamed);
    server
        .account()
        .patch(&path, &json!({ "name": "" }))
        .await
        .expect_error(400);
    let unknown = "/apps/0123456789abcdef0123456789abcdef";
    server
        .account()
        .patch(unknown, &json!({ "name": "New" }))
        .await
        .expect_error(404);
}

async fn deleting_an_app_deletes_everything_in_it(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    meeting
        .post("/participants", &new_participant("one"))
        .await
        .data(201);
    let path = format!("/apps/{}", app.id());
    let before = server.account().get(&path).await.data(200);
    assert_eq!(server.account().delete(&path).await.data(200), before);
    for path in ["/meetings", "/presets"] {
        app.get(path).await.expect_error(404);
        app.post(path, &json!({ "name": "x" }))
            .await
            .expect_error(404);
    }
    meeting.get("").await.expect_error(404);
    meeting
        .post("/participants", &new_participant("two"))
        .await
        .expect_error(404);
    server.account().get(&path).await.expect_error(404);
    server.account().delete(&path).await.expect_error(404);
}

async fn a_token_that_is_limited_to_an_app_sees_only_that_app(server: &Server) {
    let (app, other) = (server.app().await, server.app().await);
    let token = server.token(ACCOUNT_ID, &["--permission", "Realtime", "--app", app.id()]);
    let limited = server.account_with(ACCOUNT_ID, &token.secret);
    assert_eq!(limited.get("/apps").await.page().texts("id"), [app.id()]);
    limited
        .get(&format!("/{}/meetings", app.id()))
        .await
        .data(200);
    limited
        .get(&format!("/{}/meetings", other.id()))
        .await
        .expect_error(403);
    limited
        .post("/apps", &json!({ "name": "One more" }))
        .await
        .expect_error(403);
}

async fn an_account_sees_its_own_apps_only(server: &Server) {
    let (id, account) = fresh_account(server);
    let app = create(&account, "Theirs").await;
    let ours = server.account();
    let theirs = ours.get(&format!("/apps/{app}")).await.expect_error(404);
    let unknown = ours
        .get("/apps/0123456789abcdef0123456789abcdef")
        .await
        .expect_error(404);
    assert_eq!(theirs, unknown);
    let other_account = server.account_with(&id, parlor_testkit::server::API_TOKEN);
    let theirs = other_account
        .get(&format!("/apps/{app}"))
        .await
        .expect_error(403);
    let unknown = other_account
        .get("/apps/0123456789abcdef0123456789abcdef")
        .await
        .expect_error(403);
    assert_eq!(theirs, unknown);
}
