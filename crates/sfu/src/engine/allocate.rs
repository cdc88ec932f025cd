//! Which simulcast layer each video of one subscriber gets.
//!
//! Two rules, in this order: everybody is seen before anybody is seen well, and whoever is more
//! important comes first. A layer that is already being sent is kept while it fits; a better one
//! is only started with some room to spare, because each change costs a key frame and an
//! estimate that swings would otherwise cause one with each swing.

#[cfg(test)]
mod tests;

/// How many simulcast layers a video can have (docs/spec/media.md 2.2).
pub(crate) const LAYERS: usize = 3;

/// How much a video matters to the subscriber, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Priority {
    /// A shared screen.
    Screen,
    /// Somebody whom a host has pinned for everybody.
    Pinned,
    /// Whoever speaks, or was the last to speak.
    Speaker,
    /// Everybody else.
    Other,
}

impl Priority {
    const ALL: [Self; 4] = [Self::Screen, Self::Pinned, Self::Speaker, Self::Other];
}

/// One video that the subscriber wants to see. Layers are counted from the best: 0 is `f`, 1 is
/// `h`, 2 is `q`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// How much it matters. Among equals, whoever stands first in the list is the more important.
    pub(crate) priority: Priority,
    /// The best layer that the subscriber has use for.
    pub(crate) preferred: usize,
    /// What each layer costs, in bits per second as measured. 0 is a layer that is not being sent.
    pub(crate) layers: [u64; LAYERS],
    /// What the subscriber gets now. None if that is nothing.
    pub(crate) current: Option<usize>,
}

impl Wanted {
    /// The best layer that it may get: the preferred one, or else the nearest worse one that is
    /// being sent, or else the nearest better one.
    pub(crate) fn ceiling(&self) -> Option<usize> {
        let sent = |layer: &usize| self.cost(*layer) > 0;
        let preferred = self.preferred.min(LAYERS - 1);
        (preferred..LAYERS)
            .find(sent)
            .or_else(|| (0..preferred).rev().find(sent))
    }

    fn cost(&self, layer: usize) -> u64 {
        self.layers.get(layer).copied().unwrap_or(0)
    }

    /// The next step up from a layer, or from nothing: the cheapest of the better layers, and the
    /// best of those if several cost the same. A layer that costs no less than a better one is
    /// passed over.
    fn step_up(&self, from: Option<usize>) -> Option<usize> {
        let ceiling = self.ceiling()?;
        (ceiling..from.unwrap_or(LAYERS))
            .filter(|layer| self.cost(*layer) > 0)
            .min_by_key(|layer| self.cost(*layer))
    }

    /// Whether the layer is better than what the subscriber gets now.
    fn is_upgrade(&self, layer: usize) -> bool {
        self.current.is_none_or(|current| layer < current)
    }
}

/// What may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// In bits per second.
    pub(crate) bps: u64,
    /// Whether that is more than a guess.
    pub(crate) is_known: bool,
}

/// What is left of it, and what is spent.
struct Purse {
    budget: u64,
    spent: u64,
}

impl Purse {
    /// Up to where it may be spent. An eighth is kept back from what is new: without it, a layer
    /// would come and go with the noise of the estimate.
    fn limit(&self, upgrade: bool) -> u64 {
        if upgrade {
            self.budget - self.budget / 8
        } else {
            self.budget
        }
    }

    /// Changes one layer for another if that stays within the limit.
    fn exchange(&mut self, old: u64, new: u64, limit: u64) -> bool {
        let spent = self.spent.saturating_sub(old).saturating_add(new);
        let fits = spent <= limit;
        if fits {
            self.spent = spent;
        }
        fits
    }
}

/// Decides the layer of each video in `wanted`; `out` is overwritten and has the same order. None
/// is a video that is paused.
///
/// First everybody gets the lowest layer, by importance as long as the budget lasts. What is left
/// raises the most important ones towards what they prefer. Those of equal importance rise
/// together, layer by layer, and none of them rises on what another of them has.
///
/// The sum stays within the budget with one exception: the single most important video gets its
/// lowest layer even if that costs up to twice the budget, and then it is the only one. A measured
/// bit rate jumps when somebody scrolls a shared screen, and pausing it then is worse than a late
/// picture.
///
/// A budget that is a guess is for being seen only; and the most important video is sent whatever it
/// costs, since nothing can be found out about a path without sending.
///
/// The same input with `current` replaced by the result gives the same result.
pub(crate) fn allocate(budget: &Budget, wanted: &[Wanted], out: &mut Vec<Option<usize>>) {
    out.clear();
    out.resize(wanted.len(), None);
    let mut purse = Purse {
        budget: budget.bps,
        spent: 0,
    };
    be_seen(budget.is_known, wanted, out, &mut purse);
    if !budget.is_known {
        return;
    }
    for class in Priority::ALL {
        // Keeping before gaining, so that no two of equal importance take turns.
        rise(class, false, wanted, out, &mut purse);
        rise(class, true, wanted, out, &mut purse);
    }
}

/// Gives the lowest layer to as many as possible.
fn be_seen(is_known: bool, wanted: &[Wanted], out: &mut [Option<usize>], purse: &mut Purse) {
    let mut first = true;
    for class in Priority::ALL {
        let class = wanted
            .iter()
            .zip(out.iter_mut())
            .filter(|(w, _)| w.priority == class);
        for (want, given) in class {
            let Some(lowest) = want.step_up(None) else {
                continue;
            };
            let mut limit = purse.limit(want.current.is_none());
            if first {
                limit = if is_known {
                    limit.saturating_mul(2)
                } else {
                    u64::MAX
                };
                first = false;
            }
            if purse.exchange(0, want.cost(lowest), limit) {
                *given = Some(lowest);
            }
        }
    }
}

/// Raises those of one class who are seen, a layer at a time, either up to what they have now or
/// beyond it.
fn rise(
    class: Priority,
    upgrade: bool,
    wanted: &[Wanted],
    out: &mut [Option<usize>],
    purse: &mut Purse,
) {
    let limit = purse.limit(upgrade);
    for _ in 1..LAYERS {
        let class = wanted
            .iter()
            .zip(out.iter_mut())
            .filter(|(w, _)| w.priority == class);
        for (want, given) in class {
            let Some(now) = *given else { continue };
            let Some(next) = want.step_up(Some(now)) else {
                continue;
            };
            if want.is_upgrade(next) == upgrade
                && purse.exchange(want.cost(now), want.cost(next), limit)
            {
                *given = Some(next);
            }
        }
    }
}
