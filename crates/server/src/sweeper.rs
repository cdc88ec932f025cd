//! What is done in the background, in small steps: rows that a deleted app or meeting left behind,
//! answers that are no longer remembered, keys that another process has rotated.

use std::sync::Arc;
use std::time::Duration;

use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api::FORGET;
use crate::parlor::Parlor;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(5);
/// What is deleted is swept twice, this far apart, because a request that had found the meeting may
/// still have been adding to it.
const LINGER_MS: i64 = 10 * 60 * 1000;

/// Stands for the whole app where a meeting's id would stand.
pub(crate) const WHOLE_APP: Uuid = Uuid::nil();

/// Hands what a deleted app ([`WHOLE_APP`]) or meeting leaves behind to the sweeper.
pub(crate) static PURGE: Statement = Statement::new(
    "purges.insert",
    "INSERT INTO purges (app_id, meeting_id, passes, due) VALUES ($1, $2, 0, $3)
     ON CONFLICT (app_id, meeting_id) DO NOTHING",
);
static NEXT: Statement = Statement::new(
    "purges.next",
    "SELECT app_id, meeting_id, passes FROM purges WHERE due <= $1 ORDER BY due LIMIT 100",
);
static AGAIN: Statement = Statement::new(
    "purges.again",
    "UPDATE purges SET passes = passes + 1, due = $3 WHERE app_id = $1 AND meeting_id = $2",
);
/// Every meeting of a deleted app becomes a purge of its own before it goes.
static SPREAD: Statement = Statement::new(
    "purges.spread",
    "INSERT INTO purges (app_id, meeting_id, passes, due) SELECT app_id, id, 0, $2 FROM meetings WHERE app_id = $1 ORDER BY id LIMIT 100
     ON CONFLICT (app_id, meeting_id) DO NOTHING",
);
static DONE: Statement = Statement::new(
    "purges.done",
    "DELETE FROM purges WHERE app_id = $1 AND meeting_id = $2",
);
static PARTICIPANTS: Statement = Statement::new(
    "purges.participants",
    "DELETE FROM participants WHERE app_id = $1 AND meeting_id = $2 AND id IN
     (SELECT id FROM participants WHERE app_id = $1 AND meeting_id = $2 LIMIT 500) RETURNING id",
);
static TALLIES: Statement = Statement::new(
    "purges.tallies",
    "DELETE FROM tallies WHERE app_id = $1 AND scope = $2",
);
static MEETINGS: Statement = Statement::new(
    "purges.meetings",
    "DELETE FROM meetings WHERE app_id = $1 AND id IN
     (SELECT id FROM meetings WHERE app_id = $1 ORDER BY id LIMIT 100) AND EXISTS
     (SELECT 1 FROM purges u WHERE u.app_id = $1 AND u.meeting_id = meetings.id) RETURNING id",
);
static WORDS: Statement = Statement::new(
    "purges.words",
    "DELETE FROM meeting_words WHERE app_id = $1 AND meeting_id IN
     (SELECT meeting_id FROM meeting_words WHERE app_id = $1 LIMIT 100) RETURNING meeting_id",
);
static PRESETS: Statement =
    Statement::new("purges.presets", "DELETE FROM presets WHERE app_id = $1");

pub(crate) static STATEMENTS: [&Statement; 10] = [
    &PURGE,
    &NEXT,
    &AGAIN,
    &SPREAD,
    &DONE,
    &PARTICIPANTS,
    &TALLIES,
    &MEETINGS,
    &WORDS,
    &PRESETS,
];

struct Purge {
    app: Uuid,
    meeting: Uuid,
    passes: i64,
}

impl FromRow for Purge {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            app: row.take(0)?,
            meeting: row.take(1)?,
            passes: row.take(2)?,
        })
    }
}

/// Sweeps until it is told to stop. Keys are read beside it, because a round may take long.
pub async fn run(parlor: Arc<Parlor>, stop: CancellationToken) {
    let keys = every(
        &parlor,
        &stop,
        "the signing keys could not be read",
        async |parlor| {
            parlor.rates.forget_idle();
            parlor.keys.refresh(&parlor.db).await
        },
    );
    let rows = every(
        &parlor,
        &stop,
        "the sweeper could not finish its round",
        sweep,
    );
    tokio::join!(keys, rows);
}

async fn every(
    parlor: &Parlor,
    stop: &CancellationToken,
    failure: &str,
    work: impl AsyncFn(&Parlor) -> Result<(), Error>,
) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        // Every step is a commit of its own, so a stop may come between any two.
        if let Some(Err(error)) = stop.run_until_cancelled(work(parlor)).await {
            tracing::warn!(%error, "{failure}");
        }
    }
}

/// One round.
///
/// # Errors
/// When the database fails; the next round goes on from there.
pub async fn sweep(parlor: &Parlor) -> Result<(), Error> {
    let now_ms = parlor.clock.now_ms();
    let forgotten = now_ms - crate::api::IDEMPOTENCY_KEPT_MS;
    while gone(parlor, Unit::default().then(&FORGET, values![forgotten])).await? > 0 {}
    loop {
        let purges = parlor.db.scan::<Purge>(&NEXT, values![now_ms]).await?;
        if purges.is_empty() {
            return Ok(());
        }
        for purge in purges {
            if purge.meeting == WHOLE_APP {
                app(parlor, &purge, now_ms).await?;
            } else {
                meeting(parlor, purge.app, purge.meeting).await?;
            }
            let (app, meeting) = (purge.app, purge.meeting);
            let unit = match purge.passes {
                0 => Unit::default().then(&AGAIN, values![app, meeting, now_ms + LINGER_MS]),
                _ => Unit::default().then(&DONE, values![app, meeting]),
            };
            parlor.db.commit(unit).await?;
        }
    }
}

async fn gone(parlor: &Parlor, unit: Unit) -> Result<usize, Error> {
    let rows = parlor.db.commit(unit).await?;
    Ok(rows.first().map_or(0, Vec::len))
}

async fn meeting(parlor: &Parlor, app: Uuid, meeting: Uuid) -> Result<(), Error> {
    while gone(
        parlor,
        Unit::default().then(&PARTICIPANTS, values![app, meeting]),
    )
    .await?
        > 0
    {}
    parlor
        .db
        .commit(Unit::default().then(&TALLIES, values![app, meeting]))
        .await?;
    Ok(())
}

async fn app(parlor: &Parlor, purge: &Purge, now_ms: i64) -> Result<(), Error> {
    let spread = || {
        Unit::default()
            .then(&SPREAD, values![purge.app, now_ms])
            .then(&MEETINGS, values![purge.app])
    };
    while parlor
        .db
        .commit(spread())
        .await?
        .last()
        .is_some_and(|gone| !gone.is_empty())
    {}
    while gone(parlor, Unit::default().then(&WORDS, values![purge.app])).await? > 0 {}
    let rest = Unit::default()
        .then(&PRESETS, values![purge.app])
        .then(&TALLIES, values![purge.app, purge.app]);
    parlor.db.commit(rest).await?;
    Ok(())
}
