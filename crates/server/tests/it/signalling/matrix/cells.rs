//! The cells of the matrix: which permission guards which event.

mod content;
mod moderation;

use std::pin::Pin;

use parlor_protocol::signal::socket::preset::PresetUpdates;
use parlor_testkit::signal::Refused;
use serde_json::Value;

use super::fixture::Fixture;

/// The visible effect of an event that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The state of the meeting changes.
    Changes,
    /// The request succeeds, but nothing is visible without media.
    Answers,
}

type Step<T> = Box<dyn for<'a> Fn(&'a Fixture) -> Pin<Box<dyn Future<Output = T> + 'a>>>;

/// One permission and one event that needs it.
pub(super) struct Cell {
    pub(super) permission: &'static str,
    pub(super) name: &'static str,
    /// The preset permissions that deny it.
    pub(super) denies: Value,
    /// The update that revokes it during the call, if it can be revoked.
    pub(super) revokes: Option<PresetUpdates>,
    /// Sets up the precondition of the event.
    pub(super) prepare: Step<()>,
    /// Sends the event as the actor and returns the refusal, if any.
    pub(super) send: Step<Option<Refused>>,
    pub(super) outcome: Outcome,
}

/// A cell whose event has no precondition.
macro_rules! cell {
    ($permission:expr, $name:expr, $denies:expr, $revokes:expr, |$fixture:ident| $number:expr, $message:expr) => {
        Cell {
            permission: $permission,
            name: $name,
            denies: $denies,
            revokes: $revokes,
            prepare: Box::new(|_| Box::pin(async {})),
            send: Box::new(move |$fixture| {
                Box::pin(async move { $fixture.send_as_actor($number, &$message).await })
            }),
            outcome: $crate::signalling::matrix::cells::Outcome::Changes,
        }
    };
}
use cell;

impl Cell {
    fn without_visible_change(self) -> Self {
        Self {
            outcome: Outcome::Answers,
            ..self
        }
    }

    fn after(
        self,
        prepare: impl for<'a> Fn(&'a Fixture) -> Pin<Box<dyn Future<Output = ()> + 'a>> + 'static,
    ) -> Self {
        Self {
            prepare: Box::new(prepare),
            ..self
        }
    }
}

/// Returns all cells.
pub(super) fn all() -> Vec<Cell> {
    let mut cells = content::chat();
    cells.extend(content::private_chat());
    cells.extend(content::polls());
    cells.extend(content::plugins());
    cells.extend(moderation::waiting_room());
    cells.extend(moderation::stage());
    cells.extend(moderation::moderation());
    cells.extend(moderation::muting());
    cells.extend(moderation::breakout());
    cells
}
