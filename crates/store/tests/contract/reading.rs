//! Reads.

use futures_util::future::join_all;
use parlor_store::{Error, Row, Statement, values};
use uuid::Uuid;

use crate::{database::TestDatabase, rooms};

crate::on_both_engines!(
    a_read_cannot_write,
    a_valid_statement_prepares,
    a_statement_that_does_not_match_the_schema_is_rejected,
    more_scans_than_connections_all_complete,
    an_open_database_answers_a_ping,
);

async fn a_read_cannot_write(database: TestDatabase) {
    let db = database.with_rooms().await;
    let add = || values![Uuid::nil(), "a", 1];
    assert!(db.read::<Row>(&rooms::ADD, add()).await.is_err());
    assert!(db.scan::<Row>(&rooms::ADD, add()).await.is_err());
    assert_eq!(rooms::count(&db).await, 0);
}

async fn a_valid_statement_prepares(database: TestDatabase) {
    let db = database.with_rooms().await;
    for statement in [
        &rooms::ADD_FULL,
        &rooms::FIND,
        &rooms::SET_SEATS,
        &rooms::VISIT,
    ] {
        assert_eq!(db.prepare(statement).await, Ok(()), "{}", statement.name());
    }
    assert_eq!(rooms::count(&db).await, 0);
}

async fn a_statement_that_does_not_match_the_schema_is_rejected(database: TestDatabase) {
    static TYPO: Statement = Statement::new("rooms.typo", "SELECT naem FROM rooms");
    let db = database.with_rooms().await;
    assert!(matches!(db.prepare(&TYPO).await, Err(Error::Broken(_))));
    assert!(matches!(
        db.read::<Row>(&TYPO, values![]).await,
        Err(Error::Broken(_))
    ));
}

async fn more_scans_than_connections_all_complete(database: TestDatabase) {
    let db = database.with_rooms().await;
    let scans = join_all((0..100).map(|_| db.scan::<Row>(&rooms::COUNT, values![])));
    for rows in scans.await {
        assert_eq!(rooms::first(rows.unwrap()), 0);
    }
}

async fn an_open_database_answers_a_ping(database: TestDatabase) {
    let db = database.open().await;
    assert_eq!(db.ping().await, Ok(()));
    db.close().await;
    assert!(matches!(db.ping().await, Err(Error::Unavailable(_))));
}
