//! Transport limits per participant, meeting and app, and eviction when a limit is reached.

use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::Hash;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use parlor_protocol::{AppId, MeetingId, ParticipantId};

use super::{Engine, Entry};
use crate::{Direction, Error, Member, Opened, Owner, Share, Shares};

/// How long a new transport is protected from eviction. Genuine clients connect within this time.
const TIME_TO_CONNECT: Duration = Duration::from_secs(5);

/// Number of transports of each app, across all engines.
#[derive(Clone, Default)]
pub(crate) struct AppCounts(Arc<Mutex<HashMap<AppId, usize>>>);

impl AppCounts {
    fn count(&self, app: AppId) -> usize {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&app).copied().unwrap_or_default()
    }

    fn increment(&self, app: AppId) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(app).or_default() += 1;
    }

    pub(super) fn decrement(&self, app: AppId) {
        decrement(
            &mut self.0.lock().unwrap_or_else(PoisonError::into_inner),
            app,
        );
    }
}

fn decrement<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let hash_map::Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// Number of transports of each participant in each meeting of one engine, and the number of
/// rejections.
#[derive(Default)]
pub(super) struct Held {
    by_participant: HashMap<(MeetingId, ParticipantId), usize>,
    /// Number of rejected transports, by [`Share`]; the last entry counts those rejected because
    /// all transports are taken.
    pub(super) refused: [u64; 4],
}

impl Held {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_participant.is_empty()
    }
}

impl Engine {
    /// Returns the number of rejected transports, by [`Share`]; the last entry counts those
    /// rejected because all transports are taken.
    pub(crate) fn refused(&self) -> [u64; 4] {
        self.held.refused
    }

    /// Checks the limits for one more transport in place of the member's `older` one, and evicts
    /// other transports if that makes room.
    pub(super) fn make_room(
        &mut self,
        now: Instant,
        (owner, member): (Owner, Member),
        older: Option<usize>,
    ) -> Result<(), Error> {
        loop {
            let room = self.within_shares(owner, member, older);
            match room.and_then(|()| self.within_total(older)) {
                Err(error) if self.evict(now, (owner, member), &error) => {}
                room => return room,
            }
        }
    }

    /// Counts a rejected transport.
    pub(crate) fn count_refused(&mut self, opened: &Result<Opened, Error>) {
        match opened {
            Err(Error::Share(share)) => self.held.refused[*share as usize] += 1,
            Err(Error::Full) => self.held.refused[3] += 1,
            _ => {}
        }
    }

    /// Marks the member's transports as admitted to the meeting.
    pub(crate) fn admit(&mut self, member: Member) {
        for direction in [Direction::Publish, Direction::Receive] {
            if let Some(key) = self.by_member.get(&(member, direction)) {
                self.entries[*key].owner.admitted = true;
            }
        }
    }

    fn within_shares(
        &self,
        owner: Owner,
        member: Member,
        older: Option<usize>,
    ) -> Result<(), Error> {
        let shares: Shares = self.settings.shares;
        let replaced = older.map(|key| self.entries[key].owner);
        let same = |is: fn(&Owner, &Owner) -> bool| {
            usize::from(replaced.is_some_and(|replaced| is(&replaced, &owner)))
        };
        let participant = (member.meeting, owner.participant);
        let participant = self.held.by_participant.get(&participant).copied();
        let state = self.meetings.get(&member.meeting);
        let counts = [
            (
                Share::Participant,
                shares.participant,
                participant.unwrap_or_default()
                    - same(|one, other| one.participant == other.participant),
            ),
            (
                Share::Meeting,
                shares.meeting,
                state.map_or(0, |state| state.transports) - usize::from(older.is_some()),
            ),
            (
                Share::App,
                shares.app,
                self.settings.apps.count(owner.app) - same(|one, other| one.app == other.app),
            ),
        ];
        let full = counts
            .into_iter()
            .find(|(_, limit, held)| *limit > 0 && held >= limit);
        full.map_or(Ok(()), |(share, ..)| Err(Error::Share(share)))
    }

    fn within_total(&self, older: Option<usize>) -> Result<(), Error> {
        let others = self.settings.open.load(Ordering::Relaxed) - usize::from(older.is_some());
        if others < self.settings.max_transports {
            Ok(())
        } else {
            Err(Error::Full)
        }
    }

    /// Evicts a transport of this engine to make room for a transport that was rejected with
    /// `error`. The evicted transport belongs to the same meeting or app, or to any if the engine
    /// is full. Transports of clients that have not been admitted to their meeting are evicted
    /// first, connected or not; an admitted client evicts them at once. Transports that no client
    /// has connected to come next. Within each group, the oldest is evicted first. Returns whether
    /// one was evicted.
    pub(crate) fn evict(
        &mut self,
        now: Instant,
        (owner, member): (Owner, Member),
        error: &Error,
    ) -> bool {
        let is_evictable = |entry: &Entry| {
            let is_old = now.saturating_duration_since(entry.opened_at) >= TIME_TO_CONNECT;
            let is_evictable = if entry.owner.admitted {
                is_old && !entry.transport.is_secure()
            } else {
                is_old || owner.admitted
            };
            let is_candidate = match error {
                Error::Full => true,
                Error::Share(Share::Meeting) => entry.member.meeting == member.meeting,
                Error::Share(Share::App) => entry.owner.app == owner.app,
                _ => false,
            };
            is_evictable && is_candidate && entry.member != member
        };
        let entries = self.entries.iter();
        let candidates = entries.filter(|(_, entry)| is_evictable(entry));
        let first = candidates.min_by_key(|(_, entry)| {
            let is_connected = entry.transport.is_secure();
            (entry.owner.admitted, is_connected, entry.opened_at)
        });
        let Some((key, _)) = first else {
            return false;
        };
        self.free_and_notify(key, "evicted to make room");
        true
    }

    /// Counts an opened transport towards its shares.
    pub(super) fn acquire_share(&mut self, owner: Owner, meeting: MeetingId) {
        let participant = self.held.by_participant.entry((meeting, owner.participant));
        *participant.or_default() += 1;
        self.settings.apps.increment(owner.app);
    }

    /// Releases the share of a freed transport.
    pub(super) fn release_share(&mut self, owner: Owner, meeting: MeetingId) {
        decrement(&mut self.held.by_participant, (meeting, owner.participant));
        self.settings.apps.decrement(owner.app);
    }
}
