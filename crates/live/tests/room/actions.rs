//! Actions of the simulated clients and their expected effects.

mod api;
mod chat;
mod connections;
mod media;
mod moderation;
mod shared;
mod stage;
mod time;

use parlor_protocol::signal::event;

use crate::model::PeerState;
use crate::simulation::{Action, Simulation};
use crate::world::Effects;

const PLUGINS: &str = "__rtk_plugins__";

/// The expected reply: this event if allowed, otherwise an error.
fn reply_if(allowed: bool, event: u32) -> Result<Option<u32>, ()> {
    if allowed { Ok(Some(event)) } else { Err(()) }
}

impl Simulation {
    /// Performs one action, then the clients' automatic reactions.
    pub(crate) fn action(&mut self, (what, a, b, c): Action) {
        let slots = self.model.peers.len();
        let (slot, other) = (usize::from(a) % slots, usize::from(b) % slots);
        // Most actions need a peer inside the call.
        if what >= 38 && self.model.peers[slot].socket.is_none() && c % 4 > 0 {
            self.connect(slot);
            self.join(slot);
            self.react();
        }
        match what {
            0..20 => self.connect(slot),
            20..38 => self.join(slot),
            38..54 | 203..211 => self.media(slot, other, b, c),
            54..62 => self.disconnect(slot, c % 2 == 0),
            62..72 => self.send_message(slot, c),
            72..82 => self.send_private_message(slot, other, usize::from(c) % slots),
            82..90 => self.edit(slot, b),
            90..96 => self.delete(slot, b),
            96..102 => self.pin_message(slot, b, c % 2 == 0),
            102..106 => self.read_page(slot, b, c),
            106..113 => self.create_poll(slot, c % 2 == 0),
            113..122 => self.vote(slot, b, c),
            122..134 => self.write_store(slot, b, c),
            134..140 => self.broadcast(slot, other, c),
            140..150 => self.answer_waiting(slot, other, c % 3 > 0),
            150..156 => self.request_stage(slot, c % 3 == 0),
            156..166 => self.answer_stage_request(slot, other, c % 3 > 0),
            166..176 => self.join_stage(slot),
            176..182 => self.leave_stage(slot, other, c % 2 == 0),
            182..188 => self.kick(slot, other),
            188 => self.kick_all(slot),
            189..203 => self.change_permissions(slot, other, c),
            211..214 => self.answer_media_order(b),
            214..218 => self.pin(slot, other),
            218..221 => self.rename(slot, c),
            221..229 => self.api(other, b, c),
            229..242 => self.advance(i64::from(b) * i64::from(c)),
            242..246 => self.wake(),
            246..249 => self.send_invalid_frame(slot, c),
            249..253 => self.hijack_peer_id(slot, other),
            253 => self.step_clock(b),
            254.. => self.crash(b, c),
        }
        self.react();
    }

    /// The automatic reactions of clients.
    fn react(&mut self) {
        for slot in self.model.slots() {
            if std::mem::take(&mut self.clients[slot].invited) {
                assert_eq!(self.model.peers[slot].state, PeerState::Invited);
                self.join(slot);
            }
            if std::mem::take(&mut self.clients[slot].rejected) {
                assert_eq!(self.model.peers[slot].state, PeerState::Rejected);
            }
            if self.clients[slot].kicked {
                self.clients[slot].forget();
                // Some clients close the connection themselves; for others the room has to.
                let left = self.sockets.iter().find(|(socket, whose)| {
                    **whose == slot && self.world.open.contains(socket) && socket.0 % 2 == 0
                });
                if let Some((socket, _)) = left.map(|(socket, whose)| (*socket, *whose)) {
                    let effects = self.world.close(socket, true);
                    self.sockets.remove(&socket);
                    self.settle(&effects);
                }
            }
            if self.model.is_inside(slot) && self.clients[slot].roster.is_some() {
                let (polls, waiting) = {
                    let permissions = self.model.permissions(slot);
                    (
                        permissions.polls.can_view,
                        permissions.accept_waiting_requests,
                    )
                };
                let client = &mut self.clients[slot];
                client.polls = client.polls.take().filter(|_| polls);
                client.waiting = client.waiting.take().filter(|_| waiting);
                let (no_polls, no_list) = (client.polls.is_none(), client.waiting.is_none());
                if polls && no_polls {
                    self.fetch(slot, event::GET_POLLS);
                }
                if waiting && no_list {
                    self.fetch(slot, event::GET_WAITING_ROOM_REQUESTS);
                }
            }
        }
    }

    fn fetch(&mut self, slot: usize, event: u32) {
        if let Some((_, effects)) = self.request(slot, event, &(), Ok(Some(event))) {
            self.settle(&effects);
        }
    }

    /// Checks that kicked peers are notified, and removes them.
    fn check_kicked(&mut self, those: &[usize], event: u32, effects: &Effects) {
        for slot in those {
            if let Some(socket) = self.model.peers[*slot].socket {
                assert_eq!(
                    effects.frames_to(socket, event).len(),
                    1,
                    "{slot} is not notified exactly once: {effects:?}"
                );
                assert_eq!(
                    effects.events(socket).last(),
                    Some(&event),
                    "{slot} receives frames after the kick"
                );
            }
            self.model.leave(*slot, PeerState::Absent, self.world.now());
        }
    }

    /// Slots that a kick of all participants removes.
    fn kickable(&self) -> Vec<usize> {
        self.slots_in(&[
            PeerState::Inside,
            PeerState::Waiting,
            PeerState::Invited,
            PeerState::Rejected,
        ])
    }

    fn slots_in(&self, places: &[PeerState]) -> Vec<usize> {
        let here = self.model.slots();
        here.filter(|slot| places.contains(&self.model.peers[*slot].state))
            .collect()
    }
}
