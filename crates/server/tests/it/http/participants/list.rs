//! `GET …/participants`: pages, search and the filter by custom id.

use std::collections::BTreeMap;

use parlor_server::paging::PAGE_NO_MAX;
use serde_json::{Value, json};

use super::{new_participant, new_participant_with};
use crate::http::resource::{Resource, UNKNOWN_ID};
use crate::http::response::assert_shape;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    participants_are_listed_newest_first_without_tokens,
    pages_neither_overlap_nor_skip,
    participants_of_one_millisecond_are_paged_too,
    deletions_move_the_pages_up,
    a_participant_is_found_by_custom_id,
    a_search_finds_the_start_of_a_name_or_custom_id,
    a_search_takes_every_character_literally,
    an_invalid_parameter_is_reported,
    an_unknown_meeting_has_no_list,
];

async fn add_all(meeting: &Resource, participants: &[Value]) -> Vec<Value> {
    let body = json!({ "participants": participants });
    let added = meeting.post("/participants/bulk", &body).await.data(201);
    added.as_array().unwrap().clone()
}

async fn numbered(meeting: &Resource, count: u32) {
    for number in 1..=count {
        meeting
            .post("/participants", &new_participant(&number.to_string()))
            .await
            .data(201);
    }
}

/// Returns the custom ids on one page, in order.
async fn custom_ids(meeting: &Resource, query: &str) -> String {
    meeting
        .get(&format!("/participants?{query}"))
        .await
        .page()
        .texts("custom_participant_id")
        .join(" ")
}

async fn participants_are_listed_newest_first_without_tokens(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let empty = meeting.get("/participants").await.page();
    assert_eq!((empty.total, empty.offsets), (0, (0, 0)));
    meeting
        .post("/participants", &new_participant_with("one", "name", "One"))
        .await
        .data(201);
    meeting
        .post("/participants", &new_participant("two"))
        .await
        .data(201);
    let listed = meeting.get("/participants").await;
    assert_eq!((listed.page().total, listed.page().offsets), (2, (1, 2)));
    assert_shape("participant_list", &listed.json());
    assert_eq!(custom_ids(&meeting, "sort_order=ASC").await, "one two");
    assert_eq!(custom_ids(&meeting, "sort_order=DSC").await, "two one");
}

async fn pages_neither_overlap_nor_skip(server: &Server) {
    let meeting = server.app().await.meeting().await;
    numbered(&meeting, 25).await;
    let first = meeting.get("/participants").await.page();
    assert_eq!(
        (first.items.len(), first.total, first.offsets),
        (20, 25, (1, 20))
    );
    for number in ["0", "1", ""] {
        let same = meeting
            .get(&format!("/participants?page_no={number}&per_page=0"))
            .await
            .page();
        assert_eq!(same.items, first.items, "page {number}");
    }
    assert_eq!(custom_ids(&meeting, "page_no=2").await, "5 4 3 2 1");
    assert_eq!(
        custom_ids(&meeting, "page_no=2&sort_order=ASC").await,
        "21 22 23 24 25"
    );
    assert_eq!(
        custom_ids(&meeting, "per_page=10&page_no=2&sort_order=ASC").await,
        "11 12 13 14 15 16 17 18 19 20"
    );
    let last = meeting.get("/participants?page_no=2").await.page();
    assert_eq!((last.total, last.offsets), (25, (21, 25)));
    for far in ["3".to_owned(), PAGE_NO_MAX.to_string()] {
        let beyond = meeting
            .get(&format!("/participants?page_no={far}"))
            .await
            .page();
        assert_eq!(
            (beyond.items.len(), beyond.total, beyond.offsets),
            (0, 25, (0, 0))
        );
    }
    assert_eq!(
        meeting
            .get("/participants?per_page=1000")
            .await
            .page()
            .items
            .len(),
        25
    );
}

async fn participants_of_one_millisecond_are_paged_too(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let participants: Vec<Value> = (0..300)
        .map(|number| new_participant(&number.to_string()))
        .collect();
    add_all(&meeting, &participants).await;
    let whole = meeting.get("/participants?per_page=1000").await.page();
    let mut pages = BTreeMap::new();
    // The order makes the server reach pages from both ends and from pages it served before.
    for number in [5, 1, 10, 4, 6, 2, 9, 3, 8, 7] {
        let query = format!("/participants?per_page=30&page_no={number}");
        pages.insert(number, meeting.get(&query).await.page().items);
    }
    assert_eq!(
        pages.into_values().flatten().collect::<Vec<_>>(),
        whole.items
    );
    let mut ascending = meeting
        .get("/participants?per_page=1000&sort_order=ASC")
        .await
        .page()
        .items;
    ascending.reverse();
    assert_eq!(ascending, whole.items);
}

async fn deletions_move_the_pages_up(server: &Server) {
    let meeting = server.app().await.meeting().await;
    numbered(&meeting, 7).await;
    assert_eq!(custom_ids(&meeting, "per_page=3&page_no=2").await, "4 3 2");
    meeting.delete("/participants/custom:6").await.data(200);
    meeting.delete("/participants/custom:2").await.data(200);
    assert_eq!(custom_ids(&meeting, "per_page=3&page_no=1").await, "7 5 4");
    assert_eq!(custom_ids(&meeting, "per_page=3&page_no=2").await, "3 1");
    assert_eq!(meeting.get("/participants").await.page().total, 5);
    numbered(&meeting, 7).await;
    assert_eq!(custom_ids(&meeting, "").await, "6 2 7 5 4 3 1");
    assert_eq!(meeting.get("/participants").await.page().total, 7);
}

async fn a_participant_is_found_by_custom_id(server: &Server) {
    let meeting = server.app().await.meeting().await;
    add_all(
        &meeting,
        &[
            new_participant("ada"),
            new_participant("ada2"),
            new_participant_with("a b/c&d", "name", "Odd"),
        ],
    )
    .await;
    let found = meeting
        .get("/participants?custom_participant_id=ada")
        .await
        .page();
    assert_eq!(
        (
            found.texts("custom_participant_id"),
            found.total,
            found.offsets
        ),
        (vec!["ada"], 1, (1, 1))
    );
    for query in [
        "custom_participant_id=a%20b%2Fc%26d",
        "custom_participant_id=a+b%2Fc%26d&search=od",
    ] {
        assert_eq!(custom_ids(&meeting, query).await, "a b/c&d");
    }
    for unmatched in [
        "custom_participant_id=Ada",
        "custom_participant_id=ad",
        "custom_participant_id=ada&search=x",
    ] {
        assert_eq!(
            meeting
                .get(&format!("/participants?{unmatched}"))
                .await
                .page()
                .total,
            0,
            "{unmatched}"
        );
    }
    assert_eq!(
        custom_ids(&meeting, "custom_participant_id=ada&page_no=2").await,
        ""
    );
    let other = server.app().await.meeting().await;
    assert_eq!(custom_ids(&other, "custom_participant_id=ada").await, "");
}

async fn a_search_finds_the_start_of_a_name_or_custom_id(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let participants = [
        new_participant_with("u1", "name", "Ada Lovelace"),
        new_participant_with("u2", "name", "Älva"),
        new_participant_with("ada@example.com", "name", "Countess"),
        new_participant_with("Ada", "name", "ada"),
        new_participant("u3"),
    ];
    let added = add_all(&meeting, &participants).await;
    let found =
        async |search: &str| custom_ids(&meeting, &format!("search={search}&sort_order=ASC")).await;
    // The order of the ids of one bulk request is unspecified, so they are sorted here.
    let sorted = async |search: &str| {
        let ids = found(search).await;
        let mut ids: Vec<&str> = ids.split(' ').collect();
        ids.sort_unstable();
        ids.join(" ")
    };
    assert_eq!(sorted("ada").await, "Ada ada@example.com u1");
    assert_eq!(sorted("Ada").await, "Ada u1");
    assert_eq!(found("ADA%20love").await, "u1");
    assert_eq!(found("lovelace").await, "");
    assert_eq!(found("%C3%A4l").await, "u2");
    assert_eq!(sorted("u").await, "u1 u2 u3");
    assert_eq!(found(added[4]["id"].as_str().unwrap()).await, "u3");
    assert_eq!(found("nobody").await, "");
    let page = meeting
        .get("/participants?search=u&per_page=2&page_no=2")
        .await
        .page();
    assert_eq!((page.total, page.offsets), (3, (3, 3)));
    meeting
        .patch("/participants/custom:u3", &json!({ "name": "Grace" }))
        .await
        .data(200);
    assert_eq!(found("grace").await, "u3");
    meeting
        .patch("/participants/custom:u3", &json!({ "name": null }))
        .await
        .data(200);
    assert_eq!(found("grace").await, "");
}

async fn a_search_takes_every_character_literally(server: &Server) {
    let meeting = server.app().await.meeting().await;
    add_all(
        &meeting,
        &[
            new_participant("100%"),
            new_participant("a_b"),
            new_participant("it's"),
            new_participant("\u{10ffff}"),
            new_participant("q\""),
        ],
    )
    .await;
    for (search, found) in [
        ("%25", ""),
        ("100%25", "100%"),
        ("a_", "a_b"),
        ("axb", ""),
        ("it's", "it's"),
        ("q%22", "q\""),
        ("%F4%8F%BF%BF", "\u{10ffff}"),
    ] {
        assert_eq!(
            custom_ids(&meeting, &format!("search={search}")).await,
            found,
            "{search}"
        );
    }
    for nul in ["search=%00", "custom_participant_id=%00"] {
        assert_eq!(
            meeting.get(&format!("/participants?{nul}")).await.status / 100,
            4,
            "{nul}"
        );
    }
}

async fn an_invalid_parameter_is_reported(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let long = "x".repeat(257);
    for (query, name) in [
        ("page_no=x".to_owned(), "page_no"),
        ("page_no=-1".to_owned(), "page_no"),
        (format!("page_no={}", u64::MAX), "page_no"),
        ("per_page=1001".to_owned(), "per_page"),
        ("per_page=1&per_page=1".to_owned(), "per_page"),
        ("sort_order=up".to_owned(), "sort_order"),
        (format!("search={long}"), "search"),
        (
            format!("custom_participant_id={long}"),
            "custom_participant_id",
        ),
    ] {
        let error = meeting
            .get(&format!("/participants?{query}"))
            .await
            .expect_error(400);
        assert!(
            error.message.contains(&format!("\"{name}\"")),
            "{query}: {error:?}"
        );
    }
    meeting.get("/participants?unknown=1&&=").await.data(200);
}

async fn an_unknown_meeting_has_no_list(server: &Server) {
    let app = server.app().await;
    for query in ["", "?search=x", "?custom_participant_id=x", "?page_no=9"] {
        let error = app
            .get(&format!("/meetings/{UNKNOWN_ID}/participants{query}"))
            .await
            .expect_error(404);
        error.assert_message("Error: resource not found: no such meeting", None);
    }
}
