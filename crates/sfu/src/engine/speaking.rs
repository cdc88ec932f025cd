//! Who speaks in a meeting, from the audio levels that come with every packet of a microphone
//! (RFC 6464).
//!
//! Time is cut into slots of 20 ms, and of each person the last 64 slots are remembered as one bit
//! each: louder than this person's background or not. Whoever fills most of the last 600 ms speaks.
//! That is longer than a cough or the stroke of a key, which no loudness can make up for, and
//! short enough to follow a conversation. The one who speaks stays first until somebody else
//! clearly speaks more; the silence after the last word changes nothing.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The length of a slot: that of an Opus packet, so each normally has one.
const SLOT: Duration = Duration::from_millis(20);

/// A packet speaks for this many slots before it too if none came for them: Opus packets have up
/// to 60 ms. More would make a click after a silence a word.
const LONGEST_PACKET: u64 = 3;

/// The slots that decide whether somebody speaks: 600 ms.
const RECENT: u32 = 30;

/// How many of [`RECENT`] are filled while somebody speaks. More than a cough fills, and few enough
/// that speech with its pauses gets there within 600 ms.
const SPEAKS: u32 = 17;

/// How many more of [`RECENT`] somebody fills than the one who is first, to become the first.
const CLEARLY_MORE: u32 = 12;

/// How many of the 64 slots somebody fills who is to be noticed although another speaks. Longer
/// than the end of one's turn and the beginning of the next overlap.
const INSISTS: u32 = 32;

/// How much louder than the first somebody is who takes that place by insisting, in 1/16 dB. This is what gets past somebody whose background is taken
/// for speech.
const CLEARLY_LOUDER: i32 = 10 * 16;

/// How far above the background speech is, in 1/256 dB.
const ABOVE_BACKGROUND: i32 = 10 * 256;

/// Between -65 and -45 dBov, in 1/256 dB above -127. A background is never taken to be more quiet,
/// so that breathing is not speech, nor louder, so that a song without pauses is not background.
const BACKGROUND: (i32, i32) = (62 * 256, 82 * 256);

/// How fast the background is believed to rise, in 1/256 dB per slot: 2.5 dB per second. Between
/// two pauses of speech that is not much; a fan is found out within ten seconds.
const RISING: i32 = 13;

/// How fast it is believed to fall, in 1/256 dB per packet: not all at once, for a packet of digital
/// silence now and then is not the background.
const FALLING: i32 = 256;

/// How often it is judged who speaks.
const JUDGED_EVERY: Duration = Duration::from_millis(100);

/// How often a new order is told at most.
const TOLD_EVERY: Duration = Duration::from_millis(300);

/// What is known about one person.
#[derive(Debug)]
struct Talker {
    /// The slot of the lowest bit of `voiced`.
    slot: u64,
    voiced: u64,
    /// The level of what is not speech, in 1/256 dB above -127 dBov.
    background: i32,
    /// How loud the speech is, in 1/16 dB above -127 dBov.
    loudness: i32,
}

/// How much somebody speaks, by which those who speak are compared.
type Claim<Id> = (u32, i32, Reverse<Id>);

impl Talker {
    fn new(slot: u64) -> Self {
        Self {
            slot,
            voiced: 0,
            background: BACKGROUND.0,
            loudness: 0,
        }
    }

    fn level(&mut self, slot: u64, dbov: u8, voice: Option<bool>) {
        let level = 127 - i32::from(dbov.min(127));
        let passed = slot.saturating_sub(self.slot);
        let covered = if passed <= LONGEST_PACKET { passed } else { 1 };
        self.voiced = self.remembered(slot);
        self.slot = self.slot.max(slot);

        if voice != Some(false) && level * 256 >= self.background + ABOVE_BACKGROUND {
            let loudness = level * 16;
            self.loudness = if self.voiced == 0 {
                loudness
            } else {
                self.loudness + (loudness - self.loudness) / 16
            };
            self.voiced |= (1 << covered.max(1)) - 1;
        }
        let difference = level * 256 - self.background;
        let rising = RISING * i32::from(passed > 0);
        let change = difference.clamp(-FALLING, rising);
        self.background = (self.background + change).clamp(BACKGROUND.0, BACKGROUND.1);
    }

    /// The slots up to this one.
    fn remembered(&self, slot: u64) -> u64 {
        u32::try_from(slot.saturating_sub(self.slot))
            .ok()
            .and_then(|passed| self.voiced.checked_shl(passed))
            .unwrap_or(0)
    }

    /// How many of the last slots are filled.
    fn recent(&self, slot: u64) -> u32 {
        (self.remembered(slot) & ((1 << RECENT) - 1)).count_ones()
    }

    fn speaks(&self, slot: u64) -> bool {
        self.recent(slot) >= SPEAKS
    }

    /// Whether there was less in all 64 slots than there is in the last 30 of somebody who speaks.
    /// Taking breath is not falling silent.
    fn is_silent(&self, slot: u64) -> bool {
        self.remembered(slot).count_ones() < SPEAKS
    }

    fn insists(&self, slot: u64) -> bool {
        self.speaks(slot) && self.remembered(slot).count_ones() >= INSISTS
    }

    /// Whether somebody who speaks takes the first place from somebody else.
    fn outdoes(&self, first: &Self, slot: u64) -> bool {
        self.recent(slot) >= first.recent(slot) + CLEARLY_MORE
            || (self.insists(slot) && self.loudness >= first.loudness + CLEARLY_LOUDER)
    }
}

/// The speakers of one meeting.
#[derive(Debug)]
pub(crate) struct Speaking<Id> {
    most: usize,
    talkers: HashMap<Id, Talker>,
    ranking: Vec<Id>,
    /// The ranking that was told last.
    told: Vec<Id>,
    told_at: Option<Instant>,
    judged_at: Option<Instant>,
    /// Slots are counted from the first level.
    epoch: Option<Instant>,
    /// Whether anybody was heard since it was judged.
    stirred: bool,
}

impl<Id: Copy + Eq + Ord + Hash> Speaking<Id> {
    /// Nobody has spoken. The ranking will have `most` entries at most.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            talkers: HashMap::new(),
            ranking: Vec::new(),
            told: Vec::new(),
            told_at: None,
            judged_at: None,
            epoch: None,
            stirred: false,
        }
    }

    /// A packet of somebody's microphone came with this level: from 0, the loudest, to 127,
    /// silence, in -dBov. `voice` is what the sender says about it, if it says so: `Some(false)`
    /// is no speech however loud, `Some(true)` is said of anything by some senders and counts as
    /// None.
    ///
    /// Somebody is remembered from the first level to [`Speaking::remove`].
    pub(crate) fn level(&mut self, now: Instant, id: Id, dbov: u8, voice: Option<bool>) {
        self.epoch.get_or_insert(now);
        let slot = self.slot(now);
        let talker = self.talkers.entry(id).or_insert_with(|| Talker::new(slot));
        talker.level(slot, dbov, voice);
        self.stirred |= talker.voiced & 1 == 1;
    }

    /// Somebody has left, or has no microphone any more.
    pub(crate) fn remove(&mut self, id: Id) {
        self.talkers.remove(&id);
        self.ranking.retain(|ranked| *ranked != id);
    }

    /// The ranking, if it differs from what the last call that had one returned. Not more often
    /// than every 300 ms.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<&[Id]> {
        let early = |last: Option<Instant>, every| {
            last.is_some_and(|last| now.saturating_duration_since(last) < every)
        };
        if self.stirred && !early(self.judged_at, JUDGED_EVERY) {
            self.stirred = false;
            self.judged_at = Some(now);
            self.judge(self.slot(now));
        }
        if self.ranking == self.told || early(self.told_at, TOLD_EVERY) {
            return None;
        }
        self.told_at = Some(now);
        self.told.clone_from(&self.ranking);
        Some(&self.ranking)
    }

    /// When to call [`Speaking::poll`]. None while nobody is heard and nothing is to be told.
    #[cfg(test)]
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let epoch = self.epoch?;
        let after = |last: Option<Instant>, every| last.map_or(epoch, |last| last + every);
        let judge = self.stirred.then(|| after(self.judged_at, JUDGED_EVERY));
        let tell = (self.ranking != self.told).then(|| after(self.told_at, TOLD_EVERY));
        judge.into_iter().chain(tell).min()
    }

    /// Who spoke last, the most recent first; behind that one, those who spoke beside. What
    /// [`Speaking::poll`] would return if it always did.
    pub(crate) fn ranking(&self) -> &[Id] {
        &self.ranking
    }

    fn slot(&self, now: Instant) -> u64 {
        let micros = self
            .epoch
            .map_or(0, |epoch| now.saturating_duration_since(epoch).as_micros());
        u64::try_from(micros / SLOT.as_micros()).unwrap_or(u64::MAX)
    }

    /// Finds the first anew, and those who speak beside.
    fn judge(&mut self, slot: u64) {
        let first = self.ranking.first().copied();
        let outdoing = self.loudest(slot, |id, talker| {
            first != Some(id)
                && first
                    .and_then(|first| self.talkers.get(&first))
                    .is_none_or(|first| talker.outdoes(first, slot))
        });
        if let Some(id) = outdoing {
            self.place(0, id, slot);
        }
        // Somebody who is not ranked may be heard by nobody (docs/spec/media.md 4.4), so whoever insists
        // gets a place even if another speaks more. Those who have one keep it, or two who argue
        // would change places forever.
        while let Some(id) = self.loudest(slot, |id, talker| {
            talker.insists(slot) && !self.ranking.contains(&id)
        }) {
            if !self.place(1, id, slot) {
                break;
            }
        }
    }

    /// Of those who speak and are eligible, the one who speaks most.
    fn loudest(&self, slot: u64, eligible: impl Fn(Id, &Talker) -> bool) -> Option<Id> {
        let claim = |(id, talker): (&Id, &Talker)| -> Option<Claim<Id>> {
            (talker.speaks(slot) && eligible(*id, talker))
                .then(|| (talker.recent(slot), talker.loudness, Reverse(*id)))
        };
        let (_, _, Reverse(id)) = self.talkers.iter().filter_map(claim).max()?;
        Some(id)
    }

    /// Puts somebody at this place. If the ranking is full, the last who is silent makes room;
    /// if nobody is, the last does for a new first, and nobody for anybody else.
    fn place(&mut self, place: usize, id: Id, slot: u64) -> bool {
        if let Some(old) = self.ranking.iter().position(|ranked| *ranked == id) {
            self.ranking.remove(old);
        } else if self.ranking.len() >= self.most {
            let silent = |id: &Id| {
                self.talkers
                    .get(id)
                    .is_none_or(|talker| talker.is_silent(slot))
            };
            let leaving = (place..self.ranking.len())
                .rev()
                .find(|at| self.ranking.get(*at).is_some_and(silent))
                .or_else(|| self.ranking.len().checked_sub(1).filter(|_| place == 0));
            let Some(leaving) = leaving else { return false };
            self.ranking.remove(leaving);
        }
        self.ranking.insert(place.min(self.ranking.len()), id);
        true
    }
}
