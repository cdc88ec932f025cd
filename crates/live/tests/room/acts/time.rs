//! Time passes, and the server goes down and comes up again.

use std::collections::BTreeSet;

use parlor_live::Command;

use crate::simulation::Simulation;
use crate::truth::{MediaTruth, Place};
use crate::world::Now;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// By how much the clock is set.
fn step_ms(b: u8) -> i64 {
    [HOUR_MS, -HOUR_MS, 400 * DAY_MS, -730 * DAY_MS][usize::from(b) % 4]
}

impl Simulation {
    pub(super) fn pass(&mut self, ms: i64) {
        let done = self.world.pass(ms * 2);
        self.settle(&done);
        for slot in self.at(&[Place::Rejected]) {
            let until = self.truth.peers[slot].rejected_ms + self.world.limits.rejected_ms;
            assert!(
                until > self.world.monotonic_ms,
                "the socket of somebody who was turned away stays open"
            );
        }
    }

    /// The room is woken when it wants to.
    pub(super) fn wake(&mut self) {
        if let Some(ms) = self.world.wakes_in() {
            assert!(ms > 0);
            let done = self.world.pass(ms);
            self.settle(&done);
        }
    }

    /// The clock is set: nothing becomes due by that.
    pub(super) fn step(&mut self, b: u8) {
        let done = self.world.step(step_ms(b));
        let quiet = done.frames.is_empty() && done.kept.is_empty();
        assert!(quiet && done.closed.is_empty(), "{done:?}");
        self.settle(&done);
    }

    /// The server goes down, at once or in good order, and another comes up, at once or later. The
    /// clock may be set meanwhile.
    pub(super) fn crash(&mut self, b: u8, c: u8) {
        if c.is_multiple_of(2) {
            let (_, done) = self.world.command(Command::Suspend);
            assert!(done.kept.is_empty() && self.world.open.is_empty());
            // Those who were thrown out, and have not closed their socket yet, shall not come back.
            let again = done.closed.iter().filter(|(_, how)| how.code() == 1012);
            let again: BTreeSet<_> = again.map(|(socket, _)| *socket).collect();
            let here = self.truth.peers.iter().filter_map(|peer| peer.socket);
            assert_eq!(again, here.collect());
        }
        let alive_ms = self.world.now_ms - i64::from(c % 5) * 1000;
        let step_ms = if b < 128 { 0 } else { step_ms(b) };
        let down_ms = i64::from(c / 5 % 4) * 20_000;
        self.world.crash_for(alive_ms, down_ms, step_ms);
        let now = self.world.now();
        let limits = &self.world.limits;
        let longest_ms = limits.grace_ms.max(self.world.meeting.keep_alive_ms);
        let due_ms = now.monotonic_ms + limits.grace_ms;
        self.sockets.clear();
        self.orders.clear();
        self.truth.speakers.clear();
        for slot in self.truth.slots() {
            self.clients[slot].forget();
            let peer = &mut self.truth.peers[slot];
            peer.socket = None;
            peer.media = MediaTruth::default();
            if peer.place == Place::Inside {
                let stay = peer.stays.last_mut().expect("it entered");
                let lost_ms = alive_ms.clamp(stay.entered_ms, now.room_ms);
                let lost = Now {
                    room_ms: lost_ms,
                    monotonic_ms: now.monotonic_ms - (now.room_ms - lost_ms).min(longest_ms),
                };
                stay.from = lost.monotonic_ms - (lost_ms - stay.entered_ms);
                peer.lost = Some(lost);
                (peer.due_ms, peer.unseen) = (Some(due_ms), true);
            } else {
                self.truth.leave(slot, Place::Gone, now);
            }
        }
        for person in &mut self.truth.people {
            person.removed = false;
        }
        if self.truth.live && self.truth.insiders().is_empty() {
            self.truth.emptied_ms = Some(now.monotonic_ms);
        }
        let done = self.world.pass(0);
        self.settle(&done);
    }
}
