//! A peer, and the collection of all peers of a room.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use bytes::Bytes;
use parlor_protocol::ids::{ParticipantId, PeerId, SessionId};
use parlor_protocol::preset::{MediaPermission, Permissions, RecorderType, ViewType};
use parlor_protocol::signal::socket::room::{self, PeerFlags, StageType};
use prost::Message;

use crate::input::{ConnectionId, PeerProfile};
use crate::limits::Allowance;
use crate::output::{PeerRecord, PeerSnapshot};
use crate::room::{CostCounter, Moment, Monotonic};

/// Identifies a peer within a room. Slots are ordered by arrival and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(u64);

/// State of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerState {
    /// Connected, but not joined.
    Connected,
    /// In the waiting room.
    Waiting,
    /// Admitted from the waiting room, but not yet joined.
    Admitted,
    /// Rejected in the waiting room.
    Rejected,
    /// In the meeting.
    Joined,
}

/// State of a peer's media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MediaState {
    /// The peer has no media.
    Idle,
    /// The peer is creating its transports.
    Preparing,
    /// The transports are connected: others may subscribe to the peer.
    Ready,
}

/// Remaining allowances of a participant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowances {
    pub(crate) openings: Allowance,
    pub(crate) new_peers: Allowance,
    pub(crate) frames: Allowance,
    pub(crate) changes: Allowance,
    pub(crate) reads: Allowance,
    pub(crate) media: Allowance,
    pub(crate) chat: Allowance,
    pub(crate) chat_files: Allowance,
    pub(crate) chat_reads: Allowance,
    /// Size of the participant's stored chat messages, in bytes.
    pub(crate) chat_bytes: u64,
    pub(crate) broadcasts: Allowance,
    pub(crate) store_reads: Allowance,
    pub(crate) store_writes: Allowance,
    pub(crate) store_deletes: Allowance,
    pub(crate) polls: Allowance,
    pub(crate) permission_updates: Allowance,
    pub(crate) breakout_reads: Allowance,
    pub(crate) breakout_changes: Allowance,
    pub(crate) moves: Allowance,
    pub(crate) moved: Allowance,
    pub(crate) kicks: Allowance,
}

/// A peer.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) profile: PeerProfile,
    /// Current permissions: those of the preset with later changes applied.
    pub(crate) permissions: Permissions,
    /// Display name.
    pub(crate) name: String,
    pub(crate) connection: Option<ConnectionId>,
    /// When its socket was lost. `None` while it has one.
    pub(crate) disconnected_at: Option<Monotonic>,
    /// When its new socket opened, until it joins again. `None` otherwise. Its client may assume
    /// that the peer has not joined.
    pub(crate) reopened_at: Option<Monotonic>,
    /// When its connection was first lost since the last join. Its stay ends then, unless it joins
    /// again.
    pub(crate) absent_since: Option<Moment>,
    /// When it was rejected.
    pub(crate) rejected_at: Monotonic,
    /// It was removed, and leaves when its removal task runs.
    pub(crate) removed: bool,
    pub(crate) state: PeerState,
    pub(crate) stage: StageType,
    pub(crate) media: MediaState,
    pub(crate) created_ms: i64,
    /// Attendance in this session. `None` before the first join.
    pub(crate) attendance: Option<Attendance>,
    encoded: EncodedPeer,
}

/// Cached encoding of [`Peer::info`].
#[derive(Debug, Default)]
struct EncodedPeer(OnceLock<Bytes>);

impl Clone for EncodedPeer {
    /// Starts with an empty cache, because a peer is cloned in order to change it.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Attendance of a peer in a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attendance {
    pub(crate) joined_ms: i64,
    pub(crate) entered_ms: i64,
    pub(crate) left_ms: Option<i64>,
    /// Total time of completed stays on the monotonic clock, in milliseconds.
    pub(crate) consumed_ms: i64,
    /// When the current stay began.
    pub(crate) since: Monotonic,
}

impl Attendance {
    /// The recorded attendance; the current stay began at `since`.
    pub(crate) fn of(record: &PeerRecord, since: Monotonic) -> Self {
        Self {
            joined_ms: record.joined_ms,
            entered_ms: record.entered_ms,
            left_ms: record.left_ms,
            consumed_ms: record.consumed_ms,
            since,
        }
    }
}

/// Default display name.
const DEFAULT_NAME: &str = "Participant";

impl Peer {
    pub(crate) fn new(profile: PeerProfile, permissions: Permissions, now_ms: i64) -> Self {
        let name = profile.name.clone().filter(|name| !name.is_empty());
        Self {
            permissions,
            name: name.unwrap_or_else(|| DEFAULT_NAME.to_owned()),
            connection: None,
            disconnected_at: None,
            reopened_at: None,
            absent_since: None,
            rejected_at: Monotonic::default(),
            encoded: EncodedPeer::default(),
            removed: false,
            state: PeerState::Connected,
            stage: StageType::OffStage,
            media: MediaState::Idle,
            created_ms: now_ms,
            attendance: None,
            profile,
        }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.profile.peer
    }

    pub(crate) fn participant_id(&self) -> ParticipantId {
        self.profile.participant
    }

    pub(crate) fn has_joined(&self) -> bool {
        self.state == PeerState::Joined
    }

    /// Whether the call has a stage for this peer (docs/spec/signalling.md 3.3).
    pub(crate) fn has_stage(&self) -> bool {
        let staged = matches!(self.profile.view, ViewType::Webinar | ViewType::Livestream);
        staged || self.permissions.stage_enabled
    }

    /// Whether the peer may go on the stage (docs/spec/signalling.md 3.3).
    pub(crate) fn stage_access(&self) -> MediaPermission {
        let media = &self.permissions.media;
        let produce = [&media.audio, &media.video, &media.screenshare].map(|kind| kind.can_produce);
        self.permissions.stage_access.unwrap_or_else(|| {
            [MediaPermission::Allowed, MediaPermission::CanRequest]
                .into_iter()
                .find(|best| produce.contains(best))
                .unwrap_or(MediaPermission::NotAllowed)
        })
    }

    /// Whether the peer may grant stage access.
    pub(crate) fn accepts_stage(&self) -> bool {
        self.permissions.accept_stage_requests || self.permissions.can_accept_production_requests
    }

    /// Whether the peer watches a livestream without seeing the other viewers.
    pub(crate) fn is_audience(&self) -> bool {
        self.profile.view == ViewType::Livestream
            && self.stage != StageType::OnStage
            && self.stage_access() != MediaPermission::Allowed
            && !self.accepts_stage()
    }

    /// The peer's public information.
    pub(crate) fn info(&self) -> room::Peer {
        let recorder = match self.permissions.recorder_type {
            RecorderType::None => "NONE",
            RecorderType::Recorder => "RECORDER",
            RecorderType::Livestreamer => "LIVESTREAMER",
        };
        room::Peer {
            peer_id: self.id().to_string(),
            user_id: self.participant_id().to_string(),
            display_name: self.name.clone(),
            stage_type: Some(self.stage.into()),
            custom_participant_id: Some(self.profile.custom_id.clone()),
            preset_id: Some(self.profile.preset.to_string()),
            display_picture_url: self.profile.picture.clone(),
            waitlisted: matches!(self.state, PeerState::Waiting | PeerState::Rejected),
            flags: Some(PeerFlags {
                preset_name: self.profile.preset_name.clone(),
                recorder_type: recorder.to_owned(),
                hidden_participant: self.permissions.hidden_participant,
            }),
        }
    }

    /// [`Peer::info`], encoded. Cached until the peer changes, because each roster request needs
    /// it.
    pub(crate) fn encoded(&self) -> Bytes {
        let encode = || self.info().encode_to_vec().into();
        self.encoded.0.get_or_init(encode).clone()
    }

    pub(crate) fn snapshot(&self) -> PeerSnapshot {
        PeerSnapshot {
            peer: self.id(),
            participant: self.participant_id(),
            custom_id: self.profile.custom_id.clone(),
            name: Some(self.name.clone()),
            picture: self.profile.picture.clone(),
            preset: self.profile.preset,
            shown: !self.permissions.hidden_participant && !self.is_audience(),
            token_expires: self.connection.map(|_| self.profile.token_expires),
        }
    }

    /// The record of its attendance.
    pub(crate) fn record(&self, session: SessionId) -> Option<PeerRecord> {
        let attendance = self.attendance?;
        Some(PeerRecord {
            session,
            peer: self.id(),
            participant: self.participant_id(),
            custom_id: self.profile.custom_id.clone(),
            name: Some(self.name.clone()),
            picture: self.profile.picture.clone(),
            preset: self.profile.preset,
            preset_name: self.profile.preset_name.clone(),
            view: self.profile.view,
            created_ms: self.created_ms,
            joined_ms: attendance.joined_ms,
            entered_ms: attendance.entered_ms,
            left_ms: attendance.left_ms,
            consumed_ms: attendance.consumed_ms,
        })
    }

    /// Restores a peer without a socket from its record. Its permissions are known when it
    /// reconnects.
    pub(crate) fn restored(record: &PeerRecord, stage: Option<StageType>, lost: Moment) -> Self {
        // A restored peer may never reconnect, or may have been hidden. It stays hidden until it
        // does, even if its permissions are changed in the meantime.
        let permissions = Permissions {
            hidden_participant: true,
            // Stage status is only recorded for peers with a stage.
            stage_enabled: stage.is_some(),
            ..Permissions::default()
        };
        let profile = PeerProfile {
            peer: record.peer,
            participant: record.participant,
            custom_id: record.custom_id.clone(),
            name: record.name.clone(),
            picture: record.picture.clone(),
            preset: record.preset,
            preset_name: record.preset_name.clone(),
            view: record.view,
            permissions: permissions.clone(),
            // Set when the peer reconnects.
            token_expires: 0,
        };
        let mut peer = Self::new(profile, permissions, record.created_ms);
        peer.state = PeerState::Joined;
        peer.stage = stage.unwrap_or(StageType::OnStage);
        (peer.disconnected_at, peer.absent_since) = (Some(lost.monotonic), Some(lost));
        // Only the record contains how long the peer was joined before.
        let stayed_ms = lost.now_ms.saturating_sub(record.entered_ms);
        peer.attendance = Some(Attendance::of(record, lost.monotonic.before(stayed_ms)));
        peer
    }
}

/// Whether `viewer` can see `subject`.
pub(crate) fn can_see(viewer: &Peer, subject: &Peer) -> bool {
    viewer.has_joined()
        && subject.has_joined()
        && viewer.id() != subject.id()
        && !subject.permissions.hidden_participant
        && (!viewer.is_audience() || subject.stage == StageType::OnStage)
}

/// All peers of a room, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    by_slot: BTreeMap<Slot, Peer>,
    by_id: HashMap<PeerId, Slot>,
    by_participant: HashMap<ParticipantId, Vec<Slot>>,
    by_connection: HashMap<ConnectionId, Slot>,
    /// Kept when a participant leaves, so that reconnecting does not restore allowances.
    allowances: HashMap<ParticipantId, Allowances>,
    next: u64,
    joined: usize,
    /// Cost of peer lookups.
    pub(crate) cost_units: CostCounter,
}

impl Peers {
    pub(crate) fn len(&self) -> usize {
        self.by_slot.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    /// Number of peers that have joined.
    pub(crate) fn joined_count(&self) -> usize {
        self.joined
    }

    pub(crate) fn add(&mut self, peer: Peer) -> Slot {
        let slot = Slot(self.next);
        self.next += 1;
        self.joined += usize::from(peer.has_joined());
        self.by_id.insert(peer.id(), slot);
        self.by_participant
            .entry(peer.participant_id())
            .or_default()
            .push(slot);
        self.by_slot.insert(slot, peer);
        slot
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Peer> {
        let peer = self.by_slot.remove(&slot)?;
        self.by_id.remove(&peer.id());
        if let Some(slots) = self.by_participant.get_mut(&peer.participant_id()) {
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.by_participant.remove(&peer.participant_id());
            }
        }
        self.joined -= usize::from(peer.has_joined());
        if let Some(connection) = peer.connection {
            self.by_connection.remove(&connection);
        }
        Some(peer)
    }

    /// Assigns a socket to a peer. Returns the peer's previous socket.
    pub(crate) fn connect(&mut self, slot: Slot, connection: ConnectionId) -> Option<ConnectionId> {
        let old = self.disconnect(slot);
        if let Some(peer) = self.by_slot.get_mut(&slot) {
            peer.connection = Some(connection);
            peer.disconnected_at = None;
            self.by_connection.insert(connection, slot);
        }
        old
    }

    /// Removes a peer's socket and returns it.
    pub(crate) fn disconnect(&mut self, slot: Slot) -> Option<ConnectionId> {
        let connection = self.by_slot.get_mut(&slot)?.connection.take()?;
        self.by_connection.remove(&connection);
        Some(connection)
    }

    pub(crate) fn set_state(&mut self, slot: Slot, state: PeerState) {
        if let Some(peer) = self.by_slot.get_mut(&slot) {
            self.joined -= usize::from(peer.has_joined());
            peer.state = state;
            peer.encoded = EncodedPeer::default();
            self.joined += usize::from(peer.has_joined());
        }
    }

    pub(crate) fn slot_of(&self, peer: PeerId) -> Option<Slot> {
        self.by_id.get(&peer).copied()
    }

    /// Slots of a participant, in order of arrival.
    pub(crate) fn slots_of(&self, participant: ParticipantId) -> &[Slot] {
        self.by_participant
            .get(&participant)
            .map_or(&[], Vec::as_slice)
    }

    /// Remaining allowances of a participant.
    pub(crate) fn allowances_of(&mut self, participant: ParticipantId) -> &mut Allowances {
        self.allowances.entry(participant).or_default()
    }

    /// Remaining allowances of the peer's participant.
    pub(crate) fn allowances(&mut self, slot: Slot) -> &mut Allowances {
        self.allowances_of(self[slot].participant_id())
    }

    /// Slot of the peer with this textual id.
    pub(crate) fn slot_by_id_text(&self, peer: &str) -> Option<Slot> {
        self.slot_of(peer.parse().ok()?)
    }

    pub(crate) fn slot_by_connection(&self, connection: ConnectionId) -> Option<Slot> {
        self.by_connection.get(&connection).copied()
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Peer> {
        self.by_slot.get(&slot)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Peer)> {
        self.cost_units.add(self.by_slot.len());
        self.by_slot.iter().map(|(slot, peer)| (*slot, peer))
    }

    /// Slots of the peers that match `which`.
    pub(crate) fn slots(&self, which: impl Fn(&Peer) -> bool) -> Vec<Slot> {
        let picked = self.iter().filter(|(_, peer)| which(peer));
        picked.map(|(slot, _)| slot).collect()
    }

    /// Sockets of the peers that match `which`.
    pub(crate) fn sockets(&self, which: impl Fn(&Peer) -> bool) -> Vec<ConnectionId> {
        // The common case while all peers are being removed.
        if self.by_connection.is_empty() {
            return Vec::new();
        }
        if self.by_connection.len() < self.by_slot.len() / 8 {
            self.cost_units.add(self.by_connection.len());
            let mut slots: Vec<Slot> = self.by_connection.values().copied().collect();
            slots.sort_unstable();
            let picked = slots.iter().map(|slot| &self[*slot]);
            let picked = picked.filter(|peer| which(peer));
            return picked.filter_map(|peer| peer.connection).collect();
        }
        self.cost_units.add(self.by_slot.len());
        let picked = self.by_slot.values().filter(|peer| which(peer));
        picked.filter_map(|peer| peer.connection).collect()
    }

    /// Sockets of the peers that can see `subject`.
    pub(crate) fn viewers_of(&self, subject: Slot) -> Vec<ConnectionId> {
        let subject = self.get(subject);
        subject.map_or_else(Vec::new, |subject| {
            self.sockets(|viewer| can_see(viewer, subject))
        })
    }
}

impl std::ops::Index<Slot> for Peers {
    type Output = Peer;

    /// The peer of a slot that was looked up while handling the current input.
    fn index(&self, slot: Slot) -> &Peer {
        &self.by_slot[&slot]
    }
}

impl std::ops::IndexMut<Slot> for Peers {
    fn index_mut(&mut self, slot: Slot) -> &mut Peer {
        let peer = self.by_slot.get_mut(&slot);
        let peer = peer.expect("the slot was found in this input");
        // Mutable access is about to change the peer.
        peer.encoded = EncodedPeer::default();
        peer
    }
}
