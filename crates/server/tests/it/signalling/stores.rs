//! Key-value stores (docs/spec/signalling.md 6.9).

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::plugin::{
    PluginStoreDeleteKeysRequest, PluginStoreInsertKeysRequest, PluginStoreItem,
    PluginStoreResponse, StoreKeys,
};
use parlor_testkit::signal::{PLUGINS, Peer};

use crate::on_both_databases;
use crate::signalling::meeting::settle;
use crate::signalling::server::Server;

on_both_databases![
    inserted_keys_reach_the_others,
    deleted_keys_are_deleted_for_everybody,
    a_late_joiner_reads_the_store,
    stores_are_isolated,
    oversized_writes_are_refused,
];

fn key(name: &str, payload: Option<&str>) -> StoreKeys {
    StoreKeys {
        store_key: name.to_owned(),
        payload: payload.map(|payload| payload.to_owned().into()),
    }
}

fn insert(peer: &Peer, store: &str, keys: Vec<StoreKeys>) -> PluginStoreInsertKeysRequest {
    PluginStoreInsertKeysRequest {
        plugin_id: peer.identity().meeting.clone(),
        store_name: store.to_owned(),
        insert_keys: keys,
    }
}

async fn read(peer: &Peer, store: &str) -> Vec<PluginStoreItem> {
    let request = peer.identity().store_request(store);
    let reply: PluginStoreResponse = peer.ask(event::STORE_GET_KEYS, &request).await.unwrap();
    assert_eq!(
        (&reply.plugin_id, &*reply.store_name),
        (&peer.identity().meeting, store)
    );
    let mut items = reply.store_items;
    items.sort_by(|left, right| left.store_key.cmp(&right.store_key));
    items
}

/// Waits for the next change by another peer. A server may also push changes to their author, which
/// clients ignore.
async fn next_change(peer: &Peer, number: u32) -> PluginStoreResponse {
    loop {
        let push: PluginStoreResponse = peer.push(number).await.unwrap();
        if push
            .store_items
            .iter()
            .any(|item| item.peer_id != peer.id())
        {
            return push;
        }
    }
}

/// Counts the received changes by other peers.
fn count_changes(peer: &Peer, number: u32) -> usize {
    let pushed = peer.take_pushes(&[number]);
    let by_others = pushed.iter().filter(|frame| {
        let push: PluginStoreResponse = frame.message().unwrap();
        push.store_items
            .iter()
            .any(|item| item.peer_id != peer.id())
    });
    by_others.count()
}

async fn inserted_keys_reach_the_others(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let request = insert(
        &bob,
        "board",
        vec![key("a", Some("{\"x\":1}")), key("b", Some("2"))],
    );
    bob.tell(event::STORE_INSERT_KEYS, &request).await.unwrap();
    let push = next_change(&ada, event::STORE_INSERT_KEYS).await;
    assert_eq!(
        (&*push.plugin_id, &*push.store_name),
        (&*meeting.id, "board")
    );
    assert_eq!(push.store_items.len(), 2);
    assert!(
        push.store_items.iter().all(|item| item.peer_id == bob.id()),
        "{push:?}"
    );
    let items = read(&ada, "board").await;
    assert_eq!(
        (&*items[0].store_key, &items[0].payload[..]),
        ("a", &b"{\"x\":1}"[..])
    );
    assert_eq!(items.len(), 2);
    // The last write wins.
    ada.tell(
        event::STORE_INSERT_KEYS,
        &insert(&ada, "board", vec![key("a", Some("3"))]),
    )
    .await
    .unwrap();
    next_change(&bob, event::STORE_INSERT_KEYS).await;
    let items = read(&bob, "board").await;
    assert_eq!(
        (&items[0].payload[..], &*items[0].peer_id),
        (&b"3"[..], ada.id())
    );
}

async fn deleted_keys_are_deleted_for_everybody(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    ada.tell(
        event::STORE_INSERT_KEYS,
        &insert(
            &ada,
            "board",
            vec![key("a", Some("1")), key("b", Some("2"))],
        ),
    )
    .await
    .unwrap();
    next_change(&bob, event::STORE_INSERT_KEYS).await;
    let request = PluginStoreDeleteKeysRequest {
        plugin_id: meeting.id.clone(),
        store_name: "board".to_owned(),
        delete_keys: vec![key("a", None), key("nothing", None)],
    };
    bob.tell(event::STORE_DELETE_KEYS, &request).await.unwrap();
    let push = next_change(&ada, event::STORE_DELETE_KEYS).await;
    assert!(
        push.store_items
            .iter()
            .any(|item| item.store_key == "a" && item.peer_id == bob.id()),
        "{push:?}"
    );
    let left: Vec<String> = read(&ada, "board")
        .await
        .into_iter()
        .map(|item| item.store_key)
        .collect();
    assert_eq!(left, ["b"]);
}

async fn a_late_joiner_reads_the_store(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let plugin = format!("{}:whiteboard", meeting.id);
    ada.tell(
        event::STORE_INSERT_KEYS,
        &insert(&ada, PLUGINS, vec![key(&plugin, Some("{\"id\":\"w\"}"))]),
    )
    .await
    .unwrap();
    settle(&[&ada]).await;
    let bob = Peer::open(&meeting.add_with_preset("group_call_participant").await)
        .await
        .unwrap();
    // Before the join, as `init()` does, and after.
    assert_eq!(read(&bob, PLUGINS).await.len(), 1);
    assert_eq!(bob.join().await.unwrap().plugins.len(), 1);
    assert!(read(&bob, "unknown").await.is_empty());
}

async fn stores_are_isolated(server: &Server) {
    let (here, there) = (server.meeting().await, server.meeting().await);
    let (ada, eve) = (here.host().await, there.host().await);
    ada.tell(
        event::STORE_INSERT_KEYS,
        &insert(&ada, "board", vec![key("a", Some("1"))]),
    )
    .await
    .unwrap();
    settle(&[&ada]).await;
    // The id of another meeting does not give access to its stores.
    let mut request = eve.identity().store_request("board");
    request.plugin_id.clone_from(&here.id);
    let reply = eve
        .ask::<PluginStoreResponse>(event::STORE_GET_KEYS, &request)
        .await;
    assert!(reply.is_err() || reply.unwrap().store_items.is_empty());
    let mut write = insert(&eve, "board", vec![key("a", Some("0"))]);
    write.plugin_id.clone_from(&here.id);
    eve.tell(event::STORE_INSERT_KEYS, &write).await.unwrap();
    settle(&[&eve, &ada]).await;
    assert_eq!(count_changes(&ada, event::STORE_INSERT_KEYS), 0);
    assert_eq!(&read(&ada, "board").await[0].payload[..], b"1");
    // Crafted names must not reach into another store of the same meeting.
    for (store, name) in [
        ("board\u{1f}a", "x"),
        ("boar", "d\u{1f}a"),
        ("", "board\u{1f}a"),
    ] {
        ada.tell(
            event::STORE_INSERT_KEYS,
            &insert(&ada, store, vec![key(name, Some("9"))]),
        )
        .await
        .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(210)).await;
    }
    settle(&[&ada]).await;
    let board = read(&ada, "board").await;
    assert_eq!(board.len(), 1, "{board:?}");
    assert_eq!(&board[0].payload[..], b"1");
}

async fn oversized_writes_are_refused(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let large = "x".repeat(64 * 1024 + 1);
    let refused = bob
        .refused(
            event::STORE_INSERT_KEYS,
            &insert(&bob, "board", vec![key("a", Some(&large))]),
        )
        .await
        .unwrap();
    assert!([400, 413].contains(&refused.code), "{refused}");
    let many: Vec<StoreKeys> = (0..10_001)
        .map(|index| key(&format!("{index}"), Some("1")))
        .collect();
    bob.refused(event::STORE_INSERT_KEYS, &insert(&bob, "board", many))
        .await
        .unwrap();
    settle(&[&ada]).await;
    assert_eq!(count_changes(&ada, event::STORE_INSERT_KEYS), 0);
    assert!(
        read(&ada, "board").await.is_empty(),
        "a request is applied completely or not at all"
    );
}
