//! Polls, stores and broadcasts: what the people of a meeting share.

use bytes::Bytes;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::plugin::{PluginStoreInsertKeysRequest, StoreKeys};
use parlor_protocol::signal::socket::polls::{NewPollRequest, UpdatePollResponse, VotePollRequest};
use parlor_protocol::signal::socket::room::BroadcastMessage;

use super::{PLUGINS, when};
use crate::client::STORE;
use crate::simulation::Simulation;
use crate::truth::{OPTIONS, PollTruth};

/// How long others may not know of a vote.
const VOTES_MS: i64 = 300;

impl Simulation {
    pub(super) fn new_poll(&mut self, slot: usize, anonymous: bool) {
        let poll = NewPollRequest {
            question: "Which?".to_owned(),
            options: (0..OPTIONS).map(|option| format!("{option}")).collect(),
            anonymous,
            ..NewPollRequest::default()
        };
        let may = self.truth.inside(slot) && self.truth.may(slot).polls.can_create;
        let should = when(may, event::CREATE_POLL);
        let Some((reply, done)) = self.ask(slot, event::CREATE_POLL, &poll, should) else {
            return;
        };
        let poll = reply
            .expect("a reply")
            .read::<UpdatePollResponse>()
            .poll
            .expect("a poll");
        self.truth.polls.push(PollTruth {
            id: poll.poll_id,
            anonymous,
            votes: Vec::new(),
            told_ms: 0,
        });
        self.settle(&done);
    }

    pub(super) fn vote(&mut self, slot: usize, which: u8, c: u8) {
        let Some(at) = usize::from(which).checked_rem(self.truth.polls.len()) else {
            return;
        };
        let (may, person) = (&self.truth.may(slot).polls, self.truth.peers[slot].person);
        // Whether one may vote on what one may not see is open.
        if may.can_vote && !may.can_view {
            return;
        }
        let poll = &self.truth.polls[at];
        let voted = poll.votes.iter().any(|(who, _)| *who == person);
        let option = usize::from(c) % (OPTIONS + 1);
        let may = self.truth.inside(slot) && may.can_vote && !voted && option < OPTIONS;
        let vote = VotePollRequest {
            poll_id: poll.id.clone(),
            index: option as u64,
        };
        let should = when(may, event::VOTE_POLL);
        let Some((_, done)) = self.ask(slot, event::VOTE_POLL, &vote, should) else {
            return;
        };
        let (now_ms, poll) = (self.world.monotonic_ms, &mut self.truth.polls[at]);
        poll.votes.push((person, option));
        if poll.told_ms <= now_ms {
            poll.told_ms = now_ms + VOTES_MS;
        }
        self.settle(&done);
    }

    pub(super) fn write_store(&mut self, slot: usize, b: u8, c: u8) {
        let (deletes, off) = (c.is_multiple_of(4), c % 4 == 1);
        let plugin = b.is_multiple_of(3);
        let (store, key) = (
            if plugin { PLUGINS } else { STORE },
            format!("key {}", b % 5),
        );
        let value = if off {
            "null".to_owned()
        } else {
            format!("{{\"n\":{c}}}")
        };
        let payload = (!deletes).then(|| Bytes::from(value.clone()));
        let may = &self.truth.may(slot).plugins;
        let right = if deletes || off {
            may.can_close
        } else {
            may.can_start
        };
        let may = self.truth.inside(slot) && (!plugin || right);
        // Both requests have the same fields.
        let request = PluginStoreInsertKeysRequest {
            plugin_id: "meeting".to_owned(),
            store_name: store.to_owned(),
            insert_keys: vec![StoreKeys {
                store_key: key.clone(),
                payload,
            }],
        };
        let event = if deletes {
            event::STORE_DELETE_KEYS
        } else {
            event::STORE_INSERT_KEYS
        };
        let Some((_, done)) = self.ask(slot, event, &request, when(may, event)) else {
            return;
        };
        let place = (store.to_owned(), key);
        if deletes {
            self.truth.stores.remove(&place);
        } else {
            self.truth.stores.insert(place, value.into_bytes());
        }
        self.settle(&done);
    }

    pub(super) fn broadcast(&mut self, slot: usize, other: usize, c: u8) {
        let spotlight = c.is_multiple_of(4);
        let message = BroadcastMessage {
            r#type: if spotlight { "spotlight" } else { "hands" }.to_owned(),
            payload: Bytes::from_static(b"{}"),
            timestamp: 5,
            ids: vec![self.truth.peer_id(other), self.truth.peer_id(slot)],
            broadcast_type: None,
        };
        let may = self.truth.inside(slot) && (!spotlight || self.truth.may(slot).can_spotlight);
        let all = c.is_multiple_of(2);
        let event = if all {
            event::BROADCAST_MESSAGE
        } else {
            event::BROADCAST_TO_ENTITY
        };
        let should = if may {
            Ok(all.then_some(event))
        } else {
            Err(())
        };
        let Some((_, done)) = self.ask(slot, event, &message, should) else {
            return;
        };
        let got = done.frames.iter().map(|frame| (frame.to, frame.event));
        let mut got: Vec<_> = got.collect();
        got.sort_unstable();
        let to = self.truth.insiders();
        let to = to
            .into_iter()
            .filter(|to| all || *to == slot || (*to == other && self.truth.sees(slot, other)));
        let sockets = to.filter_map(|to| self.truth.peers[to].socket);
        let mut should: Vec<_> = sockets.map(|socket| (socket, event)).collect();
        should.sort_unstable();
        assert_eq!(got, should, "each gets one copy");
        self.settle(&done);
    }
}
