//! Active speaker detection, based on the audio level of each microphone packet (RFC 6464).
//!
//! Time is divided into slots of 20 ms. For each participant the last 64 slots are kept as one bit
//! each: whether it was louder than the participant's noise floor. A participant that fills most of
//! the last 600 ms is speaking. That is longer than a cough or a keystroke, however loud, and short
//! enough to follow a conversation. The current speaker stays first until another participant
//! clearly speaks more; silence after the last word changes nothing.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Length of a slot: one Opus packet, so each slot normally has one.
const SLOT: Duration = Duration::from_millis(20);

/// Maximum number of slots that one packet fills, counting back to the previous packet: Opus
/// packets have up to 60 ms. More would turn a click after a silence into a word.
const MAX_PACKET_SLOTS: u64 = 3;

/// Number of slots that decide whether a participant is speaking: 600 ms.
const RECENT: u32 = 30;

/// Number of filled slots among the last [`RECENT`] that count as speaking: more than a cough
/// fills, and few enough that speech with pauses reaches it within 600 ms.
const SPEAKING_SLOTS: u32 = 17;

/// Number of slots among the last [`RECENT`] by which a participant must exceed the first speaker
/// to replace it.
const TAKEOVER_SLOTS: u32 = 12;

/// Number of filled slots among all 64 that rank a participant beside the first speaker: more than
/// the overlap when two speakers take turns.
const PERSISTENT_SLOTS: u32 = 32;

/// How much louder than the first speaker a persistent speaker must be to replace it, in 1/16 dB.
/// This displaces a first participant whose background noise is mistaken for speech.
const TAKEOVER_LOUDNESS: i32 = 10 * 16;

/// How far above the noise floor speech is, in 1/256 dB.
const SPEECH_ABOVE_FLOOR: i32 = 10 * 256;

/// Bounds of the noise floor, -65 and -45 dBov, in 1/256 dB above -127 dBov. The lower bound keeps
/// breathing from counting as speech, the upper one keeps a song without pauses from becoming the
/// noise floor.
const NOISE_FLOOR_RANGE: (i32, i32) = (62 * 256, 82 * 256);

/// How fast the noise floor rises, in 1/256 dB per slot: 2.5 dB per second. That is little between
/// two pauses of speech, but adapts to a fan within ten seconds.
const NOISE_FLOOR_RISE: i32 = 13;

/// How fast the noise floor falls, in 1/256 dB per packet. Not at once, since an occasional packet
/// of digital silence is not the noise floor.
const NOISE_FLOOR_FALL: i32 = 256;

/// Interval between evaluations of the ranking.
const EVALUATION_INTERVAL: Duration = Duration::from_millis(100);

/// Minimum interval between reports of a new ranking.
const REPORT_INTERVAL: Duration = Duration::from_millis(300);

/// The voice activity of one participant.
#[derive(Debug)]
struct VoiceActivity {
    /// The slot of the lowest bit of `voiced`.
    slot: u64,
    voiced: u64,
    /// The noise floor, in 1/256 dB above -127 dBov.
    noise_floor: i32,
    /// Average level of the speech, in 1/16 dB above -127 dBov.
    loudness: i32,
}

/// The score by which speakers are compared.
type SpeakerScore<Id> = (u32, i32, Reverse<Id>);

impl VoiceActivity {
    fn new(slot: u64) -> Self {
        Self {
            slot,
            voiced: 0,
            noise_floor: NOISE_FLOOR_RANGE.0,
            loudness: 0,
        }
    }

    fn level(&mut self, slot: u64, dbov: u8, voice: Option<bool>) {
        let level = 127 - i32::from(dbov.min(127));
        let passed = slot.saturating_sub(self.slot);
        let covered = if passed <= MAX_PACKET_SLOTS {
            passed
        } else {
            1
        };
        self.voiced = self.voiced_at(slot);
        self.slot = self.slot.max(slot);

        if voice != Some(false) && level * 256 >= self.noise_floor + SPEECH_ABOVE_FLOOR {
            let loudness = level * 16;
            self.loudness = if self.voiced == 0 {
                loudness
            } else {
                self.loudness + (loudness - self.loudness) / 16
            };
            self.voiced |= (1 << covered.max(1)) - 1;
        }
        let difference = level * 256 - self.noise_floor;
        let rise = NOISE_FLOOR_RISE * i32::from(passed > 0);
        let change = difference.clamp(-NOISE_FLOOR_FALL, rise);
        self.noise_floor =
            (self.noise_floor + change).clamp(NOISE_FLOOR_RANGE.0, NOISE_FLOOR_RANGE.1);
    }

    /// Returns `voiced`, shifted to this slot.
    fn voiced_at(&self, slot: u64) -> u64 {
        u32::try_from(slot.saturating_sub(self.slot))
            .ok()
            .and_then(|passed| self.voiced.checked_shl(passed))
            .unwrap_or(0)
    }

    /// Returns the number of filled slots among the last [`RECENT`].
    fn recent(&self, slot: u64) -> u32 {
        (self.voiced_at(slot) & ((1 << RECENT) - 1)).count_ones()
    }

    fn is_speaking(&self, slot: u64) -> bool {
        self.recent(slot) >= SPEAKING_SLOTS
    }

    /// Whether fewer of all 64 slots are filled than a speaker fills of the last [`RECENT`]. A
    /// short breath is not silence.
    fn is_silent(&self, slot: u64) -> bool {
        self.voiced_at(slot).count_ones() < SPEAKING_SLOTS
    }

    fn is_persistent(&self, slot: u64) -> bool {
        self.is_speaking(slot) && self.voiced_at(slot).count_ones() >= PERSISTENT_SLOTS
    }

    /// Whether a speaker replaces the first one.
    fn outranks(&self, first: &Self, slot: u64) -> bool {
        self.recent(slot) >= first.recent(slot) + TAKEOVER_SLOTS
            || (self.is_persistent(slot) && self.loudness >= first.loudness + TAKEOVER_LOUDNESS)
    }
}

/// The active speakers of one meeting.
#[derive(Debug)]
pub(crate) struct ActiveSpeakers<Id> {
    max_speakers: usize,
    participants: HashMap<Id, VoiceActivity>,
    ranking: Vec<Id>,
    /// The last reported ranking.
    reported: Vec<Id>,
    reported_at: Option<Instant>,
    evaluated_at: Option<Instant>,
    /// Start of slot 0: the time of the first level.
    epoch: Option<Instant>,
    /// Whether speech was heard since the last evaluation.
    needs_evaluation: bool,
}

impl<Id: Copy + Eq + Ord + Hash> ActiveSpeakers<Id> {
    /// Creates an empty ranking of at most `max_speakers` entries.
    pub(crate) fn new(max_speakers: usize) -> Self {
        Self {
            max_speakers,
            participants: HashMap::new(),
            ranking: Vec::new(),
            reported: Vec::new(),
            reported_at: None,
            evaluated_at: None,
            epoch: None,
            needs_evaluation: false,
        }
    }

    /// Records the audio level of a microphone packet in -dBov, from 0 (loudest) to 127 (silence).
    /// `voice` is the sender's voice activity flag, if it sends one: `Some(false)` is never speech,
    /// however loud; `Some(true)` is ignored like `None`, since some senders always set it.
    ///
    /// A participant is remembered from its first level until [`ActiveSpeakers::remove`].
    pub(crate) fn level(&mut self, now: Instant, id: Id, dbov: u8, voice: Option<bool>) {
        self.epoch.get_or_insert(now);
        let slot = self.slot(now);
        let activity = self
            .participants
            .entry(id)
            .or_insert_with(|| VoiceActivity::new(slot));
        activity.level(slot, dbov, voice);
        self.needs_evaluation |= activity.voiced & 1 == 1;
    }

    /// Removes a participant that has left or has closed its microphone.
    pub(crate) fn remove(&mut self, id: Id) {
        self.participants.remove(&id);
        self.ranking.retain(|ranked| *ranked != id);
    }

    /// Returns the ranking if it differs from the last one that was returned, at most every 300 ms.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<&[Id]> {
        let early = |last: Option<Instant>, every| {
            last.is_some_and(|last| now.saturating_duration_since(last) < every)
        };
        if self.needs_evaluation && !early(self.evaluated_at, EVALUATION_INTERVAL) {
            self.needs_evaluation = false;
            self.evaluated_at = Some(now);
            self.evaluate(self.slot(now));
        }
        if self.ranking == self.reported || early(self.reported_at, REPORT_INTERVAL) {
            return None;
        }
        self.reported_at = Some(now);
        self.reported.clone_from(&self.ranking);
        Some(&self.ranking)
    }

    /// Returns when to call [`ActiveSpeakers::poll`], or `None` if there is nothing to evaluate or
    /// report.
    #[cfg(test)]
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let epoch = self.epoch?;
        let after = |last: Option<Instant>, every| last.map_or(epoch, |last| last + every);
        let evaluate = self
            .needs_evaluation
            .then(|| after(self.evaluated_at, EVALUATION_INTERVAL));
        let report =
            (self.ranking != self.reported).then(|| after(self.reported_at, REPORT_INTERVAL));
        evaluate.into_iter().chain(report).min()
    }

    /// Returns the current ranking: the most recent speaker first, followed by earlier and
    /// concurrent speakers. Unlike [`ActiveSpeakers::poll`], it is neither rate-limited nor only
    /// returned on change.
    pub(crate) fn ranking(&self) -> &[Id] {
        &self.ranking
    }

    fn slot(&self, now: Instant) -> u64 {
        let micros = self
            .epoch
            .map_or(0, |epoch| now.saturating_duration_since(epoch).as_micros());
        u64::try_from(micros / SLOT.as_micros()).unwrap_or(u64::MAX)
    }

    /// Re-evaluates the first speaker and those who speak at the same time.
    fn evaluate(&mut self, slot: u64) {
        let first = self.ranking.first().copied();
        let replacement = self.most_active(slot, |id, activity| {
            first != Some(id)
                && first
                    .and_then(|first| self.participants.get(&first))
                    .is_none_or(|first| activity.outranks(first, slot))
        });
        if let Some(id) = replacement {
            self.insert_at(0, id, slot);
        }
        // Clients may not play a participant that is not ranked (docs/spec/media.md 4.4), so a
        // persistent speaker is ranked even if another one speaks more. Ranked speakers keep their
        // rank, or two who talk at once would swap ranks forever.
        while let Some(id) = self.most_active(slot, |id, activity| {
            activity.is_persistent(slot) && !self.ranking.contains(&id)
        }) {
            if !self.insert_at(1, id, slot) {
                break;
            }
        }
    }

    /// Returns the eligible speaker with the highest score.
    fn most_active(&self, slot: u64, eligible: impl Fn(Id, &VoiceActivity) -> bool) -> Option<Id> {
        let score = |(id, activity): (&Id, &VoiceActivity)| -> Option<SpeakerScore<Id>> {
            (activity.is_speaking(slot) && eligible(*id, activity))
                .then(|| (activity.recent(slot), activity.loudness, Reverse(*id)))
        };
        let (_, _, Reverse(id)) = self.participants.iter().filter_map(score).max()?;
        Some(id)
    }

    /// Inserts a participant at a rank. If the ranking is full, the last silent entry is removed.
    /// If there is none, the last entry is removed for a new first speaker, and otherwise the
    /// participant is not inserted. Returns whether it was.
    fn insert_at(&mut self, rank: usize, id: Id, slot: u64) -> bool {
        if let Some(old) = self.ranking.iter().position(|ranked| *ranked == id) {
            self.ranking.remove(old);
        } else if self.ranking.len() >= self.max_speakers {
            let silent = |id: &Id| {
                self.participants
                    .get(id)
                    .is_none_or(|activity| activity.is_silent(slot))
            };
            let removed = (rank..self.ranking.len())
                .rev()
                .find(|at| self.ranking.get(*at).is_some_and(silent))
                .or_else(|| self.ranking.len().checked_sub(1).filter(|_| rank == 0));
            let Some(removed) = removed else { return false };
            self.ranking.remove(removed);
        }
        self.ranking.insert(rank.min(self.ranking.len()), id);
        true
    }
}
