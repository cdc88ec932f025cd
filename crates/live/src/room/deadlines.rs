//! What happens in a room as time passes.

use parlor_protocol::preset::ViewType;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::RoomPeerCountResponse;

use super::work::{SLICE_MS, Slice};
use super::{Door, Monotonic, REMOVED, Room, Turn};
use crate::input::ConnectionId;
use crate::output::Output;
use crate::peer::{Peer, Seat};

/// What must happen at a time, if nothing else happens before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// The socket of a peer is gone for too long, or its client has not joined again.
    Grace(Seat),
    /// A socket whose peer was removed has had the time to close by itself.
    Detached(ConnectionId),
    /// The session has been empty for its keep-alive.
    Empty,
    /// Viewers are told how many they are.
    Count,
    /// Breakout rooms are told who is where.
    Connected,
    /// Everybody is told how polls stand.
    Votes,
    /// Those who decide are told who waits.
    WaitingList,
    /// Everybody is told who speaks.
    Speakers,
    /// What was too much for one input goes on.
    Work,
    /// A client that has made a new transport to receive on may have forgotten to subscribe anew.
    Remind(Seat),
}

/// How long a socket may stay open after its peer was removed: clients close it by themselves.
const DETACHED_MS: i64 = 5_000;
/// Breakout rooms are told of those who come and go at most so often.
const CONNECTED_MS: i64 = 300;
/// Those who decide get the list of those who wait at most so often: it is complete each time.
const LIST_MS: i64 = 200;
/// Viewers are counted at most so often.
const COUNT_MS: i64 = 1_000;

impl Room {
    pub(crate) fn at(&mut self, at: Monotonic, deadline: Deadline) {
        self.deadlines.insert((at, deadline));
    }

    /// What is due, in what is left of the slice of this input.
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>, slice: &mut Slice) {
        let paused = self.work.paused_until;
        if paused.is_some_and(|until| until > turn.monotonic) {
            return;
        }
        self.work.paused_until = None;
        while let Some((at, deadline)) = self.deadlines.first().copied() {
            if at > turn.monotonic || self.door == Door::Suspended {
                break;
            }
            // Many may be due at once, after the line of many broke at once.
            if self.is_over_after(turn, slice) {
                self.work.paused_until = Some(turn.monotonic.after(SLICE_MS));
                break;
            }
            self.deadlines.pop_first();
            match deadline {
                Deadline::Grace(seat) => self.grace_over(turn, seat),
                Deadline::Detached(connection) => {
                    if self.detached.remove(&connection) {
                        turn.emit(Output::Close {
                            connection,
                            closing: REMOVED,
                        });
                    }
                }
                Deadline::Empty => self.empty_for_long(turn),
                Deadline::Connected => {
                    self.connected_due = false;
                    let parent = self.meeting.family();
                    turn.emit(Output::TellConnected { parent });
                }
                Deadline::Votes => self.tell_votes(turn),
                Deadline::WaitingList => {
                    if self.list_told.take() == Some(true) {
                        self.waiting_list_changed(turn);
                    }
                }
                Deadline::Work => self.work_on(turn),
                Deadline::Speakers => self.tell_speakers_again(turn),
                Deadline::Remind(seat) => self.remind(turn, seat),
                Deadline::Count => {
                    self.count_due = false;
                    let seen = |(_, peer): &(Seat, &Peer)| {
                        peer.is_inside() && !peer.permissions.hidden_participant
                    };
                    let count = self.peers.iter().filter(seen).count();
                    let count = u64::try_from(count).unwrap_or(u64::MAX);
                    let viewers = self
                        .peers
                        .sockets(|peer| peer.is_inside() && peer.who.view == ViewType::Livestream);
                    turn.push(
                        viewers,
                        event::ROOM_PEER_COUNT,
                        &RoomPeerCountResponse { count },
                    );
                }
            }
        }
    }

    /// The session ends when it has been empty for its keep-alive, however late that is noticed.
    fn empty_for_long(&mut self, turn: &mut Turn<'_>) {
        let Some(since) = self.session.empty_since else {
            return;
        };
        let keep_alive_ms = self.meeting.keep_alive_ms;
        let due = since.monotonic.after(keep_alive_ms);
        if due <= turn.monotonic {
            self.end_session(turn, since.now_ms.saturating_add(keep_alive_ms));
        } else {
            // The keep-alive was changed meanwhile.
            self.at(due, Deadline::Empty);
        }
    }

    /// Viewers of a livestream are told soon how many they are.
    pub(crate) fn count_soon(&mut self, turn: &Turn<'_>) {
        if !self.count_due {
            self.count_due = true;
            self.at(turn.monotonic.after(COUNT_MS), Deadline::Count);
        }
    }

    /// Those who decide are told who waits: at once, and then of all that changes in a while.
    pub(crate) fn waiting_list_changed(&mut self, turn: &mut Turn<'_>) {
        if let Some(changed) = &mut self.list_told {
            *changed = true;
        } else {
            self.list_told = Some(false);
            self.at(turn.monotonic.after(LIST_MS), Deadline::WaitingList);
            self.tell_waiting_list(turn);
        }
    }

    /// Breakout rooms are told soon who has come or gone.
    pub(crate) fn tell_connected_soon(&mut self, turn: &Turn<'_>) {
        if self.meeting.is_connected() && !self.connected_due {
            self.connected_due = true;
            self.at(turn.monotonic.after(CONNECTED_MS), Deadline::Connected);
        }
    }

    /// A socket whose peer was removed: it gets nothing more, and is closed if its client does not.
    pub(crate) fn detach(&mut self, turn: &Turn<'_>, connection: ConnectionId) {
        self.detached.insert(connection);
        self.at(
            turn.monotonic.after(DETACHED_MS),
            Deadline::Detached(connection),
        );
    }

    /// Whether the socket was one of a removed peer.
    pub(crate) fn forget_detached(&mut self, connection: ConnectionId) -> bool {
        self.detached.remove(&connection)
    }
}
