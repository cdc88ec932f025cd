//! SIGKILL in the middle of a call: what somebody was told has happened is still true afterwards.
//!
//! `PARLOR_CRASH_RUNS` sets the kills per database (5).

use std::collections::BTreeSet;
use std::env;
use std::sync::Arc;
use std::time::Duration;

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::{
    SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};
use parlor_protocol::signal::socket::plugin::{
    PluginStoreInsertKeysRequest, PluginStoreResponse, StoreKeys,
};
use parlor_protocol::signal::socket::polls::NewPollRequest;
use parlor_testkit::signal::{Identity, Peer};
use serde_json::Value;

use crate::on_both_databases;
use crate::signalling::meeting::{Meeting, settle};
use crate::signalling::server::{Server, until};

on_both_databases![a_kill_makes_no_lie_of_what_was_told];

const RUNS: usize = 5;

/// People who talk when the kill comes. The first half comes back.
const TALKERS: usize = 6;

/// Messages of each in a round, so that all rounds fit into one history.
const MESSAGES: usize = 20;

/// What the clients were told.
#[derive(Default)]
struct Told {
    messages: BTreeSet<String>,
    polls: BTreeSet<String>,
    keys: BTreeSet<String>,
}

async fn a_kill_makes_no_lie_of_what_was_told(like: &Server) {
    let runs = env::var("PARLOR_CRASH_RUNS").map_or(RUNS, |text| text.parse().unwrap());
    let arguments = ["--reconnect-grace-secs", "2", "--chat-per-minute", "100000"];
    let mut server = Server::beside(like, &arguments).await;
    let mut meeting = server.meeting().await;
    let mut told = Told::default();
    let mut people: Vec<Identity> = Vec::new();
    let mut session = None;
    for round in 0..runs {
        while people.len() < TALKERS {
            people.push(meeting.person("group_call_host").await);
        }
        let mut peers = Vec::new();
        for person in &people {
            let peer = Peer::open(&meeting.found_again(person)).await.unwrap();
            peer.join().await.unwrap();
            peers.push(Arc::new(peer));
        }
        let leaver = meeting.participant().await;
        let gone = leaver.identity().clone();
        let id = meeting.active_session().await.unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            session.get_or_insert_with(|| id.clone()),
            &id,
            "round {round}: the session goes on"
        );
        let talk: Vec<_> = peers
            .iter()
            .map(|peer| tokio::spawn(talk(Arc::clone(peer), round)))
            .collect();
        leaver.leave().await.unwrap();
        // Where in the work the kill falls differs with each round and each machine.
        tokio::time::sleep(Duration::from_millis(40 + 97 * round as u64 % 300)).await;
        server.kill();
        for task in talk {
            task.await.unwrap();
        }
        for peer in &peers {
            note(peer, &mut told);
        }
        drop(peers);
        server.start_again().await;
        let restarted = parlor_server::clock::Clock::default().now_ms();
        meeting = meeting.moved_to(&server);
        let (returning, lost) = people.split_at(TALKERS / 2);
        let back = come_back(&meeting, returning).await;
        check_what_was_told(&back[0], &told, round).await;
        check_who_is_there(&meeting, &id, &back, lost, &gone, restarted).await;
        settle(&back.iter().collect::<Vec<_>>()).await;
        people.truncate(TALKERS / 2);
    }
    assert!(
        told.messages.len() > runs && !told.keys.is_empty(),
        "the load did nothing, so nothing is proved"
    );
    println!(
        "{runs} kills, {} messages, {} polls, {} keys told, none lost",
        told.messages.len(),
        told.polls.len(),
        told.keys.len()
    );
}

/// Writes until the server is gone. What was told is read from the peer's inbox afterwards.
async fn talk(peer: Arc<Peer>, round: usize) {
    for index in 0..MESSAGES {
        let message = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: format!("{round}-{index}"),
        };
        let sent = peer.tell(event::SEND_MESSAGE_TO_ROOM, &message).await;
        if index % 8 == 0 {
            let keys = StoreKeys {
                store_key: format!("{}-{round}-{index}", peer.id()),
                payload: Some("1".into()),
            };
            let insert = PluginStoreInsertKeysRequest {
                plugin_id: peer.identity().meeting.clone(),
                store_name: "crash".to_owned(),
                insert_keys: vec![keys],
            };
            let poll = NewPollRequest {
                question: "?".to_owned(),
                options: vec!["a".to_owned(), "b".to_owned()],
                ..NewPollRequest::default()
            };
            peer.tell(event::STORE_INSERT_KEYS, &insert).await.ok();
            peer.tell(event::CREATE_POLL, &poll).await.ok();
        }
        if sent.is_err() || !peer.is_open() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
}

/// Everything that this peer was told has happened.
fn note(peer: &Peer, told: &mut Told) {
    for frame in peer.received() {
        match frame.event {
            event::SEND_MESSAGE_TO_ROOM if frame.refusal().is_none() => {
                let push: SendChatMessageToRoomResponse = frame.message().unwrap();
                told.messages.insert(push.message.unwrap().chat_id);
            }
            event::CREATE_POLL => {
                let push: parlor_protocol::signal::socket::polls::UpdatePollResponse =
                    frame.message().unwrap();
                told.polls.insert(push.poll.unwrap().poll_id);
            }
            event::STORE_INSERT_KEYS => {
                let push: PluginStoreResponse = frame.message().unwrap();
                told.keys
                    .extend(push.store_items.into_iter().map(|item| item.store_key));
            }
            _ => {}
        }
    }
}

async fn come_back(meeting: &Meeting, people: &[Identity]) -> Vec<Peer> {
    let mut back = Vec::new();
    for person in people {
        let peer = Peer::open(&meeting.found_again(person)).await.unwrap();
        peer.rejoin().await.unwrap();
        back.push(peer);
    }
    back
}

async fn check_what_was_told(peer: &Peer, told: &Told, round: usize) {
    let joined = peer.rejoin().await.unwrap();
    let messages: Vec<String> = joined
        .chat
        .into_iter()
        .map(|message| message.chat_id)
        .collect();
    let kept: BTreeSet<String> = messages.iter().cloned().collect();
    assert_eq!(
        messages.len(),
        kept.len(),
        "round {round}: a message is there twice"
    );
    let missing: Vec<_> = told.messages.difference(&kept).collect();
    assert!(
        missing.is_empty(),
        "round {round}: {} messages are lost: {missing:?}",
        missing.len()
    );
    let kept: BTreeSet<String> = joined.polls.into_iter().map(|poll| poll.poll_id).collect();
    let missing: Vec<_> = told.polls.difference(&kept).collect();
    assert!(
        missing.is_empty(),
        "round {round}: {} polls are lost",
        missing.len()
    );
    let request = peer.identity().store_request("crash");
    let store: PluginStoreResponse = peer.ask(event::STORE_GET_KEYS, &request).await.unwrap();
    let kept: BTreeSet<String> = store
        .store_items
        .into_iter()
        .map(|item| item.store_key)
        .collect();
    let missing: Vec<_> = told.keys.difference(&kept).collect();
    assert!(
        missing.is_empty(),
        "round {round}: {} keys are lost",
        missing.len()
    );
}

async fn check_who_is_there(
    meeting: &Meeting,
    session: &str,
    back: &[Peer],
    lost: &[Identity],
    gone: &Identity,
    restarted: i64,
) {
    let rows = until("those who do not return have left", async || {
        let rows = meeting.peers_of(session).await;
        let open = rows.iter().filter(|row| row["left_at"].is_null()).count();
        (open == back.len()).then_some(rows)
    })
    .await;
    let left = |id: &str| -> Value {
        let fitting: Vec<&Value> = rows.iter().filter(|row| row["id"] == id).collect();
        assert_eq!(fitting.len(), 1, "one row of {id}: {fitting:?}");
        fitting[0]["left_at"].clone()
    };
    for peer in back {
        assert!(left(peer.id()).is_null());
    }
    for person in lost.iter().chain([gone]) {
        let at = left(&person.peer);
        let at: jiff::Timestamp = at
            .as_str()
            .unwrap_or_else(|| panic!("{} is still inside", person.peer))
            .parse()
            .unwrap();
        assert!(
            at.as_millisecond() <= restarted,
            "left {} ms after the restart",
            at.as_millisecond() - restarted
        );
    }
    let mut inside: Vec<String> = back.iter().map(|peer| peer.id().to_owned()).collect();
    inside.sort();
    until("others see who is there", async || {
        (back[0].roster().await.unwrap() == inside).then_some(())
    })
    .await;
}
