//! The cells: which permission guards which event.

mod deciding;
mod talking;

use std::pin::Pin;

use parlor_protocol::signal::socket::preset::PresetUpdates;
use parlor_testkit::signal::Refused;
use serde_json::Value;

use super::scene::Scene;

/// What the event does when it is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The state is another.
    Changes,
    /// It is answered; nothing is to be seen without media.
    Answers,
}

type Step<T> = Box<dyn for<'a> Fn(&'a Scene) -> Pin<Box<dyn Future<Output = T> + 'a>>>;

/// One permission and one event that needs it.
pub(super) struct Cell {
    pub(super) permission: &'static str,
    pub(super) name: &'static str,
    /// The permissions of a preset without it.
    pub(super) denies: Value,
    /// The change that takes it away, for those that can be changed.
    pub(super) takes_away: Option<PresetUpdates>,
    /// What must have happened before.
    pub(super) prepare: Step<()>,
    /// Sends the event as the actor.
    pub(super) act: Step<Option<Refused>>,
    pub(super) outcome: Outcome,
}

/// A cell whose event needs nothing to have happened before.
macro_rules! cell {
    ($permission:expr, $name:expr, $denies:expr, $takes:expr, |$scene:ident| $number:expr, $message:expr) => {
        Cell {
            permission: $permission,
            name: $name,
            denies: $denies,
            takes_away: $takes,
            prepare: Box::new(|_| Box::pin(async {})),
            act: Box::new(move |$scene| {
                Box::pin(async move { $scene.act($number, &$message).await })
            }),
            outcome: $crate::signalling::matrix::cells::Outcome::Changes,
        }
    };
}
use cell;

impl Cell {
    fn answers(self) -> Self {
        Self {
            outcome: Outcome::Answers,
            ..self
        }
    }

    fn after(
        self,
        prepare: impl for<'a> Fn(&'a Scene) -> Pin<Box<dyn Future<Output = ()> + 'a>> + 'static,
    ) -> Self {
        Self {
            prepare: Box::new(prepare),
            ..self
        }
    }
}

/// Every cell.
pub(super) fn all() -> Vec<Cell> {
    let mut cells = talking::chat();
    cells.extend(talking::private_chat());
    cells.extend(talking::polls());
    cells.extend(talking::plugins());
    cells.extend(deciding::waiting_room());
    cells.extend(deciding::stage());
    cells.extend(deciding::moderation());
    cells.extend(deciding::muting());
    cells.extend(deciding::breakout());
    cells
}
