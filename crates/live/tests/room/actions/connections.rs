//! Connecting, joining, disconnecting, and invalid frames.

use bytes::Bytes;
use parlor_live::Input;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::plugin::{PluginStoreGetKeysRequest, PluginStoreResponse};
use parlor_protocol::signal::socket::room::{JoinRoomRequest, PeerInfoResponse};

use super::{PLUGINS, reply_if};
use crate::client::STORE;
use crate::model::PeerState;
use crate::simulation::Simulation;

impl Simulation {
    /// Opens a connection, replacing the peer's previous one.
    pub(super) fn connect(&mut self, slot: usize) {
        let profile = self.model.peers[slot].profile.clone();
        let (socket, effects) = self.world.connect(&profile);
        self.sockets.insert(socket, slot);
        self.clients[slot].forget();
        let now = self.world.now();
        let peer = &mut self.model.peers[slot];
        if let Some(old) = peer.socket.replace(socket) {
            assert_eq!(effects.closed.len(), 1);
            assert_eq!(
                (effects.closed[0].0, effects.closed[0].1.code()),
                (old, 1000)
            );
        }
        peer.lost.get_or_insert(now);
        peer.due_ms = None;
        let unseen = std::mem::take(&mut peer.unseen);
        match peer.state {
            PeerState::Absent => peer.state = PeerState::Lobby,
            PeerState::Inside => peer.due_ms = Some(now.monotonic_ms + self.world.limits.grace_ms),
            PeerState::Invited => {
                assert_eq!(
                    effects.events(socket),
                    [event::WAITING_ROOM_REQUEST_ACCEPTED]
                );
            }
            PeerState::Lobby | PeerState::Waiting | PeerState::Rejected => {}
        }
        if unseen {
            self.model.admit_for_privileged(slot);
        }
        self.settle(&effects);
    }

    pub(super) fn join(&mut self, slot: usize) {
        let state = self.model.peers[slot].state;
        // The specification leaves open whether a rejected peer may request again.
        if self.model.peers[slot].socket.is_none() || state == PeerState::Rejected {
            return;
        }
        self.clients[slot].invited = false;
        let allowed = self.model.may_join(slot);
        let waits = state != PeerState::Inside && self.model.must_wait(slot);
        let join = JoinRoomRequest::default();
        let Some((reply, effects)) = self.request(
            slot,
            event::JOIN_ROOM,
            &join,
            reply_if(allowed, event::JOIN_ROOM),
        ) else {
            return;
        };
        self.model.peers[slot].lost = None;
        if state == PeerState::Inside {
            self.model.peers[slot].due_ms = None;
        } else if waits {
            self.model.peers[slot].state = PeerState::Waiting;
        } else {
            self.model.enter(slot, self.world.now());
        }
        let me = reply
            .expect("a reply")
            .decode::<PeerInfoResponse>()
            .peer
            .expect("a peer");
        assert_eq!(me.peer_id, self.model.peer_id(slot));
        assert_eq!(me.waitlisted, waits);
        if !waits {
            assert_eq!(me.stage_type(), self.model.peers[slot].stage);
        }
        self.settle(&effects);
        self.fetch_state(slot);
    }

    /// The requests of a client after its join.
    fn fetch_state(&mut self, slot: usize) {
        self.fetch(slot, event::GET_MESSAGES);
        for store_name in [STORE, PLUGINS] {
            let all = PluginStoreGetKeysRequest {
                plugin_id: "meeting".to_owned(),
                store_name: store_name.to_owned(),
                get_keys: Vec::new(),
            };
            let Some((reply, effects)) = self.request(
                slot,
                event::STORE_GET_KEYS,
                &all,
                Ok(Some(event::STORE_GET_KEYS)),
            ) else {
                return;
            };
            let items = reply
                .expect("a reply")
                .decode::<PluginStoreResponse>()
                .store_items
                .len();
            let existing = self
                .model
                .stores
                .keys()
                .filter(|(store, _)| store == store_name)
                .count();
            let hidden = !self.model.is_inside(slot) && store_name != PLUGINS;
            assert_eq!(
                items,
                if hidden { 0 } else { existing },
                "{store_name} as read by {slot}"
            );
            self.settle(&effects);
        }
        self.fetch(slot, event::GET_ROOM_INFO);
        self.fetch(slot, event::GET_ROOM_PEERS_INFO);
        if !self.model.is_inside(slot) {
            let client = &self.clients[slot];
            let push = client
                .roster
                .as_ref()
                .is_some_and(|roster| !roster.is_empty())
                || client.chat.as_ref().is_some_and(|chat| !chat.is_empty());
            assert!(!push, "a peer outside learns of the call");
            self.clients[slot].forget();
        }
    }

    pub(super) fn disconnect(&mut self, slot: usize, leaving: bool) {
        let Some(socket) = self.model.peers[slot].socket else {
            return;
        };
        let effects = self.world.close(socket, leaving);
        self.sockets.remove(&socket);
        self.clients[slot].forget();
        let (now, grace_ms) = (self.world.now(), self.world.limits.grace_ms);
        let peer = &mut self.model.peers[slot];
        peer.socket = None;
        let stays = matches!(
            peer.state,
            PeerState::Inside | PeerState::Waiting | PeerState::Invited
        );
        if stays && !leaving {
            peer.lost.get_or_insert(now);
            peer.due_ms = Some(now.monotonic_ms + grace_ms);
        } else {
            self.model.leave(slot, PeerState::Absent, now);
        }
        self.settle(&effects);
    }

    /// Connects with the peer id of another participant.
    pub(super) fn hijack_peer_id(&mut self, slot: usize, other: usize) {
        let (mine, theirs) = (&self.model.peers[slot], &self.model.peers[other]);
        if mine.participant == theirs.participant || matches!(theirs.state, PeerState::Absent) {
            return;
        }
        let mut profile = mine.profile.clone();
        profile.peer = theirs.profile.peer;
        let (socket, effects) = self.world.connect(&profile);
        assert_eq!(effects.closed.len(), 1);
        assert_eq!(
            (effects.closed[0].0, effects.closed[0].1.code()),
            (socket, 1000)
        );
        assert!(effects.frames.is_empty() && effects.records.is_empty());
    }

    pub(super) fn send_invalid_frame(&mut self, slot: usize, c: u8) {
        let Some(socket) = self.model.peers[slot].socket else {
            return;
        };
        let effects = if c.is_multiple_of(2) {
            let bytes = Bytes::from(vec![0xFF; usize::from(c)]);
            self.world.handle(Input::Frame {
                connection: socket,
                bytes,
            })
        } else {
            let event = [1, 4, 6, 8, 28, 35, 65_535, 131_072, 9 << 16][usize::from(c) % 9];
            let outcome = self.world.request(socket, event, &());
            assert_eq!(outcome.code(), 501);
            outcome.effects
        };
        assert!(
            effects.frames.iter().all(|frame| frame.to == socket) && effects.records.is_empty()
        );
        self.settle(&effects);
    }
}
