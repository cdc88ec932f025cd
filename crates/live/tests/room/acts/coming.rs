//! Sockets come, join and go, and say what no client would say.

use bytes::Bytes;
use parlor_live::Input;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::plugin::{PluginStoreGetKeysRequest, PluginStoreResponse};
use parlor_protocol::signal::socket::room::{JoinRoomRequest, PeerInfoResponse};

use super::{PLUGINS, when};
use crate::client::STORE;
use crate::simulation::Simulation;
use crate::truth::Place;

impl Simulation {
    /// A socket opens, or another one in its place.
    pub(super) fn come(&mut self, slot: usize) {
        let who = self.truth.peers[slot].who.clone();
        let (socket, done) = self.world.connect(&who);
        self.sockets.insert(socket, slot);
        self.clients[slot].forget();
        let now = self.world.now();
        let peer = &mut self.truth.peers[slot];
        if let Some(old) = peer.socket.replace(socket) {
            assert_eq!(done.closed.len(), 1);
            assert_eq!((done.closed[0].0, done.closed[0].1.code()), (old, 1000));
        }
        peer.lost.get_or_insert(now);
        peer.due_ms = None;
        let unseen = std::mem::take(&mut peer.unseen);
        match peer.place {
            Place::Gone => peer.place = Place::Lobby,
            Place::Inside => peer.due_ms = Some(now.monotonic_ms + self.world.limits.grace_ms),
            Place::Invited => {
                assert_eq!(done.events(socket), [event::WAITING_ROOM_REQUEST_ACCEPTED]);
            }
            Place::Lobby | Place::Waiting | Place::Rejected => {}
        }
        if unseen {
            self.truth.somebody_decides(slot);
        }
        self.settle(&done);
    }

    pub(super) fn join(&mut self, slot: usize) {
        let place = self.truth.peers[slot].place;
        // Whether one who was turned away may ask again is open.
        if self.truth.peers[slot].socket.is_none() || place == Place::Rejected {
            return;
        }
        self.clients[slot].invited = false;
        let may = self.truth.may_join(slot);
        let waits = place != Place::Inside && self.truth.must_wait(slot);
        let join = JoinRoomRequest::default();
        let Some((reply, done)) =
            self.ask(slot, event::JOIN_ROOM, &join, when(may, event::JOIN_ROOM))
        else {
            return;
        };
        self.truth.peers[slot].lost = None;
        if place == Place::Inside {
            self.truth.peers[slot].due_ms = None;
        } else if waits {
            self.truth.peers[slot].place = Place::Waiting;
        } else {
            self.truth.enter(slot, self.world.now());
        }
        let me = reply
            .expect("a reply")
            .read::<PeerInfoResponse>()
            .peer
            .expect("a peer");
        assert_eq!(me.peer_id, self.truth.peer_id(slot));
        assert_eq!(me.waitlisted, waits);
        if !waits {
            assert_eq!(me.stage_type(), self.truth.peers[slot].stage);
        }
        self.settle(&done);
        self.look_around(slot);
    }

    /// What a client asks for after its join.
    fn look_around(&mut self, slot: usize) {
        self.fetch(slot, event::GET_MESSAGES);
        for store_name in [STORE, PLUGINS] {
            let all = PluginStoreGetKeysRequest {
                plugin_id: "meeting".to_owned(),
                store_name: store_name.to_owned(),
                get_keys: Vec::new(),
            };
            let Some((reply, done)) = self.ask(
                slot,
                event::STORE_GET_KEYS,
                &all,
                Ok(Some(event::STORE_GET_KEYS)),
            ) else {
                return;
            };
            let items = reply
                .expect("a reply")
                .read::<PluginStoreResponse>()
                .store_items
                .len();
            let there = self
                .truth
                .stores
                .keys()
                .filter(|(store, _)| store == store_name)
                .count();
            let hidden = !self.truth.inside(slot) && store_name != PLUGINS;
            assert_eq!(
                items,
                if hidden { 0 } else { there },
                "{store_name} as read by {slot}"
            );
            self.settle(&done);
        }
        self.fetch(slot, event::GET_ROOM_INFO);
        self.fetch(slot, event::GET_ROOM_PEERS_INFO);
        if !self.truth.inside(slot) {
            let client = &self.clients[slot];
            let told = client
                .roster
                .as_ref()
                .is_some_and(|roster| !roster.is_empty())
                || client.chat.as_ref().is_some_and(|chat| !chat.is_empty());
            assert!(!told, "somebody outside is told of the inside");
            self.clients[slot].forget();
        }
    }

    pub(super) fn go(&mut self, slot: usize, goodbye: bool) {
        let Some(socket) = self.truth.peers[slot].socket else {
            return;
        };
        let done = self.world.close(socket, goodbye);
        self.sockets.remove(&socket);
        self.clients[slot].forget();
        let (now, grace_ms) = (self.world.now(), self.world.limits.grace_ms);
        let peer = &mut self.truth.peers[slot];
        peer.socket = None;
        let kept = matches!(peer.place, Place::Inside | Place::Waiting | Place::Invited);
        if kept && !goodbye {
            peer.lost.get_or_insert(now);
            peer.due_ms = Some(now.monotonic_ms + grace_ms);
        } else {
            self.truth.leave(slot, Place::Gone, now);
        }
        self.settle(&done);
    }

    /// Somebody comes with the peer id of somebody else who is here.
    pub(super) fn usurp(&mut self, slot: usize, other: usize) {
        let (mine, theirs) = (&self.truth.peers[slot], &self.truth.peers[other]);
        if mine.person == theirs.person || matches!(theirs.place, Place::Gone) {
            return;
        }
        let mut who = mine.who.clone();
        who.peer = theirs.who.peer;
        let (socket, done) = self.world.connect(&who);
        assert_eq!(done.closed.len(), 1);
        assert_eq!((done.closed[0].0, done.closed[0].1.code()), (socket, 1000));
        assert!(done.frames.is_empty() && done.kept.is_empty());
    }

    pub(super) fn nonsense(&mut self, slot: usize, c: u8) {
        let Some(socket) = self.truth.peers[slot].socket else {
            return;
        };
        let done = if c.is_multiple_of(2) {
            let bytes = Bytes::from(vec![0xFF; usize::from(c)]);
            self.world.take(Input::Frame {
                connection: socket,
                bytes,
            })
        } else {
            let event = [1, 4, 6, 8, 28, 35, 65_535, 131_072, 9 << 16][usize::from(c) % 9];
            let asked = self.world.ask(socket, event, &());
            assert_eq!(asked.code(), 501);
            asked.done
        };
        assert!(done.frames.iter().all(|frame| frame.to == socket) && done.kept.is_empty());
        self.settle(&done);
    }
}
