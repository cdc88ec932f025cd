//! The records of breakout rooms: each is a meeting of its own, tied to its parent.

use parlor_protocol::ids::{AppId, MeetingId};
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};

use super::{create, find, missing};
use crate::api::ApiError;
use crate::parlor::Parlor;

static CONNECT: Statement = Statement::new(
    "connected_meetings.insert",
    "INSERT INTO connected_meetings (app_id, parent_id, meeting_id, created_at) VALUES ($1, $2, $3, $4)",
);
static ROOMS: Statement = Statement::new(
    "connected_meetings.rooms",
    "SELECT m.id, m.title FROM connected_meetings c JOIN meetings m ON m.app_id = c.app_id AND m.id = c.meeting_id
     WHERE c.app_id = $1 AND c.parent_id = $2 ORDER BY c.meeting_id",
);
static PARENT: Statement = Statement::new(
    "connected_meetings.parent",
    "SELECT m.id, m.title FROM connected_meetings c JOIN meetings m ON m.app_id = c.app_id AND m.id = c.parent_id
     WHERE c.app_id = $1 AND c.meeting_id = $2",
);
static SELF: Statement = Statement::new(
    "connected_meetings.self",
    "SELECT id, title FROM meetings WHERE app_id = $1 AND id = $2",
);
static DISCONNECT: Statement = Statement::new(
    "connected_meetings.delete",
    "DELETE FROM connected_meetings WHERE app_id = $1 AND parent_id = $2 AND meeting_id = $3",
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
     WHERE c.app_id = $1 AND c.parent_id = $2 ORDER BY c.meeting_id",
);
static HAS_NO_ROOMS: Statement = Statement::new(
    "connected_meetings.none",
    "SELECT m.id FROM meetings m WHERE m.app_id = $1 AND m.id = $2 AND NOT EXISTS
     (SELECT 1 FROM connected_meetings c WHERE c.app_id = $1 AND c.parent_id = $2)",
);
static HAS_SPACE: Statement = Statement::new(
    "connected_meetings.has_space",
    "SELECT m.id FROM meetings m WHERE m.app_id = $1 AND m.id = $2 AND $3 >=
     (SELECT COUNT(*) FROM connected_meetings c WHERE c.app_id = $1 AND c.parent_id = $2)",
);

pub(super) static STATEMENTS: [&Statement; 12] = [
    &CONNECT,
    &ROOMS,
    &PARENT,
    &SELF,
    &DISCONNECT,
    &CLOSE,
    &TOUCH,
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
}

impl FromRow for Room {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let title: Option<String> = row.take(1)?;
        Ok(Self {
            id: MeetingId::from_uuid(row.take(0)?),
            title: title.unwrap_or_default(),
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
        rooms.push(Room { id, title });
    }
    match parlor.db.commit(unit).await {
        Ok(_) => Ok(Some(rooms)),
        Err(Error::WrongCount { step: 1 }) => Ok(None),
        Err(Error::WrongCount { .. }) => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// Removes breakout rooms: their meetings stay in the records, and nobody joins them any more.
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
            .then(&DISCONNECT, values![app.uuid(), parent.uuid(), room.uuid()])
            .then(&CLOSE, values![app.uuid(), room.uuid(), now_ms]);
    }
    parlor.db.commit(unit).await.map(drop)
}
