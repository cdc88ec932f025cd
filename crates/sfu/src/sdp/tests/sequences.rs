//! A client that receives and our side of it, and all that may happen between them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::client::{Client, Known};
use super::{check, here, read};
use crate::sdp::{Codec, Direction, Downlink, Receiving};

pub(super) fn stream(codec: Codec, ssrc: u32) -> Downlink {
    Downlink {
        codec,
        stream: "stream".to_owned(),
        track: format!("track{ssrc}"),
        ssrc,
        rtx: Some(ssrc + 1),
    }
}

/// A client and our side of it.
pub(super) struct World {
    pub(super) client: Client,
    pub(super) receiving: Receiving,
    pub(super) ssrc: u32,
}

impl World {
    pub(super) fn new() -> Self {
        let mut client = Client::new();
        let lines = client.lines.clone();
        let first = client.describe("actpass", &lines);
        let (receiving, answer) = Receiving::accept(&read(&first), &here(), 512).unwrap();
        client.answered(lines, &answer);
        Self {
            client,
            receiving,
            ssrc: 0,
        }
    }

    pub(super) fn add(&mut self, codecs: &[Codec]) -> Vec<String> {
        let streams = codecs.iter().map(|codec| {
            self.ssrc += 2;
            stream(*codec, self.ssrc)
        });
        self.receiving.add(streams.collect()).unwrap()
    }

    /// An offer of ours that the client takes.
    pub(super) fn offered(&mut self) -> (String, Vec<Known>) {
        let offer = self.receiving.offer(&here());
        let lines = self.client.offered(&offer);
        (offer, lines)
    }

    /// An offer and the answer to it.
    pub(super) fn renegotiate(&mut self) -> Vec<String> {
        let (_, lines) = self.offered();
        self.client.lines = lines.clone();
        let answer = self.client.describe("active", &lines);
        self.receiving.answered(&read(&answer)).unwrap()
    }

    /// The client stops these lines, as far as it knows them.
    pub(super) fn close(&mut self, mids: &[String]) -> Vec<String> {
        let mut lines = self.client.lines.clone();
        for line in &mut lines {
            if mids.contains(&line.mid) {
                line.live = false;
                line.direction = Direction::Inactive;
            }
        }
        let offer = self.client.describe("actpass", &lines);
        let closed = self.receiving.close(&read(&offer), mids, &here()).unwrap();
        self.client.answered(lines, &closed.answer);
        closed.gone
    }

    pub(super) fn knows(&self, mid: &str) -> bool {
        self.client.lines.iter().any(|line| line.mid == mid)
    }
}

/// What may happen to a transport.
#[derive(Debug, Clone)]
enum Act {
    /// Streams begin. Then the offer gets lost, or only the answer, or neither.
    Add(Vec<bool>, Lost),
    /// The client closes some.
    Close(Vec<prop::sample::Index>),
    /// The server stops one.
    Withdraw(prop::sample::Index),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Offer,
    Answer,
    Nothing,
}

fn act() -> impl Strategy<Value = Act> {
    let lost = prop_oneof![Just(Lost::Offer), Just(Lost::Answer), Just(Lost::Nothing)];
    prop_oneof![
        (proptest::collection::vec(any::<bool>(), 0..4), lost)
            .prop_map(|(kinds, lost)| Act::Add(kinds, lost)),
        proptest::collection::vec(any::<prop::sample::Index>(), 1..4).prop_map(Act::Close),
        any::<prop::sample::Index>().prop_map(Act::Withdraw),
    ]
}

proptest! {
    // Each case is long.
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn whatever_happens_there_are_not_many_more_lines_than_streams(
        acts in proptest::collection::vec(act(), 1..24),
    ) {
        let mut world = World::new();
        // What is sent; what is not any more, until the client has said so; and where each mid was.
        let (mut open, mut ending) = (BTreeSet::new(), BTreeSet::new());
        let mut places = BTreeMap::new();
        let mut peak = 0;
        for act in acts {
            match act {
                Act::Add(kinds, lost) => {
                    let codecs = kinds.iter().map(|audio| if *audio { Codec::Opus } else { Codec::Vp8 });
                    let mids = world.add(&codecs.collect::<Vec<_>>());
                    for mid in &mids {
                        prop_assert!(open.insert(mid.clone()), "{} twice", mid);
                    }
                    peak = peak.max(open.len() + ending.len());
                    match lost {
                        Lost::Offer => {
                            world.offered();
                        }
                        Lost::Answer => {
                            let (_, lines) = world.offered();
                            world.client.lines = lines;
                        }
                        Lost::Nothing => {
                            prop_assert_eq!(world.renegotiate(), [""; 0]);
                            ending.clear();
                            for mid in &open {
                                let line = world.client.lines.iter().find(|line| line.mid == *mid);
                                let line = line.expect("the client knows it");
                                prop_assert!(line.live && line.direction == Direction::RecvOnly);

                            }
                        }
                    }
                }
                Act::Close(which) => {
                    let known = world.client.lines.iter().map(|line| &line.mid);
                    let known = known.skip(2).cloned().collect::<Vec<_>>();
                    if known.is_empty() {
                        continue;
                    }
                    let mids = which.iter().map(|index| known[index.index(known.len())].clone());
                    let mids = mids.collect::<Vec<_>>();
                    let before = open.clone();
                    let lost = before.iter().filter(|mid| !world.knows(mid) || mids.contains(mid));
                    let lost = lost.cloned().collect::<BTreeSet<_>>();
                    let gone = world.close(&mids).into_iter().collect::<BTreeSet<_>>();
                    prop_assert_eq!(&gone, &lost);
                    open = &open - &gone;
                    // It has said so of all that it does not know as live any more.
                    ending.retain(|mid| world.client.lines.iter().any(|line| line.mid == *mid && line.live));
                }
                Act::Withdraw(which) => {
                    if open.is_empty() {
                        continue;
                    }
                    let mid = open.iter().nth(which.index(open.len())).unwrap().clone();
                    world.receiving.withdraw(&mid);
                    open.remove(&mid);
                    ending.insert(mid);
                }
            }
            let offer = check(&world.receiving.offer(&here()));
            prop_assert!(offer.media.len() <= peak + 2, "{} lines for {}", offer.media.len(), peak);
            for (place, line) in offer.media.iter().enumerate() {
                if !line.rejected {
                    // What the client never saw may move: it is forgotten when the client closes.
                    prop_assert_eq!(*places.entry(line.mid.clone()).or_insert(place), place);
                }
            }
            let live = offer.media.iter().filter(|line| line.direction == Direction::SendOnly);
            prop_assert_eq!(live.map(|line| line.mid.clone()).collect::<BTreeSet<_>>(), open.clone());
        }
    }
}
