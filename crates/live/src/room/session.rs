//! The life of a session, and what is kept of it.

use bytes::Bytes;
use parlor_protocol::ids::{ParticipantId, SessionId};
use parlor_protocol::signal::socket::preset::PresetUpdates;
use uuid::Uuid;

use super::{Deadline, Moment, Monotonic, Room, Turn};
use crate::input::Meeting;
use crate::output::{EntryKind, PeerRecord, Record, SessionRecord};
use crate::peer::{Place, Stay};
use crate::polls::Polls;
use crate::stores::Stores;

/// What is known of a person in a session, beyond each of their peers.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Somebody let them in.
    pub(crate) admitted: bool,
    /// What was changed about their permissions.
    pub(crate) patch: PresetUpdates,
}

/// What is left of a peer that has left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone {
    pub(crate) participant: ParticipantId,
    pub(crate) created_ms: i64,
    pub(crate) stay: Stay,
}

impl Gone {
    pub(super) fn of(record: &PeerRecord) -> Self {
        Self {
            participant: record.participant,
            created_ms: record.created_ms,
            stay: Stay::of(record, Monotonic::default()),
        }
    }
}

/// The run of the meeting that is live, or the next one.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) record: SessionRecord,
    pub(crate) live: bool,
    pub(crate) empty_since: Option<Moment>,
    /// When the latest stay ended: those whose line broke are given up after others have left.
    pub(crate) left: Moment,
}

impl Room {
    /// The session as it is now goes to the records.
    pub(crate) fn keep_session(&mut self, turn: &mut Turn<'_>) {
        self.session.record.live = i64::try_from(self.peers.inside()).unwrap_or(i64::MAX);
        self.session.record.peak = self.session.record.peak.max(self.session.record.live);
        turn.keep(Record::Session(self.session.record.clone()));
    }

    /// Keeps what must survive a crash until the session ends; `None` removes it. Nothing is kept
    /// before the session has begun.
    pub(crate) fn keep_entry(
        &self,
        turn: &mut Turn<'_>,
        kind: EntryKind,
        key: String,
        value: Option<Bytes>,
    ) {
        let session = self.session.record.id;
        turn.keep(Record::Entry {
            session,
            kind,
            key,
            value,
        });
    }

    pub(crate) fn session_id(&self) -> SessionId {
        self.session.record.id
    }

    /// Somebody is inside: the session is live.
    pub(crate) fn begin_session(&mut self, turn: &mut Turn<'_>) {
        self.session.empty_since = None;
        if !self.session.live {
            self.session.live = true;
            // Ids of sessions are in the order of their starts.
            self.session.record.id = SessionId::from_uuid(turn.id());
            self.session.record.started_ms = turn.now_ms;
            self.session.record.title.clone_from(&self.meeting.title);
        }
    }

    /// Nobody is inside any more, since the last one has left.
    pub(crate) fn session_is_empty(&mut self) {
        let since = self.session.left;
        if self.session.live && self.session.empty_since.is_none() {
            self.session.empty_since = Some(since);
            let due = since.monotonic.after(self.meeting.keep_alive_ms);
            self.at(due, Deadline::Empty);
        }
    }

    /// Ends the session: what was shared in it goes, but messages that persist. The next join
    /// begins another.
    pub(crate) fn end_session(&mut self, turn: &mut Turn<'_>, ended_ms: i64) {
        if !self.session.live {
            return;
        }
        self.session.record.ended_ms = Some(ended_ms);
        self.keep_session(turn);
        // The next one does not begin before.
        turn.not_before(ended_ms);
        self.session = Session {
            record: next(turn.id(), turn.now_ms, &self.meeting),
            live: false,
            empty_since: None,
            left: turn.moment(),
        };
        if !self.meeting.persist_chat {
            self.chat.clear();
        }
        self.polls = Polls::default();
        self.stores = Stores::default();
        self.pinned = None;
        self.tracks.speakers.clear();
        self.gone.clear();
        self.work.forget_acts();
        // Those who wait now were not let in to the next session.
        self.people.clear();
        for seat in self.peers.seats(|_| true) {
            let peer = &mut self.peers[seat];
            peer.stay = None;
            peer.permissions = peer.who.permissions.clone();
            if peer.place == Place::Invited {
                self.peers.put(seat, Place::Lobby);
            }
        }
    }
}

/// The session that the next join begins.
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
