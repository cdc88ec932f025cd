//! SIGKILL during a call: nothing that was acknowledged to a client is lost.
//!
//! `PARLOR_CRASH_RUNS` sets the number of kills per database (default 5).

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
use crate::signalling::server::{Server, wait_until};

on_both_databases![a_kill_loses_nothing_that_was_acknowledged];

const RUNS: usize = 5;

/// Number of participants that write when the server is killed. The first half reconnects.
const WRITERS: usize = 6;

/// Messages per writer and round, few enough for one history to hold all rounds.
const MESSAGES: usize = 20;

/// Ids of everything that was acknowledged to the clients.
#[derive(Default)]
struct Acknowledged {
    messages: BTreeSet<String>,
    polls: BTreeSet<String>,
    keys: BTreeSet<String>,
}

async fn a_kill_loses_nothing_that_was_acknowledged(shared: &Server) {
    let runs = env::var("PARLOR_CRASH_RUNS").map_or(RUNS, |text| text.parse().unwrap());
    let arguments = ["--reconnect-grace-secs", "2", "--chat-per-minute", "100000"];
    let mut server = Server::dedicated(shared, &arguments).await;
    let mut meeting = server.meeting().await;
    let mut acknowledged = Acknowledged::default();
    let mut identities: Vec<Identity> = Vec::new();
    let mut session = None;
    for round in 0..runs {
        while identities.len() < WRITERS {
            identities.push(meeting.add_with_preset("group_call_host").await);
        }
        let mut peers = Vec::new();
        for identity in &identities {
            let peer = Peer::open(&meeting.at_current_address(identity))
                .await
                .unwrap();
            peer.join().await.unwrap();
            peers.push(Arc::new(peer));
        }
        let leaver = meeting.participant().await;
        let departed = leaver.identity().clone();
        let id = meeting.active_session().await.unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            session.get_or_insert_with(|| id.clone()),
            &id,
            "round {round}: the session continues"
        );
        let tasks: Vec<_> = peers
            .iter()
            .map(|peer| tokio::spawn(generate_load(Arc::clone(peer), round)))
            .collect();
        leaver.leave().await.unwrap();
        // The kill hits the server at a different point in each round and on each machine.
        tokio::time::sleep(Duration::from_millis(40 + 97 * round as u64 % 300)).await;
        server.kill();
        for task in tasks {
            task.await.unwrap();
        }
        for peer in &peers {
            collect_acknowledged(peer, &mut acknowledged);
        }
        drop(peers);
        server.start_again().await;
        let restarted = parlor_server::clock::Clock::default().now_ms();
        meeting = meeting.after_restart(&server);
        let (returning, abandoned) = identities.split_at(WRITERS / 2);
        let back = reconnect(&meeting, returning).await;
        check_acknowledged(&back[0], &acknowledged, round).await;
        check_participants(&meeting, &id, &back, abandoned, &departed, restarted).await;
        settle(&back.iter().collect::<Vec<_>>()).await;
        identities.truncate(WRITERS / 2);
    }
    assert!(
        acknowledged.messages.len() > runs && !acknowledged.keys.is_empty(),
        "nothing was acknowledged, so the test proves nothing"
    );
    println!(
        "{runs} kills, {} messages, {} polls, {} keys acknowledged, none lost",
        acknowledged.messages.len(),
        acknowledged.polls.len(),
        acknowledged.keys.len()
    );
}

/// Writes until the server dies. The acknowledgements stay in the inbox of the peer.
async fn generate_load(peer: Arc<Peer>, round: usize) {
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

/// Adds everything that was acknowledged to this peer.
fn collect_acknowledged(peer: &Peer, acknowledged: &mut Acknowledged) {
    for frame in peer.received() {
        match frame.event {
            event::SEND_MESSAGE_TO_ROOM if frame.refusal().is_none() => {
                let push: SendChatMessageToRoomResponse = frame.message().unwrap();
                acknowledged.messages.insert(push.message.unwrap().chat_id);
            }
            event::CREATE_POLL => {
                let push: parlor_protocol::signal::socket::polls::UpdatePollResponse =
                    frame.message().unwrap();
                acknowledged.polls.insert(push.poll.unwrap().poll_id);
            }
            event::STORE_INSERT_KEYS => {
                let push: PluginStoreResponse = frame.message().unwrap();
                acknowledged
                    .keys
                    .extend(push.store_items.into_iter().map(|item| item.store_key));
            }
            _ => {}
        }
    }
}

async fn reconnect(meeting: &Meeting, identities: &[Identity]) -> Vec<Peer> {
    let mut back = Vec::new();
    for identity in identities {
        let peer = Peer::open(&meeting.at_current_address(identity))
            .await
            .unwrap();
        peer.rejoin().await.unwrap();
        back.push(peer);
    }
    back
}

async fn check_acknowledged(peer: &Peer, acknowledged: &Acknowledged, round: usize) {
    let joined = peer.rejoin().await.unwrap();
    let messages: Vec<String> = joined
        .chat
        .into_iter()
        .map(|message| message.chat_id)
        .collect();
    let stored: BTreeSet<String> = messages.iter().cloned().collect();
    assert_eq!(
        messages.len(),
        stored.len(),
        "round {round}: a message is listed twice"
    );
    let missing: Vec<_> = acknowledged.messages.difference(&stored).collect();
    assert!(
        missing.is_empty(),
        "round {round}: {} messages are lost: {missing:?}",
        missing.len()
    );
    let stored: BTreeSet<String> = joined.polls.into_iter().map(|poll| poll.poll_id).collect();
    let missing: Vec<_> = acknowledged.polls.difference(&stored).collect();
    assert!(
        missing.is_empty(),
        "round {round}: {} polls are lost",
        missing.len()
    );
    let request = peer.identity().store_request("crash");
    let store: PluginStoreResponse = peer.ask(event::STORE_GET_KEYS, &request).await.unwrap();
    let stored: BTreeSet<String> = store
        .store_items
        .into_iter()
        .map(|item| item.store_key)
        .collect();
    let missing: Vec<_> = acknowledged.keys.difference(&stored).collect();
    assert!(
        missing.is_empty(),
        "round {round}: {} keys are lost",
        missing.len()
    );
}

async fn check_participants(
    meeting: &Meeting,
    session: &str,
    back: &[Peer],
    abandoned: &[Identity],
    departed: &Identity,
    restarted: i64,
) {
    let rows = wait_until("all peers that did not reconnect have left", async || {
        let rows = meeting.peers_of(session).await;
        let open = rows.iter().filter(|row| row["left_at"].is_null()).count();
        (open == back.len()).then_some(rows)
    })
    .await;
    let left = |id: &str| -> Value {
        let matching: Vec<&Value> = rows.iter().filter(|row| row["id"] == id).collect();
        assert_eq!(matching.len(), 1, "one row of {id}: {matching:?}");
        matching[0]["left_at"].clone()
    };
    for peer in back {
        assert!(left(peer.id()).is_null());
    }
    for identity in abandoned.iter().chain([departed]) {
        let at = left(&identity.peer);
        let at: jiff::Timestamp = at
            .as_str()
            .unwrap_or_else(|| panic!("{} has not left", identity.peer))
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
    wait_until("the roster is up to date", async || {
        (back[0].roster().await.unwrap() == inside).then_some(())
    })
    .await;
}
