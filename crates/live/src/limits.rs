//! How much of everything a room takes. Every bound is data.

use crate::output::Refusal;
use crate::room::Monotonic;

/// So many in a time, in a burst at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long, in milliseconds.
    pub per_ms: u32,
}

impl Rate {
    /// So many a second.
    pub const fn per_second(count: u32) -> Self {
        Self {
            count,
            per_ms: 1000,
        }
    }

    /// So many a minute.
    pub const fn per_minute(count: u32) -> Self {
        Self {
            count,
            per_ms: 60_000,
        }
    }
}

/// The largest frames, in bytes: with each, what fits into it. The rules of events name them.
pub(crate) mod frames {
    /// An id or two, and a short text.
    pub(crate) const SMALL: usize = 8 * 1024;
    /// What a client says about its person.
    pub(crate) const PERSON: usize = 16 * 1024;
    /// What a client says about its media before it has any.
    pub(crate) const JOINING: usize = 64 * 1024;
    /// A message of 64 KiB, or ids that fit into as much.
    pub(crate) const MESSAGE: usize = 80 * 1024;
    /// 1,000 people with a preset each, or what is to be received.
    pub(crate) const MOVES: usize = 128 * 1024;
    /// 100 titles, or 50 options, of the longest text.
    pub(crate) const ROOMS: usize = 128 * 1024;
    /// Keys of a store, without values.
    pub(crate) const KEYS: usize = 512 * 1024;
    /// A description of a connection that has carried nothing yet.
    pub(crate) const TRANSPORT: usize = 256 * 1024;
    /// A description of a connection with every track.
    pub(crate) const DESCRIPTION: usize = 512 * 1024;
    /// Everybody in a large meeting.
    pub(crate) const PEOPLE: usize = 1 << 20;
    /// Keys of a store with their values.
    pub(crate) const VALUES: usize = 1 << 20;
}

/// The bounds of a room. Rates are for each person, with all their peers and for as long as the room
/// lives, and those of the official client (docs/spec/signalling.md 6.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// A peer whose socket broke is kept for so long, in milliseconds.
    pub grace_ms: i64,
    /// A peer that was turned away keeps its socket for so long, in milliseconds.
    pub rejected_ms: i64,
    /// Peers in a room, those who wait included.
    pub peers: usize,
    /// Peers of one person.
    pub peers_per_person: usize,
    /// New clients of one person: this many at once, refilled over a day.
    pub new_peers: Rate,
    /// Bytes of a frame. Each event has a bound of its own below it.
    pub frame_bytes: usize,
    /// Bytes of the id that a request has for its answer.
    pub id_bytes: usize,
    /// Sockets that open, of new peers and of those who come back.
    pub openings: Rate,
    /// Frames of any kind.
    pub frames: Rate,
    /// What has no rate of its own and reaches others, each of them: the stage, votes, pins, tracks.
    pub changes: Rate,
    /// What clients ask of the media plane for themselves: to receive, to receive no more, layers.
    pub media: Rate,
    /// Orders of a peer that the media plane has not answered.
    pub media_orders: usize,
    /// Tracks that a peer receives.
    pub consumers: usize,
    /// Bytes of what a client says about a track it publishes.
    pub track_bytes: usize,
    /// What has no rate of its own and reads much: the roster, polls, lists of those who ask or wait.
    pub reads: Rate,
    /// So many peers come into somebody's sight, or go out of it, are told one by one.
    pub one_by_one: usize,
    /// Bytes of what is read at once of the chat, where the rest is in the pages behind it, and of
    /// one store and of all polls, which are always read as a whole. New polls take half of it, so
    /// that there is room for votes.
    pub reply_bytes: usize,
    /// Bytes of all polls with their votes, which are always read as a whole. New ones are refused when
    /// three quarters are taken: the rest is for votes.
    pub poll_bytes: usize,
    /// Messages.
    pub chat: Rate,
    /// Messages with files or pictures.
    pub chat_files: Rate,
    /// Characters of a text message.
    pub chat_text: usize,
    /// Bytes of any message's payload.
    pub chat_bytes: usize,
    /// Messages that a room holds; the oldest go first and stay in the records.
    pub chat_held: usize,
    /// Bytes of the messages that a room holds.
    pub chat_held_bytes: usize,
    /// Bytes that the messages of the meeting may take in the records, of all its sessions; 0 is no
    /// limit.
    pub chat_stored_bytes: u64,
    /// Bytes that a person may add to them while the room runs; 0 is no limit.
    pub chat_person_bytes: u64,
    /// Messages that a newcomer is sent.
    pub chat_history: usize,
    /// Messages of a page.
    pub chat_page: usize,
    /// Bytes that one slice of a reading of the chat looks at: those of texts that are searched, and 128
    /// for each message.
    pub search_bytes: usize,
    /// What one slice of a long request may look at: people, messages, keys.
    pub slice_steps: usize,
    /// Reads of the history, of pages and of what is searched for: each looks at all that is held.
    pub chat_reads: Rate,
    /// Broadcasts.
    pub broadcasts: Rate,
    /// Bytes of a broadcast.
    pub broadcast_bytes: usize,
    /// Changes of stores, setting and removing each.
    pub stores: Rate,
    /// Reads of stores: more, because clients read on every join and reconnect, all they have.
    pub store_reads: Rate,
    /// Stores of a room.
    pub store_count: usize,
    /// Keys of all stores together.
    pub store_keys: usize,
    /// Bytes of a value.
    pub store_value_bytes: usize,
    /// Bytes of all stores together.
    pub store_bytes: usize,
    /// Polls of a session.
    pub polls: usize,
    /// Options of a poll.
    pub poll_options: usize,
    /// Characters of a question or an option.
    pub poll_text: usize,
    /// New polls.
    pub poll_rate: Rate,
    /// Changes of others' permissions.
    pub permission_updates: Rate,
    /// Reads of who is in which breakout room.
    pub breakout_reads: Rate,
    /// Breakout rooms made and removed: requests, of many rooms each.
    pub breakout_changes: Rate,
    /// Requests to move people between rooms.
    pub moves: Rate,
    /// People who are moved.
    pub moved: Rate,
    /// Requests to remove people.
    pub kicks: Rate,
    /// Characters of a display name.
    pub name: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            grace_ms: 45_000,
            rejected_ms: 60_000,
            peers: 10_000,
            peers_per_person: 20,
            new_peers: Rate {
                count: 500,
                per_ms: 24 * 60 * 60 * 1000,
            },
            frame_bytes: 1 << 20,
            id_bytes: 256,
            openings: Rate::per_minute(120),
            // A person with many tabs comes back with all of them at once.
            frames: Rate {
                count: 500,
                per_ms: 5_000,
            },
            changes: Rate {
                count: 100,
                per_ms: 10_000,
            },
            // Each change of what is seen is three of them.
            media: Rate {
                count: 300,
                per_ms: 10_000,
            },
            media_orders: 32,
            consumers: 100,
            track_bytes: 1024,
            reads: Rate {
                count: 100,
                per_ms: 10_000,
            },
            one_by_one: 200,
            reply_bytes: 2 << 20,
            poll_bytes: 3 << 20,
            chat: Rate::per_minute(180),
            chat_files: Rate::per_minute(20),
            chat_text: 2000,
            chat_bytes: 64 * 1024,
            chat_held: 10_000,
            chat_held_bytes: 16 << 20,
            chat_stored_bytes: 256 << 20,
            chat_person_bytes: 64 << 20,
            chat_history: 1000,
            chat_page: 500,
            search_bytes: 256 * 1024,
            slice_steps: 5_000,
            chat_reads: Rate::per_second(10),
            broadcasts: Rate::per_second(5),
            broadcast_bytes: 64 * 1024,
            stores: Rate::per_second(5),
            store_reads: Rate::per_second(30),
            store_count: 200,
            store_keys: 10_000,
            store_value_bytes: 64 * 1024,
            store_bytes: 16 << 20,
            polls: 500,
            poll_options: 50,
            poll_text: 500,
            poll_rate: Rate::per_minute(30),
            permission_updates: Rate::per_minute(1000),
            breakout_reads: Rate::per_second(5),
            breakout_changes: Rate::per_minute(30),
            // Who removes all rooms moves everybody out first, with a request for each room.
            moves: Rate::per_minute(200),
            moved: Rate::per_minute(5_000),
            // Clients ask twice for each person.
            kicks: Rate {
                count: 200,
                per_ms: 10_000,
            },
            name: 256,
        }
    }
}

/// What is left of a [`Rate`]: the generic cell rate algorithm, one number for each person and rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// When everything that was taken is paid for, in microseconds of [`Monotonic`].
    paid_us: i64,
}

impl Allowance {
    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Monotonic) -> bool {
        self.take_many(1, rate, now)
    }

    /// Takes so many, or none if there are not as many. More than a burst count as a whole burst:
    /// there are never more.
    pub(crate) fn take_many(&mut self, count: usize, rate: Rate, now: Monotonic) -> bool {
        if rate.count == 0 || count == 0 {
            return true;
        }
        let (time_us, period) = (now.as_ms() * 1000, i64::from(rate.per_ms) * 1000);
        let count = u32::try_from(count).map_or(rate.count, |count| count.min(rate.count));
        let cost_us = period / i64::from(rate.count) * i64::from(count);
        let paid_us = self.paid_us.max(time_us) + cost_us;
        if paid_us > time_us + period {
            return false;
        }
        self.paid_us = paid_us;
        true
    }

    /// Takes one for a request, which is refused with 429 when there is none.
    pub(crate) fn spend(
        &mut self,
        rate: Rate,
        now: Monotonic,
        refusal: &str,
    ) -> Result<(), Refusal> {
        self.spend_many(1, rate, now, refusal)
    }

    /// Takes so many for a request, which is refused with 429, and takes none, when there are not as
    /// many.
    pub(crate) fn spend_many(
        &mut self,
        count: usize,
        rate: Rate,
        now: Monotonic,
        refusal: &str,
    ) -> Result<(), Refusal> {
        if self.take_many(count, rate, now) {
            Ok(())
        } else {
            Err(Refusal::new(429, refusal))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> Monotonic {
        Monotonic::from_ms(ms)
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let mut left = Allowance::default();
        let rate = Rate::per_second(5);
        let taken = |left: &mut Allowance, ms| (0..100).filter(|_| left.take(rate, at(ms))).count();
        assert_eq!(taken(&mut left, 1_000_000), 5);
        assert_eq!(taken(&mut left, 1_000_200), 1);
        assert_eq!(taken(&mut left, 1_001_000), 4);
        assert_eq!(taken(&mut left, 2_000_000), 5);
    }

    fn rates() -> impl Strategy<Value = Rate> {
        (1..500_u32, 1..100_000_u32).prop_map(|(count, per_ms)| Rate { count, per_ms })
    }

    /// Times at which somebody asks, in order: mostly close together.
    fn times() -> impl Strategy<Value = Vec<i64>> {
        let pause = prop_oneof![4 => Just(0), 4 => 0..200_i64, 1 => 0..200_000_i64];
        prop::collection::vec(pause, 1..400).prop_map(|pauses| {
            let later = |now: &mut i64, pause| {
                *now += pause;
                Some(*now)
            };
            pauses.into_iter().scan(1_000, later).collect()
        })
    }

    proptest! {
        /// In any time, what the rate gives in it and one burst: no more than `count` at once, and
        /// no more than twice that, and one, in any period.
        #[test]
        fn no_time_sees_more_than_a_burst_and_the_rate(rate in rates(), times in times()) {
            let mut left = Allowance::default();
            let mut taken = times.clone();
            taken.retain(|ms| left.take(rate, at(*ms)));
            let cost_us = i64::from(rate.per_ms) * 1000 / i64::from(rate.count);
            let burst = i64::from(rate.per_ms) * 1000 / cost_us;
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let count = i64::try_from(last - first + 1).unwrap();
                    prop_assert!(count <= burst + (to - from) * 1000 / cost_us + 1);
                }
            }
        }

        /// Whoever goes on asking is heard as soon as whoever waits.
        #[test]
        fn refusals_do_not_make_the_silence_longer(rate in rates(), times in times()) {
            let (mut asks, mut waits) = (Allowance::default(), Allowance::default());
            for ms in times {
                if asks.take(rate, at(ms)) {
                    prop_assert!(waits.take(rate, at(ms)));
                } else {
                    prop_assert_eq!(asks, waits);
                    // The next one is there at the latest after what one costs.
                    let cost_ms = i64::from(rate.per_ms.div_ceil(rate.count));
                    prop_assert!(asks.clone().take(rate, at(ms + cost_ms)));
                }
            }
        }

        /// Many are taken as if they were taken one by one, or none of them is.
        #[test]
        fn many_are_taken_all_or_none(rate in rates(), times in times(), count in 1..40_usize) {
            let mut left = Allowance::default();
            let count = count.min(usize::try_from(rate.count).unwrap());
            for ms in times {
                let mut single = left;
                let fits = (0..count).all(|_| single.take(rate, at(ms)));
                let before = left;
                prop_assert_eq!(left.take_many(count, rate, at(ms)), fits);
                prop_assert_eq!(left, if fits { single } else { before });
            }
        }

        /// Whatever was taken, a period later everything is there again.
        #[test]
        fn after_a_period_of_silence_the_whole_burst_is_there(rate in rates(), times in times()) {
            let mut left = Allowance::default();
            for ms in &times {
                left.take(rate, at(*ms));
            }
            let later = at(times.last().unwrap() + i64::from(rate.per_ms));
            prop_assert!((0..rate.count).all(|_| left.take(rate, later)));
        }
    }
}
