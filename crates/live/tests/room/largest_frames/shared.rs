//! Stores and polls.

use bytes::Bytes;
use parlor_live::{ConnectionId, PeerProfile};
use parlor_protocol::preset::ViewType;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::plugin::{
    PluginStoreDeleteKeysRequest, PluginStoreGetKeysRequest, PluginStoreInsertKeysRequest,
    StoreKeys,
};
use parlor_protocol::signal::socket::polls::{NewPollRequest, UpdatePollResponse, VotePollRequest};
use prost::Message;

use super::{Costs, LargeMeeting, RUNS, long};
use crate::participants::all;
use crate::slices::limits;
use crate::world::World;

pub(super) fn send(costs: &mut Costs) {
    stores(costs);
    polls(costs);
}

/// Keys with these names and values of this size, in bytes.
fn keys(names: impl Iterator<Item = String>, bytes: Option<usize>) -> Vec<StoreKeys> {
    names
        .map(|store_key| StoreKeys {
            store_key,
            payload: bytes.map(|bytes| Bytes::from(vec![b'0'; bytes])),
        })
        .collect()
}

fn set(store: &str, insert_keys: Vec<StoreKeys>) -> PluginStoreInsertKeysRequest {
    PluginStoreInsertKeysRequest {
        plugin_id: "p".repeat(256),
        store_name: store.to_owned(),
        insert_keys,
    }
}

/// Names with a common prefix.
fn names(kind: &str, count: usize) -> impl Iterator<Item = String> {
    let kind = kind.to_owned();
    (0..count).map(move |n| format!("{kind}{n}"))
}

/// Sets keys until the store is full.
fn fill(world: &mut World, boss: ConnectionId, store: &str, count: usize, bytes: usize) {
    let (mut n, batch) = (0, 200);
    while n < count {
        let names = (n..count.min(n + batch)).map(|n| format!("k{n}"));
        let set = set(store, keys(names, Some(bytes)));
        if world
            .request(boss, event::STORE_INSERT_KEYS, &set)
            .is_rejected()
        {
            return;
        }
        n += batch;
    }
}

fn stores(costs: &mut Costs) {
    let insert = event::STORE_INSERT_KEYS;
    let get = |store: &str, get_keys| PluginStoreGetKeysRequest {
        plugin_id: "p".repeat(256),
        store_name: store.to_owned(),
        get_keys,
    };
    let delete = |store: &str, delete_keys| PluginStoreDeleteKeysRequest {
        plugin_id: "p".repeat(256),
        store_name: store.to_owned(),
        delete_keys,
    };
    for _ in 0..RUNS {
        let LargeMeeting {
            mut world,
            boss,
            others,
        } = LargeMeeting::call();
        let world = &mut world;
        // As many keys and bytes as a frame holds.
        let large = set("large", keys(names("k", 1_030), Some(980)));
        costs.send("1,030 new keys of 980 bytes", world, boss, insert, &large);
        costs.send("1,030 old keys of 980 bytes", world, boss, insert, &large);
        let many = set("many", keys(names(&"n".repeat(250), 1_540), None));
        costs.send("1,540 keys with long names", world, boss, insert, &many);
        let few = set("few", keys(names("k", 15), Some(64 << 10)));
        costs.send("15 keys of 64 KiB", world, boss, insert, &few);
        let one = set("few", vec![StoreKeys::default(); 3_090]);
        costs.send("3,090 times the same key", world, boss, insert, &one);
        let deletion = delete("many", keys(names(&"n".repeat(250), 1_540), None));
        costs.send(
            "1,540 keys with long names",
            world,
            boss,
            event::STORE_DELETE_KEYS,
            &deletion,
        );
        let plugins = set("__rtk_plugins__", keys(names("k", 1_030), Some(980)));
        costs.send("1,030 plugins", world, boss, insert, &plugins);
        // Full stores.
        fill(world, boss, "heavy", 4_000, 1_200);
        let all = get("heavy", Vec::new());
        costs.send(
            "a store of large values",
            world,
            others[0],
            event::STORE_GET_KEYS,
            &all,
        );
        let deletion = delete("heavy", keys(names("k", 1_540), None));
        costs.send(
            "1,540 keys of 1,200 bytes",
            world,
            boss,
            event::STORE_DELETE_KEYS,
            &deletion,
        );
        fill(world, boss, "full", 7_000, 200);
        let all = get("full", Vec::new());
        costs.send(
            "a store of 7,000 keys",
            world,
            others[0],
            event::STORE_GET_KEYS,
            &all,
        );
        let some = get("full", keys(names("k", 1_540), None));
        costs.send(
            "1,540 of its keys",
            world,
            others[0],
            event::STORE_GET_KEYS,
            &some,
        );
    }
    let LargeMeeting {
        mut world,
        boss,
        others,
    } = LargeMeeting::call();
    fill(&mut world, boss, "short", 10_000, 1);
    let all = get("short", Vec::new());
    let from = others[0];
    costs.send_repeatedly(
        "a store of 10,000 keys",
        &mut world,
        from,
        event::STORE_GET_KEYS,
        &all,
    );
}

/// Creates polls until the limit is reached. Returns their ids.
fn create_polls(world: &mut World, from: ConnectionId, new: &NewPollRequest) -> Vec<String> {
    let ids = std::iter::from_fn(|| {
        let made = world.request(from, event::CREATE_POLL, new);
        (!made.is_rejected()).then(|| {
            let made: UpdatePollResponse = made.reply(event::CREATE_POLL);
            made.poll.expect("a poll").poll_id
        })
    });
    ids.collect()
}

fn vote(poll: &str) -> VotePollRequest {
    VotePollRequest {
        poll_id: poll.to_owned(),
        index: 1,
    }
}

fn polls(costs: &mut Costs) {
    let long_text = "\u{1D54F}".repeat(500);
    let allowed = |profile: &mut PeerProfile| {
        long(profile);
        profile.permissions = all();
    };
    let kinds = [
        ("open", false, false),
        ("hidden", false, true),
        ("anonymous", true, false),
        ("anonymous and hidden", true, true),
    ];
    for (what, anonymous, hide_votes) in kinds {
        let LargeMeeting {
            mut world,
            boss,
            others,
        } = LargeMeeting::of(limits(), ViewType::GroupCall, allowed);
        let world = &mut world;
        let large = NewPollRequest {
            question: long_text.clone(),
            options: vec![long_text.clone(); 50],
            anonymous,
            hide_votes,
            ..NewPollRequest::default()
        };
        assert!(large.encoded_len() > 100_000);
        for _ in 0..RUNS {
            costs.send(what, world, boss, event::CREATE_POLL, &large);
        }
        let made = create_polls(world, boss, &large);
        let last = made.last().expect("a poll");
        for socket in &others[..198] {
            world.request(*socket, event::VOTE_POLL, &vote(last));
        }
        world.advance(2_000);
        costs.send(what, world, others[198], event::VOTE_POLL, &vote(last));
        costs.send_repeatedly(what, world, others[0], event::GET_POLLS, &());
        // Many small polls with votes.
        let LargeMeeting {
            mut world,
            boss,
            others,
        } = LargeMeeting::of(limits(), ViewType::GroupCall, allowed);
        let world = &mut world;
        let small = NewPollRequest {
            question: "?".to_owned(),
            options: vec!["x".to_owned(); 50],
            anonymous,
            hide_votes,
            ..NewPollRequest::default()
        };
        let made = create_polls(world, boss, &small);
        let voters = if cfg!(debug_assertions) { 3 } else { 199 };
        for poll in &made {
            for socket in &others[..voters] {
                world.request(*socket, event::VOTE_POLL, &vote(poll));
            }
            world.advance(2_000);
        }
        costs.send_repeatedly("500 small ones", world, others[0], event::GET_POLLS, &());
    }
}
