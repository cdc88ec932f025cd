//! Limits of a room.

use crate::output::Refusal;
use crate::room::Monotonic;

/// A token-bucket rate: `count` in each `per_ms`, and at most `count` in a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Number of requests.
    pub count: u32,
    /// Period, in milliseconds.
    pub per_ms: u32,
}

impl Rate {
    /// A rate of `count` per second.
    pub const fn per_second(count: u32) -> Self {
        Self {
            count,
            per_ms: 1000,
        }
    }

    /// A rate of `count` per minute.
    pub const fn per_minute(count: u32) -> Self {
        Self {
            count,
            per_ms: 60_000,
        }
    }
}

/// Maximum frame sizes, in bytes, by content. The rules of events refer to them.
pub(crate) mod frames {
    /// One or two ids and a short text.
    pub(crate) const SMALL: usize = 8 * 1024;
    /// A participant's profile.
    pub(crate) const PROFILE: usize = 16 * 1024;
    /// Media capabilities before the first transport.
    pub(crate) const JOINING: usize = 64 * 1024;
    /// A message of 64 KiB, or the same size of ids.
    pub(crate) const MESSAGE: usize = 80 * 1024;
    /// 1,000 participants with a preset each, or a list of subscriptions.
    pub(crate) const MOVES: usize = 128 * 1024;
    /// 100 titles or 50 options of the maximum length.
    pub(crate) const ROOMS: usize = 128 * 1024;
    /// Keys of a store, without values.
    pub(crate) const KEYS: usize = 512 * 1024;
    /// An SDP offer of a transport without tracks.
    pub(crate) const TRANSPORT: usize = 256 * 1024;
    /// An SDP with all tracks.
    pub(crate) const DESCRIPTION: usize = 512 * 1024;
    /// All participants of a large meeting.
    pub(crate) const PARTICIPANTS: usize = 1 << 20;
    /// Keys of a store with their values.
    pub(crate) const VALUES: usize = 1 << 20;
}

/// Limits of a room. Rates apply to each participant with all of their peers, for the lifetime of
/// the room. They follow those of the official client (docs/spec/signalling.md 6.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Grace period of a peer that lost its socket, in milliseconds.
    pub grace_ms: i64,
    /// How long a rejected peer keeps its socket, in milliseconds.
    pub rejected_ms: i64,
    /// Maximum number of peers in a room, including the waiting room.
    pub peers: usize,
    /// Maximum number of peers of one participant.
    pub peers_per_participant: usize,
    /// New peers of one participant. The burst is refilled over a day.
    pub new_peers: Rate,
    /// Maximum frame size in bytes. Each event has its own, lower limit.
    pub frame_bytes: usize,
    /// Maximum size of a request's correlation id, in bytes.
    pub id_bytes: usize,
    /// Opened sockets, of new and of reconnecting peers.
    pub openings: Rate,
    /// Frames of any kind.
    pub frames: Rate,
    /// Changes that are pushed to others and have no separate rate: stage, votes, pins, tracks.
    pub changes: Rate,
    /// Requests to the media plane for the peer itself: subscribing, unsubscribing, simulcast
    /// layers.
    pub media: Rate,
    /// Maximum number of unanswered orders of a peer.
    pub media_orders: usize,
    /// Maximum number of tracks that a peer receives.
    pub consumers: usize,
    /// Maximum size of a client's metadata of a published track, in bytes.
    pub track_bytes: usize,
    /// Expensive reads that have no separate rate: the roster, polls, lists of requests.
    pub reads: Rate,
    /// Maximum number of peers whose appearance or disappearance is pushed to one client
    /// individually.
    pub individual_pushes: usize,
    /// Maximum size of a reply in bytes, for a page of the chat and for one store, which is always
    /// read as a whole.
    pub reply_bytes: usize,
    /// Maximum size of all polls with their votes, in bytes. They are always read as a whole. New
    /// polls may take three quarters of it; the rest is reserved for votes.
    pub poll_bytes: usize,
    /// Chat messages.
    pub chat: Rate,
    /// Chat messages with files or images.
    pub chat_files: Rate,
    /// Maximum length of a text message, in characters.
    pub chat_text: usize,
    /// Maximum size of a message's payload, in bytes.
    pub chat_bytes: usize,
    /// Maximum number of messages held in memory. The oldest are evicted; they stay in the records.
    pub chat_held: usize,
    /// Maximum size of the messages held in memory, in bytes.
    pub chat_held_bytes: usize,
    /// Maximum size of the meeting's stored messages of all sessions, in bytes; 0 means unlimited.
    pub chat_stored_bytes: u64,
    /// Maximum size of the messages that one participant may add during the room's lifetime, in
    /// bytes; 0 means unlimited.
    pub chat_participant_bytes: u64,
    /// Maximum number of messages in the history reply.
    pub chat_history: usize,
    /// Maximum number of messages on a page.
    pub chat_page: usize,
    /// Bytes of chat examined in one slice of a read: the searched text, and 128 for each message.
    pub search_bytes: usize,
    /// Budget of one slice, in cost units.
    pub slice_cost: usize,
    /// Reads of the history, of pages and of search results. Each may examine all messages held.
    pub chat_reads: Rate,
    /// Broadcasts.
    pub broadcasts: Rate,
    /// Maximum size of a broadcast, in bytes.
    pub broadcast_bytes: usize,
    /// Writes to stores and deletions, which have separate allowances of this size.
    pub stores: Rate,
    /// Reads of stores. Higher, because clients read all of their stores on every join and
    /// reconnect.
    pub store_reads: Rate,
    /// Maximum number of stores in a room.
    pub store_count: usize,
    /// Maximum number of keys in all stores together.
    pub store_keys: usize,
    /// Maximum size of a value, in bytes.
    pub store_value_bytes: usize,
    /// Maximum size of all stores together, in bytes.
    pub store_bytes: usize,
    /// Maximum number of polls in a session.
    pub polls: usize,
    /// Maximum number of options of a poll.
    pub poll_options: usize,
    /// Maximum length of a question or an option, in characters.
    pub poll_text: usize,
    /// New polls.
    pub poll_rate: Rate,
    /// Updates of other participants' permissions.
    pub permission_updates: Rate,
    /// Reads of breakout rooms and their participants.
    pub breakout_reads: Rate,
    /// Requests that create or delete breakout rooms, many at a time.
    pub breakout_changes: Rate,
    /// Requests to move participants between rooms.
    pub moves: Rate,
    /// Moved participants.
    pub moved_participants: Rate,
    /// Requests to remove participants.
    pub kicks: Rate,
    /// Maximum length of a display name, in characters.
    pub name_chars: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            grace_ms: 45_000,
            rejected_ms: 60_000,
            peers: 10_000,
            peers_per_participant: 20,
            new_peers: Rate {
                count: 500,
                per_ms: 24 * 60 * 60 * 1000,
            },
            frame_bytes: 1 << 20,
            id_bytes: 256,
            openings: Rate::per_minute(120),
            // A participant with many tabs reconnects all of them at once.
            frames: Rate {
                count: 500,
                per_ms: 5_000,
            },
            changes: Rate {
                count: 100,
                per_ms: 10_000,
            },
            // Each change of the visible tracks takes three requests.
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
            individual_pushes: 200,
            reply_bytes: 2 << 20,
            poll_bytes: 3 << 20,
            chat: Rate::per_minute(180),
            chat_files: Rate::per_minute(20),
            chat_text: 2000,
            chat_bytes: 64 * 1024,
            chat_held: 10_000,
            chat_held_bytes: 16 << 20,
            chat_stored_bytes: 256 << 20,
            chat_participant_bytes: 64 << 20,
            chat_history: 1000,
            chat_page: 500,
            search_bytes: 256 * 1024,
            slice_cost: 5_000,
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
            // Deleting all rooms first moves their participants out, with one request for each
            // room.
            moves: Rate::per_minute(200),
            moved_participants: Rate::per_minute(5_000),
            // Clients send each request twice.
            kicks: Rate {
                count: 200,
                per_ms: 10_000,
            },
            name_chars: 256,
        }
    }
}

/// State of a [`Rate`], as in the generic cell rate algorithm: one timestamp for each participant
/// and rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// The theoretical arrival time, in microseconds of [`Monotonic`].
    paid_us: i64,
}

impl Allowance {
    /// Takes one token if available.
    pub(crate) fn take(&mut self, rate: Rate, now: Monotonic) -> bool {
        self.take_many(1, rate, now)
    }

    /// Takes `count` tokens, or none if there are not enough. A count above the burst size is
    /// treated as a full burst.
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

    /// Charges one request, or rejects it with 429.
    pub(crate) fn spend(
        &mut self,
        rate: Rate,
        now: Monotonic,
        refusal: &str,
    ) -> Result<(), Refusal> {
        self.spend_many(1, rate, now, refusal)
    }

    /// Charges a request with `count` tokens, or rejects it with 429 and takes none.
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
        let mut allowance = Allowance::default();
        let rate = Rate::per_second(5);
        let taken = |allowance: &mut Allowance, ms| {
            (0..100).filter(|_| allowance.take(rate, at(ms))).count()
        };
        assert_eq!(taken(&mut allowance, 1_000_000), 5);
        assert_eq!(taken(&mut allowance, 1_000_200), 1);
        assert_eq!(taken(&mut allowance, 1_001_000), 4);
        assert_eq!(taken(&mut allowance, 2_000_000), 5);
    }

    fn rates() -> impl Strategy<Value = Rate> {
        (1..500_u32, 1..100_000_u32).prop_map(|(count, per_ms)| Rate { count, per_ms })
    }

    /// Request times in ascending order, mostly close together.
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
        /// Any interval admits at most one burst plus what the rate gives: no more than `count` at
        /// once, and no more than twice that plus one in any period.
        #[test]
        fn no_interval_exceeds_a_burst_and_the_rate(rate in rates(), times in times()) {
            let mut allowance = Allowance::default();
            let mut taken = times.clone();
            taken.retain(|ms| allowance.take(rate, at(*ms)));
            let cost_us = i64::from(rate.per_ms) * 1000 / i64::from(rate.count);
            let burst = i64::from(rate.per_ms) * 1000 / cost_us;
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let count = i64::try_from(last - first + 1).unwrap();
                    prop_assert!(count <= burst + (to - from) * 1000 / cost_us + 1);
                }
            }
        }

        /// Rejected requests do not delay the next success.
        #[test]
        fn rejected_requests_do_not_delay_the_next_success(rate in rates(), times in times()) {
            let (mut asks, mut waits) = (Allowance::default(), Allowance::default());
            for ms in times {
                if asks.take(rate, at(ms)) {
                    prop_assert!(waits.take(rate, at(ms)));
                } else {
                    prop_assert_eq!(asks, waits);
                    // The next token is available after the time of one token.
                    let cost_ms = i64::from(rate.per_ms.div_ceil(rate.count));
                    prop_assert!(asks.clone().take(rate, at(ms + cost_ms)));
                }
            }
        }

        /// Taking many is equivalent to taking one at a time, all or none.
        #[test]
        fn many_are_taken_all_or_none(rate in rates(), times in times(), count in 1..40_usize) {
            let mut allowance = Allowance::default();
            let count = count.min(usize::try_from(rate.count).unwrap());
            for ms in times {
                let mut single = allowance;
                let fits = (0..count).all(|_| single.take(rate, at(ms)));
                let before = allowance;
                prop_assert_eq!(allowance.take_many(count, rate, at(ms)), fits);
                prop_assert_eq!(allowance, if fits { single } else { before });
            }
        }

        /// After an idle period the full burst is available again.
        #[test]
        fn after_an_idle_period_the_full_burst_is_available(rate in rates(), times in times()) {
            let mut allowance = Allowance::default();
            for ms in &times {
                allowance.take(rate, at(*ms));
            }
            let later = at(times.last().unwrap() + i64::from(rate.per_ms));
            prop_assert!((0..rate.count).all(|_| allowance.take(rate, later)));
        }
    }
}
