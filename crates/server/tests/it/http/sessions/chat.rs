//! `GET /sessions/{session_id}/chat`, and the link that it returns.

use parlor_live::Record;

use super::SessionWriter;
use crate::http::resource::Resource;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![a_link_gives_access_to_the_chat, a_tampered_link_is_rejected,];

/// Creates a session with a message. Returns the id of the meeting and the link to the chat.
async fn create_link(server: &Server) -> (SessionWriter, String, String) {
    let writer = SessionWriter::new(server).await;
    let session = writer.meeting_with_session("Weekly", 30).await;
    let path = format!("/sessions/{}/chat", session.id());
    let mut private = writer.message(&session, "psst");
    private.targets = vec![private.participant];
    writer.insert(&session, &[Record::Chat(private)]).await;
    let none = writer.app.get(&path).await.expect_error(404);
    assert!(none.message.contains("no chat"), "{none:?}");
    let message = writer.message(&session, "hello, \"you\"");
    writer.insert(&session, &[Record::Chat(message)]).await;
    let data = writer.app.get(&path).await.data(200);
    let url = data["chat_download_url"].as_str().unwrap();
    let expiry = data["chat_download_url_expiry"].as_str().unwrap();
    let expiry_ms = expiry.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let days = (expiry_ms - writer.now_ms) / (24 * 60 * super::MINUTE_MS);
    assert!((6..=7).contains(&days), "{days} days");
    let url = url.to_owned();
    (writer, session.meeting, url)
}

async fn a_link_gives_access_to_the_chat(server: &Server) {
    let (writer, meeting, url) = create_link(server).await;
    let response = Resource::new(&url).get("").await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(
        response.header("content-type"),
        Some("text/csv; charset=utf-8")
    );
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    let csv = String::from_utf8(response.bytes).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 2, "{csv}");
    assert!(
        lines[1].contains(",\"Ada\",false,false,TEXT_MESSAGE,\"hello, \"\"you\"\"\","),
        "{csv}"
    );
    // The link ends with the meeting.
    let path = format!("/meetings/{meeting}");
    writer.app.delete(&path).await.data(200);
    assert_eq!(Resource::new(&url).get("").await.status, 404);
}

async fn a_tampered_link_is_rejected(server: &Server) {
    let (_, _, url) = create_link(server).await;
    let (other, ..) = create_link(server).await;
    let app_of = |url: &str| url.split('/').nth(4).unwrap().to_owned();
    let tampered = [
        url.replace("expires=1", "expires=2"),
        url.replace("key=", "key=0"),
        url.replace(&app_of(&url), other.app.id()),
        url.replace("signature=", "signature=AAAA"),
        url.replace("signature=", "signature=%25"),
        url.split('&').next().unwrap().to_owned(),
        url.split('?').next().unwrap().to_owned(),
        url.replace("expires=", "expires=x"),
    ];
    for url in tampered {
        let response = Resource::new(&url).get("").await;
        assert_eq!(response.status, 403, "{url}: {}", response.text());
    }
}
