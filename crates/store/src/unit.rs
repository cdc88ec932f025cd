//! Units of work.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::{Mutex, PoisonError},
};

use crate::{Error, Row, Statement, Value};

/// Statements with their parameters that commit together or not at all.
///
/// Steps run in the order they were added. [`crate::Db::commit`] returns the rows of each step; a
/// step without `RETURNING` returns none.
#[derive(Default)]
pub struct Unit {
    pub(crate) steps: Vec<Step>,
    pub(crate) sums: Vec<Sum>,
    pub(crate) key: Option<u64>,
    pub(crate) last: Option<Finish>,
}

/// A counter update that is summed over a batch.
pub(crate) struct Sum {
    statement: &'static Statement,
    key: Vec<Value>,
    // The mutex makes a unit `Sync`.
    amount: Mutex<Box<Amount>>,
}

type Amount = dyn Fn(&[Vec<Row>]) -> i64 + Send;

/// The counter updates of a batch: one statement per key, regardless of how many units update it.
/// Ordered by key, so that the writers of all nodes acquire row locks in the same order.
#[derive(Default)]
pub(crate) struct Sums(BTreeMap<(Vec<Value>, usize), (&'static Statement, i64)>);

impl Sums {
    /// Adds the amounts of a unit that succeeded.
    pub(crate) fn add(&mut self, unit: &Unit, rows: &[Vec<Row>]) -> Result<(), Error> {
        for sum in &unit.sums {
            let amount = sum.amount.lock().unwrap_or_else(PoisonError::into_inner);
            let amount = catch_unwind(AssertUnwindSafe(|| amount(rows)))
                .map_err(|_| Error::Broken("the closure of a sum panicked".to_owned()))?;
            if amount != 0 {
                let address = ptr::from_ref(sum.statement).addr();
                let entry = self.0.entry((sum.key.clone(), address));
                entry.or_insert((sum.statement, 0)).1 += amount;
            }
        }
        Ok(())
    }

    /// The statements to run, with the sum as their last parameter.
    pub(crate) fn steps(self) -> Vec<Step> {
        let step =
            |((mut values, _), (statement, sum)): ((Vec<Value>, usize), (&'static _, i64))| {
                values.push(Value::Int(sum));
                Step {
                    statement,
                    values,
                    exactly_one: false,
                }
            };
        self.0.into_iter().map(step).collect()
    }
}

/// One statement of a unit.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) statement: &'static Statement,
    pub(crate) values: Vec<Value>,
    pub(crate) exactly_one: bool,
}

/// Computes the finishing step from the rows of the earlier steps.
///
/// The mutex makes a unit `Sync`.
pub(crate) struct Finish(Mutex<Box<Compute>>);

type Compute = dyn FnOnce(&[Vec<Row>]) -> (&'static Statement, Vec<Value>) + Send;

impl Finish {
    /// Computes the finishing step. Catches a panic of the caller's closure, which must not end the
    /// writer.
    pub(crate) fn step(self, rows: &[Vec<Row>]) -> Result<Step, Error> {
        let last = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let computed = catch_unwind(AssertUnwindSafe(|| last(rows)));
        let (statement, values) = computed
            .map_err(|_| Error::Broken("the closure of a finishing step panicked".to_owned()))?;
        Ok(Step {
            statement,
            values,
            exactly_one: true,
        })
    }
}

impl Unit {
    /// Adds a step that may affect any number of rows.
    #[must_use]
    pub fn then(self, statement: &'static Statement, values: Vec<Value>) -> Self {
        self.step(statement, values, false)
    }

    /// Adds a step that must affect exactly one row; otherwise the whole unit is rolled back with
    /// [`crate::Error::WrongCount`]. Counts the returned rows, or for a statement that returns
    /// none, the changed rows.
    #[must_use]
    pub fn exactly_one(self, statement: &'static Statement, values: Vec<Value>) -> Self {
        self.step(statement, values, true)
    }

    /// Sets the key of the records that the unit affects. On PostgreSQL, units with the same key
    /// run on the same writer in the order they were committed, and a batch runs its units in key
    /// order, so that writers rarely wait for each other. Units without a key may run on any
    /// writer. SQLite has one writer and needs no key.
    #[must_use]
    pub fn keyed(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    /// Adds an amount to a counter. The amounts of all units of a batch with the same statement and
    /// key are summed, and the statement runs once in the same transaction, with the key followed
    /// by the sum as its parameters. This avoids one write per unit to the same counter. `amount`
    /// must be pure; it receives the rows of the unit's steps.
    #[must_use]
    pub fn sum(
        mut self,
        statement: &'static Statement,
        key: Vec<Value>,
        amount: impl Fn(&[Vec<Row>]) -> i64 + Send + 'static,
    ) -> Self {
        self.sums.push(Sum {
            statement,
            key,
            amount: Mutex::new(Box::new(amount)),
        });
        self
    }

    /// Adds a last step, computed inside the transaction from the rows of the earlier steps, that
    /// must affect exactly one row. `last` must be pure: it runs on the writer, and its step may be
    /// rolled back. On PostgreSQL such a unit runs in a separate transaction, with its own flush.
    #[must_use]
    pub fn finish(
        mut self,
        last: impl FnOnce(&[Vec<Row>]) -> (&'static Statement, Vec<Value>) + Send + 'static,
    ) -> Self {
        self.last = Some(Finish(Mutex::new(Box::new(last))));
        self
    }

    /// Whether the results of the steps decide if the unit may commit.
    pub(crate) fn is_conditional(&self) -> bool {
        self.last.is_some() || self.steps.iter().any(|step| step.exactly_one)
    }

    /// Approximate memory size of the values, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let values = |step: &Step| step.values.iter().map(Value::bytes).sum::<usize>();
        self.steps.iter().map(values).sum()
    }

    fn step(
        mut self,
        statement: &'static Statement,
        values: Vec<Value>,
        exactly_one: bool,
    ) -> Self {
        self.steps.push(Step {
            statement,
            values,
            exactly_one,
        });
        self
    }
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Parameters are personal data and must not be logged.
        f.debug_list()
            .entries(self.steps.iter().map(|step| step.statement.name()))
            .finish()
    }
}
