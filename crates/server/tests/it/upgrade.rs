//! Upgrades of databases of earlier versions. Each dump contains an account, an app, a meeting and
//! two participants.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use parlor_server::limits::Limits;
use parlor_server::router;
use parlor_server::state::ServerState;
use parlor_store::DatabaseLocation;
use parlor_testkit::Postgres;
use serde_json::Value;
use tower::ServiceExt;

const SECRET: &str = "a-secret-that-is-long-enough-to-be-one-token";
const ACCOUNT: &str = "00000000000000000000000000000007";

/// Opens the database and checks that it contains the rows of the dump.
async fn check_contents(location: &DatabaseLocation) {
    // The second pass opens a database that has already been migrated.
    for _ in 0..2 {
        let state = Arc::new(
            ServerState::open(location, Limits::default())
                .await
                .unwrap(),
        );
        let router = router::router(&state);
        let get = async |path: &str| {
            let uri = format!("/client/v4/accounts/{ACCOUNT}/realtime/kit{path}");
            let request = Request::get(uri).header("authorization", format!("Bearer {SECRET}"));
            let request = request.body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
        let apps = get("/apps").await;
        let app = id(&apps["data"][0]);
        let meetings = get(&format!("/{app}/meetings")).await;
        assert_eq!(meetings["data"][0]["title"], "A meeting of version 0.1");
        let meeting = id(&meetings["data"][0]);
        let participants = get(&format!(
            "/{app}/meetings/{meeting}/participants?sort_order=ASC"
        ))
        .await;
        assert_eq!(participants["paging"]["total_count"], 2);
        assert_eq!(participants["data"][0]["custom_participant_id"], "ada");
        assert_eq!(participants["data"][0]["name"], "Ada");
        assert_eq!(participants["data"][1]["custom_participant_id"], "bob");
        let presets = get(&format!("/{app}/presets")).await;
        assert_eq!(presets["paging"]["total_count"], 7);
        state.db.close().await;
    }
}

#[tokio::test]
async fn a_database_of_version_0_1_opens_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("parlor.db");
    let dump = include_str!("upgrade/0.1-sqlite.sql");
    rusqlite::Connection::open(&file)
        .unwrap()
        .execute_batch(dump)
        .unwrap();
    check_contents(&DatabaseLocation::Sqlite(file)).await;
}

#[tokio::test]
async fn a_database_of_version_0_1_opens_on_postgresql() {
    let postgres = Postgres::shared().await.unwrap();
    let url = postgres.database().await.unwrap();
    let dump = include_str!("upgrade/0.1-postgres.sql");
    postgres.execute_in(&url, dump).await.unwrap();
    check_contents(&DatabaseLocation::Postgres(url)).await;
}
