//! The life cycle of a session, and its records.

use bytes::Bytes;
use parlor_protocol::ids::{ParticipantId, SessionId};
use parlor_protocol::signal::socket::preset::PresetUpdates;
use uuid::Uuid;

use super::{Deadline, Moment, Monotonic, Room, Step};
use crate::input::Meeting;
use crate::output::{EntryKind, PeerRecord, Record, SessionRecord};
use crate::peer::{Attendance, PeerState};
use crate::polls::Polls;
use crate::stores::Stores;

/// State of a participant in a session, shared by all of its peers.
#[derive(Debug, Default)]
pub(crate) struct ParticipantState {
    /// Whether the participant was admitted from the waiting room.
    pub(crate) admitted: bool,
    /// Changes to the permissions of the participant's preset.
    pub(crate) patch: PresetUpdates,
}

/// A peer that has left the session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Departed {
    pub(crate) participant: ParticipantId,
    pub(crate) created_ms: i64,
    pub(crate) attendance: Attendance,
}

impl Departed {
    pub(super) fn of(record: &PeerRecord) -> Self {
        Self {
            participant: record.participant,
            created_ms: record.created_ms,
            attendance: Attendance::of(record, Monotonic::default()),
        }
    }
}

/// The live session, or the next one.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) record: SessionRecord,
    pub(crate) live: bool,
    pub(crate) empty_since: Option<Moment>,
    /// Latest end of a stay. A lost peer departs at the end of its grace period, but its stay ended
    /// when it lost its connection.
    pub(crate) left: Moment,
}

impl Room {
    /// Persists the session's current state.
    pub(crate) fn persist_session(&mut self, step: &mut Step<'_>) {
        self.session.record.live = i64::try_from(self.peers.joined_count()).unwrap_or(i64::MAX);
        self.session.record.peak = self.session.record.peak.max(self.session.record.live);
        step.persist(Record::Session(self.session.record.clone()));
    }

    /// Persists an entry that must survive a crash until the session ends; `None` removes it. The
    /// session must be live.
    pub(crate) fn persist_entry(
        &self,
        step: &mut Step<'_>,
        kind: EntryKind,
        key: String,
        value: Option<Bytes>,
    ) {
        let session = self.session.record.id;
        step.persist(Record::Entry {
            session,
            kind,
            key,
            value,
        });
    }

    pub(crate) fn session_id(&self) -> SessionId {
        self.session.record.id
    }

    /// Starts the session if it is not live.
    pub(crate) fn begin_session(&mut self, step: &mut Step<'_>) {
        self.session.empty_since = None;
        if !self.session.live {
            self.session.live = true;
            // Session ids are ordered by start time.
            self.session.record.id = SessionId::from_uuid(step.id());
            self.session.record.started_ms = step.now_ms;
            self.session.record.title.clone_from(&self.meeting.title);
        }
    }

    /// Starts the keep-alive of a session whose last peer has left.
    pub(crate) fn session_became_empty(&mut self) {
        let since = self.session.left;
        if self.session.live && self.session.empty_since.is_none() {
            self.session.empty_since = Some(since);
            let due = since.monotonic.after(self.meeting.keep_alive_ms);
            self.schedule(due, Deadline::SessionEmpty);
        }
    }

    /// Ends the session and discards its shared state, except for persistent chat. The next join
    /// starts a new session.
    pub(crate) fn end_session(&mut self, step: &mut Step<'_>, ended_ms: i64) {
        if !self.session.live {
            return;
        }
        self.session.record.ended_ms = Some(ended_ms);
        self.persist_session(step);
        // The next session must not start before this one has ended.
        step.not_before(ended_ms);
        self.session = Session {
            record: next(step.id(), step.now_ms, &self.meeting),
            live: false,
            empty_since: None,
            left: step.moment(),
        };
        if !self.meeting.persist_chat {
            self.chat.clear();
        }
        self.polls = Polls::default();
        self.stores = Stores::default();
        self.pinned = None;
        self.tracks.speakers.clear();
        self.departed.clear();
        self.work.discard_tasks();
        // Peers in the waiting room are not admitted to the next session.
        self.participants.clear();
        for slot in self.peers.slots(|_| true) {
            let peer = &mut self.peers[slot];
            peer.attendance = None;
            peer.permissions = peer.profile.permissions.clone();
            if peer.state == PeerState::Admitted {
                self.peers.set_state(slot, PeerState::Connected);
            }
        }
    }
}

/// The record of the session that the next join starts.
pub(super) fn next(id: Uuid, now_ms: i64, meeting: &Meeting) -> SessionRecord {
    SessionRecord {
        id: SessionId::from_uuid(id),
        title: meeting.title.clone(),
        started_ms: now_ms,
        ended_ms: None,
        live: 0,
        peak: 0,
        total: 0,
        consumed_ms: 0,
    }
}
