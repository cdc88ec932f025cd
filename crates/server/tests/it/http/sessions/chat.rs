//! `GET /sessions/{session_id}/chat` and the link it gives.

use parlor_live::Record;

use super::Rooms;
use crate::http::place::Place;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_link_gives_the_chat_to_whoever_has_it,
    a_link_that_was_changed_gives_nothing,
];

/// A session with a message, and the link to it.
async fn linked(server: &Server) -> (Rooms, String, String) {
    let rooms = Rooms::of(server).await;
    let held = rooms.held("Weekly", 30).await;
    let path = format!("/sessions/{}/chat", held.id());
    let mut private = rooms.message(&held, "psst");
    private.targets = vec![private.participant];
    rooms.keep(&held, &[Record::Chat(private)]).await;
    let none = rooms.app.get(&path).await.refused(404);
    assert!(none.message.contains("no chat"), "{none:?}");
    let message = rooms.message(&held, "hello, \"you\"");
    rooms.keep(&held, &[Record::Chat(message)]).await;
    let data = rooms.app.get(&path).await.data(200);
    let url = data["chat_download_url"].as_str().unwrap();
    let expiry = data["chat_download_url_expiry"].as_str().unwrap();
    let expiry_ms = expiry.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let days = (expiry_ms - rooms.now_ms) / (24 * 60 * super::MINUTE_MS);
    assert!((6..=7).contains(&days), "{days} days");
    let url = url.to_owned();
    (rooms, held.meeting, url)
}

async fn a_link_gives_the_chat_to_whoever_has_it(server: &Server) {
    let (rooms, meeting, url) = linked(server).await;
    let answer = Place::of(&url).get("").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("text/csv; charset=utf-8")
    );
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let csv = String::from_utf8(answer.bytes).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 2, "{csv}");
    assert!(
        lines[1].contains(",\"Ada\",false,false,TEXT_MESSAGE,\"hello, \"\"you\"\"\","),
        "{csv}"
    );
    // Not after the meeting is gone.
    let path = format!("/meetings/{meeting}");
    rooms.app.delete(&path).await.data(200);
    assert_eq!(Place::of(&url).get("").await.status, 404);
}

async fn a_link_that_was_changed_gives_nothing(server: &Server) {
    let (_, _, url) = linked(server).await;
    let (other, ..) = linked(server).await;
    let app_of = |url: &str| url.split('/').nth(4).unwrap().to_owned();
    let changed = [
        url.replace("expires=1", "expires=2"),
        url.replace("key=", "key=0"),
        url.replace(&app_of(&url), other.app.id()),
        url.replace("signature=", "signature=AAAA"),
        url.replace("signature=", "signature=%25"),
        url.split('&').next().unwrap().to_owned(),
        url.split('?').next().unwrap().to_owned(),
        url.replace("expires=", "expires=x"),
    ];
    for changed in changed {
        let answer = Place::of(&changed).get("").await;
        assert_eq!(answer.status, 403, "{changed}: {}", answer.text());
    }
}
