//! The room: its state, its restoration from records, and the dispatch of inputs to their handlers.

mod deadlines;
mod request;
mod session;
mod time;
mod work;

pub(crate) use deadlines::Deadline;
pub(crate) use request::RequestContext;
pub(crate) use session::{Departed, ParticipantState, Session};
pub use time::{InputContext, Monotonic};
pub(crate) use time::{Latest, Moment};
pub(crate) use work::{CostCounter, Task};

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
use crate::events::{self, MAX_FIELDS};
use crate::frame::{self, error_frame};
use crate::input::{Command, ConnectionId, Input, Meeting, PersistedState, Request, Ticket};
use crate::limits::Limits;
use crate::media::{Tracks, media_error};
use crate::output::{
    Answer, BYTES_PER_COST_UNIT, CloseReason, EntryKind, Output, Pace, Record, Refusal,
};
use crate::peer::{Peer, Peers, Slot};
use crate::polls::Polls;
use crate::stores::Stores;
use work::Work;

/// The context of handling one input: the time, the id generator and the outputs.
pub(crate) struct Step<'a> {
    /// Wall-clock time of the records, in Unix milliseconds. Never earlier than the latest time
    /// that the room has used.
    pub(crate) now_ms: i64,
    /// Time for limits, timers and durations.
    pub(crate) monotonic: Monotonic,
    last_id: Uuid,
    ids: &'a mut dyn FnMut(i64) -> Uuid,
    out: &'a mut Vec<Output>,
}

impl Step<'_> {
    pub(crate) fn emit(&mut self, output: Output) {
        self.out.push(output);
    }

    pub(crate) fn persist(&mut self, record: Record) {
        self.emit(Output::Persist(record));
    }

    pub(crate) fn send(&mut self, to: Vec<ConnectionId>, frame: Bytes) {
        if !to.is_empty() {
            let pace = Pace::Now;
            self.emit(Output::Send { to, frame, pace });
        }
    }

    /// Sends a push to all of `to`. It is encoded once.
    pub(crate) fn push(&mut self, to: Vec<ConnectionId>, event: u32, message: &impl Message) {
        if !to.is_empty() {
            self.send(to, frame::frame(event, None, message));
        }
    }

    /// Sends a push that may be delayed briefly ([`Pace::Soon`]).
    pub(crate) fn push_soon(&mut self, to: Vec<ConnectionId>, event: u32, message: &impl Message) {
        if !to.is_empty() {
            let (frame, pace) = (frame::frame(event, None, message), Pace::Soon);
            self.emit(Output::Send { to, frame, pace });
        }
    }
}

/// Whether the room accepts peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Open,
    /// The meeting was deleted.
    Deleted,
    /// The server is shutting down. The room ignores all further inputs.
    Suspended,
}

/// The room of a meeting: its peers and everything they share.
pub struct Room {
    pub(crate) meeting: Meeting,
    pub(crate) limits: Limits,
    pub(crate) session: Session,
    pub(crate) peers: Peers,
    pub(crate) chat: Chat,
    pub(crate) polls: Polls,
    pub(crate) stores: Stores,
    pub(crate) participants: BTreeMap<ParticipantId, ParticipantState>,
    /// Participants deleted from the meeting. They cannot join again.
    pub(crate) deleted_participants: BTreeSet<ParticipantId>,
    pub(crate) pinned: Option<PeerId>,
    pub(crate) tracks: Tracks,
    /// Peers of this session that have left. They may return.
    pub(crate) departed: BTreeMap<PeerId, Departed>,
    latest: Latest,
    /// Work that exceeds the cost limit of one input.
    pub(crate) work: Work,
    /// Cost of the work done so far, without lookups in [`Peers`], which has its own counter.
    pub(crate) cost_units: CostCounter,
    /// Cost of the last input.
    cost: usize,
    /// Number of requests rejected for rate or size, by event and code.
    refused: BTreeMap<(&'static str, i32), u64>,
    deadlines: BTreeSet<(Monotonic, Deadline)>,
    detached: BTreeSet<ConnectionId>,
    count_due: bool,
    breakout_update_due: bool,
    /// `Some` within the push interval of the waiting list; `true` when the list has changed since
    /// the last push.
    waiting_list_pushed: Option<bool>,
    pub(crate) admission: Admission,
}

/// Result of a handler.
pub(crate) type Outcome = Result<(), Refusal>;

/// Close reason for removed peers whose clients do not close the socket themselves.
const REMOVED: CloseReason = CloseReason::Final("you are no longer in this meeting");
/// Close reason when the server shuts down.
const RESTARTING: CloseReason = CloseReason::Reconnect("the server is restarting");

impl Room {
    /// Restores the room of a meeting from its records. Peers that were joined when the server
    /// stopped can reconnect within the grace period.
    pub fn open(
        meeting: Meeting,
        limits: Limits,
        saved: PersistedState,
        context: &mut InputContext<'_>,
    ) -> Self {
        let (mut latest_ms, mut latest_id) = (saved.latest_ms(), Uuid::nil());
        let mut stages = BTreeMap::new();
        let (mut participants, mut polls, mut stores) = (
            BTreeMap::<ParticipantId, ParticipantState>::new(),
            Polls::default(),
            Stores::default(),
        );
        for (kind, key, value) in saved.entries {
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
                    let Ok(participant) = key.parse() else {
                        continue;
                    };
                    let state = participants.entry(participant).or_default();
                    if kind == EntryKind::Admitted {
                        state.admitted = true;
                    } else if let Ok(patch) = PresetUpdates::decode(value.as_slice()) {
                        state.patch = patch;
                    }
                }
            }
        }
        let message_ids = saved.chat.iter().map(|message| message.id);
        let latest_id = message_ids.fold(latest_id, Ord::max);
        // The clock may be behind that of the server that wrote the records.
        let latest_ms = latest_ms.max(time::time_of(latest_id));
        let now_ms = context.now_ms.max(latest_ms.saturating_add(1));
        let now = Moment {
            now_ms,
            monotonic: context.monotonic,
        };
        let live = saved.session.is_some();
        let next = |ids: &mut dyn FnMut(i64) -> Uuid| session::next(ids(now_ms), now_ms, &meeting);
        let record = saved.session.unwrap_or_else(|| next(&mut *context.ids));
        let mut chat = Chat::new(saved.chat, &limits);
        (chat.stored.bytes, chat.stored.full) = (saved.chat_bytes, saved.chat_full);
        let left_ms = saved.peers.iter().filter_map(|peer| peer.left_ms).max();
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
            participants,
            deleted_participants: BTreeSet::new(),
            pinned: None,
            tracks: Tracks::default(),
            departed: BTreeMap::new(),
            work: Work::default(),
            cost_units: CostCounter::default(),
            cost: 0,
            refused: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            detached: BTreeSet::new(),
            count_due: false,
            breakout_update_due: false,
            waiting_list_pushed: None,
            admission: Admission::Open,
        };
        for record in &saved.peers {
            if record.left_ms.is_some() {
                room.departed.insert(record.peer, Departed::of(record));
                continue;
            }
            let lost_ms = saved
                .last_alive_ms
                .clamp(record.entered_ms, now_ms.max(record.entered_ms));
            let lost = now.past(lost_ms, longest_ms);
            let stage = stages.get(&record.peer.to_string()).copied();
            let slot = room.peers.add(Peer::restored(record, stage, lost));
            let until = now.monotonic.after(room.limits.grace_ms);
            room.schedule(until, Deadline::Grace(slot));
        }
        if room.peers.is_empty() {
            room.session_became_empty();
        }
        room
    }

    /// Handles one input and appends the resulting outputs to `out`.
    pub fn handle(&mut self, context: &mut InputContext<'_>, input: Input, out: &mut Vec<Output>) {
        let start = out.len();
        let cost_units = self.cost_units.count() + self.peers.cost_units.count();
        let step = &mut Step {
            now_ms: context.now_ms.max(self.latest.now_ms),
            monotonic: context.monotonic,
            last_id: self.latest.id,
            ids: &mut *context.ids,
            out: &mut *out,
        };
        if self.admission == Admission::Suspended {
            // Sockets are closed, but no peer leaves.
            match input {
                Input::Command { ticket, .. } => {
                    step.emit(Output::Answer(ticket, Answer::NoSession));
                }
                Input::Opened { connection, .. } => step.emit(Output::Close {
                    connection,
                    closing: RESTARTING,
                }),
                _ => {}
            }
            return;
        }
        let mut slice = self.start_slice(step);
        match input {
            Input::Opened {
                connection,
                profile,
            } => self.socket_opened(step, connection, *profile),
            Input::Frame { connection, bytes } => self.frame(step, connection, bytes),
            Input::Closed {
                connection,
                leaving,
            } => self.socket_closed(step, connection, leaving),
            Input::Command { ticket, command } => self.command(step, ticket, command),
            Input::Media { order, outcome } => self.media_answered(step, order, outcome),
            Input::TransportFreed {
                peer,
                publishes,
                transport,
            } => self.transport_freed(step, peer, publishes, &transport),
            Input::ActiveSpeakers(speakers) => self.speakers_updated(step, &speakers),
            Input::Tick => {}
        }
        self.tick(step, &mut slice);
        self.latest = Latest {
            now_ms: step.now_ms,
            id: step.last_id,
        };
        // Records come first: no client may learn of a change before it is persisted.
        out[start..].sort_by_key(|output| !matches!(output, Output::Persist(_)));
        let cost_units = self.cost_units.count() + self.peers.cost_units.count() - cost_units;
        self.cost = cost_units + out[start..].iter().map(Output::cost_units).sum::<usize>();
    }

    /// Cost of the last input, in cost units. One unit is charged for each peer, message, key or
    /// poll visited, each field of a request, each receiver of a frame and each record, and for
    /// every 256 bytes of frames and records. A unit takes about 0.1 µs.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Takes the number of requests rejected for their rate (429) or size (413) since the last
    /// call, by event name and code. The event is `any` when a peer sent too many frames of all
    /// kinds. For metrics.
    pub fn take_refused(&mut self) -> impl Iterator<Item = (&'static str, i32, u64)> + use<> {
        let refused = std::mem::take(&mut self.refused).into_iter();
        refused.map(|((event, code), count)| (event, code, count))
    }

    /// Upper bound of the cost of one input, in cost units. Larger work is done in slices.
    pub fn max_cost(&self) -> usize {
        let limits = &self.limits;
        let peers = self.peers.len().max(1);
        let reads = limits.chat_held + limits.store_keys + limits.polls + limits.reply_bytes / 128;
        // The frame itself, the pushes and the reply that it causes, and its records.
        let frame = MAX_FIELDS + 2 * peers + 3 * limits.frame_bytes / BYTES_PER_COST_UNIT;
        // One slice each for the work that a frame requests, for timers and for a search, with the
        // final item of each.
        3 * limits.slice_cost + frame + reads + 200 * peers
    }

    /// Latest time that the room has recorded, in Unix milliseconds. No record has a later time.
    pub fn latest_ms(&self) -> i64 {
        self.latest.now_ms
    }

    /// Time by which [`Input::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let next = self.deadlines.first();
        let next = next.filter(|_| self.admission != Admission::Suspended);
        let next = next.map(|(at, _)| *at);
        next.map(|at| self.work.paused_until.map_or(at, |until| at.max(until)))
    }

    /// Whether the room may be dropped: no peer is connected and no session is live, or the room
    /// was suspended.
    pub fn is_finished(&self) -> bool {
        let empty = self.peers.is_empty() && self.detached.is_empty();
        self.admission == Admission::Suspended || (empty && !self.session.live)
    }

    fn frame(&mut self, step: &mut Step<'_>, connection: ConnectionId, bytes: Bytes) {
        let Some(slot) = self.peers.slot_by_connection(connection) else {
            return;
        };
        // Malformed frames count towards the rate as well.
        let rate = self.limits.frames;
        let within_rate = self
            .peers
            .allowances(slot)
            .frames
            .take(rate, step.monotonic);
        let size = bytes.len();
        let request = if size > self.limits.frame_bytes {
            Err(Refusal::new(413, "this frame is too large"))
        } else {
            frame::read(bytes, self.limits.id_bytes)
        };
        let request = match request {
            Ok(request) => request,
            Err(refusal) if within_rate => {
                return step.send(vec![connection], error_frame(None, &refusal));
            }
            // A frame that cannot be decoded gets no reply beyond the rate.
            Err(_) => return,
        };
        let id = request.id.as_deref();
        let refused = if !within_rate {
            let refusal = Refusal::new(429, "too many messages: slow down");
            *self.refused.entry(("any", refusal.code)).or_default() += 1;
            error_frame(id, &refusal)
        } else if let Err(refusal) = self.request(step, (slot, connection), &request, size) {
            if matches!(refusal.code, 413 | 429) {
                let name = event::name(request.event).unwrap_or("unknown");
                *self.refused.entry((name, refusal.code)).or_default() += 1;
            }
            // The media plane has its own error event.
            if request.event >> 24 == 3 {
                media_error(request.event, id, &refusal)
            } else {
                error_frame(id, &refusal)
            }
        } else {
            return;
        };
        step.send(vec![connection], refused);
    }

    /// Dispatches a request through the table of events. Events outside the table are rejected,
    /// never ignored.
    fn request(
        &mut self,
        step: &mut Step<'_>,
        (slot, connection): (Slot, ConnectionId),
        request: &Request,
        size: usize,
    ) -> Outcome {
        let Some(rule) = events::rule(request.event) else {
            let number = request.event;
            let name = event::name(number).unwrap_or("unknown");
            return Err(Refusal::new(
                501,
                format!("clients may not send the event {number} ({name})"),
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
        let allowances = self.peers.allowances(slot);
        let upfront = rule.rate.upfront_allowance(allowances, &self.limits);
        if let Some((allowance, rate, refusal)) = upfront {
            allowance.spend(rate, step.monotonic, refusal)?;
        }
        let ctx = RequestContext {
            slot,
            connection,
            request,
            rule,
            max_fields: rule.fields.max(self.peers.len()),
            field_count: Cell::new(0),
        };
        let outcome = (rule.handler)(self, step, &ctx);
        self.cost_units.add(ctx.field_count.get());
        outcome
    }

    fn command(&mut self, step: &mut Step<'_>, ticket: Ticket, command: Command) {
        let answer = match command {
            Command::ListPeers => {
                let is_present = |peer: &Peer| peer.has_joined() && !peer.removed;
                let joined = self.peers.iter().filter(|(_, peer)| is_present(peer));
                let present = joined.map(|(_, peer)| peer.snapshot()).collect();
                let session = self.session.live.then(|| self.session.record.clone());
                Answer::Peers(session, present)
            }
            Command::FindPeers(participants) => {
                let here = self.present_peers_of(&participants);
                let present = here
                    .iter()
                    .map(|slot| self.peers[*slot].snapshot())
                    .collect();
                let session = self.session.live.then(|| self.session.record.clone());
                Answer::Peers(session, present)
            }
            Command::Kick(participants) => self.kick_participants(step, &participants),
            Command::KickIfPresent(participants) => self.kick_if_present(step, participants),
            Command::KickAll => self.kick_all_peers(step),
            Command::Mute(participants) => self.mute_participants(step, &participants),
            Command::MuteAll { allow_unmute } => self.mute_all_participants(step, allow_unmute),
            Command::Poll(poll) => self.create_poll_from_api(step, poll),
            Command::ParticipantDeleted { participant, drop } => {
                self.participant_deleted(step, participant, drop)
            }
            Command::MeetingUpdated(meeting) => {
                // Updates may arrive out of order.
                if meeting.version >= self.meeting.version {
                    self.meeting = meeting;
                    if let Some(since) = self.session.empty_since {
                        let due = since.monotonic.after(self.meeting.keep_alive_ms);
                        self.schedule(due, Deadline::SessionEmpty);
                    }
                }
                Answer::Done
            }
            Command::MeetingDeleted => self.meeting_deleted(step),
            Command::Push { event, payload } => {
                let joined = self.peers.sockets(Peer::has_joined);
                let envelope = parlor_protocol::signal::Envelope {
                    event,
                    id: None,
                    payload: Some(payload),
                    metadata: None,
                };
                step.send(joined, envelope.encode_to_vec().into());
                Answer::Done
            }
            Command::Transfer {
                meeting,
                participants,
            } => self.transfer(step, meeting, participants),
            Command::ChatFull(full) => {
                self.chat.stored.full = full;
                Answer::Done
            }
            Command::Suspend => {
                self.finish_removals(step);
                for connection in self.peers.sockets(|_| true) {
                    step.emit(Output::Close {
                        connection,
                        closing: RESTARTING,
                    });
                }
                for connection in std::mem::take(&mut self.detached) {
                    step.emit(Output::Close {
                        connection,
                        closing: REMOVED,
                    });
                }
                self.admission = Admission::Suspended;
                Answer::Done
            }
        };
        step.emit(Output::Answer(ticket, answer));
    }
}
