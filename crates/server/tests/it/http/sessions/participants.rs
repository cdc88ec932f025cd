//! `GET /sessions/{session_id}/participants` and one of them.

use parlor_live::{PeerRecord, Record};
use serde_json::{Value, json};

use super::{Held, Rooms, assert_near, page_of};
use crate::http::place::NOBODYS_ID;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    peers_are_listed_in_every_order,
    a_person_with_several_clients_is_shown_once_when_asked,
    people_are_searched_for,
    events_of_a_peer_have_stable_ids,
    one_peer_or_person_is_shown,
    wrong_parameters_of_a_sessions_people_are_named,
];

struct Crowd {
    rooms: Rooms,
    held: Held,
    path: String,
    peers: Vec<PeerRecord>,
}

impl Crowd {
    /// A session of half an hour with these people in it: name, minute of joining, minutes inside.
    async fn of(server: &Server, people: &[(&str, i64, Option<i64>)]) -> Self {
        let rooms = Rooms::of(server).await;
        let held = rooms.held("Weekly", 30).await;
        let mut peers: Vec<PeerRecord> = Vec::new();
        for (name, joined, stayed) in people {
            let mut peer = rooms.peer(&held, name, *joined, *stayed);
            // The same name is the same person.
            if let Some(same) = peers.iter().find(|same| same.name == peer.name) {
                peer.participant = same.participant;
            }
            peers.push(peer);
        }
        let records: Vec<Record> = peers.iter().cloned().map(Record::Peer).collect();
        rooms.keep(&held, &records).await;
        let path = format!("/sessions/{}/participants", held.id());
        Self {
            rooms,
            held,
            path,
            peers,
        }
    }

    async fn get(&self, query: &str) -> (Vec<Value>, Value) {
        let answer = self.rooms.app.get(&format!("{}?{query}", self.path)).await;
        page_of("participants", &answer)
    }

    async fn names(&self, query: &str) -> String {
        let (people, _) = self.get(query).await;
        let name = |person: &Value| person["display_name"].as_str().unwrap().to_owned();
        people.iter().map(name).collect::<Vec<_>>().join(" ")
    }
}

async fn peers_are_listed_in_every_order(server: &Server) {
    let people = [("ada", 0, Some(2)), ("bob", 1, None), ("cyd", 2, Some(9))];
    let crowd = Crowd::of(server, &people).await;
    for view in ["", "&view=raw", "&view=consolidated"] {
        for (query, wanted) in [
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
            assert_eq!(crowd.names(&query).await, wanted, "{query}");
        }
    }
    let (people, paging) = crowd.get("per_page=2").await;
    assert_eq!(
        paging,
        json!({ "total_count": 3, "start_offset": 1, "end_offset": 2 })
    );
    let (cyd, bob) = (&people[0], &people[1]);
    assert_eq!(cyd["id"], crowd.peers[2].peer.to_string());
    assert_eq!(cyd["user_id"], crowd.peers[2].participant.to_string());
    assert_eq!(cyd["custom_participant_id"], "custom-cyd");
    assert_eq!(cyd["preset_name"], "group_call_host");
    assert_eq!(cyd["duration"], 9.0);
    assert!(cyd["left_at"].is_string() && cyd.get("peer_events").is_none());
    assert_eq!(bob.get("left_at"), None);
    assert_near(&bob["duration"], 29.0);
}

async fn a_person_with_several_clients_is_shown_once_when_asked(server: &Server) {
    let people = [
        ("ada", 0, Some(2)),
        ("bob", 1, Some(4)),
        ("ada", 3, Some(10)),
        ("cyd", 5, Some(1)),
        ("cyd", 6, None),
    ];
    let crowd = Crowd::of(server, &people).await;
    assert_eq!(crowd.names("sort_order=ASC").await, "ada bob ada cyd cyd");
    let (people, paging) = crowd.get("view=consolidated&sort_order=ASC").await;
    assert_eq!(paging["total_count"], 3);
    let names: Vec<&Value> = people
        .iter()
        .map(|person| &person["display_name"])
        .collect();
    assert_eq!(names, ["ada", "bob", "cyd"]);
    assert_eq!(people[0]["id"], crowd.peers[0].peer.to_string());
    assert_eq!(people[0]["duration"], 12.0);
    let left = parlor_server::clock::rfc3339(crowd.peers[2].left_ms.unwrap());
    assert_eq!(people[0]["left_at"], left);
    // One of the clients is still inside.
    assert_eq!(people[2].get("left_at"), None);
    assert_near(&people[2]["duration"], 25.0);
    let pages = [
        ("per_page=1&page_no=2", "bob"),
        ("sort_by=duration&per_page=2", "cyd ada"),
        ("search=ada", "ada"),
    ];
    for (query, wanted) in pages {
        let query = format!("view=consolidated&sort_order=DESC&{query}");
        assert_eq!(crowd.names(&query).await, wanted, "{query}");
    }
}

async fn people_are_searched_for(server: &Server) {
    let people = [
        ("Ada Lovelace", 0, None),
        ("Bob_%", 1, None),
        ("ÄRGER", 2, None),
    ];
    let crowd = Crowd::of(server, &people).await;
    for (search, wanted) in [
        ("love", "Ada Lovelace"),
        ("ADA", "Ada Lovelace"),
        ("_%25", "Bob_%"),
        ("%25", "Bob_%"),
        ("%C3%A4rger", "ÄRGER"),
        ("custom-bob", "Bob_%"),
        ("nobody", ""),
    ] {
        let query = format!("search={search}");
        assert_eq!(crowd.names(&query).await, wanted, "{search}");
    }
    let ids = [
        crowd.peers[1].peer.to_string(),
        crowd.peers[1].participant.to_string(),
    ];
    for id in ids {
        assert_eq!(crowd.names(&format!("search={id}")).await, "Bob_%");
        let part = &id[..30];
        assert_eq!(crowd.names(&format!("search={part}")).await, "");
    }
}

async fn events_of_a_peer_have_stable_ids(server: &Server) {
    let people = [("ada", 0, Some(2)), ("bob", 1, None)];
    let crowd = Crowd::of(server, &people).await;
    let query = "include_peer_events=true&sort_order=ASC";
    let (people, _) = crowd.get(query).await;
    assert_eq!(crowd.get(query).await.0[0], people[0]);
    let events = |person: &Value| person["peer_events"].as_array().unwrap().clone();
    let (ada, bob) = (events(&people[0]), events(&people[1]));
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
    assert_eq!(leaving["peer_id"], people[0]["id"]);
    assert_eq!(leaving["participant_id"], people[0]["user_id"]);
    assert_eq!(leaving["session_id"], crowd.held.id());
    assert_eq!(leaving["socket_session_id"], Value::Null);
    assert_eq!(leaving["minutes_consumed"], 2.0);
    assert_eq!(leaving["preset_view_type"], "WEBINAR");
    assert_eq!(leaving["created_at"], people[0]["left_at"]);
    assert_eq!(ada[1]["created_at"], people[0]["joined_at"]);
    let mut ids: Vec<String> = [ada, bob]
        .concat()
        .iter()
        .map(|event| event["id"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

async fn one_peer_or_person_is_shown(server: &Server) {
    let people = [("ada", 0, Some(2)), ("ada", 3, Some(10))];
    let crowd = Crowd::of(server, &people).await;
    let get = async |id: &str| crowd.rooms.app.get(&format!("{}/{id}", crowd.path)).await;
    let second = get(&crowd.peers[1].peer.to_string()).await.data(200);
    assert_eq!(second["participant"]["duration"], 10.0);
    let person = get(&crowd.peers[1].participant.to_string()).await.data(200);
    assert_eq!(person["participant"]["duration"], 12.0);
    assert_eq!(person["participant"].get("peer_events"), None);
    let with = format!("{}?include_peer_events=true", crowd.peers[0].peer);
    let with = get(&with).await.data(200);
    let events = with["participant"]["peer_events"].as_array().unwrap().len();
    assert_eq!(events, 3);
    let missing = "Error: resource not found: no such participant";
    get(NOBODYS_ID).await.refused(404).is(missing, None);
    assert!(get("ada").await.refused(400).message.contains("GUID"));
}

async fn wrong_parameters_of_a_sessions_people_are_named(server: &Server) {
    let crowd = Crowd::of(server, &[]).await;
    assert!(crowd.get("").await.0.is_empty());
    for (query, name) in [
        ("per_page=0", "per_page"),
        ("per_page=201", "per_page"),
        ("view=RAW", "view"),
        ("sort_by=name", "sort_by"),
        ("include_peer_events=perhaps", "include_peer_events"),
    ] {
        let path = format!("{}?{query}", crowd.path);
        let refusal = crowd.rooms.app.get(&path).await.refused(400);
        assert!(refusal.message.contains(name), "{query}: {refusal:?}");
    }
}
