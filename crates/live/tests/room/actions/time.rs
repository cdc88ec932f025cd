//! Time, and crashes and restarts of the server.

use std::collections::BTreeSet;

use parlor_live::Command;

use crate::model::{MediaModel, PeerState};
use crate::simulation::Simulation;
use crate::world::Now;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The size of a clock step.
fn step_ms(b: u8) -> i64 {
    [HOUR_MS, -HOUR_MS, 400 * DAY_MS, -730 * DAY_MS][usize::from(b) % 4]
}

impl Simulation {
    pub(super) fn advance(&mut self, ms: i64) {
        let effects = self.world.advance(ms * 2);
        self.settle(&effects);
        for slot in self.slots_in(&[PeerState::Rejected]) {
            let until = self.model.peers[slot].rejected_ms + self.world.limits.rejected_ms;
            assert!(
                until > self.world.monotonic_ms,
                "the connection of a rejected peer stays open"
            );
        }
    }

    /// Advances to the room's next deadline.
    pub(super) fn wake(&mut self) {
        if let Some(ms) = self.world.next_wake_ms() {
            assert!(ms > 0);
            let effects = self.world.advance(ms);
            self.settle(&effects);
        }
    }

    /// Steps the clock; this makes no timeout expire.
    pub(super) fn step_clock(&mut self, b: u8) {
        let effects = self.world.step_clock(step_ms(b));
        let quiet = effects.frames.is_empty() && effects.records.is_empty();
        assert!(quiet && effects.closed.is_empty(), "{effects:?}");
        self.settle(&effects);
    }

    /// The server crashes or shuts down, and restarts at once or later. The clock may be stepped
    /// meanwhile.
    pub(super) fn crash(&mut self, b: u8, c: u8) {
        if c.is_multiple_of(2) {
            let (_, effects) = self.world.command(Command::Suspend);
            assert!(effects.records.is_empty() && self.world.open.is_empty());
            // Kicked peers that have not closed their connection must not come back.
            let again = effects
                .closed
                .iter()
                .filter(|(_, reason)| reason.code() == 1012);
            let again: BTreeSet<_> = again.map(|(socket, _)| *socket).collect();
            let here = self.model.peers.iter().filter_map(|peer| peer.socket);
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
        self.model.speakers.clear();
        for slot in self.model.slots() {
            self.clients[slot].forget();
            let peer = &mut self.model.peers[slot];
            peer.socket = None;
            peer.media = MediaModel::default();
            if peer.state == PeerState::Inside {
                let stay = peer.stays.last_mut().expect("the peer entered");
                let lost_ms = alive_ms.clamp(stay.entered_ms, now.room_ms);
                let lost = Now {
                    room_ms: lost_ms,
                    monotonic_ms: now.monotonic_ms - (now.room_ms - lost_ms).min(longest_ms),
                };
                stay.from = lost.monotonic_ms - (lost_ms - stay.entered_ms);
                peer.lost = Some(lost);
                (peer.due_ms, peer.unseen) = (Some(due_ms), true);
            } else {
                self.model.leave(slot, PeerState::Absent, now);
            }
        }
        for participant in &mut self.model.participants {
            participant.removed = false;
        }
        if self.model.live && self.model.insiders().is_empty() {
            self.model.emptied_ms = Some(now.monotonic_ms);
        }
        let effects = self.world.advance(0);
        self.settle(&effects);
    }
}
