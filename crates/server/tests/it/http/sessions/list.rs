//! `GET /sessions`: pages, order, filters and search.

use parlor_live::{Record, SessionRecord};
use serde_json::{Value, json};

use super::{SessionWriter, StoredSession, assert_near, page_of};
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    sessions_are_listed_newest_first_with_paging_in_both_places,
    pages_of_sessions_neither_overlap_nor_skip,
    sessions_are_filtered,
    sessions_are_sorted_by_minutes_consumed,
    sessions_can_be_searched,
    invalid_parameters_of_the_list_are_reported,
    deleting_a_meeting_deletes_its_sessions,
];

async fn ids(writer: &SessionWriter, query: &str) -> Vec<String> {
    let response = writer.app.get(&format!("/sessions?{query}")).await;
    let (sessions, paging) = page_of("sessions", &response);
    assert!(paging["total_count"].as_u64().unwrap() >= sessions.len() as u64);
    let id = |session: &Value| session["id"].as_str().unwrap().to_owned();
    sessions.iter().map(id).collect()
}

async fn total(writer: &SessionWriter, query: &str) -> Value {
    let response = writer.app.get(&format!("/sessions?{query}")).await;
    page_of("sessions", &response).1["total_count"].clone()
}

fn ids_of(sessions: &[&StoredSession]) -> Vec<String> {
    sessions.iter().map(|session| session.id()).collect()
}

async fn sessions_are_listed_newest_first_with_paging_in_both_places(server: &Server) {
    let writer = SessionWriter::new(server).await;
    let (none, paging) = page_of("sessions", &writer.app.get("/sessions").await);
    assert!(none.is_empty());
    assert_eq!(
        paging,
        json!({ "total_count": 0, "start_offset": 0, "end_offset": 0 })
    );
    let meeting = writer.meeting("Weekly").await;
    let old = writer.ended_session(&meeting, 120, 30).await;
    let live = writer.live_session(&meeting, 10).await;
    let peer = writer.peer(&live, "ada", 0, None);
    writer.insert(&live, &[Record::Peer(peer)]).await;
    let (sessions, paging) = page_of("sessions", &writer.app.get("/sessions").await);
    assert_eq!(
        paging,
        json!({ "total_count": 2, "start_offset": 1, "end_offset": 2 })
    );
    assert_eq!(sessions[0]["id"], live.id());
    assert_eq!(sessions[0]["status"], "LIVE");
    assert_eq!(sessions[0].get("ended_at"), None);
    assert_near(&sessions[0]["minutes_consumed"], 10.0);
    assert_eq!(sessions[1]["id"], old.id());
    assert_eq!(sessions[1]["minutes_consumed"], 30.0);
    let mut stable = sessions[1].clone();
    for name in ["id", "associated_id", "organization_id"] {
        stable.as_object_mut().unwrap().remove(name).unwrap();
    }
    crate::http::response::assert_shape("session_ended", &stable);
    assert_eq!(sessions[1]["associated_id"], meeting);
    assert_eq!(sessions[1]["organization_id"], writer.app.id());
    assert_eq!(ids(&writer, "sort_order=ASC").await, ids_of(&[&old, &live]));
}

async fn pages_of_sessions_neither_overlap_nor_skip(server: &Server) {
    let writer = SessionWriter::new(server).await;
    let meeting = writer.meeting("Weekly").await;
    let mut all = Vec::new();
    for number in 0..5 {
        all.push(
            writer
                .ended_session(&meeting, 100 - number * 10, 5 + number)
                .await,
        );
    }
    let by_meeting = format!("associated_id={meeting}");
    let filters = [
        String::new(),
        by_meeting.clone(),
        "status=ENDED".to_owned(),
        "start_time=2020-01-01T00:00:00Z".to_owned(),
        "sort_by=minutesConsumed".to_owned(),
        format!("{by_meeting}&sort_by=minutesConsumed"),
        format!("{by_meeting}&status=ENDED"),
        "search=weekly".to_owned(),
    ];
    for filter in filters {
        for order in ["ASC", "DESC"] {
            let mut seen = Vec::new();
            for page in 1..=4 {
                let query = format!("{filter}&sort_order={order}&per_page=2&page_no={page}");
                seen.extend(ids(&writer, &query).await);
                assert_eq!(total(&writer, &query).await, 5, "{query}");
            }
            let mut expected = ids_of(&all.iter().collect::<Vec<_>>());
            if order == "DESC" {
                expected.reverse();
            }
            assert_eq!(seen, expected, "{filter} {order}");
        }
    }
}

async fn sessions_are_filtered(server: &Server) {
    let writer = SessionWriter::new(server).await;
    let (one, two) = (writer.meeting("One").await, writer.meeting("Two").await);
    let old = writer.ended_session(&one, 300, 30).await;
    let crowded = StoredSession {
        record: SessionRecord {
            peak: 40,
            ..writer.ended_session(&two, 200, 10).await.record
        },
        meeting: two.clone(),
    };
    writer
        .insert(&crowded, &[Record::Session(crowded.record.clone())])
        .await;
    let live = writer.live_session(&two, 100).await;
    let at = |minutes_ago: i64| {
        let ms = writer.now_ms - minutes_ago * super::MINUTE_MS;
        parlor_server::clock::rfc3339(ms)
    };
    let cases = [
        (format!("associated_id={one}"), vec![&old]),
        (format!("meeting_id={two}"), vec![&live, &crowded]),
        (format!("associated_id={one}&meeting_id={two}"), vec![&old]),
        ("status=LIVE".to_owned(), vec![&live]),
        ("status=ENDED".to_owned(), vec![&crowded, &old]),
        (format!("status=ENDED&meeting_id={two}"), vec![&crowded]),
        (format!("status=LIVE&meeting_id={two}"), vec![&live]),
        (format!("status=LIVE&meeting_id={one}"), vec![]),
        ("participants=10:".to_owned(), vec![&crowded]),
        ("participants=40:40".to_owned(), vec![&crowded]),
        ("participants=:39".to_owned(), vec![&live, &old]),
        ("participants=2:10".to_owned(), vec![]),
        ("participants=1:1&status=LIVE".to_owned(), vec![&live]),
        (format!("start_time={}", at(250)), vec![&live, &crowded]),
        (format!("end_time={}", at(150)), vec![&crowded, &old]),
        (
            format!("start_time={}&end_time={}", at(250), at(150)),
            vec![&crowded],
        ),
        (format!("start_time={}", at(200)), vec![&live, &crowded]),
        (format!("end_time={}", at(200)), vec![&crowded, &old]),
        (
            format!("start_time={}&meeting_id={two}&status=ENDED", at(250)),
            vec![&crowded],
        ),
        (format!("start_time={}&status=LIVE", at(50)), vec![]),
    ];
    for (query, expected) in cases {
        assert_eq!(ids(&writer, &query).await, ids_of(&expected), "{query}");
        assert_eq!(total(&writer, &query).await, expected.len(), "{query}");
    }
    // Another app does not see these sessions.
    let other = SessionWriter::new(server).await;
    for query in [
        "",
        "status=LIVE",
        &format!("meeting_id={one}"),
        "search=one",
    ] {
        assert!(ids(&other, query).await.is_empty(), "{query}");
    }
}

async fn sessions_are_sorted_by_minutes_consumed(server: &Server) {
    let writer = SessionWriter::new(server).await;
    let meeting = writer.meeting("Weekly").await;
    let short = writer.ended_session(&meeting, 300, 1).await;
    let long = writer.ended_session(&meeting, 200, 60).await;
    let middle = writer.ended_session(&meeting, 100, 20).await;
    for filter in ["", "&status=ENDED", "&search=weekly", "&participants=1:9"] {
        let query = format!("sort_by=minutesConsumed{filter}");
        assert_eq!(
            ids(&writer, &query).await,
            ids_of(&[&long, &middle, &short]),
            "{query}"
        );
        let ascending = format!("{query}&sort_order=ASC");
        assert_eq!(
            ids(&writer, &ascending).await,
            ids_of(&[&short, &middle, &long]),
            "{ascending}"
        );
    }
    assert_eq!(
        ids(&writer, "sort_by=createdAt").await,
        ids_of(&[&middle, &long, &short])
    );
}

async fn sessions_can_be_searched(server: &Server) {
    let writer = SessionWriter::new(server).await;
    let design = writer.meeting("Weekly Design Review").await;
    let old = writer.ended_session(&design, 300, 5).await;
    let new = writer.live_session(&design, 10).await;
    let other = writer.meeting_with_session("Standup", 20).await;
    let cases = [
        ("search=design", vec![&new, &old]),
        ("search=DESIGN%20rev", vec![&new, &old]),
        ("search=design&status=LIVE", vec![&new]),
        ("search=design&participants=5:", vec![]),
        ("search=esign", vec![]),
        ("search=stand", vec![&other]),
    ];
    for (query, expected) in cases {
        assert_eq!(ids(&writer, query).await, ids_of(&expected), "{query}");
    }
    let by_meeting = format!("search={design}");
    assert_eq!(ids(&writer, &by_meeting).await, ids_of(&[&new, &old]));
    let by_session = format!("search={}", old.id());
    assert_eq!(ids(&writer, &by_session).await, ids_of(&[&old]));
    let other_meeting = format!("search={}&associated_id={}", old.id(), other.meeting);
    assert!(ids(&writer, &other_meeting).await.is_empty());
}

async fn invalid_parameters_of_the_list_are_reported(server: &Server) {
    let app = server.app().await;
    for (query, name) in [
        ("participants=5", "participants"),
        ("participants=a:b", "participants"),
        ("participants=1:2:3", "participants"),
        ("participants=-1:2", "participants"),
        ("participants=1:99999999999999999999", "participants"),
        ("status=live", "status"),
        ("sort_by=title", "sort_by"),
        ("sort_order=UP", "sort_order"),
        ("start_time=yesterday", "start_time"),
        ("associated_id=5", "associated_id"),
        ("meeting_id=5", "meeting_id"),
        ("per_page=100000", "per_page"),
        ("page_no=-1", "page_no"),
    ] {
        let error = app
            .get(&format!("/sessions?{query}"))
            .await
            .expect_error(400);
        let quoted = format!("\"{name}\"");
        assert!(error.message.contains(&quoted), "{query}: {error:?}");
    }
    for empty in [
        "page_no=",
        "search=",
        "participants=",
        "page_no=0&per_page=0",
    ] {
        app.get(&format!("/sessions?{empty}")).await.data(200);
    }
}

async fn deleting_a_meeting_deletes_its_sessions(server: &Server) {
    let writer = SessionWriter::new(server).await;
    let (deleted, kept) = (
        writer.meeting_with_session("Deleted", 30).await,
        writer.meeting_with_session("Kept", 20).await,
    );
    let peer = writer.peer(&deleted, "ada", 0, None);
    let message = writer.message(&deleted, "hello");
    let records = [Record::Peer(peer), Record::Chat(message)];
    writer.insert(&deleted, &records).await;
    let path = format!("/meetings/{}", deleted.meeting);
    writer.app.delete(&path).await.data(200);
    // Sessions are inaccessible at once, and removed a little later.
    let session = format!("/sessions/{}", deleted.id());
    for rest in ["", "/participants", "/chat"] {
        let response = writer.app.get(&format!("{session}{rest}")).await;
        assert_eq!(response.status, 404, "{}", response.text());
    }
    for _ in 0..40 {
        if ids(&writer, "").await == ids_of(&[&kept]) && total(&writer, "").await == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    panic!("the sessions of a deleted meeting are still listed");
}
