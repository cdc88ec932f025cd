//! The records of breakout rooms: each is a meeting of its own, tied to its parent.

use parlor_protocol::MeetingStatus;
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use uuid::Uuid;

use super::{create, find, missing};
use crate::http::ApiError;
use crate::state::Parlor;

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
/// Nobody joins a room that was removed.
static CLOSE: Statement = Statement::new(
    "connected_meetings.close",
    "UPDATE meetings SET status = 'INACTIVE', updated_at = $3, version = version + 1 WHERE app_id = $1 AND id = $2",
);

/// Rooms that run are told of changes in the order of versions, and to have breakout rooms is one.
static TOUCH: Statement = Statement::new(
    "connected_meetings.touch",
    "UPDATE meetings SET version = version + 1 WHERE app_id = $1 AND id = $2",
);
/// Whether people can join a breakout room depends on its parent's status, so a change of that is a
/// change of the room.
static TOUCH_ROOMS: Statement = Statement::new(
    "connected_meetings.touch_rooms",
    "UPDATE meetings SET version = version + 1 WHERE app_id = $1 AND id IN
     (SELECT c.meeting_id FROM connected_meetings c
      WHERE c.app_id = $1 AND c.parent_id = $2 AND c.removed_at IS NULL)",
);
/// A removed room that people can join again is a meeting of its own.
static FREE: Statement = Statement::new(
    "connected_meetings.free",
    "DELETE FROM connected_meetings WHERE app_id = $1 AND meeting_id = $2 AND removed_at IS NOT NULL",
);

/// Moves, deletions of participants, and changes of a meeting's breakout rooms hold this row, and so
/// wait for each other.
static HOLD: Statement = Statement::new(
    "connected_meetings.hold",
    "UPDATE meetings SET version = version WHERE app_id = $1 AND id = $2",
);
/// The same, if the meeting has the breakout rooms that it had when they were read.
static HOLD_ROOMS: Statement = Statement::new(
    "connected_meetings.hold_rooms",
    "UPDATE meetings SET version = version WHERE app_id = $1 AND id = $2 AND version = $3",
);
/// The ids of the rooms, and the version that the meeting has with them.
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

/// The rooms of a parent that one unit deletes. `$3` is the latest time of removal; 0 selects only those
/// that were not removed.
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
static FORGET: Statement = Statement::new(
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
    &FREE,
    &DELETE,
    &PURGE,
    &DELETE_WORDS,
    &FORGET,
    &HOLD,
    &HOLD_ROOMS,
    &KNOWN,
    &HAS_NO_ROOMS,
    &HAS_SPACE,
];

/// Breakout rooms of one meeting.
pub(crate) const ROOMS_MAX: usize = 100;

/// A meeting of a family, by what people need of it.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    /// Its id.
    pub(crate) id: MeetingId,
    /// What people call it.
    pub(crate) title: String,
    /// Its own status. Nobody joins a breakout room whose parent is inactive either.
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

/// The parent of a meeting, or itself, and the breakout rooms of that.
///
/// # Errors
/// When the database fails.
pub(crate) async fn family(
    parlor: &Parlor,
    app: AppId,
    meeting: MeetingId,
) -> Result<Option<(Room, Vec<Room>)>, Error> {
    let ids = values![app.uuid(), meeting.uuid()];
    let mut parent = parlor.db.read::<Room>(&PARENT, ids.clone()).await?.pop();
    if parent.is_none() {
        parent = parlor.db.read::<Room>(&SELF, ids).await?.pop();
    }
    let Some(parent) = parent else {
        return Ok(None);
    };
    let ids = values![app.uuid(), parent.id.uuid()];
    let rooms = parlor.db.read::<Room>(&ROOMS, ids).await?;
    Ok(Some((parent, rooms)))
}

/// The breakout rooms of a meeting, as they were when its version was this.
#[derive(Debug, Clone)]
pub(crate) struct Rooms {
    /// Their ids; none when the meeting is a breakout room itself.
    pub(crate) rooms: Vec<MeetingId>,
    version: i64,
}

struct KnownRow(MeetingId, i64);

impl FromRow for KnownRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self(MeetingId::from_uuid(row.take(0)?), row.take(1)?))
    }
}

/// The breakout rooms of a meeting.
///
/// # Errors
/// When the database fails.
pub(crate) async fn rooms(parlor: &Parlor, app: AppId, parent: MeetingId) -> Result<Rooms, Error> {
    let ids = values![app.uuid(), parent.uuid()];
    let known = parlor.db.read::<KnownRow>(&KNOWN, ids).await?;
    Ok(Rooms {
        version: known.first().map_or(0, |KnownRow(_, version)| *version),
        rooms: known.into_iter().map(|KnownRow(room, _)| room).collect(),
    })
}

/// Begins a unit in which nobody else changes the breakout rooms of a meeting or who is in them: the
/// first step, which touches exactly one row while the meeting exists.
pub(crate) fn hold(unit: Unit, app: AppId, parent: MeetingId) -> Unit {
    unit.keyed(family_key(parent))
        .exactly_one(&HOLD, values![app.uuid(), parent.uuid()])
}

/// The same, if the meeting has these rooms still.
pub(crate) fn hold_rooms(unit: Unit, app: AppId, parent: MeetingId, known: &Rooms) -> Unit {
    let row = values![app.uuid(), parent.uuid(), known.version];
    unit.keyed(family_key(parent)).exactly_one(&HOLD_ROOMS, row)
}

/// Adds a step that touches exactly one row while the meeting has no breakout rooms.
pub(crate) fn has_no_rooms(unit: Unit, app: AppId, parent: MeetingId) -> Unit {
    unit.exactly_one(&HAS_NO_ROOMS, values![app.uuid(), parent.uuid()])
}

/// What concerns the breakout rooms of a meeting goes through one writer.
fn family_key(parent: MeetingId) -> u64 {
    parent.uuid().as_u64_pair().1
}

/// Makes breakout rooms of a meeting, with its settings; all or none. `None` when it would have more
/// than [`ROOMS_MAX`].
///
/// # Errors
/// When the database fails or the meeting is gone.
pub(crate) async fn make_rooms(
    parlor: &Parlor,
    app: AppId,
    parent: MeetingId,
    titles: Vec<String>,
) -> Result<Option<Vec<Room>>, ApiError> {
    let settings = find(parlor, app, parent).await?.meeting.settings;
    let now_ms = parlor.clock.now_ms();
    let space = ROOMS_MAX.saturating_sub(titles.len());
    let space = i64::try_from(space).expect("it is small");
    let mut unit = Unit::default()
        .keyed(family_key(parent))
        .exactly_one(&TOUCH, values![app.uuid(), parent.uuid()])
        // Others may have made some since they were counted. From here on they wait.
        .exactly_one(&HAS_SPACE, values![app.uuid(), parent.uuid(), space]);
    let mut rooms = Vec::new();
    for title in titles {
        let id = MeetingId::from_uuid(parlor.clock.new_id(now_ms));
        unit = create::plan(unit, (app, id), Some(&title), &settings, now_ms);
        let row = values![app.uuid(), parent.uuid(), id.uuid(), now_ms];
        unit = unit.then(&CONNECT, row);
        rooms.push(Room {
            id,
            title,
            active: true,
        });
    }
    match parlor.db.commit(unit).await {
        Ok(_) => Ok(Some(rooms)),
        Err(Error::WrongCount { step: 1 }) => Ok(None),
        Err(Error::WrongCount { .. }) => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// Removes breakout rooms: their meetings stay in the records until the parent is deleted, and nobody
/// joins them any more.
///
/// # Errors
/// When the database fails.
pub(crate) async fn disconnect(
    parlor: &Parlor,
    app: AppId,
    parent: MeetingId,
    rooms: &[MeetingId],
) -> Result<(), Error> {
    let now_ms = parlor.clock.now_ms();
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
    parlor.db.commit(unit).await.map(drop)
}

/// Adds what changes with the status of a meeting: whether people can join its breakout rooms, and
/// whether it is a removed breakout room still.
pub(super) fn status_changed(unit: Unit, app: AppId, id: MeetingId, status: MeetingStatus) -> Unit {
    let ids = values![app.uuid(), id.uuid()];
    let unit = unit.then(&TOUCH_ROOMS, ids.clone());
    match status {
        MeetingStatus::Active => unit.then(&FREE, ids),
        MeetingStatus::Inactive => unit,
    }
}

/// Which breakout rooms of a meeting are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that were not removed: [`ROOMS_MAX`] at most.
    Open,
    /// Removed ones too, of which there may be any number: up to [`ROOMS_MAX`] of all.
    Any,
}

/// Adds the steps that delete breakout rooms of a meeting, which is deleted in this unit or was before: no
/// room is added to it any more. The first of them returns the ids of the meetings that it deletes, which
/// the caller subtracts from the tally of the app. The last returns nothing when no room is left.
pub(crate) fn delete_rooms(
    unit: Unit,
    (app, parent): (Uuid, Uuid),
    which: Which,
    now_ms: i64,
) -> Unit {
    let removed_ms = match which {
        Which::Open => 0,
        Which::Any => i64::MAX,
    };
    let rooms = values![app, parent, removed_ms];
    unit.then(&DELETE, rooms.clone())
        .then(&PURGE, values![app, parent, removed_ms, now_ms])
        .then(&DELETE_WORDS, rooms.clone())
        .then(&FORGET, rooms)
}
