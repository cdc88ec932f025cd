//! Timers of a room.

use parlor_protocol::preset::ViewType;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::RoomPeerCountResponse;

use super::work::{SLICE_MS, Slice};
use super::{Admission, Monotonic, REMOVED, Room, Step};
use crate::input::ConnectionId;
use crate::output::Output;
use crate::peer::{Peer, Slot};

/// An action that is due at a certain time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// The peer's grace period ends: its socket is gone, or its client has not joined again.
    Grace(Slot),
    /// The socket of a removed peer must be closed by now.
    Detached(ConnectionId),
    /// The session's keep-alive ends.
    SessionEmpty,
    /// Push the viewer count to viewers.
    ViewerCount,
    /// Push the participants of all breakout rooms.
    BreakoutUpdate,
    /// Push the results of polls.
    Votes,
    /// Push the waiting list to those who can admit participants.
    WaitingList,
    /// Push the active speakers.
    Speakers,
    /// Continue work that exceeded the cost limit of one input.
    Work,
    /// Remind a client to subscribe again after it has created a new receive transport.
    SubscribeReminder(Slot),
}

/// How long a socket may stay open after its peer was removed. Clients close it themselves.
const DETACHED_MS: i64 = 5_000;
/// Minimum interval between updates of breakout rooms.
const BREAKOUT_UPDATE_MS: i64 = 300;
/// Minimum interval between pushes of the waiting list, which is always sent in full.
const WAITING_LIST_MS: i64 = 200;
/// Minimum interval between viewer counts.
const VIEWER_COUNT_MS: i64 = 1_000;

impl Room {
    pub(crate) fn schedule(&mut self, at: Monotonic, deadline: Deadline) {
        self.deadlines.insert((at, deadline));
    }

    /// Runs due timers within the rest of this input's slice.
    pub(super) fn tick(&mut self, step: &mut Step<'_>, slice: &mut Slice) {
        let paused = self.work.paused_until;
        if paused.is_some_and(|until| until > step.monotonic) {
            return;
        }
        self.work.paused_until = None;
        while let Some((at, deadline)) = self.deadlines.first().copied() {
            if at > step.monotonic || self.admission == Admission::Suspended {
                break;
            }
            // Many timers may be due at once, for example after a network outage.
            if self.slice_exhausted(step, slice) {
                self.work.paused_until = Some(step.monotonic.after(SLICE_MS));
                break;
            }
            self.deadlines.pop_first();
            match deadline {
                Deadline::Grace(slot) => self.grace_period_expired(step, slot),
                Deadline::Detached(connection) => {
                    if self.detached.remove(&connection) {
                        step.emit(Output::Close {
                            connection,
                            closing: REMOVED,
                        });
                    }
                }
                Deadline::SessionEmpty => self.keep_alive_expired(step),
                Deadline::BreakoutUpdate => {
                    self.breakout_update_due = false;
                    let parent = self.meeting.family();
                    step.emit(Output::NotifyBreakoutRooms { parent });
                }
                Deadline::Votes => self.push_votes(step),
                Deadline::WaitingList => {
                    if self.waiting_list_pushed.take() == Some(true) {
                        self.waiting_list_changed(step);
                    }
                }
                Deadline::Work => self.continue_work(step),
                Deadline::Speakers => self.flush_speakers(step),
                Deadline::SubscribeReminder(slot) => self.send_reminder(step, slot),
                Deadline::ViewerCount => {
                    self.count_due = false;
                    let seen = |(_, peer): &(Slot, &Peer)| {
                        peer.has_joined() && !peer.permissions.hidden_participant
                    };
                    let count = self.peers.iter().filter(seen).count();
                    let count = u64::try_from(count).unwrap_or(u64::MAX);
                    let viewers = self.peers.sockets(|peer| {
                        peer.has_joined() && peer.profile.view == ViewType::Livestream
                    });
                    step.push(
                        viewers,
                        event::ROOM_PEER_COUNT,
                        &RoomPeerCountResponse { count },
                    );
                }
            }
        }
    }

    /// Ends the session when it has been empty for its keep-alive. The recorded end is exact even
    /// when this runs late.
    fn keep_alive_expired(&mut self, step: &mut Step<'_>) {
        let Some(since) = self.session.empty_since else {
            return;
        };
        let keep_alive_ms = self.meeting.keep_alive_ms;
        let due = since.monotonic.after(keep_alive_ms);
        if due <= step.monotonic {
            self.end_session(step, since.now_ms.saturating_add(keep_alive_ms));
        } else {
            // The keep-alive was changed in the meantime.
            self.schedule(due, Deadline::SessionEmpty);
        }
    }

    /// Schedules a push of the viewer count to the viewers of a livestream.
    pub(crate) fn schedule_viewer_count(&mut self, step: &Step<'_>) {
        if !self.count_due {
            self.count_due = true;
            self.schedule(step.monotonic.after(VIEWER_COUNT_MS), Deadline::ViewerCount);
        }
    }

    /// Pushes the waiting list at once, or at the end of the interval if it was pushed recently.
    pub(crate) fn waiting_list_changed(&mut self, step: &mut Step<'_>) {
        if let Some(changed) = &mut self.waiting_list_pushed {
            *changed = true;
        } else {
            self.waiting_list_pushed = Some(false);
            self.schedule(step.monotonic.after(WAITING_LIST_MS), Deadline::WaitingList);
            self.push_waiting_list(step);
        }
    }

    /// Schedules a participant update for breakout rooms.
    pub(crate) fn schedule_breakout_update(&mut self, step: &Step<'_>) {
        if self.meeting.in_breakout_family() && !self.breakout_update_due {
            self.breakout_update_due = true;
            self.schedule(
                step.monotonic.after(BREAKOUT_UPDATE_MS),
                Deadline::BreakoutUpdate,
            );
        }
    }

    /// Detaches the socket of a removed peer: it receives nothing more and is closed if its client
    /// does not close it.
    pub(crate) fn detach(&mut self, step: &Step<'_>, connection: ConnectionId) {
        self.detached.insert(connection);
        self.schedule(
            step.monotonic.after(DETACHED_MS),
            Deadline::Detached(connection),
        );
    }

    /// Forgets a detached socket. Returns whether it was one.
    pub(crate) fn forget_detached(&mut self, connection: ConnectionId) -> bool {
        self.detached.remove(&connection)
    }
}
