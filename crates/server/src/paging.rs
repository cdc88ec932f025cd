//! Pages: numbers outside, keys inside.
//!
//! Callers ask for pages by number. Skipping rows to get there would make page 5,000 a thousand
//! times slower than page 1, so the rank of some rows is remembered ([`Ranks`]) and a page is read
//! from the nearest row of known rank, or from the nearer end. Rows are in the order of their
//! time-ordered ids; a rank counts from the oldest, so new rows at the other end never change it,
//! and a deletion (which the tally counts) forgets all ranks of its scope.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use parlor_protocol::ids::AppId;
use parlor_store::{Db, Error, FromRow, Statement, Value, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Clock;
use crate::tallies::{TALLY, Tally};

/// Items on a page when the caller does not say.
pub const PER_PAGE_DEFAULT: u32 = 20;
/// The largest page.
pub const PER_PAGE_MAX: u32 = 1000;
/// The farthest page.
pub const PAGE_NO_MAX: u32 = 1_000_000_000;
/// Rows younger than this may still get an older neighbour from a commit under way.
const SETTLED_MS: i64 = 60_000;
/// Scopes whose ranks are kept at once.
const SCOPES_MAX: usize = 256;

/// Where a page stands in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Paging {
    /// How many items the whole list has.
    #[schemars(range(min = 0))]
    pub total_count: i64,
    /// Number of the page's first item, counted from 1; 0 for an empty page.
    #[schemars(range(min = 0))]
    pub start_offset: i64,
    /// Number of the page's last item, inclusive; 0 for an empty page.
    #[schemars(range(min = 0))]
    pub end_offset: i64,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Where in the whole list they stand.
    pub paging: Paging,
}

/// Direction of a list by creation time. `DSC` is an older spelling of `DESC`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SortOrder {
    /// Oldest first.
    #[serde(rename = "ASC")]
    Ascending,
    /// Newest first.
    #[default]
    #[serde(rename = "DESC", alias = "DSC")]
    Descending,
}

/// The part of a list that a caller asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Items before the first one.
    pub offset: i64,
    /// Items at most.
    pub limit: i64,
}

impl Window {
    /// Pages count from 1, and 0 means the first one too; so does an absent number.
    pub fn new(page_no: Option<u32>, per_page: Option<u32>) -> Self {
        let limit = per_page
            .filter(|limit| *limit > 0)
            .unwrap_or(PER_PAGE_DEFAULT)
            .min(PER_PAGE_MAX);
        let page = page_no.unwrap_or(1).max(1) - 1;
        Self {
            offset: i64::from(page) * i64::from(limit),
            limit: i64::from(limit),
        }
    }

    /// Where a page of `count` items stands in a list of `total`.
    pub fn paging(self, total: i64, count: usize) -> Paging {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let (start, end) = if count == 0 {
            (0, 0)
        } else {
            (self.offset + 1, self.offset + count)
        };
        Paging {
            total_count: total,
            start_offset: start,
            end_offset: end,
        }
    }

    /// The window of a list that is already in memory, oldest first, in the order that is wanted.
    pub fn cut<T>(self, mut items: Vec<T>, order: SortOrder) -> Page<T> {
        if order == SortOrder::Descending {
            items.reverse();
        }
        let total = i64::try_from(items.len()).unwrap_or(i64::MAX);
        let start = usize::try_from(self.offset)
            .unwrap_or(usize::MAX)
            .min(items.len());
        items.drain(..start);
        items.truncate(usize::try_from(self.limit).unwrap_or(usize::MAX));
        let paging = self.paging(total, items.len());
        Page { items, paging }
    }
}

/// How to read a page: walk from a row (or an end), skip some rows, take some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// Towards newer rows.
    pub ascending: bool,
    /// The row to start from, itself included.
    pub from: Uuid,
    /// Rows to pass over.
    pub skip: i64,
    /// Rows to read.
    pub take: i64,
    /// Whether the rows must be turned round afterwards.
    pub reverse: bool,
    /// Rank of the first row read.
    rank: i64,
}

/// Known ranks of rows, for every scope that was listed lately.
#[derive(Default)]
pub struct Ranks {
    scopes: Mutex<HashMap<Uuid, Marks>>,
    /// How often the clock had been set back when the first of them was learned.
    set_back: AtomicU32,
}

/// Rank from the oldest → row, valid while nothing was removed.
#[derive(Default)]
struct Marks {
    removed: i64,
    rows: BTreeMap<i64, Uuid>,
}

impl Ranks {
    /// Forgets everything when the clock was set back since: new rows then come before older ones.
    fn must_be_in_order(&self, set_back: u32) {
        if self.set_back.swap(set_back, Ordering::Relaxed) != set_back {
            let mut scopes = self.scopes.lock().expect("no holder of this lock panics");
            scopes.clear();
        }
    }

    /// The shortest way to a window; `None` when it is beyond the end.
    pub fn plan(
        &self,
        scope: Uuid,
        tally: Tally,
        window: Window,
        order: SortOrder,
    ) -> Option<Walk> {
        let total = tally.total();
        if window.offset >= total {
            return None;
        }
        let take = window.limit.min(total - window.offset);
        let low = match order {
            SortOrder::Ascending => window.offset,
            SortOrder::Descending => total - window.offset - take,
        };
        let high = low + take - 1;
        let mut up = (low, Uuid::nil(), low);
        let mut down = (total - 1 - high, Uuid::max(), high);
        let scopes = self.scopes.lock().expect("no holder of this lock panics");
        if let Some(marks) = scopes
            .get(&scope)
            .filter(|marks| marks.removed == tally.removed)
        {
            if let Some((rank, row)) = marks.rows.range(..=low).next_back() {
                up = up.min((low - rank, *row, low));
            }
            if let Some((rank, row)) = marks.rows.range(high..).next() {
                down = down.min((rank - high, *row, high));
            }
        }
        let ascending = up.0 < down.0;
        let (skip, from, rank) = if ascending { up } else { down };
        let reverse = ascending != (order == SortOrder::Ascending);
        Some(Walk {
            ascending,
            from,
            skip,
            take,
            reverse,
            rank,
        })
    }

    /// Remembers the rank of a walk's first row. `before` and `after` are the tallies read around
    /// the walk: if they differ, the rank is not certain.
    pub fn learn(
        &self,
        scope: Uuid,
        walk: &Walk,
        first: Uuid,
        before: Tally,
        after: Tally,
        now_ms: i64,
    ) {
        if before != after || crate::clock::id_ms(first) > now_ms - SETTLED_MS {
            return;
        }
        let spacing = (before.total() / 10_000).max(500);
        let mut scopes = self.scopes.lock().expect("no holder of this lock panics");
        if scopes.len() >= SCOPES_MAX && !scopes.contains_key(&scope) {
            scopes.clear();
        }
        let marks = scopes.entry(scope).or_default();
        if marks.removed != before.removed {
            *marks = Marks {
                removed: before.removed,
                rows: BTreeMap::new(),
            };
        }
        let near = walk.rank - spacing..walk.rank + spacing;
        if marks.rows.range(near).next().is_none() {
            marks.rows.insert(walk.rank, first);
        }
    }
}

/// A list whose scope has a tally and whose rows are in the order of their ids.
#[derive(Clone, Copy)]
pub(crate) struct Listing {
    /// The app of the scope.
    pub(crate) app: AppId,
    /// What the rows are in: the key of the tally.
    pub(crate) scope: Uuid,
    /// Reads rows from an id on: its parameters end with that id, how many to take, how many to skip.
    pub(crate) ascending: &'static Statement,
    /// The same, towards older rows.
    pub(crate) descending: &'static Statement,
}

/// Reads pages of lists.
pub(crate) struct Pager {
    db: Db,
    clock: Arc<Clock>,
    ranks: Ranks,
}

impl Pager {
    /// Knows no rank yet.
    pub(crate) fn new(db: Db, clock: Arc<Clock>) -> Self {
        Self {
            db,
            clock,
            ranks: Ranks::default(),
        }
    }

    /// Reads one page. `key` is what stands before the last three parameters of the list's statements.
    pub(crate) async fn page<T: FromRow + Send + 'static>(
        &self,
        list: Listing,
        mut key: Vec<Value>,
        (window, order): (Window, SortOrder),
        id: fn(&T) -> Uuid,
    ) -> Result<Page<T>, Error> {
        let set_back = self.clock.set_back();
        self.ranks.must_be_in_order(set_back);
        let before = self.tally(list).await?;
        let Some(walk) = self.ranks.plan(list.scope, before, window, order) else {
            return Ok(Page {
                items: Vec::new(),
                paging: window.paging(before.total(), 0),
            });
        };
        let statement = if walk.ascending {
            list.ascending
        } else {
            list.descending
        };
        key.extend(values![walk.from, walk.take, walk.skip]);
        let mut items = self.db.scan::<T>(statement, key).await?;
        if let Some(first) = items.first().map(id) {
            let after = self.tally(list).await?;
            if self.clock.set_back() == set_back {
                let settled_ms = self.clock.settled_ms();
                self.ranks
                    .learn(list.scope, &walk, first, before, after, settled_ms);
            }
        }
        if walk.reverse {
            items.reverse();
        }
        let paging = window.paging(before.total(), items.len());
        Ok(Page { items, paging })
    }

    async fn tally(&self, list: Listing) -> Result<Tally, Error> {
        let key = values![list.app.uuid(), list.scope];
        let found = self.db.read::<Tally>(&TALLY, key).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Walks a list of rows 0..total whose id is their rank.
    fn read(walk: &Walk, total: i64) -> Vec<i64> {
        let rows = 0..total;
        let from = i64::try_from(walk.from.as_u128()).unwrap_or(i64::MAX);
        let skip = usize::try_from(walk.skip).unwrap();
        let take = usize::try_from(walk.take).unwrap();
        let mut page: Vec<i64> = if walk.ascending {
            rows.filter(|row| *row >= from)
                .skip(skip)
                .take(take)
                .collect()
        } else {
            rows.rev()
                .filter(|row| *row <= from)
                .skip(skip)
                .take(take)
                .collect()
        };
        if walk.reverse {
            page.reverse();
        }
        page
    }

    proptest! {
        #[test]
        fn every_page_is_the_same_with_and_without_known_ranks(
            total in 0_i64..5000,
            pages in prop::collection::vec((0_i64..60, 1_i64..120, any::<bool>()), 1..40),
        ) {
            let ranks = Ranks::default();
            let tally = Tally { added: total, removed: 0 };
            for (page, limit, ascending) in pages {
                let window = Window { offset: page * limit, limit };
                let order = if ascending { SortOrder::Ascending } else { SortOrder::Descending };
                let all: Vec<i64> = if ascending { (0..total).collect() } else { (0..total).rev().collect() };
                let skip = usize::try_from(window.offset).unwrap();
                let want: Vec<i64> = all.into_iter().skip(skip).take(usize::try_from(limit).unwrap()).collect();
                let Some(walk) = ranks.plan(Uuid::nil(), tally, window, order) else {
                    prop_assert!(want.is_empty());
                    continue;
                };
                let got = read(&walk, total);
                prop_assert_eq!(&got, &want);
                let first = if walk.reverse { got[got.len() - 1] } else { got[0] };
                ranks.learn(Uuid::nil(), &walk, Uuid::from_u128(first.unsigned_abs().into()), tally, tally, SETTLED_MS + 1);
            }
        }
    }

    #[test]
    fn paging_on_never_skips_far() {
        let ranks = Ranks::default();
        let tally = Tally {
            added: 1_000_000,
            removed: 0,
        };
        let mut farthest = 0;
        for page in 0..3000 {
            let window = Window {
                offset: page * 100,
                limit: 100,
            };
            let walk = ranks
                .plan(Uuid::nil(), tally, window, SortOrder::Descending)
                .unwrap();
            farthest = farthest.max(walk.skip);
            let first = Uuid::from_u128(walk.rank.unsigned_abs().into());
            ranks.learn(Uuid::nil(), &walk, first, tally, tally, SETTLED_MS + 1);
        }
        assert!(farthest <= 1000, "skipped {farthest} rows");
    }

    #[test]
    fn a_removal_forgets_ranks() {
        let ranks = Ranks::default();
        let tally = Tally {
            added: 10_000,
            removed: 0,
        };
        let window = Window {
            offset: 5000,
            limit: 10,
        };
        let walk = ranks
            .plan(Uuid::nil(), tally, window, SortOrder::Descending)
            .unwrap();
        ranks.learn(
            Uuid::nil(),
            &walk,
            Uuid::from_u128(7),
            tally,
            tally,
            SETTLED_MS + 1,
        );
        assert_eq!(
            ranks
                .plan(Uuid::nil(), tally, window, SortOrder::Descending)
                .unwrap()
                .skip,
            0
        );
        let later = Tally {
            added: 10_000,
            removed: 1,
        };
        assert!(
            ranks
                .plan(Uuid::nil(), later, window, SortOrder::Descending)
                .unwrap()
                .skip
                > 4000
        );
    }

    #[test]
    fn page_zero_is_page_one() {
        assert_eq!(
            Window::new(Some(0), Some(0)),
            Window {
                offset: 0,
                limit: 20
            }
        );
        assert_eq!(Window::new(None, Some(5)), Window::new(Some(1), Some(5)));
        assert_eq!(
            Window::new(Some(2), Some(2)).paging(123, 2),
            Paging {
                total_count: 123,
                start_offset: 3,
                end_offset: 4
            }
        );
    }
}
