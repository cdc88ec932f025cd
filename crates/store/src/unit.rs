//! A unit of work: statements that commit together or not at all.

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
/// Steps run in the order they were added. [`crate::Db::commit`] answers with the rows
/// of each step; a step without `RETURNING` answers none.
#[derive(Default)]
pub struct Unit {
    pub(crate) steps: Vec<Step>,
    pub(crate) sums: Vec<Sum>,
    pub(crate) key: Option<u64>,
    pub(crate) last: Option<Finish>,
}

/// An amount that is added up over a batch.
pub(crate) struct Sum {
    statement: &'static Statement,
    key: Vec<Value>,
    // Only ever called; the lock is what makes a unit `Sync`.
    amount: Mutex<Box<Amount>>,
}

type Amount = dyn Fn(&[Vec<Row>]) -> i64 + Send;

/// What a batch adds up to: one statement for each key, however many units had it. In the
/// order of the keys, so that writers of all nodes take their locks in one order.
#[derive(Default)]
pub(crate) struct Sums(BTreeMap<(Vec<Value>, usize), (&'static Statement, i64)>);

impl Sums {
    /// Adds what a unit that succeeded has to add.
    pub(crate) fn add(&mut self, unit: &Unit, rows: &[Vec<Row>]) -> Result<(), Error> {
        for sum in &unit.sums {
            let amount = sum.amount.lock().unwrap_or_else(PoisonError::into_inner);
            let amount = catch_unwind(AssertUnwindSafe(|| amount(rows)))
                .map_err(|_| Error::Broken("computing an amount panicked".to_owned()))?;
            if amount != 0 {
                let address = ptr::from_ref(sum.statement).addr();
                let entry = self.0.entry((sum.key.clone(), address));
                entry.or_insert((sum.statement, 0)).1 += amount;
            }
        }
        Ok(())
    }

    /// The statements, with the sum as their last parameter.
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

/// Computes the finishing step from the rows of the earlier ones.
///
/// It is only ever taken whole; the lock is what makes a unit `Sync`.
pub(crate) struct Finish(Mutex<Box<Compute>>);

type Compute = dyn FnOnce(&[Vec<Row>]) -> (&'static Statement, Vec<Value>) + Send;

impl Finish {
    /// The finishing step. A panic in the caller's closure is the caller's failure and
    /// must not end the writer.
    pub(crate) fn step(self, rows: &[Vec<Row>]) -> Result<Step, Error> {
        let last = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let computed = catch_unwind(AssertUnwindSafe(|| last(rows)));
        let (statement, values) =
            computed.map_err(|_| Error::Broken("computing the last step panicked".to_owned()))?;
        Ok(Step {
            statement,
            values,
            exactly_one: true,
        })
    }
}

impl Unit {
    /// Adds a step that may touch any number of rows.
    #[must_use]
    pub fn then(self, statement: &'static Statement, values: Vec<Value>) -> Self {
        self.step(statement, values, false)
    }

    /// Adds a step that must touch exactly one row, else [`crate::Error::WrongCount`]
    /// undoes the whole unit. Counted are the rows returned, or for a statement that
    /// returns none the rows affected.
    #[must_use]
    pub fn exactly_one(self, statement: &'static Statement, values: Vec<Value>) -> Self {
        self.step(statement, values, true)
    }

    /// Says which records the unit is about. On PostgreSQL, units with the same key run
    /// on the same writer in the order they were committed, and a batch runs its units
    /// in the order of the keys, so that writers rarely wait for each other. Without a key, any writer takes it. SQLite has one writer
    /// and needs no key.
    #[must_use]
    pub fn keyed(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    /// Adds an amount to a running count. Over all units of a batch that have the same
    /// statement and key the amounts are added up, and the statement runs once in the same
    /// transaction, with the key and then the sum as its parameters. `amount` must be pure;
    /// it sees the rows of the unit's steps. Such counts would otherwise be written again
    /// for every unit of a batch.
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

    /// Adds a last step, which must touch exactly one row, computed inside the same
    /// transaction from the rows of the earlier steps. `last` must be pure: it runs on
    /// the writer, and what it computes may be undone. On PostgreSQL such a unit has a
    /// transaction, and so a flush, of its own.
    #[must_use]
    pub fn finish(
        mut self,
        last: impl FnOnce(&[Vec<Row>]) -> (&'static Statement, Vec<Value>) + Send + 'static,
    ) -> Self {
        self.last = Some(Finish(Mutex::new(Box::new(last))));
        self
    }

    /// Whether the unit can only be committed after its answers were looked at.
    pub(crate) fn expects(&self) -> bool {
        self.last.is_some() || self.steps.iter().any(|step| step.exactly_one)
    }

    /// About how much memory its values take.
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
        // Parameters are people's records and have no place in a log.
        f.debug_list()
            .entries(self.steps.iter().map(|step| step.statement.name()))
            .finish()
    }
}
