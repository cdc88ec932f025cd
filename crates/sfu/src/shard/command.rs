//! What a thread is asked to do, and that it does it.

use std::time::Instant;

use parlor_protocol::{MeetingId, PeerId, ProducerId};
use tokio::sync::oneshot;

use super::{Claim, Shard};
use crate::events::Listener;
use crate::sdp::Description;
use crate::{Consumed, Direction, Error, Member, Opened, Owner, PeerReport, Produce, Share, Want};

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What a thread is asked to do.
pub(crate) enum Command {
    /// An offer is being read; its place among the orders is here.
    Claim {
        member: Member,
        direction: Direction,
        claim: u64,
    },
    Open {
        owner: Owner,
        member: Member,
        direction: Direction,
        claim: u64,
        /// When there is no room, whoever asks does not try again.
        is_last: bool,
        offer: Description,
        reply: Reply<Opened>,
    },
    /// The member was let into the meeting.
    Admit {
        member: Member,
    },
    /// All transports are taken, or all of the app. One that may go is to make room for a transport on
    /// another thread.
    Evict {
        for_whom: (Owner, Member),
        is_full: bool,
        reply: oneshot::Sender<bool>,
    },
    Produce {
        member: Member,
        produce: Box<Produce>,
        offer: Description,
        reply: Reply<String>,
    },
    Reoffer {
        member: Member,
        offer: Description,
        reply: Reply<String>,
    },
    Drop {
        member: Member,
        producer: ProducerId,
    },
    Pause {
        member: Member,
        producer: ProducerId,
        paused: bool,
    },
    Consume {
        member: Member,
        transport: String,
        wanted: Vec<Want>,
        reply: Reply<Consumed>,
    },
    Answered {
        member: Member,
        transport: String,
        answer: Description,
        reply: Reply<()>,
    },
    CloseConsumers {
        member: Member,
        transport: String,
        mids: Vec<String>,
        offer: Description,
        reply: Reply<String>,
    },
    Prefer {
        member: Member,
        wishes: Vec<(String, String)>,
    },
    Revoke {
        member: Member,
        producers: Vec<ProducerId>,
    },
    Pin {
        meeting: MeetingId,
        peer: Option<PeerId>,
    },
    Close {
        member: Member,
        away: bool,
    },
    Listen {
        meeting: MeetingId,
        listener: Listener,
    },
    Report {
        member: Member,
        reply: oneshot::Sender<Option<PeerReport>>,
    },
    /// Fails as a defect would. Only tests can say so.
    #[cfg(test)]
    Panic,
    Stop,
}

impl Shard {
    pub(super) fn obey(&mut self, command: Command) {
        let (engine, now) = (&mut self.engine, Instant::now());
        // If nobody waits for an answer any more, it is as if it had been lost on the way.
        match command {
            Command::Claim {
                member,
                direction,
                claim,
            } => {
                let claim = Claim {
                    number: claim,
                    admitted: false,
                };
                self.claims.insert((member, direction), claim);
            }
            Command::Open {
                owner,
                member,
                direction,
                claim,
                is_last,
                offer,
                reply,
            } => {
                let claim = (direction, claim);
                self.open((owner, member), claim, is_last, &offer, reply);
            }
            Command::Admit { member } => self.admit(member),
            Command::Evict {
                for_whom,
                is_full,
                reply,
            } => {
                let share = Error::Share(Share::App);
                let error = if is_full { Error::Full } else { share };
                let evicted = engine.evict(now, for_whom, &error);
                self.count();
                let _ = reply.send(evicted);
            }
            Command::Produce {
                member,
                produce,
                offer,
                reply,
            } => {
                let _ = reply.send(engine.produce(now, member, &produce, &offer));
            }
            Command::Reoffer {
                member,
                offer,
                reply,
            } => {
                let _ = reply.send(engine.reoffer(member, &offer));
            }
            Command::Drop { member, producer } => engine.drop_producer(member, producer),
            Command::Pause {
                member,
                producer,
                paused,
            } => engine.pause(now, member, producer, paused),
            Command::Consume {
                member,
                transport,
                wanted,
                reply,
            } => {
                let _ = reply.send(engine.consume(member, &transport, &wanted));
            }
            Command::Answered {
                member,
                transport,
                answer,
                reply,
            } => {
                let _ = reply.send(engine.answered(now, member, &transport, &answer));
            }
            Command::CloseConsumers {
                member,
                transport,
                mids,
                offer,
                reply,
            } => {
                let _ = reply.send(engine.close_consumers(member, &transport, &mids, &offer));
            }
            Command::Prefer { member, wishes } => engine.prefer(now, member, &wishes),
            Command::Revoke { member, producers } => engine.revoke(member, &producers),
            Command::Pin { meeting, peer } => engine.pin(meeting, peer),
            Command::Close { member, away } => {
                for direction in [Direction::Publish, Direction::Receive] {
                    self.claims.remove(&(member, direction));
                }
                engine.close(now, member, away);
            }
            Command::Listen { meeting, listener } => engine.listen(meeting, listener),
            Command::Report { member, reply } => {
                let _ = reply.send(engine.report(now, member));
            }
            #[cfg(test)]
            Command::Panic => panic!("a test wants it"),
            Command::Stop => {}
        }
    }

    fn open(
        &mut self,
        (mut owner, member): (Owner, Member),
        (direction, claim): (Direction, u64),
        is_last: bool,
        offer: &Description,
        reply: Reply<Opened>,
    ) {
        let claimed = self.claims.get(&(member, direction));
        let Some(claimed) = claimed.filter(|claimed| claimed.number == claim) else {
            return;
        };
        owner.admitted |= claimed.admitted;
        if reply.is_closed() {
            self.claims.remove(&(member, direction));
            return;
        }
        let engine = &mut self.engine;
        let opened = engine.open(owner, Instant::now(), member, direction, offer);
        let may_come = matches!(opened, Err(Error::Full | Error::Share(Share::App)));
        if is_last || !may_come {
            self.claims.remove(&(member, direction));
            engine.count_refused(&opened);
        }
        // Whoever reads the answer reads numbers that have the transport in them.
        self.count();
        let _ = reply.send(opened);
    }

    fn admit(&mut self, member: Member) {
        for direction in [Direction::Publish, Direction::Receive] {
            if let Some(claim) = self.claims.get_mut(&(member, direction)) {
                claim.admitted = true;
            }
        }
        self.engine.admit(member);
    }
}
