//! What the clients of the simulation do, and what has to come of it.

mod api;
mod chat;
mod coming;
mod media;
mod moderation;
mod shared;
mod stage;
mod time;

use parlor_protocol::signal::event;

use crate::simulation::{Act, Simulation};
use crate::truth::Place;
use crate::world::Done;

const PLUGINS: &str = "__rtk_plugins__";

/// Whether something is done, and answered on this event, or refused.
fn when(may: bool, event: u32) -> Result<Option<u32>, ()> {
    if may { Ok(Some(event)) } else { Err(()) }
}

impl Simulation {
    /// One thing happens, and then what clients do by themselves.
    pub(crate) fn act(&mut self, (what, a, b, c): Act) {
        let slots = self.truth.peers.len();
        let (slot, other) = (usize::from(a) % slots, usize::from(b) % slots);
        // Most acts need somebody inside.
        if what >= 38 && self.truth.peers[slot].socket.is_none() && c % 4 > 0 {
            self.come(slot);
            self.join(slot);
            self.follow();
        }
        match what {
            0..20 => self.come(slot),
            20..38 => self.join(slot),
            38..54 | 203..211 => self.media(slot, other, b, c),
            54..62 => self.go(slot, c % 2 == 0),
            62..72 => self.say(slot, c),
            72..82 => self.whisper(slot, other, usize::from(c) % slots),
            82..90 => self.edit(slot, b),
            90..96 => self.delete(slot, b),
            96..102 => self.pin_message(slot, b, c % 2 == 0),
            102..106 => self.page(slot, b, c),
            106..113 => self.new_poll(slot, c % 2 == 0),
            113..122 => self.vote(slot, b, c),
            122..134 => self.write_store(slot, b, c),
            134..140 => self.broadcast(slot, other, c),
            140..150 => self.decide(slot, other, c % 3 > 0),
            150..156 => self.ask_for_stage(slot, c % 3 == 0),
            156..166 => self.decide_stage(slot, other, c % 3 > 0),
            166..176 => self.go_on_stage(slot),
            176..182 => self.leave_stage(slot, other, c % 2 == 0),
            182..188 => self.kick(slot, other),
            188 => self.kick_all(slot),
            189..203 => self.change_permissions(slot, other, c),
            211..214 => self.plane_answers(b),
            214..218 => self.pin(slot, other),
            218..221 => self.rename(slot, c),
            221..229 => self.api(other, b, c),
            229..242 => self.pass(i64::from(b) * i64::from(c)),
            242..246 => self.wake(),
            246..249 => self.nonsense(slot, c),
            249..253 => self.usurp(slot, other),
            253 => self.step(b),
            254.. => self.crash(b, c),
        }
        self.follow();
    }

    /// What clients do of themselves.
    fn follow(&mut self) {
        for slot in self.truth.slots() {
            if std::mem::take(&mut self.clients[slot].invited) {
                assert_eq!(self.truth.peers[slot].place, Place::Invited);
                self.join(slot);
            }
            if std::mem::take(&mut self.clients[slot].rejected) {
                assert_eq!(self.truth.peers[slot].place, Place::Rejected);
            }
            if self.clients[slot].out {
                self.clients[slot].forget();
                // Some close their socket, for some the room has to do it.
                let left = self.sockets.iter().find(|(socket, whose)| {
                    **whose == slot && self.world.open.contains(socket) && socket.0 % 2 == 0
                });
                if let Some((socket, _)) = left.map(|(socket, whose)| (*socket, *whose)) {
                    let done = self.world.close(socket, true);
                    self.sockets.remove(&socket);
                    self.settle(&done);
                }
            }
            if self.truth.inside(slot) && self.clients[slot].roster.is_some() {
                let (polls, waiting) = {
                    let may = self.truth.may(slot);
                    (may.polls.can_view, may.accept_waiting_requests)
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
        if let Some((_, done)) = self.ask(slot, event, &(), Ok(Some(event))) {
            self.settle(&done);
        }
    }

    /// They are told, and are gone.
    fn thrown_out(&mut self, those: &[usize], event: u32, done: &Done) {
        for slot in those {
            if let Some(socket) = self.truth.peers[*slot].socket {
                assert_eq!(
                    done.of(socket, event).len(),
                    1,
                    "{slot} is told once: {done:?}"
                );
                assert_eq!(
                    done.events(socket).last(),
                    Some(&event),
                    "and nothing after that"
                );
            }
            self.truth.leave(*slot, Place::Gone, self.world.now());
        }
    }

    /// Those whom a kick of everybody reaches.
    fn known(&self) -> Vec<usize> {
        self.at(&[
            Place::Inside,
            Place::Waiting,
            Place::Invited,
            Place::Rejected,
        ])
    }

    fn at(&self, places: &[Place]) -> Vec<usize> {
        let here = self.truth.slots();
        here.filter(|slot| places.contains(&self.truth.peers[*slot].place))
            .collect()
    }
}
