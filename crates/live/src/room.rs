//! The way of an input to its handler.

mod deadlines;
mod request;
mod session;
mod time;
mod work;

pub(crate) use deadlines::Deadline;
pub(crate) use request::RequestContext;
pub(crate) use session::{Gone, Session, Standing};
pub use time::{At, Monotonic};
pub(crate) use time::{Latest, Moment};
pub(crate) use work::{Act, Steps};

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parlor_protocol::ids::{ParticipantId, PeerId};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::preset::PresetUpdates;
use parlor_protocol::signal::socket::room::StageType;
use prost::Message;
use uuid::Uuid;

use crate::chat::Chat;
use crate::events::{self, MOST_FIELDS};
use crate::frame::{self, error_frame};
use crate::input::{Command, ConnectionId, Input, Meeting, Past, Request, Ticket};
use crate::limits::Limits;
use crate::media::{Tracks, media_error};
use crate::output::{Answer, Closing, EntryKind, Output, Pace, Record, Refusal, STEP_BYTES};
use crate::peer::{Peer, Peers, Seat};
use crate::polls::Polls;
use crate::stores::Stores;
use work::Work;

/// One input being handled: the time, ids, and what is to be done.
pub(crate) struct Turn<'a> {
    /// The time of the records, Unix milliseconds: what the clock shows, or the latest time that the
    /// room has given, whichever is later.
    pub(crate) now_ms: i64,
    /// The time that limits, timers and durations go by.
    pub(crate) monotonic: Monotonic,
    last_id: Uuid,
    ids: &'a mut dyn FnMut(i64) -> Uuid,
    out: &'a mut Vec<Output>,
}

impl Turn<'_> {
    pub(crate) fn emit(&mut self, output: Output) {
        self.out.push(output);
    }

    pub(crate) fn keep(&mut self, record: Record) {
        self.emit(Output::Keep(record));
    }

    pub(crate) fn send(&mut self, to: Vec<ConnectionId>, frame: Bytes) {
        if !to.is_empty() {
            let pace = Pace::Now;
            self.emit(Output::Send { to, frame, pace });
        }
    }

    /// Sends a push: encoded once, for all of them.
    pub(crate) fn push(&mut self, to: Vec<ConnectionId>, event: u32, message: &impl Message) {
        if !to.is_empty() {
            self.send(to, frame::frame(event, None, message));
        }
    }

    /// Sends a push that may wait a little.
    pub(crate) fn push_soon(&mut self, to: Vec<ConnectionId>, event: u32, message: &impl Message) {
        if !to.is_empty() {
            let (frame, pace) = (frame::frame(event, None, message), Pace::Soon);
            self.emit(Output::Send { to, frame, pace });
        }
    }
}

/// Whether a room takes anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// The meeting was deleted.
    Deleted,
    /// The server stops: nothing happens in the room any more.
    Suspended,
}

/// A meeting with people in it.
pub struct Room {
    pub(crate) meeting: Meeting,
    pub(crate) limits: Limits,
    pub(crate) session: Session,
    pub(crate) peers: Peers,
    pub(crate) chat: Chat,
    pub(crate) polls: Polls,
    pub(crate) stores: Stores,
    pub(crate) people: BTreeMap<ParticipantId, Standing>,
    /// Deleted from the meeting: they stay out once they have left.
    pub(crate) removed: BTreeSet<ParticipantId>,
    pub(crate) pinned: Option<PeerId>,
    pub(crate) tracks: Tracks,
    /// Peers of this session that have left, in case they come back.
    pub(crate) gone: BTreeMap<PeerId, Gone>,
    latest: Latest,
    /// What was too much for one input.
    pub(crate) work: Work,
    /// How much was looked at, peers apart.
    pub(crate) steps: Steps,
    /// How much the last input has cost.
    cost: usize,
    /// What was refused because it was too often or too much, by event and code.
    refused: BTreeMap<(&'static str, i32), u64>,
    deadlines: BTreeSet<(Monotonic, Deadline)>,
    detached: BTreeSet<ConnectionId>,
    count_due: bool,
    connected_due: bool,
    /// The list of those who wait was told a moment ago; and whether it has changed since.
    list_told: Option<bool>,
    pub(crate) door: Door,
}

/// What can be refused.
pub(crate) type Outcome = Result<(), Refusal>;

/// Why sockets close whose peers were thrown out, if their clients do not close them.
const REMOVED: Closing = Closing::Final("you are no longer in this meeting");
/// Why sockets close when the server stops.
const RESTARTS: Closing = Closing::Again("the server restarts");
impl Room {
    /// Opens the room of a meeting as the records left it. Peers that were inside when the server
    /// stopped have the grace period to come back.
    pub fn open(meeting: Meeting, limits: Limits, past: Past, at: &mut At<'_>) -> Self {
        let (mut latest_ms, mut latest_id) = (past.latest_ms(), Uuid::nil());
        let mut stages = BTreeMap::new();
        let (mut people, mut polls, mut stores) = (
            BTreeMap::<ParticipantId, Standing>::new(),
            Polls::default(),
            Stores::default(),
        );
        for (kind, key, value) in past.entries {
            match kind {
                EntryKind::Poll => {
                    latest_id = latest_id.max(polls.restore(&value).unwrap_or_default());
                }
                EntryKind::Store => {
                    latest_ms = latest_ms.max(stores.restore(&key, &value).unwrap_or_default());
                }
                EntryKind::Stage => {
                    let stage = value.first().copied().unwrap_or_default();
                    let stage = StageType::try_from(i32::from(stage));
                    stages.insert(key, stage.unwrap_or(StageType::OffStage));
                }
                EntryKind::Admitted | EntryKind::Permissions => {
                    let Ok(person) = key.parse() else { continue };
                    let standing = people.entry(person).or_default();
                    if kind == EntryKind::Admitted {
                        standing.admitted = true;
                    } else if let Ok(patch) = PresetUpdates::decode(value.as_slice()) {
                        standing.patch = patch;
                    }
                }
            }
        }
        let said = past.chat.iter().map(|message| message.id);
        let latest_id = said.fold(latest_id, Ord::max);
        // The clock may be behind that of the server which has written the records.
        let latest_ms = latest_ms.max(time::time_of(latest_id));
        let now_ms = at.now_ms.max(latest_ms.saturating_add(1));
        let now = Moment {
            now_ms,
            monotonic: at.monotonic,
        };
        let live = past.session.is_some();
        let next = |ids: &mut dyn FnMut(i64) -> Uuid| session::next(ids(now_ms), now_ms, &meeting);
        let record = past.session.unwrap_or_else(|| next(&mut *at.ids));
        let mut chat = Chat::new(past.chat, &limits);
        (chat.stored.bytes, chat.stored.full) = (past.chat_bytes, past.chat_full);
        let left_ms = past.peers.iter().filter_map(|peer| peer.left_ms).max();
        let left_ms = left_ms.unwrap_or(record.started_ms);
        let longest_ms = limits.grace_ms.max(meeting.keep_alive_ms);
        let mut room = Self {
            chat,
            latest: Latest {
                now_ms,
                id: latest_id.max(record.id.uuid()),
            },
            session: Session {
                record,
                live,
                empty_since: None,
                left: now.past(left_ms, longest_ms),
            },
            meeting,
            limits,
            peers: Peers::default(),
            polls,
            stores,
            people,
            removed: BTreeSet::new(),
            pinned: None,
            tracks: Tracks::default(),
            gone: BTreeMap::new(),
            work: Work::default(),
            steps: Steps::default(),
            cost: 0,
            refused: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            detached: BTreeSet::new(),
            count_due: false,
            connected_due: false,
            list_told: None,
            door: Door::Open,
        };
        for record in &past.peers {
            if record.left_ms.is_some() {
                room.gone.insert(record.peer, Gone::of(record));
                continue;
            }
            let lost_ms = past
                .last_alive_ms
                .clamp(record.entered_ms, now_ms.max(record.entered_ms));
            let lost = now.past(lost_ms, longest_ms);
            let stage = stages.get(&record.peer.to_string()).copied();
            let seat = room.peers.add(Peer::restored(record, stage, lost));
            let until = now.monotonic.after(room.limits.grace_ms);
            room.at(until, Deadline::Grace(seat));
        }
        if room.peers.is_empty() {
            room.session_is_empty();
        }
        room
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, at: &mut At<'_>, input: Input, out: &mut Vec<Output>) {
        let begun = out.len();
        let steps = self.steps.count() + self.peers.steps.count();
        let turn = &mut Turn {
            now_ms: at.now_ms.max(self.latest.now_ms),
            monotonic: at.monotonic,
            last_id: self.latest.id,
            ids: &mut *at.ids,
            out: &mut *out,
        };
        if self.door == Door::Suspended {
            // Sockets close now, and nobody has left.
            match input {
                Input::Command { ticket, .. } => {
                    turn.emit(Output::Answer(ticket, Answer::NoSession));
                }
                Input::Opened { connection, .. } => turn.emit(Output::Close {
                    connection,
                    closing: RESTARTS,
                }),
                _ => {}
            }
            return;
        }
        let mut slice = self.slice(turn);
        match input {
            Input::Opened { connection, who } => self.opened(turn, connection, *who),
            Input::Frame { connection, bytes } => self.frame(turn, connection, bytes),
            Input::Closed {
                connection,
                goodbye,
            } => self.closed(turn, connection, goodbye),
            Input::Command { ticket, command } => self.command(turn, ticket, command),
            Input::Media { order, outcome } => self.media_answered(turn, order, outcome),
            Input::Freed {
                peer,
                publishes,
                transport,
            } => self.transport_freed(turn, peer, publishes, &transport),
            Input::Speaking(speakers) => self.spoken(turn, &speakers),
            Input::Tick => {}
        }
        self.tick(turn, &mut slice);
        self.latest = Latest {
            now_ms: turn.now_ms,
            id: turn.last_id,
        };
        // Nobody is told of a change before it is kept, in whatever order handlers come to it.
        out[begun..].sort_by_key(|output| !matches!(output, Output::Keep(_)));
        let steps = self.steps.count() + self.peers.steps.count() - steps;
        self.cost = steps + out[begun..].iter().map(Output::steps).sum::<usize>();
    }

    /// What the last input has cost, in steps: each peer, message, key or poll that was looked at is
    /// one, and so are each field of a request, each receiver of a frame, each record, and each 256
    /// bytes of these. A step takes about a tenth of a microsecond.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// What was refused since this was asked last, because it came too often (429) or was too much
    /// (413): the name of the event, or `any` where frames of all kinds were too many, the code, and
    /// how often. For metrics.
    pub fn take_refused(&mut self) -> impl Iterator<Item = (&'static str, i32, u64)> + use<> {
        let refused = std::mem::take(&mut self.refused).into_iter();
        refused.map(|((event, code), count)| (event, code, count))
    }

    /// What an input may cost at most, in these steps. More is done in slices.
    pub fn most_cost(&self) -> usize {
        let limits = &self.limits;
        let peers = self.peers.len().max(1);
        let reads = limits.chat_held + limits.store_keys + limits.polls + limits.reply_bytes / 128;
        // A frame, and what it becomes for others, for who sent it, and in the records.
        let frame = MOST_FIELDS + 2 * peers + 3 * limits.frame_bytes / STEP_BYTES;
        // What a frame asks for, timers and a search each get a slice, with what they end in.
        3 * limits.slice_steps + frame + reads + 200 * peers
    }

    /// The time of what the room has recorded last, Unix milliseconds: no record has a later one.
    pub fn latest_ms(&self) -> i64 {
        self.latest.now_ms
    }

    /// When to call with [`Input::Tick`] at the latest.
    pub fn wake_at(&self) -> Option<Monotonic> {
        let next = self.deadlines.first();
        let next = next.filter(|_| self.door != Door::Suspended);
        let next = next.map(|(at, _)| *at);
        next.map(|at| self.work.paused_until.map_or(at, |until| at.max(until)))
    }

    /// Nobody is connected and no session is live, or the room was suspended: it may be dropped.
    pub fn is_over(&self) -> bool {
        let empty = self.peers.is_empty() && self.detached.is_empty();
        self.door == Door::Suspended || (empty && !self.session.live)
    }

    fn frame(&mut self, turn: &mut Turn<'_>, connection: ConnectionId, bytes: Bytes) {
        let Some(seat) = self.peers.seat_at(connection) else {
            return;
        };
        // Whatever it holds, a frame counts.
        let rate = self.limits.frames;
        let in_time = self.peers.left(seat).frames.take(rate, turn.monotonic);
        let size = bytes.len();
        let request = if size > self.limits.frame_bytes {
            Err(Refusal::new(413, "this frame is too large"))
        } else {
            frame::read(bytes, self.limits.id_bytes)
        };
        let request = match request {
            Ok(request) => request,
            Err(refusal) if in_time => {
                return turn.send(vec![connection], error_frame(None, &refusal));
            }
            // Nobody waits for an answer to what cannot be read.
            Err(_) => return,
        };
        let id = request.id.as_deref();
        let refused = if !in_time {
            let refusal = Refusal::new(429, "too many messages: slow down");
            *self.refused.entry(("any", refusal.code)).or_default() += 1;
            error_frame(id, &refusal)
        } else if let Err(refusal) = self.request(turn, (seat, connection), &request, size) {
            if matches!(refusal.code, 413 | 429) {
                let name = event::name(request.event).unwrap_or("unknown");
                *self.refused.entry((name, refusal.code)).or_default() += 1;
            }
            // The media plane has an error of its own.
            if request.event >> 24 == 3 {
                media_error(request.event, id, &refusal)
            } else {
                error_frame(id, &refusal)
            }
        } else {
            return;
        };
        turn.send(vec![connection], refused);
    }

    /// Every request goes through the table of events. What is not in it is refused, never ignored.
    fn request(
        &mut self,
        turn: &mut Turn<'_>,
        (seat, connection): (Seat, ConnectionId),
        request: &Request,
        size: usize,
    ) -> Outcome {
        let Some(rule) = events::rule(request.event) else {
            let number = request.event;
            let name = event::name(number).unwrap_or("unknown");
            return Err(Refusal::new(
                501,
                format!("this server does not take the event {number} ({name}) from clients"),
            ));
        };
        if size > rule.frame_bytes {
            return Err(Refusal::new(
                413,
                format!(
                    "a frame with this event has at most {} bytes",
                    rule.frame_bytes
                ),
            ));
        }
        let left = self.peers.left(seat);
        if let Some((left, rate, refusal)) = rule.rate.spent_first(left, &self.limits) {
            left.spend(rate, turn.monotonic, refusal)?;
        }
        let asked = RequestContext {
            seat,
            connection,
            request,
            rule,
            elements: rule.elements.most(self.peers.len()),
            fields: Cell::new(0),
        };
        let outcome = (rule.handler)(self, turn, &asked);
        self.steps.add(asked.fields.get());
        outcome
    }

    fn command(&mut self, turn: &mut Turn<'_>, ticket: Ticket, command: Command) {
        let answer = match command {
            Command::Who => {
                let here = |peer: &Peer| peer.is_inside() && !peer.removed;
                let inside = self.peers.iter().filter(|(_, peer)| here(peer));
                let present = inside.map(|(_, peer)| peer.present()).collect();
                let session = self.session.live.then(|| self.session.record.clone());
                Answer::Who(session, present)
            }
            Command::Present(people) => {
                let here = self.here_among(&people);
                let present = here
                    .iter()
                    .map(|seat| self.peers[*seat].present())
                    .collect();
                let session = self.session.live.then(|| self.session.record.clone());
                Answer::Who(session, present)
            }
            Command::Kick(people) => self.kick_people(turn, &people),
            Command::KickPresent(people) => self.kick_present(turn, people),
            Command::KickAll => self.kick_everybody(turn),
            Command::Mute(people) => self.mute_people(turn, &people),
            Command::MuteAll { allow_unmute } => self.mute_everybody(turn, allow_unmute),
            Command::Poll(poll) => self.poll_from_outside(turn, poll),
            Command::Removed { participant, drop } => self.remove_person(turn, participant, drop),
            Command::Changed(meeting) => {
                // Two changes may be told in the other order.
                if meeting.version >= self.meeting.version {
                    self.meeting = meeting;
                    if let Some(since) = self.session.empty_since {
                        let due = since.monotonic.after(self.meeting.keep_alive_ms);
                        self.at(due, Deadline::Empty);
                    }
                }
                Answer::Done
            }
            Command::Gone => self.gone_for_good(turn),
            Command::Push { event, payload } => {
                let inside = self.peers.sockets(Peer::is_inside);
                let envelope = parlor_protocol::signal::Envelope {
                    event,
                    id: None,
                    payload: Some(payload),
                    metadata: None,
                };
                turn.send(inside, envelope.encode_to_vec().into());
                Answer::Done
            }
            Command::Transfer { meeting, people } => self.transfer(turn, meeting, people),
            Command::ChatFull(full) => {
                self.chat.stored.full = full;
                Answer::Done
            }
            Command::Suspend => {
                self.finish_removals(turn);
                for connection in self.peers.sockets(|_| true) {
                    turn.emit(Output::Close {
                        connection,
                        closing: RESTARTS,
                    });
                }
                for connection in std::mem::take(&mut self.detached) {
                    turn.emit(Output::Close {
                        connection,
                        closing: REMOVED,
                    });
                }
                self.door = Door::Suspended;
                Answer::Done
            }
        };
        turn.emit(Output::Answer(ticket, answer));
    }
}
