//! `GET /sessions/{session_id}/participants`, and a single participant of a session.

use parlor_live::{PeerRecord, Record};
use serde_json::{Value, json};

use super::{SessionWriter, StoredSession, assert_near, page_of};
use crate::http::resource::UNKNOWN_ID;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    peers_are_listed_in_every_order,
    a_participant_with_several_peers_is_listed_once_on_request,
    participants_can_be_searched,
    events_of_a_peer_have_stable_ids,
    a_single_peer_or_participant_is_returned,
    invalid_parameters_of_the_participant_list_are_reported,
];

/// The participants of a session.
struct ParticipantList {
    writer: SessionWriter,
    session: StoredSession,
    path: String,
    peers: Vec<PeerRecord>,
}

impl ParticipantList {
    /// Creates a session that started half an hour ago with peers, each given as a name, the minute
    /// at which it joined, and the minutes that it stayed. Peers with the same name have one
    /// participant.
    async fn create(server: &Server, participants: &[(&str, i64, Option<i64>)]) -> Self {
        let writer = SessionWriter::new(server).await;
        let session = writer.meeting_with_session("Weekly", 30).await;
        let mut peers: Vec<PeerRecord> = Vec::new();
        for (name, joined, stayed) in participants {
            let mut peer = writer.peer(&session, name, *joined, *stayed);
            if let Some(same) = peers.iter().find(|same| same.name == peer.name) {
                peer.participant = same.participant;
            }
            peers.push(peer);
        }
        let records: Vec<Record> = peers.iter().cloned().map(Record::Peer).collect();
        writer.insert(&session, &records).await;
        let path = format!("/sessions/{}/participants", session.id());
        Self {
            writer,
            session,
            path,
            peers,
        }
    }

    async fn get(&self, query: &str) -> (Vec<Value>, Value) {
        let response = self.writer.app.get(&format!("{}?{query}", self.path)).await;
        page_of("participants", &response)
    }

    async fn names(&self, query: &str) -> String {
        let (participants, _) = self.get(query).await;
        let name = |participant: &Value| participant["display_name"].as_str().unwrap().to_owned();
        participants.iter().map(name).collect::<Vec<_>>().join(" ")
    }
}

async fn peers_are_listed_in_every_order(server: &Server) {
    let participants = [("ada", 0, Some(2)), ("bob", 1, None), ("cyd", 2, Some(9))];
    let list = ParticipantList::create(server, &participants).await;
    for view in ["", "&view=raw", "&view=consolidated"] {
        for (query, expected) in [
            ("", "cyd bob ada"),
            ("sort_order=ASC", "ada bob cyd"),
            ("sort_by=joinedAt&sort_order=DESC", "cyd bob ada"),
            ("sort_by=duration", "bob cyd ada"),
            ("sort_by=duration&sort_order=ASC", "ada cyd bob"),
            ("per_page=2", "cyd bob"),
            ("per_page=2&page_no=2", "ada"),
            ("per_page=2&page_no=3", ""),
            ("per_page=2&page_no=2&sort_by=duration", "ada"),
            ("search=custom-&sort_by=duration", "bob cyd ada"),
            ("search=custom-&per_page=1&page_no=2", "bob"),
        ] {
            let query = format!("{query}{view}");
            assert_eq!(list.names(&query).await, expected, "{query}");
        }
    }
    let (participants, paging) = list.get("per_page=2").await;
    assert_eq!(
        paging,
        json!({ "total_count": 3, "start_offset": 1, "end_offset": 2 })
    );
    let (cyd, bob) = (&participants[0], &participants[1]);
    assert_eq!(cyd["id"], list.peers[2].peer.to_string());
    assert_eq!(cyd["user_id"], list.peers[2].participant.to_string());
    assert_eq!(cyd["custom_participant_id"], "custom-cyd");
    assert_eq!(cyd["preset_name"], "group_call_host");
    assert_eq!(cyd["duration"], 9.0);
    assert!(cyd["left_at"].is_string() && cyd.get("peer_events").is_none());
    assert_eq!(bob.get("left_at"), None);
    assert_near(&bob["duration"], 29.0);
}

async fn a_participant_with_several_peers_is_listed_once_on_request(server: &Server) {
    let participants = [
        ("ada", 0, Some(2)),
        ("bob", 1, Some(4)),
        ("ada", 3, Some(10)),
        ("cyd", 5, Some(1)),
        ("cyd", 6, None),
    ];
    let list = ParticipantList::create(server, &participants).await;
    assert_eq!(list.names("sort_order=ASC").await, "ada bob ada cyd cyd");
    let (participants, paging) = list.get("view=consolidated&sort_order=ASC").await;
    assert_eq!(paging["total_count"], 3);
    let names: Vec<&Value> = participants
        .iter()
        .map(|participant| &participant["display_name"])
        .collect();
    assert_eq!(names, ["ada", "bob", "cyd"]);
    assert_eq!(participants[0]["id"], list.peers[0].peer.to_string());
    assert_eq!(participants[0]["duration"], 12.0);
    let left = parlor_server::clock::rfc3339(list.peers[2].left_ms.unwrap());
    assert_eq!(participants[0]["left_at"], left);
    // One of the peers is still connected.
    assert_eq!(participants[2].get("left_at"), None);
    assert_near(&participants[2]["duration"], 25.0);
    let pages = [
        ("per_page=1&page_no=2", "bob"),
        ("sort_by=duration&per_page=2", "cyd ada"),
        ("search=ada", "ada"),
    ];
    for (query, expected) in pages {
        let query = format!("view=consolidated&sort_order=DESC&{query}");
        assert_eq!(list.names(&query).await, expected, "{query}");
    }
}

async fn participants_can_be_searched(server: &Server) {
    let participants = [
        ("Ada Lovelace", 0, None),
        ("Bob_%", 1, None),
        ("ÄRGER", 2, None),
    ];
    let list = ParticipantList::create(server, &participants).await;
    for (search, expected) in [
        ("love", "Ada Lovelace"),
        ("ADA", "Ada Lovelace"),
        ("_%25", "Bob_%"),
        ("%25", "Bob_%"),
        ("%C3%A4rger", "ÄRGER"),
        ("custom-bob", "Bob_%"),
        ("nobody", ""),
    ] {
        let query = format!("search={search}");
        assert_eq!(list.names(&query).await, expected, "{search}");
    }
    let ids = [
        list.peers[1].peer.to_string(),
        list.peers[1].participant.to_string(),
    ];
    for id in ids {
        assert_eq!(list.names(&format!("search={id}")).await, "Bob_%");
        let part = &id[..30];
        assert_eq!(list.names(&format!("search={part}")).await, "");
    }
}

async fn events_of_a_peer_have_stable_ids(server: &Server) {
    let participants = [("ada", 0, Some(2)), ("bob", 1, None)];
    let list = ParticipantList::create(server, &participants).await;
    let query = "include_peer_events=true&sort_order=ASC";
    let (participants, _) = list.get(query).await;
    assert_eq!(list.get(query).await.0[0], participants[0]);
    let events = |participant: &Value| participant["peer_events"].as_array().unwrap().clone();
    let (ada, bob) = (events(&participants[0]), events(&participants[1]));
    let names = |events: &[Value]| -> Vec<Value> {
        events
            .iter()
            .map(|event| event["event_name"].clone())
            .collect()
    };
    assert_eq!(
        names(&ada),
        ["PEER_CREATED", "PEER_JOINING", "PEER_LEAVING"]
    );
    assert_eq!(names(&bob), ["PEER_CREATED", "PEER_JOINING"]);
    let leaving = &ada[2];
    assert_eq!(leaving["peer_id"], participants[0]["id"]);
    assert_eq!(leaving["participant_id"], participants[0]["user_id"]);
    assert_eq!(leaving["session_id"], list.session.id());
    assert_eq!(leaving["socket_session_id"], Value::Null);
    assert_eq!(leaving["minutes_consumed"], 2.0);
    assert_eq!(leaving["preset_view_type"], "WEBINAR");
    assert_eq!(leaving["created_at"], participants[0]["left_at"]);
    assert_eq!(ada[1]["created_at"], participants[0]["joined_at"]);
    let mut ids: Vec<String> = [ada, bob]
        .concat()
        .iter()
        .map(|event| event["id"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

async fn a_single_peer_or_participant_is_returned(server: &Server) {
    let participants = [("ada", 0, Some(2)), ("ada", 3, Some(10))];
    let list = ParticipantList::create(server, &participants).await;
    let get = async |id: &str| list.writer.app.get(&format!("{}/{id}", list.path)).await;
    let second = get(&list.peers[1].peer.to_string()).await.data(200);
    assert_eq!(second["participant"]["duration"], 10.0);
    let participant = get(&list.peers[1].participant.to_string()).await.data(200);
    assert_eq!(participant["participant"]["duration"], 12.0);
    assert_eq!(participant["participant"].get("peer_events"), None);
    let with = format!("{}?include_peer_events=true", list.peers[0].peer);
    let with = get(&with).await.data(200);
    let events = with["participant"]["peer_events"].as_array().unwrap().len();
    assert_eq!(events, 3);
    let missing = "Error: resource not found: no such participant";
    get(UNKNOWN_ID)
        .await
        .expect_error(404)
        .assert_message(missing, None);
    assert!(get("ada").await.expect_error(400).message.contains("GUID"));
}

async fn invalid_parameters_of_the_participant_list_are_reported(server: &Server) {
    let list = ParticipantList::create(server, &[]).await;
    assert!(list.get("").await.0.is_empty());
    for (query, name) in [
        ("per_page=0", "per_page"),
        ("per_page=201", "per_page"),
        ("view=RAW", "view"),
        ("sort_by=name", "sort_by"),
        ("include_peer_events=perhaps", "include_peer_events"),
    ] {
        let path = format!("{}?{query}", list.path);
        let error = list.writer.app.get(&path).await.expect_error(400);
        assert!(error.message.contains(name), "{query}: {error:?}");
    }
}
