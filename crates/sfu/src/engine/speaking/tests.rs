use proptest::prelude::*;

use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A deterministic pseudo-random generator.
struct Rng(u64);

impl Rng {
    fn range(&mut self, from: u64, to: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        from + (self.0 >> 33) % (to - from)
    }
}

/// A simulated microphone; levels are in dB above -127 dBov.
struct Participant {
    background: u64,
    voice: u64,
    /// Number of packets left in the current syllable or pause.
    left: u64,
    syllable: bool,
}

impl Participant {
    fn new(background: u64, voice: u64) -> Self {
        Self {
            background,
            voice,
            left: 0,
            syllable: false,
        }
    }

    fn speech(&mut self, rng: &mut Rng) -> u64 {
        if self.left == 0 {
            self.syllable = !self.syllable;
            self.left = if self.syllable {
                rng.range(7, 22)
            } else {
                rng.range(1, 6)
            };
        }
        self.left -= 1;
        if self.syllable {
            rng.range(self.voice - 6, self.voice + 6)
        } else {
            self.quiet(rng)
        }
    }

    fn quiet(&mut self, rng: &mut Rng) -> u64 {
        rng.range(self.background.saturating_sub(4), self.background + 4)
    }
}

/// A meeting in which every participant sends a packet each 20 ms.
struct Meeting {
    start: Instant,
    millis: u64,
    rng: Rng,
    participants: Vec<Participant>,
    speakers: ActiveSpeakers<u32>,
    /// The reported rankings and their times, in ms.
    reported: Vec<(u64, Vec<u32>)>,
}

impl Meeting {
    fn new(seed: u64, most: usize, participants: Vec<Participant>) -> Self {
        Self {
            start: Instant::now(),
            millis: 0,
            rng: Rng(seed),
            participants,
            speakers: ActiveSpeakers::new(most),
            reported: Vec::new(),
        }
    }

    /// Runs for `millis`. `level` returns each participant's level, or `None` to send nothing.
    fn run(
        &mut self,
        millis: u64,
        mut level: impl FnMut(u32, u64, &mut Participant, &mut Rng) -> Option<u64>,
    ) {
        for passed in (0..millis).step_by(20) {
            for (id, participant) in (0..).zip(&mut self.participants) {
                if let Some(level) = level(id, passed, participant, &mut self.rng) {
                    // They do not all send at the same moment.
                    let now = self.start + ms(self.millis + u64::from(id) % 20);
                    let dbov = u8::try_from(127 - level.min(127)).expect("small");
                    self.speakers.level(now, id, dbov, None);
                }
            }
            self.millis += 20;
            let now = self.start + ms(self.millis);
            if self.speakers.next_timeout().is_some_and(|due| due <= now)
                && let Some(ranking) = self.speakers.poll(now)
            {
                self.reported.push((self.millis, ranking.to_vec()));
            }
        }
    }

    fn one_speaks(&mut self, who: u32, millis: u64) {
        self.run(millis, |id, _, participant, rng| {
            Some(if id == who {
                participant.speech(rng)
            } else {
                participant.quiet(rng)
            })
        });
    }

    fn first(&self) -> Option<u32> {
        self.speakers.ranking().first().copied()
    }
}

fn six_participants(rng: &mut Rng) -> Vec<Participant> {
    (0..6)
        .map(|_| Participant::new(rng.range(35, 62), rng.range(88, 108)))
        .collect()
}

#[test]
fn each_of_six_alternating_speakers_is_ranked_first_promptly() {
    let (mut turns, mut sum) = (0, 0);
    for seed in 0..20 {
        let mut rng = Rng(seed);
        let participants = six_participants(&mut rng);
        let mut meeting = Meeting::new(seed, 4, participants);
        meeting.run(1_000, |_, _, participant, rng| Some(participant.quiet(rng)));
        assert!(
            meeting.reported.is_empty(),
            "background noise was mistaken for speech"
        );
        let mut last = None;
        for _ in 0..20 {
            let who = u32::try_from(rng.range(0, 6)).expect("small");
            let before = meeting.reported.len();
            let began = meeting.millis;
            meeting.one_speaks(who, rng.range(1_500, 12_000));
            assert_eq!(meeting.first(), Some(who), "seed {seed}");
            let changes: Vec<_> = meeting.reported.drain(before..).collect();
            if last == Some(who) {
                assert_eq!(changes, [], "seed {seed}");
            } else {
                assert_eq!(changes.len(), 1, "seed {seed}: {changes:?}");
                let took = changes[0].0 - began;
                assert!(took <= 700, "seed {seed}: it took {took} ms");
                turns += 1;
                sum += took;
            }
            last = Some(who);
            let pause = rng.range(0, 900);
            meeting.run(pause, |_, _, participant, rng| Some(participant.quiet(rng)));
        }
    }
    assert!(sum / turns <= 500, "{} ms on average", sum / turns);
}

#[test]
fn neither_a_cough_nor_a_keyboard_is_a_speaker() {
    for seed in 0..20 {
        let mut rng = Rng(seed);
        let participants = six_participants(&mut rng);
        let mut meeting = Meeting::new(seed, 4, participants);
        // In silence first, then beside a speaker, then after the last word.
        for speaker in [None, Some(0), None] {
            if let Some(speaker) = speaker {
                meeting.one_speaks(speaker, 3_000);
            }
            let before = meeting.reported.len();
            meeting.run(10_000, |id, passed, participant, rng| {
                Some(match id {
                    // A cough of 300 ms every 2 s, at maximum level.
                    1 if passed % 2_000 < 300 => 125,
                    // Eight keystrokes a second, each in two packets.
                    2 if passed % 125 < 40 => 100,
                    _ if Some(id) == speaker => participant.speech(rng),
                    _ => participant.quiet(rng),
                })
            });
            assert_eq!(
                meeting.reported.len(),
                before,
                "seed {seed}: {:?}",
                meeting.reported
            );
        }
    }
}

#[test]
fn silence_keeps_the_last_speaker_without_a_timer() {
    let mut meeting = Meeting::new(
        1,
        3,
        vec![Participant::new(40, 95), Participant::new(40, 95)],
    );
    assert_eq!(meeting.speakers.next_timeout(), None);
    meeting.one_speaks(1, 2_000);
    meeting.run(60_000, |_, _, participant, rng| {
        Some(participant.quiet(rng))
    });
    assert_eq!(meeting.speakers.ranking(), [1]);
    assert_eq!(meeting.reported.len(), 1);
    assert_eq!(meeting.speakers.next_timeout(), None);
}

#[test]
fn a_concurrent_speaker_is_ranked_second() {
    for seed in 0..20 {
        let participants = vec![
            Participant::new(40, 95),
            Participant::new(40, 97),
            Participant::new(40, 93),
        ];
        let mut meeting = Meeting::new(seed, 3, participants);
        meeting.one_speaks(2, 3_000);
        meeting.run(20_000, |id, _, participant, rng| {
            Some(if id == 0 {
                participant.quiet(rng)
            } else {
                participant.speech(rng)
            })
        });
        assert_eq!(meeting.speakers.ranking(), [2, 1], "seed {seed}");
        assert_eq!(
            meeting.reported.len(),
            2,
            "seed {seed}: {:?}",
            meeting.reported
        );
    }
}

#[test]
fn a_full_ranking_of_concurrent_speakers_is_stable() {
    for seed in 0..20 {
        let participants = vec![
            Participant::new(40, 95),
            Participant::new(40, 97),
            Participant::new(40, 93),
        ];
        let mut meeting = Meeting::new(seed, 2, participants);
        meeting.one_speaks(2, 2_000);
        meeting.run(20_000, |_, _, participant, rng| {
            Some(participant.speech(rng))
        });
        assert_eq!(
            meeting.reported.len(),
            2,
            "seed {seed}: {:?}",
            meeting.reported
        );
    }
}

#[test]
fn a_click_after_silence_lasts_for_a_packet() {
    let mut speakers = ActiveSpeakers::new(3);
    let start = Instant::now();
    for millis in (0..10_000).step_by(100) {
        speakers.level(start + ms(millis), 1, 10, None);
        assert_eq!(speakers.poll(start + ms(millis)), None);
    }
}

#[test]
fn a_much_louder_speaker_takes_over() {
    let participants = vec![Participant::new(40, 85), Participant::new(40, 110)];
    let mut meeting = Meeting::new(3, 3, participants);
    meeting.one_speaks(0, 3_000);
    meeting.run(3_000, |_, _, participant, rng| {
        Some(participant.speech(rng))
    });
    assert_eq!(meeting.speakers.ranking(), [1, 0]);
}

#[test]
fn a_loud_fan_is_not_a_speaker() {
    // At -40 dBov, which counts as speech until it turns out never to pause.
    let participants = vec![Participant::new(83, 105), Participant::new(40, 100)];
    let mut meeting = Meeting::new(4, 3, participants);
    meeting.run(20_000, |_, _, participant, rng| {
        Some(participant.quiet(rng))
    });
    meeting.one_speaks(1, 1_000);
    assert_eq!(meeting.first(), Some(1));
    meeting.run(20_000, |_, _, participant, rng| {
        Some(participant.quiet(rng))
    });
    assert_eq!(meeting.first(), Some(1));
    // A microphone that drops out does not count as speaking.
    meeting.run(20_000, |id, passed, participant, rng| {
        let dropout = id == 0 && passed % 1_000 == 0;
        Some(if dropout { 0 } else { participant.quiet(rng) })
    });
    let last = meeting.millis / 20 - 1;
    assert!(meeting.speakers.participants[&0].recent(last) < SPEAKING_SLOTS);
    assert_eq!(meeting.first(), Some(1));
    // A person beside the fan is still detected.
    meeting.one_speaks(0, 2_000);
    assert_eq!(meeting.first(), Some(0));
}

#[test]
fn a_song_without_pauses_stays_first() {
    let mut meeting = Meeting::new(
        5,
        3,
        vec![Participant::new(40, 100), Participant::new(40, 95)],
    );
    meeting.run(60_000, |id, _, participant, rng| {
        Some(if id == 0 {
            rng.range(98, 112)
        } else {
            participant.quiet(rng)
        })
    });
    assert_eq!(
        meeting.speakers.participants[&0].recent(meeting.millis / 20 - 1),
        RECENT
    );
    assert_eq!(meeting.speakers.ranking(), [0]);
}

#[test]
fn a_muted_microphone_stops_speaking() {
    let mut meeting = Meeting::new(
        6,
        3,
        vec![Participant::new(40, 120), Participant::new(40, 90)],
    );
    meeting.one_speaks(0, 3_000);
    // Muted in the middle of a word; with DTX a packet is sent occasionally, or none.
    meeting.run(1_000, |id, passed, participant, rng| match id {
        0 => (passed % 400 == 0).then_some(0),
        _ => Some(participant.speech(rng)),
    });
    assert_eq!(meeting.speakers.ranking(), [1, 0]);
}

#[test]
fn the_senders_voice_activity_flag_rules_out_speech() {
    let mut speakers = ActiveSpeakers::new(3);
    let start = Instant::now();
    for packet in 0..200 {
        let now = start + ms(packet * 20);
        speakers.level(now, 1, 20, Some(false));
        assert_eq!(speakers.poll(now), None);
    }
    for packet in 200..300 {
        speakers.level(start + ms(packet * 20), 1, 20, Some(true));
    }
    assert_eq!(speakers.poll(start + ms(6_000)), Some(&[1][..]));
}

#[test]
fn packets_of_60_ms_count_as_much_as_packets_of_20_ms() {
    let mut speakers = ActiveSpeakers::new(3);
    let start = Instant::now();
    let mut first = None;
    for millis in (0..2_000).step_by(60) {
        let now = start + ms(millis);
        speakers.level(now, 1, 25, None);
        if speakers.poll(now).is_some() {
            first.get_or_insert(millis);
        }
    }
    assert!(first.is_some_and(|millis| millis <= 600), "{first:?}");
}

#[test]
fn a_full_ranking_drops_its_last_silent_entry() {
    let participants = (0..5).map(|_| Participant::new(40, 95)).collect();
    let mut meeting = Meeting::new(7, 3, participants);
    for who in [0, 1, 2] {
        meeting.one_speaks(who, 2_000);
    }
    assert_eq!(meeting.speakers.ranking(), [2, 1, 0]);
    // 2 continues, 0 and 3 speak at the same time: 1 is removed, though 0 was ranked last.
    meeting.run(3_000, |id, _, participant, rng| {
        Some(if [0, 2, 3].contains(&id) {
            participant.speech(rng)
        } else {
            participant.quiet(rng)
        })
    });
    assert_eq!(meeting.first(), Some(2));
    let mut ranking = meeting.speakers.ranking().to_vec();
    ranking.sort_unstable();
    assert_eq!(ranking, [0, 2, 3]);
}

#[test]
fn a_participant_that_leaves_is_removed_from_the_ranking() {
    let mut meeting = Meeting::new(
        8,
        3,
        vec![Participant::new(40, 95), Participant::new(40, 95)],
    );
    meeting.one_speaks(0, 2_000);
    meeting.one_speaks(1, 2_000);
    meeting.speakers.remove(1);
    assert_eq!(meeting.speakers.ranking(), [0]);
    let now = meeting.start + ms(meeting.millis + 300);
    assert!(
        meeting
            .speakers
            .next_timeout()
            .is_some_and(|due| due <= now)
    );
    assert_eq!(meeting.speakers.poll(now), Some(&[0][..]));
    assert_eq!(meeting.speakers.poll(now + ms(1_000)), None);
    assert_eq!(meeting.speakers.participants.len(), 1);
}

proptest! {
    #[test]
    fn the_ranking_is_reported_on_change_and_rate_limited(
        most in 0..5_usize,
        steps in prop::collection::vec(
            (0..40_u64, 0..6_u32, prop_oneof![0..60_u8, any::<u8>()], any::<Option<bool>>(), 0..60_u8),
            0..600,
        ),
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut speakers = ActiveSpeakers::new(most);
        let mut known: Vec<u32> = Vec::new();
        let mut reported_at: Option<Instant> = None;
        for (after, id, dbov, voice, what) in steps {
            // Bursts, so that some of them count as speech.
            for _ in 0..=(what % 16) {
                now += ms(after.min(20));
                speakers.level(now, id, dbov, voice);
            }
            if what == 0 {
                speakers.remove(id);
                prop_assert!(!speakers.ranking().contains(&id));
            }
            if let Some(ranking) = speakers.poll(now) {
                prop_assert!(reported_at.is_none_or(|at| now - at >= ms(300)));
                prop_assert!(ranking != known);
                let mut unique = ranking.to_vec();
                unique.sort_unstable();
                unique.dedup();
                prop_assert_eq!(unique.len(), ranking.len());
                prop_assert!(ranking.len() <= most);
                known = ranking.to_vec();
                reported_at = Some(now);
            }
            if speakers.ranking() != known {
                prop_assert!(speakers.next_timeout().is_some());
            }
        }
        // Everything held back is reported in the end, and then there is nothing more to do.
        for _ in 0..3 {
            let Some(due) = speakers.next_timeout() else { break };
            now = now.max(due);
            if let Some(ranking) = speakers.poll(now) {
                known = ranking.to_vec();
            }
        }
        prop_assert_eq!(speakers.next_timeout(), None);
        prop_assert_eq!(speakers.ranking(), known);
    }
}
