//! The records of breakout rooms. Each breakout room is a separate meeting, connected to its
//! parent.

use parlor_protocol::MeetingStatus;
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use uuid::Uuid;

use super::{create, find, missing};
use crate::http::ApiError;
use crate::state::ServerState;

static CONNECT: Statement = Statement::new(
    "connected_meetings.insert",
    "INSERT INTO connected_meetings (app_id, parent_id, meeting_id, created_at) VALUES ($1, $2, $3, $4)",
);
static ROOMS: Statement = Statement::new(
    "connected_meetings.rooms",
    "SELECT m.id, m.title, m.status FROM connected_meetings c JOIN meetings m ON m.app_id = c.app_id AND m.id = c.meeting_id
     WHERE c.app_id = $1 AND c.parent_id = $2 AND c.removed_at IS NULL ORDER BY c.meeting_id",
);
static PARENT: Statement = Statement::new(
    "connected_meetings.parent",
    "SELECT m.id, m.title, m.status FROM connected_meetings c JOIN meetings m ON m.app_id = c.app_id AND m.id = c.parent_id
     WHERE c.app_id = $1 AND c.meeting_id = $2 AND c.removed_at IS NULL",
);
static SELF: Statement = Statement::new(
    "connected_meetings.self",
    "SELECT id, title, status FROM meetings WHERE app_id = $1 AND id = $2",
);
static DISCONNECT: Statement = Statement::new(
    "connected_meetings.remove",
    "UPDATE connected_meetings SET removed_at = $4
     WHERE app_id = $1 AND parent_id = $2 AND meeting_id = $3 AND removed_at IS NULL",
);
/// Makes a removed room inactive, so that no one can join it.
static CLOSE: Statement = Statement::new(
    "connected_meetings.close",
    "UPDATE meetings SET status = 'INACTIVE', updated_at = $3, version = version + 1 WHERE app_id = $1 AND id = $2",
);

/// Creating or removing breakout rooms counts as a change of the meeting: live rooms are notified
/// of changes in the order of versions.
static TOUCH: Statement = Statement::new(
    "connected_meetings.touch",
    "UPDATE meetings SET version = version + 1 WHERE app_id = $1 AND id = $2",
);
/// Whether participants can join a breakout room depends on its parent's status, so a change of
/// that status counts as a change of the room.
static TOUCH_ROOMS: Statement = Statement::new(
    "connected_meetings.touch_rooms",
    "UPDATE meetings SET version = version + 1 WHERE app_id = $1 AND id IN
     (SELECT c.meeting_id FROM connected_meetings c
      WHERE c.app_id = $1 AND c.parent_id = $2 AND c.removed_at IS NULL)",
);
/// A removed room that is made active again becomes an independent meeting.
static DETACH: Statement = Statement::new(
    "connected_meetings.free",
    "DELETE FROM connected_meetings WHERE app_id = $1 AND meeting_id = $2 AND removed_at IS NOT NULL",
);

/// Transfers, deletions of participants, and changes of a meeting's breakout rooms lock this row,
/// so that they run one after the other.
static LOCK: Statement = Statement::new(
    "connected_meetings.hold",
    "UPDATE meetings SET version = version WHERE app_id = $1 AND id = $2",
);
/// The same, provided that the meeting's breakout rooms have not changed since they were read.
static LOCK_ROOMS: Statement = Statement::new(
    "connected_meetings.hold_rooms",
    "UPDATE meetings SET version = version WHERE app_id = $1 AND id = $2 AND version = $3",
);
/// The ids of the breakout rooms, and the version of the meeting.
static KNOWN: Statement = Statement::new(
    "connected_meetings.known",
    "SELECT c.meeting_id, m.version FROM connected_meetings c
     JOIN meetings m ON m.app_id = c.app_id AND m.id = c.parent_id
     WHERE c.app_id = $1 AND c.parent_id = $2 AND c.removed_at IS NULL ORDER BY c.meeting_id",
);
static HAS_NO_ROOMS: Statement = Statement::new(
    "connected_meetings.none",
    "SELECT m.id FROM meetings m WHERE m.app_id = $1 AND m.id = $2 AND NOT EXISTS
     (SELECT 1 FROM connected_meetings c WHERE c.app_id = $1 AND c.parent_id = $2 AND c.removed_at IS NULL)",
);
static HAS_SPACE: Statement = Statement::new(
    "connected_meetings.has_space",
    "SELECT m.id FROM meetings m WHERE m.app_id = $1 AND m.id = $2 AND $3 >=
     (SELECT COUNT(*) FROM connected_meetings c WHERE c.app_id = $1 AND c.parent_id = $2 AND c.removed_at IS NULL)",
);

/// The breakout rooms that one unit deletes. `$3` is the latest removal time to include; 0 selects
/// only rooms that were not removed.
macro_rules! first_rooms {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " (SELECT meeting_id FROM connected_meetings WHERE app_id = $1 AND parent_id = $2
             AND COALESCE(removed_at, 0) <= $3 ORDER BY meeting_id LIMIT 100) ",
            $after
        )
    };
}
static DELETE: Statement = Statement::new(
    "connected_meetings.delete_meetings",
    first_rooms!(
        "DELETE FROM meetings WHERE app_id = $1 AND id IN",
        "RETURNING id"
    ),
);
static PURGE: Statement = Statement::new(
    "connected_meetings.purge",
    first_rooms!(
        "INSERT INTO purges (app_id, meeting_id, passes, due)
         SELECT c.app_id, c.meeting_id, 0, $4 FROM connected_meetings c WHERE c.app_id = $1 AND c.meeting_id IN",
        "ON CONFLICT (app_id, meeting_id) DO NOTHING"
    ),
);
static DELETE_WORDS: Statement = Statement::new(
    "connected_meetings.delete_words",
    first_rooms!(
        "DELETE FROM meeting_words WHERE app_id = $1 AND meeting_id IN",
        ""
    ),
);
static DELETE_CONNECTIONS: Statement = Statement::new(
    "connected_meetings.forget",
    first_rooms!(
        "DELETE FROM connected_meetings WHERE app_id = $1 AND meeting_id IN",
        "RETURNING meeting_id"
    ),
);

pub(super) static STATEMENTS: [&Statement; 18] = [
    &CONNECT,
    &ROOMS,
    &PARENT,
    &SELF,
    &DISCONNECT,
    &CLOSE,
    &TOUCH,
    &TOUCH_ROOMS,
    &DETACH,
    &DELETE,
    &PURGE,
    &DELETE_WORDS,
    &DELETE_CONNECTIONS,
    &LOCK,
    &LOCK_ROOMS,
    &KNOWN,
    &HAS_NO_ROOMS,
    &HAS_SPACE,
];

/// Maximum number of breakout rooms in one meeting.
pub(crate) const ROOMS_MAX: usize = 100;

/// A meeting or one of its breakout rooms.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    /// The meeting id.
    pub(crate) id: MeetingId,
    /// The title; empty if the meeting has none.
    pub(crate) title: String,
    /// Whether the meeting itself is active. A breakout room whose parent is inactive cannot be
    /// joined either.
    pub(crate) active: bool,
}

impl FromRow for Room {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let (title, status): (Option<String>, String) = (row.take(1)?, row.take(2)?);
        Ok(Self {
            id: MeetingId::from_uuid(row.take(0)?),
            title: title.unwrap_or_default(),
            active: status == MeetingStatus::Active.as_str(),
        })
    }
}

/// Returns the parent of a breakout room, or the meeting itself if it is not one, with all breakout
/// rooms. `None` when there is no such meeting.
///
/// # Errors
/// When the database fails.
pub(crate) async fn family(
    state: &ServerState,
    app: AppId,
    meeting: MeetingId,
) -> Result<Option<(Room, Vec<Room>)>, Error> {
    let ids = values![app.uuid(), meeting.uuid()];
    let mut parent = state.db.read::<Room>(&PARENT, ids.clone()).await?.pop();
    if parent.is_none() {
        parent = state.db.read::<Room>(&SELF, ids).await?.pop();
    }
    let Some(parent) = parent else {
        return Ok(None);
    };
    let ids = values![app.uuid(), parent.id.uuid()];
    let rooms = state.db.read::<Room>(&ROOMS, ids).await?;
    Ok(Some((parent, rooms)))
}

/// The breakout rooms of a meeting, at one version of the meeting.
#[derive(Debug, Clone)]
pub(crate) struct Rooms {
    /// The ids of the rooms. Empty if the meeting is a breakout room itself.
    pub(crate) rooms: Vec<MeetingId>,
    version: i64,
}

struct KnownRow(MeetingId, i64);

impl FromRow for KnownRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self(MeetingId::from_uuid(row.take(0)?), row.take(1)?))
    }
}

/// Reads the breakout rooms of a meeting.
///
/// # Errors
/// When the database fails.
pub(crate) async fn rooms(
    state: &ServerState,
    app: AppId,
    parent: MeetingId,
) -> Result<Rooms, Error> {
    let ids = values![app.uuid(), parent.uuid()];
    let known = state.db.read::<KnownRow>(&KNOWN, ids).await?;
    Ok(Rooms {
        version: known.first().map_or(0, |KnownRow(_, version)| *version),
        rooms: known.into_iter().map(|KnownRow(room, _)| room).collect(),
    })
}

/// Adds a step that excludes concurrent changes to a meeting's breakout rooms and their
/// participants. The unit fails if the meeting does not exist.
pub(crate) fn lock(unit: Unit, app: AppId, parent: MeetingId) -> Unit {
    unit.keyed(family_key(parent))
        .exactly_one(&LOCK, values![app.uuid(), parent.uuid()])
}

/// The same, provided that the meeting's breakout rooms are still these.
pub(crate) fn lock_rooms(unit: Unit, app: AppId, parent: MeetingId, known: &Rooms) -> Unit {
    let row = values![app.uuid(), parent.uuid(), known.version];
    unit.keyed(family_key(parent)).exactly_one(&LOCK_ROOMS, row)
}

/// Adds a step that makes the unit fail if the meeting has breakout rooms or does not exist.
pub(crate) fn require_no_rooms(unit: Unit, app: AppId, parent: MeetingId) -> Unit {
    unit.exactly_one(&HAS_NO_ROOMS, values![app.uuid(), parent.uuid()])
}

/// The writer key of a meeting's breakout rooms: all their changes go through one writer.
fn family_key(parent: MeetingId) -> u64 {
    parent.uuid().as_u64_pair().1
}

/// Creates breakout rooms with the settings of their parent, all or none. Returns `None` when the
/// meeting would have more than [`ROOMS_MAX`].
///
/// # Errors
/// When the database fails or the meeting does not exist.
pub(crate) async fn create_rooms(
    state: &ServerState,
    app: AppId,
    parent: MeetingId,
    titles: Vec<String>,
) -> Result<Option<Vec<Room>>, ApiError> {
    let settings = find(state, app, parent).await?.meeting.settings;
    let now_ms = state.clock.now_ms();
    let max_existing = ROOMS_MAX.saturating_sub(titles.len());
    let max_existing = i64::try_from(max_existing).expect("a small constant");
    let mut unit = Unit::default()
        .keyed(family_key(parent))
        .exactly_one(&TOUCH, values![app.uuid(), parent.uuid()])
        // The caller's count of rooms may be out of date. The previous step makes other requests
        // that create rooms wait, so the count of this step stays correct until the commit.
        .exactly_one(&HAS_SPACE, values![app.uuid(), parent.uuid(), max_existing]);
    let mut rooms = Vec::new();
    for title in titles {
        let id = MeetingId::from_uuid(state.clock.new_id(now_ms));
        unit = create::plan(unit, (app, id), Some(&title), &settings, now_ms);
        let row = values![app.uuid(), parent.uuid(), id.uuid(), now_ms];
        unit = unit.then(&CONNECT, row);
        rooms.push(Room {
            id,
            title,
            active: true,
        });
    }
    match state.db.commit(unit).await {
        Ok(_) => Ok(Some(rooms)),
        Err(Error::WrongCount { step: 1 }) => Ok(None),
        Err(Error::WrongCount { .. }) => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// Removes breakout rooms. Their meetings stay in the database until the parent is deleted, but can
/// no longer be joined.
///
/// # Errors
/// When the database fails.
pub(crate) async fn remove_rooms(
    state: &ServerState,
    app: AppId,
    parent: MeetingId,
    rooms: &[MeetingId],
) -> Result<(), Error> {
    let now_ms = state.clock.now_ms();
    let mut unit = Unit::default()
        .keyed(family_key(parent))
        .then(&TOUCH, values![app.uuid(), parent.uuid()]);
    for room in rooms {
        unit = unit
            .then(
                &DISCONNECT,
                values![app.uuid(), parent.uuid(), room.uuid(), now_ms],
            )
            .then(&CLOSE, values![app.uuid(), room.uuid(), now_ms]);
    }
    state.db.commit(unit).await.map(drop)
}

/// Adds the consequences of a status change: whether the meeting's breakout rooms can be joined,
/// and whether a removed breakout room becomes an independent meeting.
pub(super) fn status_changed(unit: Unit, app: AppId, id: MeetingId, status: MeetingStatus) -> Unit {
    let ids = values![app.uuid(), id.uuid()];
    let unit = unit.then(&TOUCH_ROOMS, ids.clone());
    match status {
        MeetingStatus::Active => unit.then(&DETACH, ids),
        MeetingStatus::Inactive => unit,
    }
}

/// Which breakout rooms of a meeting to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoomSelection {
    /// Rooms that were not removed: at most [`ROOMS_MAX`].
    Open,
    /// All rooms, including removed ones. There may be any number of them, so each call deletes at
    /// most [`ROOMS_MAX`].
    Any,
}

/// Adds the steps that delete breakout rooms of a meeting. The meeting must be deleted in the same
/// unit or earlier, so that no room is added to it concurrently. The first step returns the ids of
/// the deleted meetings, which the caller subtracts from the app's tally. If the last step returns
/// rows, there may be more rooms to delete.
pub(crate) fn delete_rooms(
    unit: Unit,
    (app, parent): (Uuid, Uuid),
    which: RoomSelection,
    now_ms: i64,
) -> Unit {
    let removed_ms = match which {
        RoomSelection::Open => 0,
        RoomSelection::Any => i64::MAX,
    };
    let rooms = values![app, parent, removed_ms];
    unit.then(&DELETE, rooms.clone())
        .then(&PURGE, values![app, parent, removed_ms, now_ms])
        .then(&DELETE_WORDS, rooms.clone())
        .then(&DELETE_CONNECTIONS, rooms)
}
