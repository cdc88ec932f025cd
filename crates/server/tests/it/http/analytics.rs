//! `GET /analytics/daywise`.

use parlor_live::Record;
use parlor_server::clock::{Clock, rfc3339};
use serde_json::{Value, json};

use crate::http::server::Server;
use crate::http::sessions::{MINUTE_MS, SessionWriter, assert_near};
use crate::on_both_databases;

on_both_databases![
    sessions_are_counted_by_the_day_they_started,
    date_ranges_are_parsed_and_limited,
];

const DAY_MINUTES: i64 = 24 * 60;

/// Returns the date of a time in the past.
fn day(minutes_ago: i64) -> String {
    let at_ms = Clock::default().now_ms() - minutes_ago * MINUTE_MS;
    rfc3339(at_ms).split('T').next().unwrap().to_owned()
}

async fn sessions_are_counted_by_the_day_they_started(server: &Server) {
    let writer = SessionWriter::new(server).await;
    let meeting = writer.meeting("Weekly").await;
    writer.ended_session(&meeting, 40 * DAY_MINUTES, 7).await;
    writer.ended_session(&meeting, 3 * DAY_MINUTES, 10).await;
    writer.ended_session(&meeting, 3 * DAY_MINUTES, 20).await;
    let live = writer.live_session(&meeting, DAY_MINUTES).await;
    let peer = writer.peer(&live, "ada", DAY_MINUTES - 5, None);
    writer.insert(&live, &[Record::Peer(peer)]).await;
    let stats = writer.app.get("/analytics/daywise").await.data(200);
    let sessions = &stats["session_stats"];
    assert_eq!(sessions["sessions_count"], 3);
    assert_near(&sessions["sessions_minutes_consumed"], 35.0);
    let days = sessions["day_stats"].as_array().unwrap();
    assert_eq!(days.len(), 30);
    assert_eq!(days[29]["day"], day(0));
    let on = |day: &str| -> &Value { days.iter().find(|stat| stat["day"] == day).unwrap() };
    let busy = on(&day(3 * DAY_MINUTES));
    assert_eq!(busy["total_sessions"], 2);
    assert_eq!(busy["total_session_minutes"], 30.0);
    assert_near(&on(&day(DAY_MINUTES))["total_session_minutes"], 5.0);
    assert_eq!(on(&day(0))["total_sessions"], 0);
    let recordings = &stats["recording_stats"];
    assert_eq!(recordings["recording_count"], 0);
    assert_eq!(recordings["day_stats"].as_array().unwrap().len(), 30);
    let (from, to) = (day(41 * DAY_MINUTES), day(39 * DAY_MINUTES));
    let path = format!("/analytics/daywise?start_date={from}&end_date={to}");
    let older = writer.app.get(&path).await.data(200);
    assert_eq!(older["session_stats"]["sessions_count"], 1);
    assert_eq!(
        older["session_stats"]["day_stats"][1]["total_session_minutes"],
        7.0
    );
}

async fn date_ranges_are_parsed_and_limited(server: &Server) {
    let app = server.app().await;
    let get = async |query: &str| app.get(&format!("/analytics/daywise?{query}")).await;
    let days = |stats: &Value| {
        stats["session_stats"]["day_stats"]
            .as_array()
            .unwrap()
            .len()
    };
    let one = get("start_date=2024-02-29&end_date=2024-02-29")
        .await
        .data(200);
    assert_eq!(
        one["session_stats"],
        json!({
            "sessions_count": 0, "sessions_minutes_consumed": 0.0,
            "day_stats": [{ "day": "2024-02-29", "total_sessions": 0, "total_session_minutes": 0.0 }],
        })
    );
    assert_eq!(days(&get("end_date=2024-02-29").await.data(200)), 30);
    let year = get("start_date=2024-01-01&end_date=2024-12-31").await;
    assert_eq!(days(&year.data(200)), 366);
    for query in [
        "start_date=2024-01-01&end_date=2025-01-01",
        "start_date=2024-01-02&end_date=2024-01-01",
        "start_date=2020-01-01",
        "start_date=yesterday",
        "start_date=2024-02-30",
        "end_date=99999-01-01",
    ] {
        get(query).await.expect_error(400);
    }
    get("start_date=-009999-01-01&end_date=-009999-01-01")
        .await
        .data(200);
}
