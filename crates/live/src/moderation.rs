//! Removing and muting participants, by hosts and by the REST API (docs/spec/signalling.md 6.4;
//! docs/spec/rest.md 2.6).

use parlor_protocol::Source;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parlor_protocol::ids::{MeetingId, ParticipantId, PeerId, SessionId};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::KickAllPeersRequest;
use parlor_protocol::signal::socket::preset::{
    MediaPermissionUpdate, PresetUpdates, StreamPermission, StreamPermissionType,
};
use parlor_protocol::signal::socket::room::{RemoveParticipantsRequest, TransferPeer};

use crate::frame::parse_ids;
use crate::input::ParticipantRef;
use crate::media::MutedBy;
use crate::output::{Answer, Refusal};
use crate::peer::{Peer, PeerState, Slot};
use crate::room::{Admission, Outcome, RequestContext, Room, Step, Task};

/// Whether a peer has requested to join and is not already being removed.
fn may_be_removed(peer: &Peer) -> bool {
    peer.state != PeerState::Connected && !peer.removed
}

/// Builds tasks that mute microphones. Clients may unmute themselves.
fn mute() -> impl Fn(Slot) -> Task {
    let sources: Arc<[Source]> = Arc::new([Source::Microphone]);
    move |slot| Task::MuteTracks {
        slot,
        sources: sources.clone(),
        by: MutedBy::Server,
    }
}

impl Room {
    /// `kick`. Clients send it twice. It must not be answered on the same event, because every
    /// receiver leaves.
    pub(crate) fn kick(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        self.check_can_kick(ctx)?;
        let request: RemoveParticipantsRequest = ctx.message()?;
        let named = parse_ids::<PeerId>(&request.peer_ids);
        let removed = self
            .peers
            .slots(|peer| may_be_removed(peer) && named.contains(&peer.id()));
        // A removed participant has to be admitted again.
        for slot in &removed {
            self.revoke_admission(step, *slot);
        }
        self.remove_peers(step, &removed, event::KICK);
        Ok(())
    }

    /// `kickAll`: removes all peers, including the requester, and ends the session.
    pub(crate) fn kick_all(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        self.check_can_kick(ctx)?;
        let request: KickAllPeersRequest = ctx.message()?;
        // Clients always set the flag. Without the permission it is ignored, so that the rest of
        // the request still works.
        let may = &self.peers[ctx.slot].permissions.connected_meetings;
        if request.propagate_kick_across_rooms && may.can_alter_connected_meetings {
            self.delegate(step, ctx, &request);
        }
        self.remove_all_peers(step);
        Ok(())
    }

    fn check_can_kick(&self, ctx: &RequestContext<'_>) -> Outcome {
        let peer = &self.peers[ctx.slot];
        if peer.has_joined() && peer.permissions.kick_participant {
            Ok(())
        } else {
            Err(Refusal::forbidden("kick_participant"))
        }
    }

    fn remove_all_peers(&mut self, step: &mut Step<'_>) -> usize {
        let all = self.peers.slots(may_be_removed);
        self.remove_and_end_session(step, &all)
    }

    fn remove_and_end_session(&mut self, step: &mut Step<'_>, slots: &[Slot]) -> usize {
        let joined = self.peers.joined_count();
        self.remove_peers(step, slots, event::KICK_ALL);
        self.run_removals(step, [Task::EndSession(self.session_id())]);
        joined
    }

    /// Ends the session after all peers were removed. Peers that have joined in the meantime are
    /// removed as well.
    pub(crate) fn end_once_empty(&mut self, step: &mut Step<'_>, session: SessionId) {
        if !self.session.live || self.session_id() != session {
            return;
        }
        let late = self.peers.slots(Peer::has_joined);
        if late.is_empty() {
            self.end_session(step, step.now_ms);
        } else {
            self.remove_and_end_session(step, &late);
        }
    }

    pub(crate) fn kick_participants(
        &mut self,
        step: &mut Step<'_>,
        participants: &[ParticipantRef],
    ) -> Answer {
        match self.find_present(participants) {
            Ok(kicked) => self.kick_if_present(step, kicked),
            Err(answer) => answer,
        }
    }

    /// Removes all peers of these participants, ignoring those that are not present. Returns the
    /// participants whose peers were removed.
    pub(crate) fn kick_if_present(
        &mut self,
        step: &mut Step<'_>,
        participants: impl IntoIterator<Item = ParticipantId>,
    ) -> Answer {
        let participants: Vec<ParticipantRef> =
            participants.into_iter().map(ParticipantRef::Id).collect();
        let slots = self.present_peers_of(&participants);
        let kicked: BTreeSet<ParticipantId> = slots
            .iter()
            .map(|slot| self.peers[*slot].participant_id())
            .collect();
        self.remove_peers(step, &slots, event::KICK);
        Answer::Participants(kicked.into_iter().collect())
    }

    pub(crate) fn kick_all_peers(&mut self, step: &mut Step<'_>) -> Answer {
        let live = self.session.live;
        let count = self.remove_all_peers(step);
        if live {
            Answer::Count(count)
        } else {
            Answer::NoSession
        }
    }

    /// Removes all peers, including those that have not joined, and rejects new ones.
    pub(crate) fn meeting_deleted(&mut self, step: &mut Step<'_>) -> Answer {
        self.admission = Admission::Deleted;
        let all = self.peers.slots(|peer| !peer.removed);
        Answer::Count(self.remove_and_end_session(step, &all))
    }

    /// Prevents a deleted participant from joining again. Peers that have joined stay, unless
    /// `drop` is set.
    pub(crate) fn participant_deleted(
        &mut self,
        step: &mut Step<'_>,
        participant: ParticipantId,
        drop: bool,
    ) -> Answer {
        let outside = |peer: &Peer| !peer.has_joined() && peer.participant_id() == participant;
        self.deleted_participants.insert(participant);
        let out = self.peers.slots(|peer| {
            peer.participant_id() == participant && !peer.removed && (drop || outside(peer))
        });
        self.remove_peers(step, &out, event::KICK);
        Answer::Done
    }

    /// Mutes the microphones of participants. They may unmute themselves.
    pub(crate) fn mute_participants(
        &mut self,
        step: &mut Step<'_>,
        participants: &[ParticipantRef],
    ) -> Answer {
        let muted = match self.find_present(participants) {
            Ok(muted) => muted,
            Err(answer) => return answer,
        };
        let theirs = |peer: &Peer| peer.has_joined() && muted.contains(&peer.participant_id());
        let tasks = self.peers.slots(theirs).into_iter().map(mute());
        self.run_tasks(step, None, tasks);
        Answer::Participants(muted.into_iter().collect())
    }

    pub(crate) fn mute_all_participants(
        &mut self,
        step: &mut Step<'_>,
        allow_unmute: bool,
    ) -> Answer {
        if !self.session.live {
            return Answer::NoSession;
        }
        let joined = self.peers.slots(Peer::has_joined);
        let mut tasks: Vec<Task> = joined.iter().copied().map(mute()).collect();
        if !allow_unmute {
            let quiet = PresetUpdates {
                media: Some(MediaPermissionUpdate {
                    audio: Some(StreamPermission {
                        can_produce: Some(StreamPermissionType::NotAllowed.into()),
                        can_consume: None,
                    }),
                    ..MediaPermissionUpdate::default()
                }),
                ..PresetUpdates::default()
            };
            let participants: BTreeSet<ParticipantId> = joined
                .iter()
                .map(|slot| self.peers[*slot].participant_id())
                .collect();
            tasks.extend(
                participants
                    .into_iter()
                    .map(|participant| Task::PatchPermissions {
                        participant,
                        patch: Box::new(quiet),
                        by: None,
                    }),
            );
        }
        self.run_tasks(step, None, tasks);
        Answer::Count(self.peers.joined_count())
    }

    /// Sends all peers of these participants to another meeting.
    pub(crate) fn transfer(
        &mut self,
        step: &mut Step<'_>,
        meeting: MeetingId,
        participants: Vec<(ParticipantId, String)>,
    ) -> Answer {
        let mut count = 0;
        for (participant, token) in participants {
            let peers = self.peers.slots_of(participant).iter();
            let joined = peers
                .map(|slot| &self.peers[*slot])
                .filter(|peer| peer.has_joined());
            let to: Vec<_> = joined.filter_map(|peer| peer.connection).collect();
            count += to.len();
            let push = TransferPeer {
                meeting_id: Some(meeting.to_string()),
                auth_token: Some(token),
            };
            step.push(to, event::TRANSFER_PEER, &push);
        }
        Answer::Count(count)
    }

    /// Resolves participants, all of which must be present.
    fn find_present(
        &self,
        participants: &[ParticipantRef],
    ) -> Result<BTreeSet<ParticipantId>, Answer> {
        if !self.session.live {
            return Err(Answer::NoSession);
        }
        let named = self.peers_by_ref(participants);
        let mut found = BTreeSet::new();
        for (participant, slots) in participants.iter().zip(named) {
            if slots.is_empty() {
                let name = match participant {
                    ParticipantRef::Id(id) => id.to_string(),
                    ParticipantRef::CustomId(id) => id.clone(),
                };
                return Err(Answer::NotFound(name));
            }
            found.extend(
                slots
                    .into_iter()
                    .map(|slot| self.peers[slot].participant_id()),
            );
        }
        Ok(found)
    }

    /// The present peers of these participants, each once.
    pub(crate) fn present_peers_of(&self, participants: &[ParticipantRef]) -> Vec<Slot> {
        let slots: BTreeSet<Slot> = self
            .peers_by_ref(participants)
            .into_iter()
            .flatten()
            .collect();
        slots.into_iter().collect()
    }

    /// Returns the joined peers of each participant. Scans the peers at most once, however many
    /// participants are listed.
    fn peers_by_ref(&self, participants: &[ParticipantRef]) -> Vec<Vec<Slot>> {
        let mut custom: HashMap<&str, Vec<Slot>> = HashMap::new();
        for participant in participants {
            if let ParticipantRef::CustomId(id) = participant {
                custom.entry(id).or_default();
            }
        }
        let is_removable = |slot: &Slot| may_be_removed(&self.peers[*slot]);
        if !custom.is_empty() {
            for (slot, peer) in self.peers.iter().filter(|(slot, _)| is_removable(slot)) {
                if let Some(slots) = custom.get_mut(&*peer.profile.custom_id) {
                    slots.push(slot);
                }
            }
        }
        let of = |participant: &ParticipantRef| match participant {
            ParticipantRef::Id(id) => self
                .peers
                .slots_of(*id)
                .iter()
                .copied()
                .filter(is_removable)
                .collect(),
            ParticipantRef::CustomId(id) => custom.get(&**id).cloned().unwrap_or_default(),
        };
        participants.iter().map(of).collect()
    }
}
