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

pub(super) static STATEMENTS: [&Statement; 7] = [
    &CONNECT,
    &ROOMS,
    &PARENT,
    &SELF,
    &DISCONNECT,
    &CLOSE,
    &TOUCH,
];

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

/// Makes breakout rooms of a meeting, with its settings; all or none.
///
/// # Errors
/// When the database fails or the meeting is gone.
pub(crate) async fn make_rooms(
    parlor: &Parlor,
    app: AppId,
    parent: MeetingId,
    titles: Vec<String>,
) -> Result<Vec<Room>, ApiError> {
    let settings = find(parlor, app, parent).await?.meeting.settings;
    let now_ms = parlor.clock.now_ms();
    let mut unit = Unit::default()
        .keyed(parent.uuid().as_u64_pair().1)
        .exactly_one(&TOUCH, values![app.uuid(), parent.uuid()]);
    let mut rooms = Vec::new();
    for title in titles {
        let id = MeetingId::from_uuid(parlor.clock.new_id(now_ms));
        unit = create::plan(unit, (app, id), Some(&title), &settings, now_ms);
        let row = values![app.uuid(), parent.uuid(), id.uuid(), now_ms];
        unit = unit.then(&CONNECT, row);
        rooms.push(Room { id, title });
    }
    match parlor.db.commit(unit).await {
        Ok(_) => Ok(rooms),
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
        .keyed(parent.uuid().as_u64_pair().1)
        .then(&TOUCH, values![app.uuid(), parent.uuid()]);
    for room in rooms {
        unit = unit
            .then(&DISCONNECT, values![app.uuid(), parent.uuid(), room.uuid()])
            .then(&CLOSE, values![app.uuid(), room.uuid(), now_ms]);
    }
    parlor.db.commit(unit).await.map(drop)
}
