//! Allocation of simulcast layers to the videos of one subscriber.
//!
//! Two rules, in this order: every video gets its lowest layer before any gets a better one, and
//! more important videos come first. A layer that is already forwarded is kept while it fits; a
//! better one is started only with some headroom, since each change costs a key frame and a
//! fluctuating estimate would otherwise cause one change after another.

#[cfg(test)]
mod tests;

/// Maximum number of simulcast layers of a video (docs/spec/media.md 2.2).
pub(crate) const LAYERS: usize = 3;

/// The importance of a video to the subscriber, most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Priority {
    /// A shared screen.
    Screen,
    /// A participant that a host has pinned for everyone.
    Pinned,
    /// The current or last speaker.
    Speaker,
    /// Any other participant.
    Other,
}

impl Priority {
    const ALL: [Self; 4] = [Self::Screen, Self::Pinned, Self::Speaker, Self::Other];
}

/// A video that the subscriber wants to receive. Layers are numbered from the best: 0 is `f`, 1 is
/// `h`, 2 is `q`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The importance of the video. Among equals, the earlier in the list is more important.
    pub(crate) priority: Priority,
    /// The best layer that is of use to the subscriber.
    pub(crate) preferred: usize,
    /// Measured bit rate of each layer, in bits per second. 0 for a layer that is not sent.
    pub(crate) layers: [u64; LAYERS],
    /// The layer that the subscriber receives now, or `None`.
    pub(crate) current: Option<usize>,
}

impl Wanted {
    /// Returns the best layer that the video may get: the preferred one, or else the nearest lower
    /// one that is sent, or else the nearest better one.
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

    /// Returns the next step up from a layer, or from nothing: the cheapest better layer, or the
    /// best of these if several cost the same. A layer that costs as much as a better one is
    /// skipped.
    fn step_up(&self, from: Option<usize>) -> Option<usize> {
        let ceiling = self.ceiling()?;
        (ceiling..from.unwrap_or(LAYERS))
            .filter(|layer| self.cost(*layer) > 0)
            .min_by_key(|layer| self.cost(*layer))
    }

    /// Whether the layer is better than the one that the subscriber receives now.
    fn is_upgrade(&self, layer: usize) -> bool {
        self.current.is_none_or(|current| layer < current)
    }
}

/// The bit rate that may be allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// In bits per second.
    pub(crate) bps: u64,
    /// Whether the bit rate is based on feedback and not on the initial value.
    pub(crate) is_known: bool,
}

/// The budget, and the part of it that is allocated.
struct BudgetTracker {
    budget: u64,
    spent: u64,
}

impl BudgetTracker {
    /// Returns the limit for a layer. An eighth is reserved when upgrading: without this headroom,
    /// noise in the estimate would make a layer come and go.
    fn limit(&self, upgrade: bool) -> u64 {
        if upgrade {
            self.budget - self.budget / 8
        } else {
            self.budget
        }
    }

    /// Replaces one layer's bit rate by another's, if that stays within the limit.
    fn replace(&mut self, old: u64, new: u64, limit: u64) -> bool {
        let spent = self.spent.saturating_sub(old).saturating_add(new);
        let fits = spent <= limit;
        if fits {
            self.spent = spent;
        }
        fits
    }
}

/// Decides the layer of each video in `wanted`, and writes them to `out` in the same order. `None`
/// is a video that is paused.
///
/// First, every video gets its lowest layer, in order of importance, as long as the budget lasts.
/// The rest of the budget raises the most important videos towards their preferred layer. Videos of
/// equal importance are raised together, layer by layer, and none is raised at the expense of
/// another.
///
/// The sum stays within the budget with one exception: the most important video gets its lowest
/// layer even if that costs up to twice the budget, and is then the only one. The measured bit rate
/// of a shared screen jumps when it is scrolled, and pausing it then is worse than a late frame.
///
/// While the budget is not known, only lowest layers are allocated, and the most important video is
/// sent whatever it costs, since a path can only be measured by sending.
///
/// The allocation is stable: the same input, with `current` replaced by the result, gives the same
/// result.
pub(crate) fn allocate(budget: &Budget, wanted: &[Wanted], out: &mut Vec<Option<usize>>) {
    out.clear();
    out.resize(wanted.len(), None);
    let mut tracker = BudgetTracker {
        budget: budget.bps,
        spent: 0,
    };
    assign_lowest(budget.is_known, wanted, out, &mut tracker);
    if !budget.is_known {
        return;
    }
    for priority in Priority::ALL {
        // Keep layers before upgrading any, so that equally important videos do not take them from
        // each other.
        raise_layers(priority, false, wanted, out, &mut tracker);
        raise_layers(priority, true, wanted, out, &mut tracker);
    }
}

/// Gives the lowest layer to as many videos as possible.
fn assign_lowest(
    is_known: bool,
    wanted: &[Wanted],
    out: &mut [Option<usize>],
    tracker: &mut BudgetTracker,
) {
    let mut first = true;
    for priority in Priority::ALL {
        let videos = wanted
            .iter()
            .zip(out.iter_mut())
            .filter(|(w, _)| w.priority == priority);
        for (want, given) in videos {
            let Some(lowest) = want.step_up(None) else {
                continue;
            };
            let mut limit = tracker.limit(want.current.is_none());
            if first {
                limit = if is_known {
                    limit.saturating_mul(2)
                } else {
                    u64::MAX
                };
                first = false;
            }
            if tracker.replace(0, want.cost(lowest), limit) {
                *given = Some(lowest);
            }
        }
    }
}

/// Raises the visible videos of one priority, a layer at a time: either up to their current layer,
/// or beyond it.
fn raise_layers(
    priority: Priority,
    upgrade: bool,
    wanted: &[Wanted],
    out: &mut [Option<usize>],
    tracker: &mut BudgetTracker,
) {
    let limit = tracker.limit(upgrade);
    for _ in 1..LAYERS {
        let videos = wanted
            .iter()
            .zip(out.iter_mut())
            .filter(|(w, _)| w.priority == priority);
        for (want, given) in videos {
            let Some(now) = *given else { continue };
            let Some(next) = want.step_up(Some(now)) else {
                continue;
            };
            if want.is_upgrade(next) == upgrade
                && tracker.replace(want.cost(now), want.cost(next), limit)
            {
                *given = Some(next);
            }
        }
    }
}
