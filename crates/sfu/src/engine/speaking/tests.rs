use proptest::prelude::*;

use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, from: u64, to: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        from + (self.0 >> 33) % (to - from)
    }
}

/// What somebody's microphone hears, in dB above -127 dBov.
struct Person {
    background: u64,
    voice: u64,
    /// How many packets are left of a syllable, or of the pause after it.
    left: u64,
    syllable: bool,
}

impl Person {
    fn new(background: u64, voice: u64) -> Self {
        Self {
            background,
            voice,
            left: 0,
            syllable: false,
        }
    }

    fn speech(&mut self, dice: &mut Dice) -> u64 {
        if self.left == 0 {
            self.syllable = !self.syllable;
            self.left = if self.syllable {
                dice.roll(7, 22)
            } else {
                dice.roll(1, 6)
            };
        }
        self.left -= 1;
        if self.syllable {
            dice.roll(self.voice - 6, self.voice + 6)
        } else {
            self.quiet(dice)
        }
    }

    fn quiet(&mut self, dice: &mut Dice) -> u64 {
        dice.roll(self.background.saturating_sub(4), self.background + 4)
    }
}

/// A meeting in which everybody sends a packet each 20 ms.
struct Meeting {
    start: Instant,
    millis: u64,
    dice: Dice,
    people: Vec<Person>,
    speaking: Speaking<u32>,
    /// What was told and when, in ms.
    told: Vec<(u64, Vec<u32>)>,
}

impl Meeting {
    fn new(seed: u64, most: usize, people: Vec<Person>) -> Self {
        Self {
            start: Instant::now(),
            millis: 0,
            dice: Dice(seed),
            people,
            speaking: Speaking::new(most),
            told: Vec::new(),
        }
    }

    /// For this long, `level` says how loud each person is; None is a person who sends nothing.
    fn run(
        &mut self,
        millis: u64,
        mut level: impl FnMut(u32, u64, &mut Person, &mut Dice) -> Option<u64>,
    ) {
        for passed in (0..millis).step_by(20) {
            for (id, person) in (0..).zip(&mut self.people) {
                if let Some(level) = level(id, passed, person, &mut self.dice) {
                    // They do not all send at the same moment.
                    let now = self.start + ms(self.millis + u64::from(id) % 20);
                    let dbov = u8::try_from(127 - level.min(127)).expect("small");
                    self.speaking.level(now, id, dbov, None);
                }
            }
            self.millis += 20;
            let now = self.start + ms(self.millis);
            if self.speaking.next_timeout().is_some_and(|due| due <= now)
                && let Some(ranking) = self.speaking.poll(now)
            {
                self.told.push((self.millis, ranking.to_vec()));
            }
        }
    }

    fn one_speaks(&mut self, who: u32, millis: u64) {
        self.run(millis, |id, _, person, dice| {
            Some(if id == who {
                person.speech(dice)
            } else {
                person.quiet(dice)
            })
        });
    }

    fn first(&self) -> Option<u32> {
        self.speaking.ranking().first().copied()
    }
}

fn six(dice: &mut Dice) -> Vec<Person> {
    (0..6)
        .map(|_| Person::new(dice.roll(35, 62), dice.roll(88, 108)))
        .collect()
}

#[test]
fn six_who_take_turns_are_each_first_soon_and_only_then() {
    let (mut turns, mut sum) = (0, 0);
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let people = six(&mut dice);
        let mut meeting = Meeting::new(seed, 4, people);
        meeting.run(1_000, |_, _, person, dice| Some(person.quiet(dice)));
        assert!(
            meeting.told.is_empty(),
            "the background was taken for speech"
        );
        let mut last = None;
        for _ in 0..20 {
            let who = u32::try_from(dice.roll(0, 6)).expect("small");
            let before = meeting.told.len();
            let began = meeting.millis;
            meeting.one_speaks(who, dice.roll(1_500, 12_000));
            assert_eq!(meeting.first(), Some(who), "seed {seed}");
            let changes: Vec<_> = meeting.told.drain(before..).collect();
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
            let pause = dice.roll(0, 900);
            meeting.run(pause, |_, _, person, dice| Some(person.quiet(dice)));
        }
    }
    assert!(sum / turns <= 500, "{} ms on average", sum / turns);
}

#[test]
fn neither_a_cough_nor_a_keyboard_is_a_speaker() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let people = six(&mut dice);
        let mut meeting = Meeting::new(seed, 4, people);
        // Into the silence first, then beside somebody who speaks, then after the last word.
        for speaker in [None, Some(0), None] {
            if let Some(speaker) = speaker {
                meeting.one_speaks(speaker, 3_000);
            }
            let before = meeting.told.len();
            meeting.run(10_000, |id, passed, person, dice| {
                Some(match id {
                    // A cough of 300 ms every 2 s, as loud as can be.
                    1 if passed % 2_000 < 300 => 125,
                    // Eight strokes a second, each in two packets.
                    2 if passed % 125 < 40 => 100,
                    _ if Some(id) == speaker => person.speech(dice),
                    _ => person.quiet(dice),
                })
            });
            assert_eq!(
                meeting.told.len(),
                before,
                "seed {seed}: {:?}",
                meeting.told
            );
        }
    }
}

#[test]
fn silence_keeps_the_last_speaker_and_asks_for_no_timer() {
    let mut meeting = Meeting::new(1, 3, vec![Person::new(40, 95), Person::new(40, 95)]);
    assert_eq!(meeting.speaking.next_timeout(), None);
    meeting.one_speaks(1, 2_000);
    meeting.run(60_000, |_, _, person, dice| Some(person.quiet(dice)));
    assert_eq!(meeting.speaking.ranking(), [1]);
    assert_eq!(meeting.told.len(), 1);
    assert_eq!(meeting.speaking.next_timeout(), None);
}

#[test]
fn of_two_who_speak_at_once_the_first_stays_first_and_the_other_is_second() {
    for seed in 0..20 {
        let people = vec![
            Person::new(40, 95),
            Person::new(40, 97),
            Person::new(40, 93),
        ];
        let mut meeting = Meeting::new(seed, 3, people);
        meeting.one_speaks(2, 3_000);
        meeting.run(20_000, |id, _, person, dice| {
            Some(if id == 0 {
                person.quiet(dice)
            } else {
                person.speech(dice)
            })
        });
        assert_eq!(meeting.speaking.ranking(), [2, 1], "seed {seed}");
        assert_eq!(meeting.told.len(), 2, "seed {seed}: {:?}", meeting.told);
    }
}

#[test]
fn if_more_speak_at_once_than_have_a_place_nobody_is_moved() {
    for seed in 0..20 {
        let people = vec![
            Person::new(40, 95),
            Person::new(40, 97),
            Person::new(40, 93),
        ];
        let mut meeting = Meeting::new(seed, 2, people);
        meeting.one_speaks(2, 2_000);
        meeting.run(20_000, |_, _, person, dice| Some(person.speech(dice)));
        assert_eq!(meeting.told.len(), 2, "seed {seed}: {:?}", meeting.told);
    }
}

#[test]
fn a_click_after_silence_lasts_for_a_packet() {
    let mut speaking = Speaking::new(3);
    let start = Instant::now();
    for millis in (0..10_000).step_by(100) {
        speaking.level(start + ms(millis), 1, 10, None);
        assert_eq!(speaking.poll(start + ms(millis)), None);
    }
}

#[test]
fn who_is_much_louder_interrupts() {
    let people = vec![Person::new(40, 85), Person::new(40, 110)];
    let mut meeting = Meeting::new(3, 3, people);
    meeting.one_speaks(0, 3_000);
    meeting.run(3_000, |_, _, person, dice| Some(person.speech(dice)));
    assert_eq!(meeting.speaking.ranking(), [1, 0]);
}

#[test]
fn a_loud_fan_is_found_out() {
    // At -40 dBov, which is speech until it turns out that it never pauses.
    let people = vec![Person::new(83, 105), Person::new(40, 100)];
    let mut meeting = Meeting::new(4, 3, people);
    meeting.run(20_000, |_, _, person, dice| Some(person.quiet(dice)));
    meeting.one_speaks(1, 1_000);
    assert_eq!(meeting.first(), Some(1));
    meeting.run(20_000, |_, _, person, dice| Some(person.quiet(dice)));
    assert_eq!(meeting.first(), Some(1));
    // Nor does it begin to speak because its microphone drops out.
    meeting.run(20_000, |id, passed, person, dice| {
        let dropout = id == 0 && passed % 1_000 == 0;
        Some(if dropout { 0 } else { person.quiet(dice) })
    });
    let last = meeting.millis / 20 - 1;
    assert!(meeting.speaking.talkers[&0].recent(last) < SPEAKS);
    assert_eq!(meeting.first(), Some(1));
    // And whoever sits beside it is heard nevertheless.
    meeting.one_speaks(0, 2_000);
    assert_eq!(meeting.first(), Some(0));
}

#[test]
fn a_song_without_pauses_stays_first() {
    let mut meeting = Meeting::new(5, 3, vec![Person::new(40, 100), Person::new(40, 95)]);
    meeting.run(60_000, |id, _, person, dice| {
        Some(if id == 0 {
            dice.roll(98, 112)
        } else {
            person.quiet(dice)
        })
    });
    assert_eq!(
        meeting.speaking.talkers[&0].recent(meeting.millis / 20 - 1),
        RECENT
    );
    assert_eq!(meeting.speaking.ranking(), [0]);
}

#[test]
fn a_microphone_that_sends_nothing_more_stops_speaking() {
    let mut meeting = Meeting::new(6, 3, vec![Person::new(40, 120), Person::new(40, 90)]);
    meeting.one_speaks(0, 3_000);
    // It was muted in the middle of a word; with DTX a packet comes now and then, or none.
    meeting.run(1_000, |id, passed, person, dice| match id {
        0 => (passed % 400 == 0).then_some(0),
        _ => Some(person.speech(dice)),
    });
    assert_eq!(meeting.speaking.ranking(), [1, 0]);
}

#[test]
fn what_the_sender_calls_no_voice_is_none() {
    let mut speaking = Speaking::new(3);
    let start = Instant::now();
    for packet in 0..200 {
        let now = start + ms(packet * 20);
        speaking.level(now, 1, 20, Some(false));
        assert_eq!(speaking.poll(now), None);
    }
    for packet in 200..300 {
        speaking.level(start + ms(packet * 20), 1, 20, Some(true));
    }
    assert_eq!(speaking.poll(start + ms(6_000)), Some(&[1][..]));
}

#[test]
fn packets_of_60_ms_speak_as_much_as_those_of_20() {
    let mut speaking = Speaking::new(3);
    let start = Instant::now();
    let mut first = None;
    for millis in (0..2_000).step_by(60) {
        let now = start + ms(millis);
        speaking.level(now, 1, 25, None);
        if speaking.poll(now).is_some() {
            first.get_or_insert(millis);
        }
    }
    assert!(first.is_some_and(|millis| millis <= 600), "{first:?}");
}

#[test]
fn a_full_ranking_loses_the_last_who_is_silent() {
    let people = (0..5).map(|_| Person::new(40, 95)).collect();
    let mut meeting = Meeting::new(7, 3, people);
    for who in [0, 1, 2] {
        meeting.one_speaks(who, 2_000);
    }
    assert_eq!(meeting.speaking.ranking(), [2, 1, 0]);
    // 2 goes on, 0 and 3 speak beside: 1 has to go, though 0 was last.
    meeting.run(3_000, |id, _, person, dice| {
        Some(if [0, 2, 3].contains(&id) {
            person.speech(dice)
        } else {
            person.quiet(dice)
        })
    });
    assert_eq!(meeting.first(), Some(2));
    let mut ranking = meeting.speaking.ranking().to_vec();
    ranking.sort_unstable();
    assert_eq!(ranking, [0, 2, 3]);
}

#[test]
fn who_leaves_is_told_once_and_forgotten() {
    let mut meeting = Meeting::new(8, 3, vec![Person::new(40, 95), Person::new(40, 95)]);
    meeting.one_speaks(0, 2_000);
    meeting.one_speaks(1, 2_000);
    meeting.speaking.remove(1);
    assert_eq!(meeting.speaking.ranking(), [0]);
    let now = meeting.start + ms(meeting.millis + 300);
    assert!(
        meeting
            .speaking
            .next_timeout()
            .is_some_and(|due| due <= now)
    );
    assert_eq!(meeting.speaking.poll(now), Some(&[0][..]));
    assert_eq!(meeting.speaking.poll(now + ms(1_000)), None);
    assert_eq!(meeting.speaking.talkers.len(), 1);
}

proptest! {
    #[test]
    fn the_ranking_is_told_when_it_changes_and_not_too_often(
        most in 0..5_usize,
        steps in prop::collection::vec(
            (0..40_u64, 0..6_u32, prop_oneof![0..60_u8, any::<u8>()], any::<Option<bool>>(), 0..60_u8),
            0..600,
        ),
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut speaking = Speaking::new(most);
        let mut known: Vec<u32> = Vec::new();
        let mut told_at: Option<Instant> = None;
        for (after, id, dbov, voice, what) in steps {
            // Bursts, so that some of them do speak.
            for _ in 0..=(what % 16) {
                now += ms(after.min(20));
                speaking.level(now, id, dbov, voice);
            }
            if what == 0 {
                speaking.remove(id);
                prop_assert!(!speaking.ranking().contains(&id));
            }
            if let Some(ranking) = speaking.poll(now) {
                prop_assert!(told_at.is_none_or(|at| now - at >= ms(300)));
                prop_assert!(ranking != known);
                let mut unique = ranking.to_vec();
                unique.sort_unstable();
                unique.dedup();
                prop_assert_eq!(unique.len(), ranking.len());
                prop_assert!(ranking.len() <= most);
                known = ranking.to_vec();
                told_at = Some(now);
            }
            if speaking.ranking() != known {
                prop_assert!(speaking.next_timeout().is_some());
            }
        }
        // Whatever was held back is told in the end, and then it is quiet.
        for _ in 0..3 {
            let Some(due) = speaking.next_timeout() else { break };
            now = now.max(due);
            if let Some(ranking) = speaking.poll(now) {
                known = ranking.to_vec();
            }
        }
        prop_assert_eq!(speaking.next_timeout(), None);
        prop_assert_eq!(speaking.ranking(), known);
    }
}
