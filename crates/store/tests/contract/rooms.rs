//! Tables and statements of the tests.

use parlor_store::{Db, Migration, Row, Statement, Unit, values};
use uuid::Uuid;

pub(crate) static MIGRATIONS: [Migration; 2] = [
    Migration {
        name: "0001_rooms",
        sql: "-- A room; the name of a closed one can be reused.
              CREATE TABLE rooms (
                  id UUID NOT NULL,
                  name TEXT COLLATE \"C\" NOT NULL,
                  seats BIGINT NOT NULL,
                  is_locked BOOLEAN,
                  badge BYTEA,
                  closed_at BIGINT,
                  PRIMARY KEY (id)
              );
              CREATE UNIQUE INDEX rooms_name ON rooms (name) WHERE closed_at IS NULL;",
    },
    Migration {
        name: "0002_visits",
        sql: "CREATE TABLE visits (
                  room_id UUID NOT NULL,
                  position BIGINT NOT NULL,
                  lane BIGINT NOT NULL,
                  PRIMARY KEY (room_id, position)
              )",
    },
];

pub(crate) static ADD: Statement = Statement::new(
    "rooms.add",
    "INSERT INTO rooms (id, name, seats) VALUES ($1, $2, $3)",
);
pub(crate) static ADD_FULL: Statement = Statement::new(
    "rooms.add_full",
    "INSERT INTO rooms (id, name, seats, is_locked, badge, closed_at)
     VALUES ($1, $2, $3, $4, $5, $6)
     RETURNING id, name, seats, is_locked, badge, closed_at",
);
pub(crate) static FIND: Statement = Statement::new(
    "rooms.find",
    "SELECT id, name, seats, is_locked, badge, closed_at FROM rooms WHERE id = $1",
);
pub(crate) static SEATS: Statement =
    Statement::new("rooms.seats", "SELECT seats FROM rooms WHERE id = $1");
pub(crate) static SET_SEATS: Statement = Statement::new(
    "rooms.set_seats",
    "UPDATE rooms SET seats = $2 WHERE id = $1",
);
pub(crate) static ADD_SEAT: Statement = Statement::new(
    "rooms.add_seat",
    "UPDATE rooms SET seats = seats + 1 WHERE id = $1",
);
pub(crate) static ADD_SEATS: Statement = Statement::new(
    "rooms.add_seats",
    "UPDATE rooms SET seats = seats + $2 WHERE id = $1",
);
pub(crate) static COUNT: Statement =
    Statement::new("rooms.count", "SELECT CAST(count(*) AS BIGINT) FROM rooms");
pub(crate) static VISIT: Statement = Statement::new(
    "visits.add",
    "INSERT INTO visits (room_id, position, lane)
     SELECT CAST($1 AS UUID), count(*), {lane} FROM visits WHERE room_id = $1
     RETURNING position, lane",
);

/// Adds a room with this name.
pub(crate) fn add(id: Uuid, name: &str) -> Unit {
    Unit::default().exactly_one(&ADD, values![id, name, 0])
}

/// The number of rooms.
pub(crate) async fn count(db: &Db) -> i64 {
    first(db.read(&COUNT, values![]).await.unwrap())
}

/// The seats of a room.
pub(crate) async fn seats(db: &Db, id: Uuid) -> i64 {
    first(db.read(&SEATS, values![id]).await.unwrap())
}

/// The number in the first column of the first row.
pub(crate) fn first(mut rows: Vec<Row>) -> i64 {
    rows[0].take(0).unwrap()
}
