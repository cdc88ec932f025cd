//! Removing and silencing people, by those inside and by the REST API (docs/spec/signalling.md 6.4;
//! docs/spec/rest.md 2.6).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parlor_protocol::ids::{MeetingId, ParticipantId, PeerId, SessionId};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::KickAllPeersRequest;
use parlor_protocol::signal::socket::preset::{
    MediaPermissionUpdate, PresetUpdates, StreamPermission, StreamPermissionType,
};
use parlor_protocol::signal::socket::room::{RemoveParticipantsRequest, TransferPeer};

use crate::frame::named;
use crate::input::Person;
use crate::media::Silencer;
use crate::output::{Answer, Refusal, Source};
use crate::peer::{Peer, Place, Seat};
use crate::room::{Act, Door, Outcome, RequestContext, Room, Turn};

/// Whether a peer has asked to come in, and was not thrown out before.
fn may_be_removed(peer: &Peer) -> bool {
    peer.place != Place::Lobby && !peer.removed
}

/// Turns the microphones of peers off: their clients may turn them on again.
fn mute() -> impl Fn(Seat) -> Act {
    let sources: Arc<[Source]> = Arc::new([Source::Microphone]);
    move |seat| Act::Silence {
        seat,
        sources: sources.clone(),
        by: Silencer::Server,
    }
}

impl Room {
    /// `kick`. Clients send it twice, and must not be answered on the same event: whoever receives
    /// it leaves.
    pub(crate) fn kick(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        self.must_kick(asked)?;
        let request: RemoveParticipantsRequest = asked.message()?;
        let named = named::<PeerId>(&request.peer_ids);
        let victims = self
            .peers
            .seats(|peer| may_be_removed(peer) && named.contains(&peer.id()));
        // Whoever was let in once has to be let in again.
        for seat in &victims {
            self.forget_admission(turn, *seat);
        }
        self.throw_out(turn, &victims, event::KICK);
        Ok(())
    }

    /// `kickAll`: everybody goes, who asked included, and the session ends.
    pub(crate) fn kick_all(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        self.must_kick(asked)?;
        let request: KickAllPeersRequest = asked.message()?;
        // Clients always ask for it, so those who may not are not refused what they may.
        let may = &self.peers[asked.seat].permissions.connected_meetings;
        if request.propagate_kick_across_rooms && may.can_alter_connected_meetings {
            self.delegate(turn, asked, &request);
        }
        self.everybody_out(turn);
        Ok(())
    }

    fn must_kick(&self, asked: &RequestContext<'_>) -> Outcome {
        let peer = &self.peers[asked.seat];
        if peer.is_inside() && peer.permissions.kick_participant {
            Ok(())
        } else {
            Err(Refusal::forbidden("kick_participant"))
        }
    }

    fn everybody_out(&mut self, turn: &mut Turn<'_>) -> usize {
        let everybody = self.peers.seats(may_be_removed);
        self.out_and_over(turn, &everybody)
    }

    fn out_and_over(&mut self, turn: &mut Turn<'_>, seats: &[Seat]) -> usize {
        let inside = self.peers.inside();
        self.throw_out(turn, seats, event::KICK_ALL);
        self.remove_in_order(turn, [Act::EndSession(self.session_id())]);
        inside
    }

    /// Everybody was removed, and the session ends. Whoever has joined meanwhile goes as well.
    pub(crate) fn end_once_empty(&mut self, turn: &mut Turn<'_>, session: SessionId) {
        if !self.session.live || self.session_id() != session {
            return;
        }
        let late = self.peers.seats(Peer::is_inside);
        if late.is_empty() {
            self.end_session(turn, turn.now_ms);
        } else {
            self.out_and_over(turn, &late);
        }
    }

    pub(crate) fn kick_people(&mut self, turn: &mut Turn<'_>, people: &[Person]) -> Answer {
        match self.present_among(people) {
            Ok(kicked) => self.kick_present(turn, kicked),
            Err(answer) => answer,
        }
    }

    /// Throws out those of these people who are here; answers with who that was.
    pub(crate) fn kick_present(
        &mut self,
        turn: &mut Turn<'_>,
        people: impl IntoIterator<Item = ParticipantId>,
    ) -> Answer {
        let people: Vec<Person> = people.into_iter().map(Person::Id).collect();
        let seats = self.here_among(&people);
        let kicked: BTreeSet<ParticipantId> =
            seats.iter().map(|seat| self.peers[*seat].user()).collect();
        self.throw_out(turn, &seats, event::KICK);
        Answer::People(kicked.into_iter().collect())
    }

    pub(crate) fn kick_everybody(&mut self, turn: &mut Turn<'_>) -> Answer {
        let live = self.session.live;
        let count = self.everybody_out(turn);
        if live {
            Answer::Count(count)
        } else {
            Answer::NoSession
        }
    }

    /// The meeting was deleted: everybody goes, those who have not joined too, and nobody comes.
    pub(crate) fn gone_for_good(&mut self, turn: &mut Turn<'_>) -> Answer {
        self.door = Door::Deleted;
        let everybody = self.peers.seats(|peer| !peer.removed);
        Answer::Count(self.out_and_over(turn, &everybody))
    }

    /// A participant was deleted. Whoever is connected stays, unless they are dropped too.
    pub(crate) fn remove_person(
        &mut self,
        turn: &mut Turn<'_>,
        participant: ParticipantId,
        drop: bool,
    ) -> Answer {
        let outside = |peer: &Peer| !peer.is_inside() && peer.user() == participant;
        self.removed.insert(participant);
        let out = self
            .peers
            .seats(|peer| peer.user() == participant && !peer.removed && (drop || outside(peer)));
        self.throw_out(turn, &out, event::KICK);
        Answer::Done
    }

    /// Takes the microphone from people. They may turn it on again.
    pub(crate) fn mute_people(&mut self, turn: &mut Turn<'_>, people: &[Person]) -> Answer {
        let muted = match self.present_among(people) {
            Ok(muted) => muted,
            Err(answer) => return answer,
        };
        let theirs = |peer: &Peer| peer.is_inside() && muted.contains(&peer.user());
        let acts = self.peers.seats(theirs).into_iter().map(mute());
        self.carry_out(turn, None, acts);
        Answer::People(muted.into_iter().collect())
    }

    pub(crate) fn mute_everybody(&mut self, turn: &mut Turn<'_>, allow_unmute: bool) -> Answer {
        if !self.session.live {
            return Answer::NoSession;
        }
        let inside = self.peers.seats(Peer::is_inside);
        let mut acts: Vec<Act> = inside.iter().copied().map(mute()).collect();
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
            let people: BTreeSet<ParticipantId> =
                inside.iter().map(|seat| self.peers[*seat].user()).collect();
            acts.extend(people.into_iter().map(|person| Act::Patch {
                person,
                patch: Box::new(quiet),
                by: None,
            }));
        }
        self.carry_out(turn, None, acts);
        Answer::Count(self.peers.inside())
    }

    /// Sends every client of these people to another meeting.
    pub(crate) fn transfer(
        &mut self,
        turn: &mut Turn<'_>,
        meeting: MeetingId,
        people: Vec<(ParticipantId, String)>,
    ) -> Answer {
        let mut count = 0;
        for (person, token) in people {
            let peers = self.peers.seats_of(person).iter();
            let inside = peers
                .map(|seat| &self.peers[*seat])
                .filter(|peer| peer.is_inside());
            let to: Vec<_> = inside.filter_map(|peer| peer.connection).collect();
            count += to.len();
            let push = TransferPeer {
                meeting_id: Some(meeting.to_string()),
                auth_token: Some(token),
            };
            turn.push(to, event::TRANSFER_PEER, &push);
        }
        Answer::Count(count)
    }

    /// The people of a request, who all have to be here.
    fn present_among(&self, people: &[Person]) -> Result<BTreeSet<ParticipantId>, Answer> {
        if !self.session.live {
            return Err(Answer::NoSession);
        }
        let named = self.named(people);
        let mut found = BTreeSet::new();
        for (person, seats) in people.iter().zip(named) {
            if seats.is_empty() {
                let name = match person {
                    Person::Id(id) => id.to_string(),
                    Person::CustomId(id) => id.clone(),
                };
                return Err(Answer::Nobody(name));
            }
            found.extend(seats.into_iter().map(|seat| self.peers[seat].user()));
        }
        Ok(found)
    }

    /// The peers of those of these people who are here, each once.
    pub(crate) fn here_among(&self, people: &[Person]) -> Vec<Seat> {
        let seats: BTreeSet<Seat> = self.named(people).into_iter().flatten().collect();
        seats.into_iter().collect()
    }

    /// The peers of each of these people, but for those who have not joined. Everybody in the room is
    /// looked at once at most, however many are named.
    fn named(&self, people: &[Person]) -> Vec<Vec<Seat>> {
        let mut custom: HashMap<&str, Vec<Seat>> = HashMap::new();
        for person in people {
            if let Person::CustomId(id) = person {
                custom.entry(id).or_default();
            }
        }
        let here = |seat: &Seat| may_be_removed(&self.peers[*seat]);
        if !custom.is_empty() {
            for (seat, peer) in self.peers.iter().filter(|(seat, _)| here(seat)) {
                if let Some(seats) = custom.get_mut(&*peer.who.custom_id) {
                    seats.push(seat);
                }
            }
        }
        let of = |person: &Person| match person {
            Person::Id(id) => self
                .peers
                .seats_of(*id)
                .iter()
                .copied()
                .filter(here)
                .collect(),
            Person::CustomId(id) => custom.get(&**id).cloned().unwrap_or_default(),
        };
        people.iter().map(of).collect()
    }
}
