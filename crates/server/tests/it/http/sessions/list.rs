//! `GET /sessions`: pages, order, filters and search.

use parlor_live::{Record, SessionRecord};
use serde_json::{Value, json};

use super::{Held, Rooms, assert_near, page_of};
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    sessions_are_listed_newest_first_in_both_places,
    pages_of_sessions_neither_overlap_nor_skip,
    sessions_are_filtered,
    sessions_are_sorted_by_their_minutes,
    sessions_are_searched_for,
    wrong_parameters_of_the_list_are_named,
    a_deleted_meeting_takes_its_sessions_along,
];

async fn ids(rooms: &Rooms, query: &str) -> Vec<String> {
    let answer = rooms.app.get(&format!("/sessions?{query}")).await;
    let (sessions, paging) = page_of("sessions", &answer);
    assert!(paging["total_count"].as_u64().unwrap() >= sessions.len() as u64);
    let id = |session: &Value| session["id"].as_str().unwrap().to_owned();
    sessions.iter().map(id).collect()
}

async fn total(rooms: &Rooms, query: &str) -> Value {
    let answer = rooms.app.get(&format!("/sessions?{query}")).await;
    page_of("sessions", &answer).1["total_count"].clone()
}

fn of(sessions: &[&Held]) -> Vec<String> {
    sessions.iter().map(|held| held.id()).collect()
}

async fn sessions_are_listed_newest_first_in_both_places(server: &Server) {
    let rooms = Rooms::of(server).await;
    let (none, paging) = page_of("sessions", &rooms.app.get("/sessions").await);
    assert!(none.is_empty());
    assert_eq!(
        paging,
        json!({ "total_count": 0, "start_offset": 0, "end_offset": 0 })
    );
    let meeting = rooms.meeting("Weekly").await;
    let old = rooms.ended(&meeting, 120, 30).await;
    let live = rooms.session(&meeting, 10).await;
    let inside = rooms.peer(&live, "ada", 0, None);
    rooms.keep(&live, &[Record::Peer(inside)]).await;
    let (sessions, paging) = page_of("sessions", &rooms.app.get("/sessions").await);
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
    crate::http::answer::assert_shape("session_ended", &stable);
    assert_eq!(sessions[1]["associated_id"], meeting);
    assert_eq!(sessions[1]["organization_id"], rooms.app.id());
    assert_eq!(ids(&rooms, "sort_order=ASC").await, of(&[&old, &live]));
}

async fn pages_of_sessions_neither_overlap_nor_skip(server: &Server) {
    let rooms = Rooms::of(server).await;
    let meeting = rooms.meeting("Weekly").await;
    let mut all = Vec::new();
    for number in 0..5 {
        all.push(rooms.ended(&meeting, 100 - number * 10, 5 + number).await);
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
                seen.extend(ids(&rooms, &query).await);
                assert_eq!(total(&rooms, &query).await, 5, "{query}");
            }
            let mut wanted = of(&all.iter().collect::<Vec<_>>());
            if order == "DESC" {
                wanted.reverse();
            }
            assert_eq!(seen, wanted, "{filter} {order}");
        }
    }
}

async fn sessions_are_filtered(server: &Server) {
    let rooms = Rooms::of(server).await;
    let (one, two) = (rooms.meeting("One").await, rooms.meeting("Two").await);
    let old = rooms.ended(&one, 300, 30).await;
    let crowded = Held {
        session: SessionRecord {
            peak: 40,
            ..rooms.ended(&two, 200, 10).await.session
        },
        meeting: two.clone(),
    };
    rooms
        .keep(&crowded, &[Record::Session(crowded.session.clone())])
        .await;
    let live = rooms.session(&two, 100).await;
    let at = |minutes_ago: i64| {
        let ms = rooms.now_ms - minutes_ago * super::MINUTE_MS;
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
    for (query, wanted) in cases {
        assert_eq!(ids(&rooms, &query).await, of(&wanted), "{query}");
        assert_eq!(total(&rooms, &query).await, wanted.len(), "{query}");
    }
    // Another app sees none of them.
    let other = Rooms::of(server).await;
    for query in [
        "",
        "status=LIVE",
        &format!("meeting_id={one}"),
        "search=one",
    ] {
        assert!(ids(&other, query).await.is_empty(), "{query}");
    }
}

async fn sessions_are_sorted_by_their_minutes(server: &Server) {
    let rooms = Rooms::of(server).await;
    let meeting = rooms.meeting("Weekly").await;
    let short = rooms.ended(&meeting, 300, 1).await;
    let long = rooms.ended(&meeting, 200, 60).await;
    let middle = rooms.ended(&meeting, 100, 20).await;
    for filter in ["", "&status=ENDED", "&search=weekly", "&participants=1:9"] {
        let query = format!("sort_by=minutesConsumed{filter}");
        assert_eq!(
            ids(&rooms, &query).await,
            of(&[&long, &middle, &short]),
            "{query}"
        );
        let ascending = format!("{query}&sort_order=ASC");
        assert_eq!(
            ids(&rooms, &ascending).await,
            of(&[&short, &middle, &long]),
            "{ascending}"
        );
    }
    assert_eq!(
        ids(&rooms, "sort_by=createdAt").await,
        of(&[&middle, &long, &short])
    );
}

async fn sessions_are_searched_for(server: &Server) {
    let rooms = Rooms::of(server).await;
    let design = rooms.meeting("Weekly Design Review").await;
    let old = rooms.ended(&design, 300, 5).await;
    let new = rooms.session(&design, 10).await;
    let other = rooms.held("Standup", 20).await;
    let cases = [
        ("search=design", vec![&new, &old]),
        ("search=DESIGN%20rev", vec![&new, &old]),
        ("search=design&status=LIVE", vec![&new]),
        ("search=design&participants=5:", vec![]),
        ("search=esign", vec![]),
        ("search=stand", vec![&other]),
    ];
    for (query, wanted) in cases {
        assert_eq!(ids(&rooms, query).await, of(&wanted), "{query}");
    }
    let by_meeting = format!("search={design}");
    assert_eq!(ids(&rooms, &by_meeting).await, of(&[&new, &old]));
    let by_session = format!("search={}", old.id());
    assert_eq!(ids(&rooms, &by_session).await, of(&[&old]));
    let elsewhere = format!("search={}&associated_id={}", old.id(), other.meeting);
    assert!(ids(&rooms, &elsewhere).await.is_empty());
}

async fn wrong_parameters_of_the_list_are_named(server: &Server) {
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
        let refusal = app.get(&format!("/sessions?{query}")).await.refused(400);
        let quoted = format!("\"{name}\"");
        assert!(refusal.message.contains(&quoted), "{query}: {refusal:?}");
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

async fn a_deleted_meeting_takes_its_sessions_along(server: &Server) {
    let rooms = Rooms::of(server).await;
    let (gone, kept) = (rooms.held("Gone", 30).await, rooms.held("Kept", 20).await);
    let peer = rooms.peer(&gone, "ada", 0, None);
    let message = rooms.message(&gone, "hello");
    let records = [Record::Peer(peer), Record::Chat(message)];
    rooms.keep(&gone, &records).await;
    let path = format!("/meetings/{}", gone.meeting);
    rooms.app.delete(&path).await.data(200);
    // Out of reach at once, swept a little later.
    let session = format!("/sessions/{}", gone.id());
    for rest in ["", "/participants", "/chat"] {
        let answer = rooms.app.get(&format!("{session}{rest}")).await;
        assert_eq!(answer.status, 404, "{}", answer.text());
    }
    for _ in 0..40 {
        if ids(&rooms, "").await == of(&[&kept]) && total(&rooms, "").await == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    panic!("the sessions of a deleted meeting are still listed");
}
