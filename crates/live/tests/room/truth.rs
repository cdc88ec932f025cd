//! What should be true, worked out from the contract and not from the room.

mod media;

pub(crate) use media::{MediaTruth, Ready, TrackTruth};

use std::collections::{BTreeMap, BTreeSet};

use parlor_live::{ConnectionId, Newcomer};
use parlor_protocol::preset::{MediaPermission, Permissions, ViewType, WaitingRoomType};
use parlor_protocol::signal::socket::room::StageType;

use crate::world::Now;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Gone,
    Lobby,
    Waiting,
    Invited,
    Rejected,
    Inside,
}

#[derive(Debug)]
pub(crate) struct PeerTruth {
    /// As text, which is asked for all the time.
    pub(crate) id: String,
    pub(crate) who: Newcomer,
    pub(crate) person: usize,
    pub(crate) place: Place,
    pub(crate) socket: Option<ConnectionId>,
    /// When its line broke for the first time since it joined.
    pub(crate) lost: Option<Now>,
    /// When it is given up if it does not come back.
    pub(crate) due_ms: Option<i64>,
    pub(crate) rejected_ms: i64,
    pub(crate) stage: StageType,
    pub(crate) media: MediaTruth,
    /// Has not come back since the server crashed.
    pub(crate) unseen: bool,
    /// When it came and went in this session.
    pub(crate) stays: Vec<StayTruth>,
}

/// From when to when somebody was inside: as it is recorded, and how long it really was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StayTruth {
    pub(crate) entered_ms: i64,
    pub(crate) left_ms: Option<i64>,
    pub(crate) from: i64,
    pub(crate) to: Option<i64>,
}

#[derive(Debug)]
pub(crate) struct PersonTruth {
    /// As text, which is asked for all the time.
    pub(crate) id: String,
    pub(crate) preset: Permissions,
    pub(crate) may: Permissions,
    pub(crate) admitted: bool,
    pub(crate) removed: bool,
}

#[derive(Debug)]
pub(crate) struct MessageTruth {
    pub(crate) id: String,
    pub(crate) author: usize,
    /// Persons; everybody when empty.
    pub(crate) to: BTreeSet<usize>,
    pub(crate) payload: String,
    pub(crate) pinned: bool,
    pub(crate) edited: bool,
    pub(crate) at_ms: u64,
}

#[derive(Debug)]
pub(crate) struct PollTruth {
    pub(crate) id: String,
    pub(crate) anonymous: bool,
    /// Person and option.
    pub(crate) votes: Vec<(usize, usize)>,
    /// From when on everybody knows them.
    pub(crate) told_ms: i64,
}

/// The options of every poll in the simulation.
pub(crate) const OPTIONS: usize = 3;

#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) people: Vec<PersonTruth>,
    pub(crate) peers: Vec<PeerTruth>,
    pub(crate) live: bool,
    pub(crate) peak: usize,
    pub(crate) emptied_ms: Option<i64>,
    pub(crate) messages: Vec<MessageTruth>,
    pub(crate) polls: Vec<PollTruth>,
    /// Store name and key.
    pub(crate) stores: BTreeMap<(String, String), Vec<u8>>,
    pub(crate) active: bool,
    /// Who has spoken, the latest first, and when that changed.
    pub(crate) speakers: Vec<usize>,
    pub(crate) speakers_ms: i64,
}

impl Truth {
    pub(crate) fn of(presets: Vec<Newcomer>, clients: u8) -> Self {
        let mut peers = Vec::new();
        let mut people = Vec::new();
        for (person, preset) in presets.into_iter().enumerate() {
            for client in 0..clients {
                let mut who = preset.clone();
                let n = u8::try_from(person).expect("few people");
                who.peer = crate::people::peer(n, client);
                peers.push(PeerTruth {
                    id: who.peer.to_string(),
                    who,
                    person,
                    place: Place::Gone,
                    socket: None,
                    lost: None,
                    due_ms: None,
                    rejected_ms: 0,
                    stage: StageType::OffStage,
                    media: MediaTruth::default(),
                    unseen: false,
                    stays: Vec::new(),
                });
            }
            people.push(PersonTruth {
                id: preset.participant.to_string(),
                may: preset.permissions.clone(),
                preset: preset.permissions,
                admitted: false,
                removed: false,
            });
        }
        Self {
            people,
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

    pub(crate) fn may(&self, slot: usize) -> &Permissions {
        &self.people[self.peers[slot].person].may
    }

    pub(crate) fn inside(&self, slot: usize) -> bool {
        self.peers[slot].place == Place::Inside
    }

    pub(crate) fn insiders(&self) -> Vec<usize> {
        self.slots().filter(|slot| self.inside(*slot)).collect()
    }

    pub(crate) fn may_join(&self, slot: usize) -> bool {
        let removed = self.people[self.peers[slot].person].removed;
        self.inside(slot) || (self.active && !removed)
    }

    pub(crate) fn decides(&self, slot: usize) -> bool {
        let known = self.inside(slot) && !self.peers[slot].unseen;
        known && self.may(slot).accept_waiting_requests
    }

    pub(crate) fn must_wait(&self, slot: usize) -> bool {
        let peer = &self.peers[slot];
        let may = self.may(slot);
        if self.people[peer.person].admitted
            || peer.place == Place::Invited
            || may.accept_waiting_requests
        {
            return false;
        }
        match may.waiting_room_type {
            WaitingRoomType::Skip => false,
            WaitingRoomType::SkipOnAccept => true,
            WaitingRoomType::OnPrivilegedUserEntry => !self.slots().any(|slot| self.decides(slot)),
        }
    }

    pub(crate) fn has_stage(&self, slot: usize) -> bool {
        let view = self.peers[slot].who.view;
        matches!(view, ViewType::Webinar | ViewType::Livestream) || self.may(slot).stage_enabled
    }

    pub(crate) fn access(&self, slot: usize) -> MediaPermission {
        self.may(slot)
            .stage_access
            .expect("every preset here says it")
    }

    pub(crate) fn accepts_stage(&self, slot: usize) -> bool {
        let may = self.may(slot);
        let may = may.accept_stage_requests || may.can_accept_production_requests;
        may && self.has_stage(slot) && self.inside(slot)
    }

    fn audience(&self, slot: usize) -> bool {
        let may = self.may(slot);
        self.peers[slot].who.view == ViewType::Livestream
            && self.peers[slot].stage != StageType::OnStage
            && self.access(slot) != MediaPermission::Allowed
            && !may.accept_stage_requests
            && !may.can_accept_production_requests
    }

    pub(crate) fn sees(&self, viewer: usize, subject: usize) -> bool {
        viewer != subject
            && self.inside(viewer)
            && self.inside(subject)
            && !self.may(subject).hidden_participant
            && (!self.audience(viewer) || self.peers[subject].stage == StageType::OnStage)
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
        peer.place = Place::Inside;
        peer.stage = stage;
        peer.stays.push(StayTruth {
            entered_ms: now.room_ms,
            left_ms: None,
            from: now.monotonic_ms,
            to: None,
        });
        self.peak = self.peak.max(self.insiders().len());
        self.somebody_decides(slot);
    }

    /// Those who only wait for somebody like this are let in.
    pub(crate) fn somebody_decides(&mut self, slot: usize) {
        if !self.decides(slot) {
            return;
        }
        for waiting in self.slots() {
            let kind = self.may(waiting).waiting_room_type;
            if self.peers[waiting].place == Place::Waiting
                && kind == WaitingRoomType::OnPrivilegedUserEntry
            {
                self.admit(waiting);
            }
        }
    }

    pub(crate) fn admit(&mut self, slot: usize) {
        let person = self.peers[slot].person;
        self.people[person].admitted = true;
        self.peers[slot].place = Place::Invited;
    }

    /// The peer goes to a place outside.
    pub(crate) fn leave(&mut self, slot: usize, to: Place, now: Now) {
        let was_inside = self.inside(slot);
        let peer = &mut self.peers[slot];
        let left = peer.lost.unwrap_or(now);
        peer.place = to;
        peer.media = MediaTruth::default();
        self.speakers.retain(|speaker| *speaker != slot);
        let peer = &mut self.peers[slot];
        (peer.due_ms, peer.unseen, peer.lost) = (None, false, None);
        if to == Place::Gone {
            peer.socket = None;
        }
        if was_inside {
            let stay = peer.stays.last_mut().expect("it had entered");
            (stay.left_ms, stay.to) = (Some(left.room_ms), Some(left.monotonic_ms));
            if self.insiders().is_empty() {
                self.emptied_ms = Some(now.monotonic_ms);
            }
        }
    }

    /// Time has passed.
    pub(crate) fn expire(&mut self, now: Now) {
        for slot in self.slots() {
            let peer = &self.peers[slot];
            if peer.due_ms.is_none_or(|due| due > now.monotonic_ms) {
                continue;
            }
            if peer.socket.is_none() {
                self.leave(slot, Place::Gone, now);
            } else if self.inside(slot) {
                self.leave(slot, Place::Lobby, now);
            }
            self.peers[slot].due_ms = None;
        }
    }

    /// The room said that the session has ended.
    pub(crate) fn session_ended(&mut self, persist_chat: bool) {
        assert!(self.live, "no session was live");
        assert_eq!(
            self.insiders(),
            Vec::<usize>::new(),
            "somebody is still inside"
        );
        self.live = false;
        self.emptied_ms = None;
        self.polls.clear();
        self.stores.clear();
        if !persist_chat {
            self.messages.clear();
        }
        for person in &mut self.people {
            person.may = person.preset.clone();
            person.admitted = false;
        }
        for peer in &mut self.peers {
            peer.stays.clear();
            if peer.place == Place::Invited {
                peer.place = Place::Lobby;
            }
        }
    }

    pub(crate) fn reads(&self, slot: usize, message: &MessageTruth) -> bool {
        message.to.is_empty() || message.to.contains(&self.peers[slot].person)
    }

    /// Who is on the waiting list: people.
    pub(crate) fn waiting(&self) -> BTreeSet<String> {
        let waiting = self
            .peers
            .iter()
            .filter(|peer| peer.place == Place::Waiting);
        waiting
            .map(|peer| self.people[peer.person].id.clone())
            .collect()
    }

    pub(crate) fn slots_of(&self, person: usize) -> Vec<usize> {
        self.slots()
            .filter(|slot| self.peers[*slot].person == person)
            .collect()
    }

    pub(crate) fn user(&self, person: usize) -> String {
        self.people[person].id.clone()
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
