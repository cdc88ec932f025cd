//! Commands from the rest of the server to a shard.

use std::time::Instant;

use parlor_protocol::{MeetingId, PeerId, ProducerId};
use tokio::sync::oneshot;

use super::{Claim, Shard};
use crate::events::Listener;
use crate::sdp::Description;
use crate::{
    ConsumeRequest, Consumed, Direction, Error, Member, Opened, Owner, PeerReport, Produce, Share,
};

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A command to a shard. See the method of [`Media`](crate::Media) with the same name.
pub(crate) enum Command {
    /// Announces an [`Open`](Self::Open) whose offer is still being parsed, and fixes its position
    /// among the commands. Supersedes earlier claims of the same member and direction.
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
        /// Whether the caller will not retry if the limit is reached.
        is_final_attempt: bool,
        offer: Description,
        reply: Reply<Opened>,
    },
    Admit {
        member: Member,
    },
    /// Evicts a transport of lower priority to make room for a transport on another shard. Replies
    /// whether one was evicted.
    Evict {
        requester: (Owner, Member),
        /// Whether the limit on all transports is reached, rather than the limit of the app.
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
    CloseProducer {
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
        wanted: Vec<ConsumeRequest>,
        reply: Reply<Consumed>,
    },
    ApplyAnswer {
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
        layers: Vec<(String, String)>,
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
        client_offline: bool,
    },
    Listen {
        meeting: MeetingId,
        listener: Listener,
    },
    Report {
        member: Member,
        reply: oneshot::Sender<Option<PeerReport>>,
    },
    /// Panics, to test the recovery from a panic.
    #[cfg(test)]
    Panic,
    Stop,
}

impl Shard {
    #[expect(clippy::too_many_lines, reason = "one arm per command")]
    pub(super) fn execute(&mut self, command: Command) {
        let (engine, now) = (&mut self.engine, Instant::now());
        // Failing to send a reply is not an error: the caller has dropped its future.
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
                is_final_attempt,
                offer,
                reply,
            } => {
                let claim = (direction, claim);
                self.open((owner, member), claim, is_final_attempt, &offer, reply);
            }
            Command::Admit { member } => self.admit(member),
            Command::Evict {
                requester,
                is_full,
                reply,
            } => {
                let share = Error::Share(Share::App);
                let error = if is_full { Error::Full } else { share };
                let evicted = engine.evict(now, requester, &error);
                self.publish_stats();
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
            Command::CloseProducer { member, producer } => engine.drop_producer(member, producer),
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
            Command::ApplyAnswer {
                member,
                transport,
                answer,
                reply,
            } => {
                let _ = reply.send(engine.apply_answer(now, member, &transport, &answer));
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
            Command::Prefer { member, layers } => engine.prefer(now, member, &layers),
            Command::Revoke { member, producers } => engine.revoke(member, &producers),
            Command::Pin { meeting, peer } => engine.pin(meeting, peer),
            Command::Close {
                member,
                client_offline,
            } => {
                for direction in [Direction::Publish, Direction::Receive] {
                    self.claims.remove(&(member, direction));
                }
                engine.close(now, member, client_offline);
            }
            Command::Listen { meeting, listener } => engine.listen(meeting, listener),
            Command::Report { member, reply } => {
                let _ = reply.send(engine.report(now, member));
            }
            #[cfg(test)]
            Command::Panic => panic!("requested by a test"),
            Command::Stop => {}
        }
    }

    fn open(
        &mut self,
        (mut owner, member): (Owner, Member),
        (direction, claim): (Direction, u64),
        is_final_attempt: bool,
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
        let is_retryable = matches!(opened, Err(Error::Full | Error::Share(Share::App)));
        if is_final_attempt || !is_retryable {
            self.claims.remove(&(member, direction));
            engine.count_refused(&opened);
        }
        // Update the statistics before the reply, so that they already include the transport.
        self.publish_stats();
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
