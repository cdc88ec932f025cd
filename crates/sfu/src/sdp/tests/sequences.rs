//! Random sequences of events on a receive transport, with a client and our side of it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::client::{Client, LineState};
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

/// A receive transport: a client and our side of it.
pub(super) struct Negotiation {
    pub(super) client: Client,
    pub(super) receiving: Receiving,
    pub(super) ssrc: u32,
}

impl Negotiation {
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

    /// Sends an offer that the client applies. Returns the offer and the resulting lines.
    pub(super) fn offered(&mut self) -> (String, Vec<LineState>) {
        let offer = self.receiving.offer(&here());
        let lines = self.client.offered(&offer);
        (offer, lines)
    }

    /// Sends an offer and applies the answer to it. Returns the declined mids.
    pub(super) fn renegotiate(&mut self) -> Vec<String> {
        let (_, lines) = self.offered();
        self.client.lines = lines.clone();
        let answer = self.client.describe("active", &lines);
        self.receiving.apply_answer(&read(&answer)).unwrap()
    }

    /// Makes the client stop the lines with these mids, if it has them. Returns the removed mids.
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
        closed.removed
    }

    pub(super) fn knows(&self, mid: &str) -> bool {
        self.client.lines.iter().any(|line| line.mid == mid)
    }
}

/// An event on the transport.
#[derive(Debug, Clone)]
enum Action {
    /// Adds tracks. Then the offer, the answer or nothing is lost.
    Add(Vec<bool>, Lost),
    /// The client closes lines.
    Close(Vec<prop::sample::Index>),
    /// The server withdraws a line.
    Withdraw(prop::sample::Index),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Offer,
    Answer,
    Nothing,
}

fn action() -> impl Strategy<Value = Action> {
    let lost = prop_oneof![Just(Lost::Offer), Just(Lost::Answer), Just(Lost::Nothing)];
    prop_oneof![
        (proptest::collection::vec(any::<bool>(), 0..4), lost)
            .prop_map(|(kinds, lost)| Action::Add(kinds, lost)),
        proptest::collection::vec(any::<prop::sample::Index>(), 1..4).prop_map(Action::Close),
        any::<prop::sample::Index>().prop_map(Action::Withdraw),
    ]
}

proptest! {
    // Fewer cases than the default, since each is long.
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn the_number_of_lines_stays_close_to_the_number_of_tracks(
        actions in proptest::collection::vec(action(), 1..24),
    ) {
        let mut transport = Negotiation::new();
        // The mids that are sent; those stopped but not yet rejected by the client; the position of
        // each mid.
        let (mut open, mut ending) = (BTreeSet::new(), BTreeSet::new());
        let mut positions = BTreeMap::new();
        let mut peak = 0;
        for action in actions {
            match action {
                Action::Add(kinds, lost) => {
                    let codecs = kinds.iter().map(|audio| if *audio { Codec::Opus } else { Codec::Vp8 });
                    let mids = transport.add(&codecs.collect::<Vec<_>>());
                    for mid in &mids {
                        prop_assert!(open.insert(mid.clone()), "{} twice", mid);
                    }
                    peak = peak.max(open.len() + ending.len());
                    match lost {
                        Lost::Offer => {
                            transport.offered();
                        }
                        Lost::Answer => {
                            let (_, lines) = transport.offered();
                            transport.client.lines = lines;
                        }
                        Lost::Nothing => {
                            prop_assert_eq!(transport.renegotiate(), [""; 0]);
                            ending.clear();
                            for mid in &open {
                                let line = transport.client.lines.iter().find(|line| line.mid == *mid);
                                let line = line.expect("the client knows it");
                                prop_assert!(line.live && line.direction == Direction::RecvOnly);

                            }
                        }
                    }
                }
                Action::Close(which) => {
                    let known = transport.client.lines.iter().map(|line| &line.mid);
                    let known = known.skip(2).cloned().collect::<Vec<_>>();
                    if known.is_empty() {
                        continue;
                    }
                    let mids = which.iter().map(|index| known[index.index(known.len())].clone());
                    let mids = mids.collect::<Vec<_>>();
                    let before = open.clone();
                    let lost = before.iter().filter(|mid| !transport.knows(mid) || mids.contains(mid));
                    let lost = lost.cloned().collect::<BTreeSet<_>>();
                    let removed = transport.close(&mids).into_iter().collect::<BTreeSet<_>>();
                    prop_assert_eq!(&removed, &lost);
                    open = &open - &removed;
                    // The client has rejected all lines that are no longer live.
                    ending.retain(|mid| transport.client.lines.iter().any(|line| line.mid == *mid && line.live));
                }
                Action::Withdraw(which) => {
                    if open.is_empty() {
                        continue;
                    }
                    let mid = open.iter().nth(which.index(open.len())).unwrap().clone();
                    transport.receiving.withdraw(&mid);
                    open.remove(&mid);
                    ending.insert(mid);
                }
            }
            let offer = check(&transport.receiving.offer(&here()));
            prop_assert!(offer.media.len() <= peak + 2, "{} lines for {}", offer.media.len(), peak);
            for (position, line) in offer.media.iter().enumerate() {
                if !line.rejected {
                    // Lines keep their positions. Lines of a lost offer are dropped when the client
                    // closes others, and never appear again.
                    prop_assert_eq!(*positions.entry(line.mid.clone()).or_insert(position), position);
                }
            }
            let live = offer.media.iter().filter(|line| line.direction == Direction::SendOnly);
            prop_assert_eq!(live.map(|line| line.mid.clone()).collect::<BTreeSet<_>>(), open.clone());
        }
    }
}
