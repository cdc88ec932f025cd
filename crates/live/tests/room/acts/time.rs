//! Time passes, and the server goes down and comes up again.

use std::collections::BTreeSet;

use parlor_live::Command;

use crate::simulation::Simulation;
use crate::truth::{MediaTruth, Place};

impl Simulation {
    pub(super) fn pass(&mut self, ms: i64) {
        let done = self.world.pass(ms * 2);
        self.settle(&done);
        for slot in self.at(&[Place::Rejected]) {
            let until = self.truth.peers[slot].rejected_ms + self.world.limits.rejected_ms;
            assert!(
                until > self.world.now_ms,
                "the socket of somebody who was turned away stays open"
            );
        }
    }

    /// The room is woken when it wants to.
    pub(super) fn wake(&mut self) {
        if let Some(at_ms) = self.world.room.wake_at() {
            self.pass_until(at_ms);
        }
    }

    fn pass_until(&mut self, at_ms: i64) {
        let ms = at_ms - self.world.now_ms;
        assert!(ms > 0);
        let done = self.world.pass(ms);
        self.settle(&done);
    }

    /// The server goes down, at once or in good order, and another comes up.
    pub(super) fn crash(&mut self, c: u8) {
        if c.is_multiple_of(2) {
            let (_, done) = self.world.command(Command::Suspend);
            assert!(done.kept.is_empty() && self.world.open.is_empty());
            // Those who were thrown out, and have not closed their socket yet, shall not come back.
            let again = done.closed.iter().filter(|(_, how)| how.code() == 1012);
            let again: BTreeSet<_> = again.map(|(socket, _)| *socket).collect();
            let here = self.truth.peers.iter().filter_map(|peer| peer.socket);
            assert_eq!(again, here.collect());
        }
        let now_ms = self.world.now_ms;
        let alive_ms = now_ms - i64::from(c % 5) * 1000;
        self.world.crash(alive_ms);
        self.sockets.clear();
        self.orders.clear();
        self.truth.speakers.clear();
        for slot in self.truth.slots() {
            self.clients[slot].forget();
            let due_ms = now_ms + self.world.limits.grace_ms;
            let peer = &mut self.truth.peers[slot];
            peer.socket = None;
            peer.media = MediaTruth::default();
            if peer.place == Place::Inside {
                let entered_ms = peer.stays.last().expect("it entered").0;
                peer.lost_ms = Some(alive_ms.max(entered_ms));
                (peer.due_ms, peer.unseen) = (Some(due_ms), true);
            } else {
                self.truth.leave(slot, Place::Gone, now_ms);
            }
        }
        for person in &mut self.truth.people {
            person.removed = false;
        }
        if self.truth.live && self.truth.insiders().is_empty() {
            self.truth.emptied_ms = Some(now_ms);
        }
        let done = self.world.pass(0);
        self.settle(&done);
    }
}
