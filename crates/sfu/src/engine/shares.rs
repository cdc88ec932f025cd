//! How many transports one person, one meeting and one app may have, and which go first when there
//! are as many as there may be.

use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::Hash;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use parlor_protocol::{AppId, MeetingId, ParticipantId};

use super::{Engine, Entry};
use crate::{Direction, Error, Member, Opened, Owner, Share, Shares};

/// A transport has so long before it may have to make room for another: clients that mean it are
/// connected by then.
const TIME_TO_CONNECT: Duration = Duration::from_secs(5);

/// The transports of each app, in all engines.
#[derive(Clone, Default)]
pub(crate) struct Apps(Arc<Mutex<HashMap<AppId, usize>>>);

impl Apps {
    fn count(&self, app: AppId) -> usize {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&app).copied().unwrap_or_default()
    }

    fn one_more(&self, app: AppId) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(app).or_default() += 1;
    }

    pub(super) fn one_less(&self, app: AppId) {
        one_less(
            &mut self.0.lock().unwrap_or_else(PoisonError::into_inner),
            app,
        );
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let hash_map::Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// The transports of each person in each meeting of one engine, and what was refused.
#[derive(Default)]
pub(super) struct Held {
    by_person: HashMap<(MeetingId, ParticipantId), usize>,
    /// How many transports were refused, by [`Share`], and last because all are taken.
    pub(super) refused: [u64; 4],
}

impl Held {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_person.is_empty()
    }
}

impl Engine {
    /// How many transports were refused, by [`Share`], and last because all are taken.
    pub(crate) fn refused(&self) -> [u64; 4] {
        self.held.refused
    }

    /// Whether there may be one more transport, in place of the member's `older` one.
    pub(super) fn find_room(
        &mut self,
        now: Instant,
        (owner, member): (Owner, Member),
        older: Option<usize>,
    ) -> Result<(), Error> {
        loop {
            let room = self.within_shares(owner, member, older);
            match room.and_then(|()| self.within_all(older)) {
                Err(error) if self.evict(now, (owner, member), &error) => {}
                room => return room,
            }
        }
    }

    /// Counts a transport that was refused.
    pub(crate) fn count_refused(&mut self, opened: &Result<Opened, Error>) {
        match opened {
            Err(Error::Share(share)) => self.held.refused[*share as usize] += 1,
            Err(Error::Full) => self.held.refused[3] += 1,
            _ => {}
        }
    }

    /// The member was let into the meeting.
    pub(crate) fn admit(&mut self, member: Member) {
        for direction in [Direction::Publish, Direction::Receive] {
            if let Some(place) = self.by_member.get(&(member, direction)) {
                self.entries[*place].owner.admitted = true;
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
        let replaced = older.map(|place| self.entries[place].owner);
        let same = |is: fn(&Owner, &Owner) -> bool| {
            usize::from(replaced.is_some_and(|replaced| is(&replaced, &owner)))
        };
        let person = (member.meeting, owner.person);
        let person = self.held.by_person.get(&person).copied();
        let hall = self.halls.get(&member.meeting);
        let counts = [
            (
                Share::Person,
                shares.person,
                person.unwrap_or_default() - same(|one, other| one.person == other.person),
            ),
            (
                Share::Meeting,
                shares.meeting,
                hall.map_or(0, |hall| hall.transports) - usize::from(older.is_some()),
            ),
            (
                Share::App,
                shares.app,
                self.settings.apps.count(owner.app) - same(|one, other| one.app == other.app),
            ),
        ];
        let full = counts
            .into_iter()
            .find(|(_, most, held)| *most > 0 && held >= most);
        full.map_or(Ok(()), |(share, ..)| Err(Error::Share(share)))
    }

    fn within_all(&self, older: Option<usize>) -> Result<(), Error> {
        let others = self.settings.open.load(Ordering::Relaxed) - usize::from(older.is_some());
        if others < self.settings.max_transports {
            Ok(())
        } else {
            Err(Error::Full)
        }
    }

    /// Frees a transport of this engine, if one may go, for one that was refused with this error: of
    /// the meeting or app that has its share, or any. Those of clients go first that have not been let
    /// into their meeting, connected or not: for a client that has, at once. Then those that nobody has
    /// connected to. Of these the oldest goes.
    pub(crate) fn evict(
        &mut self,
        now: Instant,
        (owner, member): (Owner, Member),
        error: &Error,
    ) -> bool {
        let may_go = |entry: &Entry| {
            let is_old = now.saturating_duration_since(entry.opened) >= TIME_TO_CONNECT;
            let may_go = if entry.owner.admitted {
                is_old && !entry.transport.is_secure()
            } else {
                is_old || owner.admitted
            };
            let is_asked = match error {
                Error::Full => true,
                Error::Share(Share::Meeting) => entry.member.meeting == member.meeting,
                Error::Share(Share::App) => entry.owner.app == owner.app,
                _ => false,
            };
            may_go && is_asked && entry.member != member
        };
        let entries = self.entries.iter();
        let those = entries.filter(|(_, entry)| may_go(entry));
        let first = those.min_by_key(|(_, entry)| {
            let is_connected = entry.transport.is_secure();
            (entry.owner.admitted, is_connected, entry.opened)
        });
        let Some((place, _)) = first else {
            return false;
        };
        self.abandon(place, "others need its room");
        true
    }

    /// A transport was opened.
    pub(super) fn hold(&mut self, owner: Owner, meeting: MeetingId) {
        let person = self.held.by_person.entry((meeting, owner.person));
        *person.or_default() += 1;
        self.settings.apps.one_more(owner.app);
    }

    /// A transport is gone.
    pub(super) fn let_go(&mut self, owner: Owner, meeting: MeetingId) {
        one_less(&mut self.held.by_person, (meeting, owner.person));
        self.settings.apps.one_less(owner.app);
    }
}
