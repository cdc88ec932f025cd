//! Commands of the REST API.

use bytes::Bytes;
use parlor_live::{Answer, Command, NewPoll, ParticipantRef, Source};
use parlor_protocol::ids::ParticipantId;
use parlor_protocol::preset::MediaPermission;
use parlor_protocol::signal::event;

use crate::model::{OPTIONS, PeerState, PollModel};
use crate::participants::user;
use crate::simulation::Simulation;
use crate::world::Effects;

impl Simulation {
    pub(super) fn api(&mut self, other: usize, b: u8, c: u8) {
        let participant = self.model.peers[other].participant;
        let id = user(u8::try_from(participant).expect("few participants"));
        let effects = match c % 16 {
            0..3 => self.api_kick(participant, id),
            3 if b > 200 => self.api_kick_all(),
            4..8 => self.api_poll(b.is_multiple_of(2)),
            8 => {
                let allow_unmute = b.is_multiple_of(2);
                let inside = self.model.insiders();
                if self.model.live {
                    for slot in &inside {
                        self.model.mute(*slot, &[Source::Microphone]);
                        let participant = self.model.peers[*slot].participant;
                        let audio =
                            &mut self.model.participants[participant].permissions.media.audio;
                        if !allow_unmute {
                            *audio = MediaPermission::NotAllowed.into();
                        }
                    }
                }
                self.world.command(Command::MuteAll { allow_unmute }).1
            }
            9 => self.api_remove(participant, id, b.is_multiple_of(2)),
            10 => {
                self.model.active = b > 64;
                self.world.meeting.active = b > 64;
                let meeting = self.world.meeting.clone();
                self.world.command(Command::MeetingUpdated(meeting)).1
            }
            11 => self.api_transfer(participant, id),
            _ => {
                let (event, payload) = (event::TRANSCRIPT, Bytes::new());
                self.world.command(Command::Push { event, payload }).1
            }
        };
        self.settle(&effects);
    }

    fn api_kick(&mut self, participant: usize, id: ParticipantId) -> Effects {
        let mut those = self.kickable();
        those.retain(|slot| self.model.peers[*slot].participant == participant);
        let (answer, effects) = self
            .world
            .command(Command::Kick(vec![ParticipantRef::Id(id)]));
        match answer {
            Answer::NoSession => assert!(!self.model.live),
            Answer::NotFound(name) => {
                assert!(self.model.live && those.is_empty() && name == id.to_string());
            }
            Answer::Participants(participants) => {
                assert!(self.model.live && participants == [id] && !those.is_empty());
                self.check_kicked(&those, event::KICK, &effects);
            }
            other => panic!("{other:?}"),
        }
        effects
    }

    fn api_kick_all(&mut self) -> Effects {
        let expected = if self.model.live {
            Answer::Count(self.model.insiders().len())
        } else {
            Answer::NoSession
        };
        let those = self.kickable();
        let (answer, effects) = self.world.command(Command::KickAll);
        assert_eq!(answer, expected);
        self.check_kicked(&those, event::KICK_ALL, &effects);
        effects
    }

    fn api_poll(&mut self, anonymous: bool) -> Effects {
        let new = NewPoll {
            question: "Which?".to_owned(),
            options: (0..OPTIONS).map(|option| format!("{option}")).collect(),
            anonymous,
            hide_votes: false,
        };
        let (answer, effects) = self.world.command(Command::Poll(new));
        match answer {
            Answer::Poll(poll) => self.model.polls.push(PollModel {
                id: poll.poll_id,
                anonymous,
                votes: Vec::new(),
                visible_ms: 0,
            }),
            other => assert_eq!((other, self.model.live), (Answer::NoSession, false)),
        }
        effects
    }

    fn api_remove(&mut self, participant: usize, id: ParticipantId, drop: bool) -> Effects {
        let command = Command::ParticipantDeleted {
            participant: id,
            drop,
        };
        let (_, effects) = self.world.command(command);
        self.model.participants[participant].removed = true;
        let mut those = self.model.slots_of(participant);
        those.retain(|slot| match self.model.peers[*slot].state {
            PeerState::Absent => false,
            PeerState::Inside => drop,
            _ => true,
        });
        self.check_kicked(&those, event::KICK, &effects);
        effects
    }

    fn api_transfer(&mut self, participant: usize, id: ParticipantId) -> Effects {
        let (answer, effects) = self.world.command(Command::Transfer {
            meeting: self.world.meeting.id,
            participants: vec![(id, "token".to_owned())],
        });
        let mut here = self.model.slots_of(participant);
        here.retain(|slot| self.model.is_inside(*slot) && self.model.peers[*slot].socket.is_some());
        assert_eq!(answer, Answer::Count(here.len()));
        effects
    }
}
