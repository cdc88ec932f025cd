//! Polls, stores and broadcasts.

use bytes::Bytes;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::plugin::{PluginStoreInsertKeysRequest, StoreKeys};
use parlor_protocol::signal::socket::polls::{NewPollRequest, UpdatePollResponse, VotePollRequest};
use parlor_protocol::signal::socket::room::BroadcastMessage;

use super::{PLUGINS, reply_if};
use crate::client::STORE;
use crate::model::{OPTIONS, PollModel};
use crate::simulation::Simulation;

/// Maximum delay until others learn of a vote.
const VOTES_MS: i64 = 300;

impl Simulation {
    pub(super) fn create_poll(&mut self, slot: usize, anonymous: bool) {
        let poll = NewPollRequest {
            question: "Which?".to_owned(),
            options: (0..OPTIONS).map(|option| format!("{option}")).collect(),
            anonymous,
            ..NewPollRequest::default()
        };
        let allowed = self.model.is_inside(slot) && self.model.permissions(slot).polls.can_create;
        let should = reply_if(allowed, event::CREATE_POLL);
        let Some((reply, effects)) = self.request(slot, event::CREATE_POLL, &poll, should) else {
            return;
        };
        let poll = reply
            .expect("a reply")
            .decode::<UpdatePollResponse>()
            .poll
            .expect("a poll");
        self.model.polls.push(PollModel {
            id: poll.poll_id,
            anonymous,
            votes: Vec::new(),
            visible_ms: 0,
        });
        self.settle(&effects);
    }

    pub(super) fn vote(&mut self, slot: usize, which: u8, c: u8) {
        let Some(at) = usize::from(which).checked_rem(self.model.polls.len()) else {
            return;
        };
        let (permissions, participant) = (
            &self.model.permissions(slot).polls,
            self.model.peers[slot].participant,
        );
        // The specification leaves open whether a peer may vote in a poll that it may not view.
        if permissions.can_vote && !permissions.can_view {
            return;
        }
        let poll = &self.model.polls[at];
        let voted = poll.votes.iter().any(|(voter, _)| *voter == participant);
        let option = usize::from(c) % (OPTIONS + 1);
        let allowed =
            self.model.is_inside(slot) && permissions.can_vote && !voted && option < OPTIONS;
        let vote = VotePollRequest {
            poll_id: poll.id.clone(),
            index: option as u64,
        };
        let should = reply_if(allowed, event::VOTE_POLL);
        let Some((_, effects)) = self.request(slot, event::VOTE_POLL, &vote, should) else {
            return;
        };
        let (now_ms, poll) = (self.world.monotonic_ms, &mut self.model.polls[at]);
        poll.votes.push((participant, option));
        if poll.visible_ms <= now_ms {
            poll.visible_ms = now_ms + VOTES_MS;
        }
        self.settle(&effects);
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
        let permissions = &self.model.permissions(slot).plugins;
        let permission = if deletes || off {
            permissions.can_close
        } else {
            permissions.can_start
        };
        let allowed = self.model.is_inside(slot) && (!plugin || permission);
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
        let Some((_, effects)) = self.request(slot, event, &request, reply_if(allowed, event))
        else {
            return;
        };
        let state = (store.to_owned(), key);
        if deletes {
            self.model.stores.remove(&state);
        } else {
            self.model.stores.insert(state, value.into_bytes());
        }
        self.settle(&effects);
    }

    pub(super) fn broadcast(&mut self, slot: usize, other: usize, c: u8) {
        let spotlight = c.is_multiple_of(4);
        let message = BroadcastMessage {
            r#type: if spotlight { "spotlight" } else { "hands" }.to_owned(),
            payload: Bytes::from_static(b"{}"),
            timestamp: 5,
            ids: vec![self.model.peer_id(other), self.model.peer_id(slot)],
            broadcast_type: None,
        };
        let allowed = self.model.is_inside(slot)
            && (!spotlight || self.model.permissions(slot).can_spotlight);
        let all = c.is_multiple_of(2);
        let event = if all {
            event::BROADCAST_MESSAGE
        } else {
            event::BROADCAST_TO_ENTITY
        };
        let should = if allowed {
            Ok(all.then_some(event))
        } else {
            Err(())
        };
        let Some((_, effects)) = self.request(slot, event, &message, should) else {
            return;
        };
        let got = effects.frames.iter().map(|frame| (frame.to, frame.event));
        let mut got: Vec<_> = got.collect();
        got.sort_unstable();
        let to = self.model.insiders();
        let to = to
            .into_iter()
            .filter(|to| all || *to == slot || (*to == other && self.model.can_see(slot, other)));
        let sockets = to.filter_map(|to| self.model.peers[to].socket);
        let mut should: Vec<_> = sockets.map(|socket| (socket, event)).collect();
        should.sort_unstable();
        assert_eq!(got, should, "each receiver gets one copy");
        self.settle(&effects);
    }
}
