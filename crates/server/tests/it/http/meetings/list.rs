//! `GET /meetings`: pages, search and filters.

use parlor_server::paging::PAGE_NO_MAX;
use serde_json::{Value, json};

use crate::http::resource::Resource;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    meetings_are_listed_newest_first,
    pages_neither_overlap_nor_skip,
    a_search_finds_the_start_of_any_word,
    a_search_takes_every_character_literally,
    a_changed_title_is_found_under_its_new_words,
    meetings_are_filtered_by_status,
    meetings_are_filtered_by_time,
    an_invalid_parameter_is_reported,
];

/// Creates meetings with these titles, in this order.
async fn create_titled(app: &Resource, titles: &[&str]) -> Vec<Value> {
    let mut created = Vec::new();
    for title in titles {
        created.push(
            app.post("/meetings", &json!({ "title": title }))
                .await
                .data(201),
        );
        // Gives each meeting its own creation time.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    created
}

/// Returns the titles on one page, in order.
async fn titles(app: &Resource, query: &str) -> String {
    app.get(&format!("/meetings?{query}"))
        .await
        .page()
        .texts("title")
        .join(", ")
}

async fn meetings_are_listed_newest_first(server: &Server) {
    let app = server.app().await;
    let empty = app.get("/meetings").await.page();
    assert_eq!((empty.total, empty.offsets), (0, (0, 0)));
    let created = create_titled(&app, &["One", "Two"]).await;
    let page = app.get("/meetings").await.page();
    assert_eq!(page.items, [created[1].clone(), created[0].clone()]);
    assert_eq!((page.total, page.offsets), (2, (1, 2)));
    assert_eq!(titles(&app, "sort_order=ASC").await, "One, Two");
    assert_eq!(titles(&app, "sort_order=DESC").await, "Two, One");
    assert_eq!(titles(&app, "sort_order=DSC").await, "Two, One");
}

async fn pages_neither_overlap_nor_skip(server: &Server) {
    let app = server.app().await;
    create_titled(&app, &["1", "2", "3", "4", "5"]).await;
    for filter in ["", "&status=ACTIVE", "&start_time=2020-01-01T00:00:00Z"] {
        assert_eq!(titles(&app, &format!("per_page=2{filter}")).await, "5, 4");
        assert_eq!(
            titles(&app, &format!("per_page=2&page_no=0{filter}")).await,
            "5, 4"
        );
        assert_eq!(
            titles(&app, &format!("per_page=2&page_no=2{filter}")).await,
            "3, 2"
        );
        assert_eq!(
            titles(&app, &format!("per_page=2&page_no=3{filter}")).await,
            "1"
        );
        assert_eq!(
            titles(
                &app,
                &format!("per_page=2&page_no=3&sort_order=ASC{filter}")
            )
            .await,
            "5"
        );
        let beyond = app
            .get(&format!("/meetings?per_page=2&page_no=4{filter}"))
            .await
            .page();
        assert_eq!((beyond.items.len(), beyond.total), (0, 5));
        let last = app
            .get(&format!("/meetings?per_page=2&page_no=3{filter}"))
            .await
            .page();
        assert_eq!((last.total, last.offsets), (5, (5, 5)));
    }
    let far = format!("/meetings?page_no={PAGE_NO_MAX}");
    assert_eq!(app.get(&far).await.page().total, 5);
    assert_eq!(
        app.get("/meetings?page_no=&per_page=")
            .await
            .page()
            .items
            .len(),
        5
    );
}

async fn a_search_finds_the_start_of_any_word(server: &Server) {
    let app = server.app().await;
    let created = create_titled(
        &app,
        &["Weekly Design Review", "weekly numbers", "Übersicht"],
    )
    .await;
    for (search, found) in [
        ("week", "weekly numbers, Weekly Design Review"),
        ("DESIGN", "Weekly Design Review"),
        ("design%20rev", "Weekly Design Review"),
        ("rev", "Weekly Design Review"),
        ("eekly", ""),
        ("%C3%BCber", "Übersicht"),
    ] {
        assert_eq!(
            titles(&app, &format!("search={search}")).await,
            found,
            "{search}"
        );
    }
    assert_eq!(
        titles(&app, "search=week&per_page=1&page_no=2").await,
        "Weekly Design Review"
    );
    assert_eq!(
        titles(&app, "search=week&sort_order=ASC&per_page=1").await,
        "Weekly Design Review"
    );
    let id = created[2]["id"].as_str().unwrap();
    assert_eq!(titles(&app, &format!("search={id}")).await, "Übersicht");
}

async fn a_search_takes_every_character_literally(server: &Server) {
    let app = server.app().await;
    create_titled(
        &app,
        &["100% done", "under_score", "it's \"quoted\"", "back\\slash"],
    )
    .await;
    for (search, found) in [
        ("%25", ""),
        ("100%25", "100% done"),
        ("under_", "under_score"),
        ("underx", ""),
        ("it's", "it's \"quoted\""),
        ("%22quo", "it's \"quoted\""),
        ("back%5C", "back\\slash"),
    ] {
        assert_eq!(
            titles(&app, &format!("search={search}")).await,
            found,
            "{search}"
        );
    }
    // No title contains a NUL character, and PostgreSQL does not accept one in a query.
    assert_eq!(app.get("/meetings?search=%00").await.status / 100, 4);
}

async fn a_changed_title_is_found_under_its_new_words(server: &Server) {
    let app = server.app().await;
    let created = create_titled(&app, &["Before"]).await;
    let path = format!("/meetings/{}", created[0]["id"].as_str().unwrap());
    app.patch(&path, &json!({ "title": "After" }))
        .await
        .data(200);
    assert_eq!(titles(&app, "search=before").await, "");
    assert_eq!(titles(&app, "search=after").await, "After");
    app.delete(&path).await.data(200);
    assert_eq!(titles(&app, "search=after").await, "");
}

async fn meetings_are_filtered_by_status(server: &Server) {
    let app = server.app().await;
    let created = create_titled(&app, &["Open", "Closed", "Open too"]).await;
    let closed = format!("/meetings/{}", created[1]["id"].as_str().unwrap());
    app.patch(&closed, &json!({ "status": "INACTIVE" }))
        .await
        .data(200);
    assert_eq!(titles(&app, "status=ACTIVE").await, "Open too, Open");
    assert_eq!(titles(&app, "status=INACTIVE").await, "Closed");
    assert_eq!(
        titles(&app, "status=ACTIVE&search=open&sort_order=ASC").await,
        "Open, Open too"
    );
    assert_eq!(titles(&app, "status=INACTIVE&search=open").await, "");
    assert_eq!(
        app.get("/meetings?status=ACTIVE&per_page=1")
            .await
            .page()
            .total,
        2
    );
}

async fn meetings_are_filtered_by_time(server: &Server) {
    let app = server.app().await;
    let created = create_titled(&app, &["One", "Two", "Three"]).await;
    let two = created[1]["created_at"].as_str().unwrap();
    assert_eq!(
        titles(&app, &format!("start_time={two}")).await,
        "Three, Two"
    );
    assert_eq!(titles(&app, &format!("end_time={two}")).await, "Two, One");
    assert_eq!(
        titles(&app, &format!("start_time={two}&end_time={two}")).await,
        "Two"
    );
    assert_eq!(
        titles(&app, &format!("start_time={two}&search=t")).await,
        "Three, Two"
    );
    let page = app
        .get(&format!("/meetings?end_time={two}&per_page=1"))
        .await
        .page();
    assert_eq!((page.total, page.offsets), (2, (1, 1)));
}

async fn an_invalid_parameter_is_reported(server: &Server) {
    let app = server.app().await;
    for (query, name) in [
        ("page_no=one", "page_no"),
        ("page_no=-1", "page_no"),
        ("page_no=1.5", "page_no"),
        ("page_no=18446744073709551616", "page_no"),
        ("per_page=1001", "per_page"),
        ("per_page=1&per_page=2", "per_page"),
        ("status=active", "status"),
        ("sort_order=desc", "sort_order"),
        ("start_time=yesterday", "start_time"),
        ("end_time=2026-13-01T00:00:00Z", "end_time"),
    ] {
        let error = app
            .get(&format!("/meetings?{query}"))
            .await
            .expect_error(400);
        assert!(
            error.message.contains(&format!("\"{name}\"")),
            "{query}: {error:?}"
        );
        assert_eq!(error.pointers, [None], "{query}");
    }
}
