//! Padding that finds out whether the network carries more than is sent.
//!
//! A cluster is a handful of packets at the rate in question. If they arrive as fast as they left,
//! the network carries that; if not, what it carries is how fast they arrived.

use super::rate::Rate;
use super::{Arrived, float, whole};

/// A cluster has at least so many packets,
const PACKETS: u32 = 5;
/// takes at least so long, in µs,
const DURATION_US: u64 = 15_000;
/// and is given up after this, in µs.
const LONGEST_US: u64 = 1_000_000;
/// Padding is asked for in portions of so much time, in µs,
const PORTION_US: u64 = 4_000;
/// and of at least so many bytes.
const PORTION_BYTES: u64 = 200;
/// After so many portions that nobody sent, nobody is going to.
const IGNORED: u8 = 3;
/// Feedback on a cluster is awaited for so long, in µs.
const ANSWER_US: u64 = 1_000_000;

/// A cluster tries so many times what is known to work,
const STEP: f64 = 2.0;
/// but not more than so many times what is wanted,
const SPARE: f64 = 1.3;
/// and only if it is at least so many times what is known.
const WORTHWHILE: f64 = 1.1;
/// Arrived at least so fast compared to its target, another may follow at once.
const ENCOURAGING: f64 = 0.7;

/// After a cluster that was too fast, so long until the next, in µs; twice that after another. A busy
/// machine makes a cluster seem too fast, so that one alone must not cost much.
const WAIT_US: u64 = 1_000_000;
const LONGEST_WAIT_US: u64 = 5_000_000;
/// When it is no time to probe, so long until that is considered again, in µs.
const AGAIN_US: u64 = 200_000;
/// After nobody sent the padding, or the cluster was cut off or lost, in µs.
const PAUSE_US: u64 = 2_000_000;

/// Down to this part or less is by much.
const HALF: f64 = 0.5;

/// Part of this must have arrived to be judged, of packets and of bytes.
const ENOUGH: f64 = 0.8;
/// Arriving slower than this part of how fast it left, it has met its limit.
const UNHINDERED: f64 = 0.9;
/// And then this part of that is what may be sent.
const UTILISED: f64 = 0.95;
/// Arriving that many times faster than it left, the measurement is wrong.
const ABSURD: f64 = 2.0;

/// One burst of padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cluster(u32);

/// Padding that is to be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    /// What it belongs to; goes with each packet.
    pub(crate) cluster: Cluster,
    /// How much, headers included. A little more or less does no harm: the next portion makes up
    /// for it.
    pub(crate) bytes: usize,
}

/// What a cluster has shown, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Outcome {
    /// The network carries this.
    Carried(f64),
    /// The network carries this and no more.
    Saturated(f64),
    /// Nothing.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    cluster: Cluster,
    target: f64,
    begun: u64,
    /// When the next portion is due; when the last was sent, until when the answer is awaited.
    due: u64,
    /// All of it was sent.
    complete: bool,
    /// Portions that nobody sent, in a row.
    ignored: u8,
    sent: Sent,
    came: Came,
}

/// What has left, media included.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    first_index: u64,
    last_index: u64,
    first: u64,
    last: u64,
    packets: u32,
    bytes: u64,
    last_bytes: u64,
}

/// What has come of it.
#[derive(Debug, Clone, Copy, Default)]
struct Came {
    first: i64,
    last: i64,
    packets: u32,
    bytes: u64,
    first_bytes: u64,
}

/// Decides when to probe and what came of it.
#[derive(Debug, Default)]
pub(super) struct Probing {
    wanted: f64,
    trial: Option<Trial>,
    clusters: u32,
    /// No new cluster before this.
    next: u64,
    /// How long the last wait was.
    wait: u64,
    /// What worked before it was lost, to be tried at once.
    recover: Option<f64>,
    /// The first packet that feedback has not spoken of.
    answered: u64,
}

impl Probing {
    /// How much would be sent, in bits per second.
    pub(super) const fn wants(&mut self, bps: f64) {
        self.wanted = bps;
    }

    /// A packet leaves.
    pub(super) fn sent(&mut self, at: u64, index: u64, bytes: u16, padding: Option<Cluster>) {
        let Some(trial) = &mut self.trial else { return };
        if !trial.complete {
            trial.send(at, index, bytes, padding);
        }
    }

    /// A packet has arrived.
    pub(super) fn arrived(&mut self, arrived: &Arrived) {
        if let Some(trial) = &mut self.trial {
            trial.arrive(arrived);
        }
    }

    /// Feedback has spoken of everything before `index`.
    pub(super) const fn answered(&mut self, index: u64) {
        self.answered = index;
    }

    /// The estimate has changed. A cluster that is being sent is too fast then, if it went down;
    /// and if by much, that may have been something that passes.
    pub(super) fn changed(&mut self, at: u64, before: f64, bps: f64) {
        if bps >= before {
            return;
        }
        if self.trial.as_ref().is_some_and(|trial| !trial.complete) {
            self.cancel(at);
        }
        if bps < before * HALF {
            self.next = self.next.min(at.saturating_add(PAUSE_US));
            self.wait = 0;
        }
    }

    /// The network is back after an outage, before which `before` was possible.
    pub(super) fn recover(&mut self, at: u64, before: f64) {
        self.trial = None;
        self.next = at;
        self.wait = 0;
        self.recover = Some(before);
    }

    /// Gives up the cluster that is being sent, if there is one.
    pub(super) fn cancel(&mut self, at: u64) {
        if self.trial.take().is_some() {
            self.next = at.saturating_add(PAUSE_US);
        }
    }

    /// What the last cluster has shown, once: when all of it is answered, or it is too late.
    pub(super) fn outcome(&mut self, at: u64, rate: &Rate) -> Option<Outcome> {
        let trial = self.trial.as_ref().filter(|trial| trial.complete)?;
        if self.answered <= trial.sent.last_index && at < trial.due {
            return None;
        }
        let outcome = trial.outcome();
        let shown = match outcome {
            Outcome::Carried(shown) | Outcome::Saturated(shown) => shown,
            Outcome::Nothing => 0.0,
        };
        if shown >= trial.target * ENCOURAGING && (shown > rate.exact() || rate.is_guessed()) {
            self.next = at;
            self.wait = 0;
        } else if outcome == Outcome::Nothing {
            let pause = if rate.is_guessed() {
                AGAIN_US
            } else {
                PAUSE_US
            };
            self.next = at.saturating_add(pause);
        } else {
            self.wait = (self.wait * 2).clamp(WAIT_US, LONGEST_WAIT_US);
            self.next = at.saturating_add(self.wait);
        }
        self.trial = None;
        Some(outcome)
    }

    /// The padding that is due. `calm` is whether a new cluster may begin.
    pub(super) fn poll(
        &mut self,
        at: u64,
        rate: &Rate,
        calm: bool,
        is_outage: bool,
    ) -> Option<Probe> {
        if self.trial.is_none() {
            if at < self.next {
                return None;
            }
            let target = self.target(rate, is_outage)?;
            if !calm {
                self.next = at.saturating_add(AGAIN_US);
                return None;
            }
            self.recover = None;
            self.clusters = self.clusters.wrapping_add(1);
            self.trial = Some(Trial::new(Cluster(self.clusters), target, at));
        }
        let trial = self.trial.as_mut()?;
        if trial.complete || at < trial.due {
            return None;
        }
        if trial.ignored >= IGNORED || at.saturating_sub(trial.begun) > LONGEST_US {
            self.cancel(at);
            return None;
        }
        trial.portion(at)
    }

    /// When [`Self::poll`] and [`Self::outcome`] are to be asked again. None while there is nothing
    /// to find out.
    pub(super) fn next_timeout(&self, rate: &Rate, is_outage: bool) -> Option<u64> {
        match &self.trial {
            Some(trial) => Some(trial.due),
            None => self.target(rate, is_outage).map(|_| self.next),
        }
    }

    /// The rate that is worth trying.
    fn target(&self, rate: &Rate, is_outage: bool) -> Option<f64> {
        let bps = rate.exact();
        if is_outage {
            // Whoever sends nothing because nothing may be sent would not notice the end of it.
            return (self.wanted > 0.0).then_some(bps);
        }
        let wanted = self.wanted * SPARE;
        let tried = match self.recover {
            // Nobody has said what is wanted: as much as there was.
            Some(before) if wanted <= 0.0 => before,
            Some(before) => before.max(bps * STEP).min(wanted),
            // A first one shows whether what was guessed is right, too.
            None if rate.is_guessed() && wanted > 0.0 => wanted.clamp(bps, bps * STEP),
            None => wanted.min(bps * STEP),
        };
        let tried = tried.min(rate.most());
        let is_worthwhile = rate.is_guessed() || tried >= bps * WORTHWHILE;
        (tried > 0.0 && is_worthwhile).then_some(tried)
    }
}

impl Trial {
    fn new(cluster: Cluster, target: f64, at: u64) -> Self {
        Self {
            cluster,
            target,
            begun: at,
            due: at,
            complete: false,
            ignored: 0,
            sent: Sent::default(),
            came: Came::default(),
        }
    }

    fn send(&mut self, at: u64, index: u64, bytes: u16, padding: Option<Cluster>) {
        if padding == Some(self.cluster) {
            self.ignored = 0;
        }
        let sent = &mut self.sent;
        if sent.packets == 0 {
            sent.first_index = index;
            sent.first = at;
        }
        sent.last_index = index;
        sent.last = at;
        sent.last_bytes = u64::from(bytes);
        sent.packets = sent.packets.saturating_add(1);
        sent.bytes = sent.bytes.saturating_add(u64::from(bytes));
        let enough = self.target * float(DURATION_US) / 8_000_000.0;
        self.complete = sent.packets >= PACKETS
            && at.saturating_sub(self.begun) >= DURATION_US
            && float(sent.bytes) >= enough;
        if self.complete {
            self.due = at.saturating_add(ANSWER_US);
        }
    }

    fn arrive(&mut self, arrived: &Arrived) {
        let sent = &self.sent;
        if sent.packets == 0 || !(sent.first_index..=sent.last_index).contains(&arrived.index) {
            return;
        }
        let bytes = u64::from(arrived.bytes);
        let came = &mut self.came;
        if came.packets == 0 || arrived.arrival < came.first {
            came.first = arrived.arrival;
            came.first_bytes = bytes;
        }
        if came.packets == 0 || arrived.arrival > came.last {
            came.last = arrived.arrival;
        }
        came.packets = came.packets.saturating_add(1);
        came.bytes = came.bytes.saturating_add(bytes);
    }

    /// What is missing until a portion from now, if that is at least half a portion.
    fn portion(&mut self, at: u64) -> Option<Probe> {
        let portion = whole(self.target * float(PORTION_US) / 8_000_000.0).max(PORTION_BYTES);
        let takes = whole(float(portion) * 8_000_000.0 / self.target).max(1);
        let until = at.saturating_sub(self.begun).saturating_add(takes);
        let wanted = whole(self.target * float(until) / 8_000_000.0);
        self.due = at.saturating_add(takes);
        let missing = wanted.saturating_sub(self.sent.bytes);
        if missing < portion / 2 {
            return None;
        }
        self.ignored += 1;
        Some(Probe {
            cluster: self.cluster,
            // Late by much, the cluster is longer rather than faster.
            bytes: usize::try_from(missing.min(portion * 3)).unwrap_or(usize::MAX),
        })
    }

    fn outcome(&self) -> Outcome {
        let (sent, came) = (&self.sent, &self.came);
        if f64::from(came.packets) < ENOUGH * f64::from(sent.packets)
            || float(came.bytes) < ENOUGH * float(sent.bytes)
        {
            return Outcome::Nothing;
        }
        let left = sent.last.saturating_sub(sent.first);
        let arriving = u64::try_from(came.last.saturating_sub(came.first)).unwrap_or(0);
        if left == 0 || arriving == 0 || arriving > 1_000_000 {
            return Outcome::Nothing;
        }
        let left = float((sent.bytes - sent.last_bytes) * 8_000_000) / float(left);
        let arriving = float((came.bytes - came.first_bytes) * 8_000_000) / float(arriving);
        if arriving > ABSURD * left {
            return Outcome::Nothing;
        }
        // What leaves in portions seems faster than it is on the whole.
        let left = left.min(self.target);
        if arriving < UNHINDERED * left {
            Outcome::Saturated(UTILISED * arriving)
        } else {
            Outcome::Carried(arriving.min(left))
        }
    }
}
