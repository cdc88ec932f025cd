//! The reference model: the expected state, derived from the specification and independent of the
//! room.

mod media;

pub(crate) use media::{MediaModel, Ready, TrackModel};

use std::collections::{BTreeMap, BTreeSet};

use parlor_live::{ConnectionId, PeerProfile};
use parlor_protocol::preset::{MediaPermission, Permissions, ViewType, WaitingRoomType};
use parlor_protocol::signal::socket::room::StageType;

use crate::world::Now;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerState {
    Absent,
    Lobby,
    Waiting,
    Invited,
    Rejected,
    Inside,
}

#[derive(Debug)]
pub(crate) struct PeerModel {
    /// The id as text, cached because it is read often.
    pub(crate) id: String,
    pub(crate) profile: PeerProfile,
    pub(crate) participant: usize,
    pub(crate) state: PeerState,
    pub(crate) socket: Option<ConnectionId>,
    /// When the connection was lost for the first time since the peer joined.
    pub(crate) lost: Option<Now>,
    /// When the peer is removed if it does not reconnect, in monotonic milliseconds.
    pub(crate) due_ms: Option<i64>,
    pub(crate) rejected_ms: i64,
    pub(crate) stage: StageType,
    pub(crate) media: MediaModel,
    /// Set while the peer has not reconnected after a server crash.
    pub(crate) unseen: bool,
    /// The peer's stays in this session.
    pub(crate) stays: Vec<StayModel>,
}

/// One stay in the session: as recorded in room time, and in monotonic time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StayModel {
    pub(crate) entered_ms: i64,
    pub(crate) left_ms: Option<i64>,
    pub(crate) from: i64,
    pub(crate) to: Option<i64>,
}

#[derive(Debug)]
pub(crate) struct ParticipantModel {
    /// The id as text, cached because it is read often.
    pub(crate) id: String,
    pub(crate) preset: Permissions,
    pub(crate) permissions: Permissions,
    pub(crate) admitted: bool,
    pub(crate) removed: bool,
}

#[derive(Debug)]
pub(crate) struct MessageModel {
    pub(crate) id: String,
    pub(crate) author: usize,
    /// Indices of the receiving participants; empty means all.
    pub(crate) to: BTreeSet<usize>,
    pub(crate) payload: String,
    pub(crate) pinned: bool,
    pub(crate) edited: bool,
    pub(crate) at_ms: u64,
}

#[derive(Debug)]
pub(crate) struct PollModel {
    pub(crate) id: String,
    pub(crate) anonymous: bool,
    /// Participant index and option index of each vote.
    pub(crate) votes: Vec<(usize, usize)>,
    /// When all clients have received the votes.
    pub(crate) visible_ms: i64,
}

/// Number of options of every simulated poll.
pub(crate) const OPTIONS: usize = 3;

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) participants: Vec<ParticipantModel>,
    pub(crate) peers: Vec<PeerModel>,
    pub(crate) live: bool,
    pub(crate) peak: usize,
    pub(crate) emptied_ms: Option<i64>,
    pub(crate) messages: Vec<MessageModel>,
    pub(crate) polls: Vec<PollModel>,
    /// Keyed by store name and key.
    pub(crate) stores: BTreeMap<(String, String), Vec<u8>>,
    pub(crate) active: bool,
    /// Slots of the speakers, most recent first.
    pub(crate) speakers: Vec<usize>,
    pub(crate) speakers_ms: i64,
}

impl Model {
    pub(crate) fn of(presets: Vec<PeerProfile>, clients: u8) -> Self {
        let mut peers = Vec::new();
        let mut participants = Vec::new();
        for (participant, preset) in presets.into_iter().enumerate() {
            for client in 0..clients {
                let mut profile = preset.clone();
                let n = u8::try_from(participant).expect("few participants");
                profile.peer = crate::participants::peer(n, client);
                peers.push(PeerModel {
                    id: profile.peer.to_string(),
                    profile,
                    participant,
                    state: PeerState::Absent,
                    socket: None,
                    lost: None,
                    due_ms: None,
                    rejected_ms: 0,
                    stage: StageType::OffStage,
                    media: MediaModel::default(),
                    unseen: false,
                    stays: Vec::new(),
                });
            }
            participants.push(ParticipantModel {
                id: preset.participant.to_string(),
                permissions: preset.permissions.clone(),
                preset: preset.permissions,
                admitted: false,
                removed: false,
            });
        }
        Self {
            participants,
            peers,
            live: false,
            peak: 0,
            emptied_ms: None,
            messages: Vec::new(),
            polls: Vec::new(),
            stores: BTreeMap::new(),
            active: true,
            speakers: Vec::new(),
            speakers_ms: 0,
        }
    }

    pub(crate) fn slots(&self) -> std::ops::Range<usize> {
        0..self.peers.len()
    }

    pub(crate) fn permissions(&self, slot: usize) -> &Permissions {
        &self.participants[self.peers[slot].participant].permissions
    }

    pub(crate) fn is_inside(&self, slot: usize) -> bool {
        self.peers[slot].state == PeerState::Inside
    }

    pub(crate) fn insiders(&self) -> Vec<usize> {
        self.slots().filter(|slot| self.is_inside(*slot)).collect()
    }

    pub(crate) fn may_join(&self, slot: usize) -> bool {
        let removed = self.participants[self.peers[slot].participant].removed;
        self.is_inside(slot) || (self.active && !removed)
    }

    pub(crate) fn can_admit(&self, slot: usize) -> bool {
        let known = self.is_inside(slot) && !self.peers[slot].unseen;
        known && self.permissions(slot).accept_waiting_requests
    }

    pub(crate) fn must_wait(&self, slot: usize) -> bool {
        let peer = &self.peers[slot];
        let permissions = self.permissions(slot);
        if self.participants[peer.participant].admitted
            || peer.state == PeerState::Invited
            || permissions.accept_waiting_requests
        {
            return false;
        }
        match permissions.waiting_room_type {
            WaitingRoomType::Skip => false,
            WaitingRoomType::SkipOnAccept => true,
            WaitingRoomType::OnPrivilegedUserEntry => {
                !self.slots().any(|slot| self.can_admit(slot))
            }
        }
    }

    pub(crate) fn has_stage(&self, slot: usize) -> bool {
        let view = self.peers[slot].profile.view;
        matches!(view, ViewType::Webinar | ViewType::Livestream)
            || self.permissions(slot).stage_enabled
    }

    pub(crate) fn access(&self, slot: usize) -> MediaPermission {
        self.permissions(slot)
            .stage_access
            .expect("every preset has a stage access")
    }

    pub(crate) fn accepts_stage(&self, slot: usize) -> bool {
        let permissions = self.permissions(slot);
        let allowed =
            permissions.accept_stage_requests || permissions.can_accept_production_requests;
        allowed && self.has_stage(slot) && self.is_inside(slot)
    }

    fn is_audience(&self, slot: usize) -> bool {
        let permissions = self.permissions(slot);
        self.peers[slot].profile.view == ViewType::Livestream
            && self.peers[slot].stage != StageType::OnStage
            && self.access(slot) != MediaPermission::Allowed
            && !permissions.accept_stage_requests
            && !permissions.can_accept_production_requests
    }

    pub(crate) fn can_see(&self, viewer: usize, subject: usize) -> bool {
        viewer != subject
            && self.is_inside(viewer)
            && self.is_inside(subject)
            && !self.permissions(subject).hidden_participant
            && (!self.is_audience(viewer) || self.peers[subject].stage == StageType::OnStage)
    }

    pub(crate) fn enter(&mut self, slot: usize, now: Now) {
        if !self.live {
            self.live = true;
            self.peak = 0;
        }
        self.emptied_ms = None;
        let stage = match (self.has_stage(slot), self.access(slot)) {
            (false, _) => StageType::OnStage,
            (true, MediaPermission::Allowed) => StageType::ApprovedStage,
            (true, _) => StageType::OffStage,
        };
        let peer = &mut self.peers[slot];
        peer.state = PeerState::Inside;
        peer.stage = stage;
        peer.stays.push(StayModel {
            entered_ms: now.room_ms,
            left_ms: None,
            from: now.monotonic_ms,
            to: None,
        });
        self.peak = self.peak.max(self.insiders().len());
        self.admit_for_privileged(slot);
    }

    /// Admits those who wait for a privileged participant.
    pub(crate) fn admit_for_privileged(&mut self, slot: usize) {
        if !self.can_admit(slot) {
            return;
        }
        for waiting in self.slots() {
            let kind = self.permissions(waiting).waiting_room_type;
            if self.peers[waiting].state == PeerState::Waiting
                && kind == WaitingRoomType::OnPrivilegedUserEntry
            {
                self.admit(waiting);
            }
        }
    }

    pub(crate) fn admit(&mut self, slot: usize) {
        let participant = self.peers[slot].participant;
        self.participants[participant].admitted = true;
        self.peers[slot].state = PeerState::Invited;
    }

    /// The peer leaves the call.
    pub(crate) fn leave(&mut self, slot: usize, to: PeerState, now: Now) {
        let was_inside = self.is_inside(slot);
        let peer = &mut self.peers[slot];
        let left = peer.lost.unwrap_or(now);
        peer.state = to;
        peer.media = MediaModel::default();
        self.speakers.retain(|speaker| *speaker != slot);
        let peer = &mut self.peers[slot];
        (peer.due_ms, peer.unseen, peer.lost) = (None, false, None);
        if to == PeerState::Absent {
            peer.socket = None;
        }
        if was_inside {
            let stay = peer.stays.last_mut().expect("the peer had entered");
            (stay.left_ms, stay.to) = (Some(left.room_ms), Some(left.monotonic_ms));
            if self.insiders().is_empty() {
                self.emptied_ms = Some(now.monotonic_ms);
            }
        }
    }

    /// Applies timeouts.
    pub(crate) fn expire(&mut self, now: Now) {
        for slot in self.slots() {
            let peer = &self.peers[slot];
            if peer.due_ms.is_none_or(|due| due > now.monotonic_ms) {
                continue;
            }
            if peer.socket.is_none() {
                self.leave(slot, PeerState::Absent, now);
            } else if self.is_inside(slot) {
                self.leave(slot, PeerState::Lobby, now);
            }
            self.peers[slot].due_ms = None;
        }
    }

    /// The room ended the session.
    pub(crate) fn session_ended(&mut self, persist_chat: bool) {
        assert!(self.live, "no session was live");
        assert_eq!(
            self.insiders(),
            Vec::<usize>::new(),
            "peers are still inside"
        );
        self.live = false;
        self.emptied_ms = None;
        self.polls.clear();
        self.stores.clear();
        if !persist_chat {
            self.messages.clear();
        }
        for participant in &mut self.participants {
            participant.permissions = participant.preset.clone();
            participant.admitted = false;
        }
        for peer in &mut self.peers {
            peer.stays.clear();
            if peer.state == PeerState::Invited {
                peer.state = PeerState::Lobby;
            }
        }
    }

    pub(crate) fn can_read(&self, slot: usize, message: &MessageModel) -> bool {
        message.to.is_empty() || message.to.contains(&self.peers[slot].participant)
    }

    /// Ids of the participants on the waiting list.
    pub(crate) fn waiting(&self) -> BTreeSet<String> {
        let waiting = self
            .peers
            .iter()
            .filter(|peer| peer.state == PeerState::Waiting);
        waiting
            .map(|peer| self.participants[peer.participant].id.clone())
            .collect()
    }

    pub(crate) fn slots_of(&self, participant: usize) -> Vec<usize> {
        self.slots()
            .filter(|slot| self.peers[*slot].participant == participant)
            .collect()
    }

    pub(crate) fn user(&self, participant: usize) -> String {
        self.participants[participant].id.clone()
    }

    pub(crate) fn peer_id(&self, slot: usize) -> String {
        self.peers[slot].id.clone()
    }

    pub(crate) fn consumed_ms(&self, slot: usize) -> i64 {
        let stays = self.peers[slot].stays.iter();
        stays
            .filter_map(|stay| stay.to.map(|to| to - stay.from))
            .sum()
    }
}
