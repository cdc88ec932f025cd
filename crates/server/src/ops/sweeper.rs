//! What is done in the background, in small steps: rows that a deleted app or meeting left behind,
//! answers that are no longer remembered, keys that another process has rotated.

use std::sync::Arc;
use std::time::Duration;

use parlor_live::Command;
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::files::upkeep;
use crate::http::{FORGET, forgotten_ms};
use crate::purges::{PURGE, WHOLE_APP};
use crate::rest::meetings::{self, Which};
use crate::rooms::chat_quota;
use crate::rooms::records::{count_old_messages, sessions_scope};
use crate::state::Parlor;
use crate::tallies::count_removed_rows;
use crate::usage::{self, What, sum_of};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(5);
/// What is deleted is swept twice, this far apart, because a request that had found the meeting may
/// still have been adding to it.
const LINGER_MS: i64 = 10 * 60 * 1000;

/// What could not be swept, because a file was still being written or the storage failed, is tried
/// again after so long.
const RETRY_MS: i64 = 60 * 1000;

static NEXT: Statement = Statement::new(
    "purges.next",
    "SELECT app_id, meeting_id, passes, due FROM purges WHERE due <= $1 OR due > $2 ORDER BY due LIMIT 100",
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
static SESSION_PEERS: Statement = Statement::new(
    "purges.session_peers",
    "DELETE FROM session_peers WHERE app_id = $1 AND (session_id, peer_id) IN
     (SELECT p.session_id, p.peer_id FROM sessions s
      JOIN session_peers p ON p.app_id = s.app_id AND p.session_id = s.id
      WHERE s.app_id = $1 AND s.meeting_id = $2 LIMIT 500) RETURNING peer_id",
);
static SESSION_ENTRIES: Statement = Statement::new(
    "purges.session_entries",
    "DELETE FROM session_entries WHERE app_id = $1 AND (session_id, kind, key) IN
     (SELECT e.session_id, e.kind, e.key FROM sessions s
      JOIN session_entries e ON e.app_id = s.app_id AND e.session_id = s.id
      WHERE s.app_id = $1 AND s.meeting_id = $2 LIMIT 500) RETURNING session_id",
);
/// After what hangs on them.
static SESSIONS: Statement = Statement::new(
    "purges.sessions",
    "DELETE FROM sessions WHERE app_id = $1 AND meeting_id = $2 AND id IN
     (SELECT id FROM sessions WHERE app_id = $1 AND meeting_id = $2 LIMIT 500) RETURNING id",
);
static CHAT: Statement = Statement::new(
    "purges.chat_messages",
    "DELETE FROM chat_messages WHERE app_id = $1 AND meeting_id = $2 AND id IN
     (SELECT id FROM chat_messages WHERE app_id = $1 AND meeting_id = $2 LIMIT 500) RETURNING bytes",
);
static CONNECTED: Statement = Statement::new(
    "purges.connected_meetings",
    "DELETE FROM connected_meetings WHERE app_id = $1 AND (parent_id = $2 OR meeting_id = $2)",
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

pub(crate) static STATEMENTS: [&Statement; 15] = [
    &PURGE,
    &NEXT,
    &AGAIN,
    &SPREAD,
    &DONE,
    &PARTICIPANTS,
    &TALLIES,
    &SESSION_PEERS,
    &SESSION_ENTRIES,
    &SESSIONS,
    &CHAT,
    &CONNECTED,
    &MEETINGS,
    &WORDS,
    &PRESETS,
];

struct Purge {
    app: Uuid,
    meeting: Uuid,
    passes: i64,
    due_ms: i64,
}

impl FromRow for Purge {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            app: row.take(0)?,
            meeting: row.take(1)?,
            passes: row.take(2)?,
            due_ms: row.take(3)?,
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
            parlor.uploads.forget_idle();
            parlor.keys.refresh(&parlor.db).await
        },
    );
    let rows = every(
        &parlor,
        &stop,
        "the sweeper could not finish its round",
        sweep,
    );
    let files = every(
        &parlor,
        &stop,
        "the files of chats could not be tidied up",
        tidy,
    );
    let quotas = every(
        &parlor,
        &stop,
        "what is stored could not be counted",
        refresh_quotas,
    );
    tokio::join!(keys, rows, files, quotas);
}

async fn refresh_quotas(parlor: &Parlor) -> Result<(), Error> {
    chat_quota::refresh(&parlor.live).await
}

/// One round over what is stored: files that are to go by themselves, and what was not counted yet.
///
/// # Errors
/// When the database fails; the next round goes on from there.
pub async fn tidy(parlor: &Parlor) -> Result<(), Error> {
    let counted = count_old_messages(&parlor.live).await;
    // Files go also when a message of an older version cannot be counted.
    upkeep::round(&parlor.files).await?;
    counted
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
    let now_ms = parlor.clock.settled_ms();
    let forgotten = forgotten_ms(parlor);
    while gone(parlor, Unit::default().then(&FORGET, values![forgotten])).await? > 0 {}
    loop {
        // No pass is farther away than that, unless the clock was set back.
        let due = values![now_ms, now_ms + LINGER_MS];
        let purges = parlor.db.scan::<Purge>(&NEXT, due).await?;
        if purges.is_empty() {
            return Ok(());
        }
        for purge in purges {
            let clean = if purge.meeting == WHOLE_APP {
                app(parlor, &purge, now_ms).await?;
                true
            } else {
                meeting(parlor, purge.app, purge.meeting, now_ms).await?
            };
            let (app, meeting) = (purge.app, purge.meeting);
            // Of one that was far away it is not known how long ago the first pass was.
            let first = purge.passes == 0 || purge.due_ms > now_ms;
            let again =
                |in_ms: i64| Unit::default().then(&AGAIN, values![app, meeting, now_ms + in_ms]);
            let unit = match first {
                true => again(LINGER_MS),
                false if !clean => again(RETRY_MS),
                false => {
                    let mut unit = Unit::default().then(&DONE, values![app, meeting]);
                    if meeting != WHOLE_APP {
                        unit = usage::forget_meeting(unit, app, meeting);
                    }
                    usage::forget_app(unit, app)
                }
            };
            parlor.db.commit(unit).await?;
        }
    }
}

async fn gone(parlor: &Parlor, unit: Unit) -> Result<usize, Error> {
    let rows = parlor.db.commit(unit).await?;
    Ok(rows.first().map_or(0, Vec::len))
}

/// Whether nothing of the meeting is left.
async fn meeting(parlor: &Parlor, app: Uuid, meeting: Uuid, now_ms: i64) -> Result<bool, Error> {
    // Its room was told at once, unless it was the command line that has deleted it.
    let (owner, id) = (AppId::from_uuid(app), MeetingId::from_uuid(meeting));
    parlor.live.tell(owner, id, Command::Gone);
    // Breakout rooms that were removed before: the others were deleted with the meeting.
    let rooms = || {
        let unit = Unit::default();
        let unit = meetings::delete_rooms(unit, (app, meeting), Which::Any, now_ms);
        count_removed_rows(unit, owner, app)
    };
    while parlor
        .db
        .commit(rooms())
        .await?
        .last()
        .is_some_and(|gone| !gone.is_empty())
    {}
    for statement in [&PARTICIPANTS, &SESSION_PEERS, &SESSION_ENTRIES] {
        let some = || Unit::default().then(statement, values![app, meeting]);
        while gone(parlor, some()).await? > 0 {}
    }
    let messages = || {
        let unit = Unit::default().then(&CHAT, values![app, meeting]);
        usage::count(unit, What::Chat, (app, meeting), |rows| -sum_of(rows, 0))
    };
    while gone(parlor, messages()).await? > 0 {}
    // The app goes on counting its sessions, so it must learn how many are gone.
    let sessions = || {
        let unit = Unit::default().then(&SESSIONS, values![app, meeting]);
        count_removed_rows(unit, AppId::from_uuid(app), sessions_scope(app))
    };
    while gone(parlor, sessions()).await? > 0 {}
    let rest = Unit::default()
        .then(&CONNECTED, values![app, meeting])
        .then(&TALLIES, values![app, meeting])
        .then(&TALLIES, values![app, sessions_scope(meeting)]);
    parlor.db.commit(rest).await?;
    upkeep::delete_meeting(&parlor.files, app, meeting).await
}

async fn app(parlor: &Parlor, purge: &Purge, now_ms: i64) -> Result<(), Error> {
    let owner = AppId::from_uuid(purge.app);
    parlor.live.tell_app(owner, &Command::Gone);
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
        .then(&TALLIES, values![purge.app, purge.app])
        .then(&TALLIES, values![purge.app, sessions_scope(purge.app)]);
    parlor.db.commit(rest).await?;
    Ok(())
}
