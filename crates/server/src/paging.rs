//! Pagination: page numbers in the API, keyset pagination in the database.
//!
//! Callers request pages by number. Skipping all earlier rows would make page 5,000 a thousand
//! times slower than page 1. So [`RankCache`] remembers the ranks of some rows, and a page is read
//! from the nearest row with a known rank, or from the nearer end of the list. Rows are sorted by
//! their time-ordered IDs. Ranks count from the oldest row, so new rows do not change them. A
//! deletion changes the [`Tally`] of its scope and invalidates all ranks of the scope.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use garde::Validate;
use parlor_protocol::ids::AppId;
use parlor_store::{Db, Error, FromRow, Statement, Value, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Clock;
use crate::tallies::{TALLY, Tally};

/// Default number of items on a page.
pub const PER_PAGE_DEFAULT: u32 = 20;
/// Maximum number of items on a page.
const PER_PAGE_MAX: u32 = 1000;
/// Maximum page number.
pub const PAGE_NO_MAX: u32 = 1_000_000_000;
/// Age after which a row's rank is final, in milliseconds. Until then, a commit in progress may
/// still insert an older row.
const SETTLED_MS: i64 = 60_000;
/// Maximum number of scopes in the cache; a full cache is cleared.
const SCOPES_MAX: usize = 256;

/// The position of a page in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Paging")]
pub struct Paging {
    /// Number of items in the whole list.
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
    /// Position of the page in the list.
    pub paging: Paging,
}

/// Sort order by creation time. `DSC` is an older spelling of `DESC`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "SortOrder")]
pub enum SortOrder {
    /// Oldest first.
    #[serde(rename = "ASC")]
    Ascending,
    /// Newest first.
    #[default]
    #[serde(rename = "DESC", alias = "DSC")]
    Descending,
}

/// Page number, counted from 1. 0 also selects the first page. Defaults to 1.
#[derive(Debug, Clone, Copy, Deserialize, Validate, JsonSchema)]
#[serde(transparent)]
#[garde(transparent)]
#[schemars(inline)]
pub struct PageNo(#[garde(range(max = PAGE_NO_MAX))] u32);

impl Default for PageNo {
    fn default() -> Self {
        Self(1)
    }
}

/// Number of items per page. Defaults to 20.
#[derive(Debug, Clone, Copy, Deserialize, Validate, JsonSchema)]
#[serde(transparent)]
#[garde(transparent)]
#[schemars(inline)]
pub struct PerPage<const MIN: u32 = 0, const MAX: u32 = PER_PAGE_MAX>(
    #[garde(range(min = MIN, max = MAX))] u32,
);

impl<const MIN: u32, const MAX: u32> Default for PerPage<MIN, MAX> {
    fn default() -> Self {
        Self(PER_PAGE_DEFAULT)
    }
}

/// The requested part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Number of items before the first one.
    pub offset: i64,
    /// Maximum number of items.
    pub limit: i64,
}

impl Window {
    /// Only the first item.
    pub const FIRST_ITEM: Self = Self {
        offset: 0,
        limit: 1,
    };

    /// Returns the window of a page. A size of 0 means the default size.
    pub fn new<const MIN: u32, const MAX: u32>(
        PageNo(page_no): PageNo,
        PerPage(per_page): PerPage<MIN, MAX>,
    ) -> Self {
        let limit = if per_page == 0 {
            PER_PAGE_DEFAULT
        } else {
            per_page
        };
        let page = page_no.max(1) - 1;
        Self {
            offset: i64::from(page) * i64::from(limit),
            limit: i64::from(limit),
        }
    }

    /// Returns the position of a page with `count` items in a list of `total` items.
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

    /// Returns one page of a list in memory. `items` must be sorted from oldest to newest.
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

/// How to read a page: start at a row or at an end of the list, skip some rows, and take some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageScan {
    /// Whether to scan towards newer rows.
    pub ascending: bool,
    /// ID of the row to start at, inclusive.
    pub from: Uuid,
    /// Number of rows to skip.
    pub skip: i64,
    /// Number of rows to read.
    pub take: i64,
    /// Whether the rows must be reversed after reading.
    pub reverse: bool,
    /// Rank of the first row read.
    rank: i64,
}

/// Cache of row ranks, by scope.
#[derive(Default)]
pub struct RankCache {
    scopes: Mutex<HashMap<Uuid, KnownRanks>>,
    /// Value of [`Clock::set_back`] for which the cached ranks are valid.
    set_back: AtomicU32,
}

/// The known ranks of one scope. They are valid until a row is removed.
#[derive(Default)]
struct KnownRanks {
    removed: i64,
    rows: BTreeMap<i64, Uuid>,
}

impl RankCache {
    /// Clears the cache if the clock was set back, because new rows then sort before older ones.
    fn reset_if_clock_set_back(&self, set_back: u32) {
        if self.set_back.swap(set_back, Ordering::Relaxed) != set_back {
            let mut scopes = self.scopes.lock().expect("no holder of this lock panics");
            scopes.clear();
        }
    }

    /// Returns the scan that reads a window and skips the fewest rows. Returns `None` when the
    /// window is beyond the end of the list.
    pub fn plan(
        &self,
        scope: Uuid,
        tally: Tally,
        window: Window,
        order: SortOrder,
    ) -> Option<PageScan> {
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
        if let Some(known) = scopes
            .get(&scope)
            .filter(|known| known.removed == tally.removed)
        {
            if let Some((rank, row)) = known.rows.range(..=low).next_back() {
                up = up.min((low - rank, *row, low));
            }
            if let Some((rank, row)) = known.rows.range(high..).next() {
                down = down.min((rank - high, *row, high));
            }
        }
        let ascending = up.0 < down.0;
        let (skip, from, rank) = if ascending { up } else { down };
        let reverse = ascending != (order == SortOrder::Ascending);
        Some(PageScan {
            ascending,
            from,
            skip,
            take,
            reverse,
            rank,
        })
    }

    /// Caches the rank of a scan's first row. `before` and `after` are the tallies read around the
    /// scan: if they differ, the rank is uncertain and is not cached.
    pub fn record(
        &self,
        scope: Uuid,
        scan: &PageScan,
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
        let known = scopes.entry(scope).or_default();
        if known.removed != before.removed {
            *known = KnownRanks {
                removed: before.removed,
                rows: BTreeMap::new(),
            };
        }
        let near = scan.rank - spacing..scan.rank + spacing;
        if known.rows.range(near).next().is_none() {
            known.rows.insert(scan.rank, first);
        }
    }
}

/// A list whose scope has a tally and whose rows are sorted by ID.
#[derive(Clone, Copy)]
pub(crate) struct Listing {
    /// The app that the scope belongs to.
    pub(crate) app: AppId,
    /// The scope of the list, which is the key of the tally.
    pub(crate) scope: Uuid,
    /// Reads rows from an ID towards newer rows. Its last three parameters are the ID, the number
    /// of rows to take and the number of rows to skip.
    pub(crate) ascending: &'static Statement,
    /// Like `ascending`, but towards older rows.
    pub(crate) descending: &'static Statement,
}

/// Reads pages of lists.
pub(crate) struct Pager {
    db: Db,
    clock: Arc<Clock>,
    ranks: RankCache,
}

impl Pager {
    /// Creates a pager with an empty rank cache.
    pub(crate) fn new(db: Db, clock: Arc<Clock>) -> Self {
        Self {
            db,
            clock,
            ranks: RankCache::default(),
        }
    }

    /// Reads one page. `key` holds the parameters of the list's statements before the last three.
    pub(crate) async fn page<T: FromRow + Send + 'static>(
        &self,
        list: Listing,
        mut key: Vec<Value>,
        (window, order): (Window, SortOrder),
        id: fn(&T) -> Uuid,
    ) -> Result<Page<T>, Error> {
        let set_back = self.clock.set_back();
        self.ranks.reset_if_clock_set_back(set_back);
        let before = self.tally(list).await?;
        let Some(scan) = self.ranks.plan(list.scope, before, window, order) else {
            return Ok(Page {
                items: Vec::new(),
                paging: window.paging(before.total(), 0),
            });
        };
        let statement = if scan.ascending {
            list.ascending
        } else {
            list.descending
        };
        key.extend(values![scan.from, scan.take, scan.skip]);
        let mut items = self.db.scan::<T>(statement, key).await?;
        if let Some(first) = items.first().map(id) {
            let after = self.tally(list).await?;
            if self.clock.set_back() == set_back {
                let settled_ms = self.clock.settled_ms();
                self.ranks
                    .record(list.scope, &scan, first, before, after, settled_ms);
            }
        }
        if scan.reverse {
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

    /// Performs a scan on a list of rows 0..total, each with its rank as its ID.
    fn read(scan: &PageScan, total: i64) -> Vec<i64> {
        let rows = 0..total;
        let from = i64::try_from(scan.from.as_u128()).unwrap_or(i64::MAX);
        let skip = usize::try_from(scan.skip).unwrap();
        let take = usize::try_from(scan.take).unwrap();
        let mut page: Vec<i64> = if scan.ascending {
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
        if scan.reverse {
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
            let ranks = RankCache::default();
            let tally = Tally { added: total, removed: 0 };
            for (page, limit, ascending) in pages {
                let window = Window { offset: page * limit, limit };
                let order = if ascending { SortOrder::Ascending } else { SortOrder::Descending };
                let all: Vec<i64> = if ascending { (0..total).collect() } else { (0..total).rev().collect() };
                let skip = usize::try_from(window.offset).unwrap();
                let want: Vec<i64> = all.into_iter().skip(skip).take(usize::try_from(limit).unwrap()).collect();
                let Some(scan) = ranks.plan(Uuid::nil(), tally, window, order) else {
                    prop_assert!(want.is_empty());
                    continue;
                };
                let got = read(&scan, total);
                prop_assert_eq!(&got, &want);
                let first = if scan.reverse { got[got.len() - 1] } else { got[0] };
                ranks.record(Uuid::nil(), &scan, Uuid::from_u128(first.unsigned_abs().into()), tally, tally, SETTLED_MS + 1);
            }
        }
    }

    #[test]
    fn reading_consecutive_pages_skips_few_rows() {
        let ranks = RankCache::default();
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
            let scan = ranks
                .plan(Uuid::nil(), tally, window, SortOrder::Descending)
                .unwrap();
            farthest = farthest.max(scan.skip);
            let first = Uuid::from_u128(scan.rank.unsigned_abs().into());
            ranks.record(Uuid::nil(), &scan, first, tally, tally, SETTLED_MS + 1);
        }
        assert!(farthest <= 1000, "skipped {farthest} rows");
    }

    #[test]
    fn a_removal_invalidates_ranks() {
        let ranks = RankCache::default();
        let tally = Tally {
            added: 10_000,
            removed: 0,
        };
        let window = Window {
            offset: 5000,
            limit: 10,
        };
        let scan = ranks
            .plan(Uuid::nil(), tally, window, SortOrder::Descending)
            .unwrap();
        ranks.record(
            Uuid::nil(),
            &scan,
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

    fn window(page_no: u32, per_page: u32) -> Window {
        Window::new(PageNo(page_no), PerPage::<0, PER_PAGE_MAX>(per_page))
    }

    #[test]
    fn page_zero_is_page_one() {
        assert_eq!(
            window(0, 0),
            Window {
                offset: 0,
                limit: 20
            }
        );
        let window_of_default = Window::new(PageNo::default(), PerPage::<0, PER_PAGE_MAX>(5));
        assert_eq!(window_of_default, window(1, 5));
        assert_eq!(
            window(2, 2).paging(123, 2),
            Paging {
                total_count: 123,
                start_offset: 3,
                end_offset: 4
            }
        );
    }
}
