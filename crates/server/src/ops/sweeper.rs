//! Background maintenance in small steps: deletes the rows of deleted apps and meetings, expires
//! idempotent responses, reloads signing keys, and maintains files and storage quotas.

use std::sync::Arc;
use std::time::Duration;

use parlor_live::Command;
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::files::cleanup;
use crate::http::{DELETE_EXPIRED, expiry_cutoff_ms};
use crate::purges::{PURGE, WHOLE_APP};
use crate::rest::meetings::{self, RoomSelection};
use crate::rooms::chat_quota;
use crate::rooms::records::{count_old_messages, sessions_scope};
use crate::state::ServerState;
use crate::tallies::count_removed_rows;
use crate::usage::{self, StoredKind, sum_of};

/// Interval between two rounds.
const PERIOD: Duration = Duration::from_secs(5);
/// Deleted resources are swept twice, this far apart, because a request that found the meeting
/// before it was deleted may still have been adding to it.
const SECOND_PASS_DELAY_MS: i64 = 10 * 60 * 1000;

/// Delay before a sweep is retried that failed because a file was still being written or the
/// storage failed.
const RETRY_MS: i64 = 60 * 1000;

static NEXT: Statement = Statement::new(
    "purges.next",
    "SELECT app_id, meeting_id, passes, due FROM purges WHERE due <= $1 OR due > $2 ORDER BY due LIMIT 100",
);
static RESCHEDULE: Statement = Statement::new(
    "purges.again",
    "UPDATE purges SET passes = passes + 1, due = $3 WHERE app_id = $1 AND meeting_id = $2",
);
/// Schedules a purge for each meeting of a deleted app, before the meeting is deleted.
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
/// Sessions are deleted after the rows that refer to them.
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
    &RESCHEDULE,
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

/// Runs all maintenance tasks until `stop` is cancelled. The tasks run concurrently, because a
/// round of one may take long.
pub async fn run(state: Arc<ServerState>, stop: CancellationToken) {
    let keys = every(
        &state,
        &stop,
        "the signing keys could not be reloaded",
        async |state| {
            state.rates.evict_idle();
            state.uploads.evict_idle();
            state.keys.refresh(&state.db).await
        },
    );
    let rows = every(
        &state,
        &stop,
        "the sweeper could not finish its round",
        sweep,
    );
    let files = every(
        &state,
        &stop,
        "the files of chats could not be maintained",
        tidy,
    );
    let quotas = every(
        &state,
        &stop,
        "the storage quotas could not be refreshed",
        refresh_quotas,
    );
    tokio::join!(keys, rows, files, quotas);
}

async fn refresh_quotas(state: &ServerState) -> Result<(), Error> {
    chat_quota::refresh(&state.live).await
}

/// Runs one round of storage maintenance: deletes expired files, and counts messages that an older
/// version stored without counting.
///
/// # Errors
/// When the database fails; the next round continues where this one stopped.
pub async fn tidy(state: &ServerState) -> Result<(), Error> {
    let counted = count_old_messages(&state.live).await;
    // Files are deleted even if the messages of an older version cannot be counted.
    cleanup::run(&state.files).await?;
    counted
}

async fn every(
    state: &ServerState,
    stop: &CancellationToken,
    failure: &str,
    work: impl AsyncFn(&ServerState) -> Result<(), Error>,
) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        // Every step is a separate commit, so work may stop between any two.
        if let Some(Err(error)) = stop.run_until_cancelled(work(state)).await {
            tracing::warn!(%error, "{failure}");
        }
    }
}

/// Runs one round of sweeping.
///
/// # Errors
/// When the database fails; the next round continues where this one stopped.
pub async fn sweep(state: &ServerState) -> Result<(), Error> {
    let now_ms = state.clock.settled_ms();
    let cutoff = expiry_cutoff_ms(state);
    let expire = || Unit::default().then(&DELETE_EXPIRED, values![cutoff]);
    while affected_rows(state, expire()).await? > 0 {}
    loop {
        // No pass is due later than this, unless the clock was set back.
        let due = values![now_ms, now_ms + SECOND_PASS_DELAY_MS];
        let purges = state.db.scan::<Purge>(&NEXT, due).await?;
        if purges.is_empty() {
            return Ok(());
        }
        for purge in purges {
            let clean = if purge.meeting == WHOLE_APP {
                app(state, &purge, now_ms).await?;
                true
            } else {
                meeting(state, purge.app, purge.meeting, now_ms).await?
            };
            let (app, meeting) = (purge.app, purge.meeting);
            // If the purge was due too far in the future, the time of its first pass is unknown.
            let first = purge.passes == 0 || purge.due_ms > now_ms;
            let reschedule = |in_ms: i64| {
                Unit::default().then(&RESCHEDULE, values![app, meeting, now_ms + in_ms])
            };
            let unit = match first {
                true => reschedule(SECOND_PASS_DELAY_MS),
                false if !clean => reschedule(RETRY_MS),
                false => {
                    let mut unit = Unit::default().then(&DONE, values![app, meeting]);
                    if meeting != WHOLE_APP {
                        unit = usage::delete_meeting(unit, app, meeting);
                    }
                    usage::delete_app(unit, app)
                }
            };
            state.db.commit(unit).await?;
        }
    }
}

async fn affected_rows(state: &ServerState, unit: Unit) -> Result<usize, Error> {
    let rows = state.db.commit(unit).await?;
    Ok(rows.first().map_or(0, Vec::len))
}

/// Sweeps a meeting. Returns whether it is removed completely.
async fn meeting(
    state: &ServerState,
    app: Uuid,
    meeting: Uuid,
    now_ms: i64,
) -> Result<bool, Error> {
    // The room was notified on deletion, unless the meeting was deleted from the command line.
    let (owner, id) = (AppId::from_uuid(app), MeetingId::from_uuid(meeting));
    state.live.send(owner, id, Command::MeetingDeleted);
    // Breakout rooms that were removed earlier; the others were deleted with the meeting.
    let rooms = || {
        let unit = Unit::default();
        let unit = meetings::delete_rooms(unit, (app, meeting), RoomSelection::Any, now_ms);
        count_removed_rows(unit, owner, app)
    };
    while state
        .db
        .commit(rooms())
        .await?
        .last()
        .is_some_and(|rows| !rows.is_empty())
    {}
    for statement in [&PARTICIPANTS, &SESSION_PEERS, &SESSION_ENTRIES] {
        let some = || Unit::default().then(statement, values![app, meeting]);
        while affected_rows(state, some()).await? > 0 {}
    }
    let messages = || {
        let unit = Unit::default().then(&CHAT, values![app, meeting]);
        usage::count(unit, StoredKind::Chat, (app, meeting), |rows| {
            -sum_of(rows, 0)
        })
    };
    while affected_rows(state, messages()).await? > 0 {}
    // The app keeps counting its sessions, so the deleted ones are subtracted from its tally.
    let sessions = || {
        let unit = Unit::default().then(&SESSIONS, values![app, meeting]);
        count_removed_rows(unit, AppId::from_uuid(app), sessions_scope(app))
    };
    while affected_rows(state, sessions()).await? > 0 {}
    let rest = Unit::default()
        .then(&CONNECTED, values![app, meeting])
        .then(&TALLIES, values![app, meeting])
        .then(&TALLIES, values![app, sessions_scope(meeting)]);
    state.db.commit(rest).await?;
    cleanup::delete_meeting(&state.files, app, meeting).await
}

async fn app(state: &ServerState, purge: &Purge, now_ms: i64) -> Result<(), Error> {
    let owner = AppId::from_uuid(purge.app);
    state.live.send_to_app(owner, &Command::MeetingDeleted);
    let spread = || {
        Unit::default()
            .then(&SPREAD, values![purge.app, now_ms])
            .then(&MEETINGS, values![purge.app])
    };
    while state
        .db
        .commit(spread())
        .await?
        .last()
        .is_some_and(|rows| !rows.is_empty())
    {}
    while affected_rows(state, Unit::default().then(&WORDS, values![purge.app])).await? > 0 {}
    let rest = Unit::default()
        .then(&PRESETS, values![purge.app])
        .then(&TALLIES, values![purge.app, purge.app])
        .then(&TALLIES, values![purge.app, sessions_scope(purge.app)]);
    state.db.commit(rest).await?;
    Ok(())
}
