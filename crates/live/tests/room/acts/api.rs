//! What the REST API asks for.

use bytes::Bytes;
use parlor_live::{Answer, Command, NewPoll, Person, Source};
use parlor_protocol::ids::ParticipantId;
use parlor_protocol::preset::MediaPermission;
use parlor_protocol::signal::event;

use crate::people::user;
use crate::simulation::Simulation;
use crate::truth::{OPTIONS, Place, PollTruth};
use crate::world::Done;

impl Simulation {
    pub(super) fn api(&mut self, other: usize, b: u8, c: u8) {
        let person = self.truth.peers[other].person;
        let who = user(u8::try_from(person).expect("few people"));
        let done = match c % 16 {
            0..3 => self.api_kicks(person, who),
            3 if b > 200 => self.api_kicks_all(),
            4..8 => self.api_polls(b.is_multiple_of(2)),
            8 => {
                let allow_unmute = b.is_multiple_of(2);
                let inside = self.truth.insiders();
                if self.truth.live {
                    for slot in &inside {
                        self.truth.silence(*slot, &[Source::Microphone]);
                        let person = self.truth.peers[*slot].person;
                        let audio = &mut self.truth.people[person].may.media.audio;
                        if !allow_unmute {
                            *audio = MediaPermission::NotAllowed.into();
                        }
                    }
                }
                self.world.command(Command::MuteAll { allow_unmute }).1
            }
            9 => self.api_removes(person, who, b.is_multiple_of(2)),
            10 => {
                self.truth.active = b > 64;
                self.world.meeting.active = b > 64;
                let meeting = self.world.meeting.clone();
                self.world.command(Command::Changed(meeting)).1
            }
            11 => self.api_transfers(person, who),
            _ => {
                let (event, payload) = (event::TRANSCRIPT, Bytes::new());
                self.world.command(Command::Push { event, payload }).1
            }
        };
        self.settle(&done);
    }

    fn api_kicks(&mut self, person: usize, who: ParticipantId) -> Done {
        let mut those = self.known();
        those.retain(|slot| self.truth.peers[*slot].person == person);
        let (answer, done) = self.world.command(Command::Kick(vec![Person::Id(who)]));
        match answer {
            Answer::NoSession => assert!(!self.truth.live),
            Answer::Nobody(name) => {
                assert!(self.truth.live && those.is_empty() && name == who.to_string());
            }
            Answer::People(people) => {
                assert!(self.truth.live && people == [who] && !those.is_empty());
                self.thrown_out(&those, event::KICK, &done);
            }
            other => panic!("{other:?}"),
        }
        done
    }

    fn api_kicks_all(&mut self) -> Done {
        let expected = if self.truth.live {
            Answer::Count(self.truth.insiders().len())
        } else {
            Answer::NoSession
        };
        let those = self.known();
        let (answer, done) = self.world.command(Command::KickAll);
        assert_eq!(answer, expected);
        self.thrown_out(&those, event::KICK_ALL, &done);
        done
    }

    fn api_polls(&mut self, anonymous: bool) -> Done {
        let new = NewPoll {
            question: "Which?".to_owned(),
            options: (0..OPTIONS).map(|option| format!("{option}")).collect(),
            anonymous,
            hide_votes: false,
        };
        let (answer, done) = self.world.command(Command::Poll(new));
        match answer {
            Answer::Poll(poll) => self.truth.polls.push(PollTruth {
                id: poll.poll_id,
                anonymous,
                votes: Vec::new(),
                told_ms: 0,
            }),
            other => assert_eq!((other, self.truth.live), (Answer::NoSession, false)),
        }
        done
    }

    fn api_removes(&mut self, person: usize, participant: ParticipantId, drop: bool) -> Done {
        let command = Command::Removed { participant, drop };
        let (_, done) = self.world.command(command);
        self.truth.people[person].removed = true;
        let mut those = self.truth.slots_of(person);
        those.retain(|slot| match self.truth.peers[*slot].place {
            Place::Gone => false,
            Place::Inside => drop,
            _ => true,
        });
        self.thrown_out(&those, event::KICK, &done);
        done
    }

    fn api_transfers(&mut self, person: usize, participant: ParticipantId) -> Done {
        let (answer, done) = self.world.command(Command::Transfer {
            meeting: self.world.meeting.id,
            people: vec![(participant, "token".to_owned())],
        });
        let mut here = self.truth.slots_of(person);
        here.retain(|slot| self.truth.inside(*slot) && self.truth.peers[*slot].socket.is_some());
        assert_eq!(answer, Answer::Count(here.len()));
        done
    }
}
