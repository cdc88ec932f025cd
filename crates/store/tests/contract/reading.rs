//! Reads, and what a read must not be able to do.

use futures_util::future::join_all;
use parlor_store::{Error, Row, Statement, values};
use uuid::Uuid;

use crate::{home::Home, rooms};

crate::on_both_engines!(
    a_read_cannot_write,
    a_good_statement_prepares,
    a_statement_that_does_not_fit_the_schema_is_refused,
    more_scans_than_connections_all_end,
    an_open_database_answers_a_ping,
);

async fn a_read_cannot_write(home: Home) {
    let db = home.with_rooms().await;
    let add = || values![Uuid::nil(), "a", 1];
    assert!(db.read::<Row>(&rooms::ADD, add()).await.is_err());
    assert!(db.scan::<Row>(&rooms::ADD, add()).await.is_err());
    assert_eq!(rooms::count(&db).await, 0);
}

async fn a_good_statement_prepares(home: Home) {
    let db = home.with_rooms().await;
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

async fn a_statement_that_does_not_fit_the_schema_is_refused(home: Home) {
    static TYPO: Statement = Statement::new("rooms.typo", "SELECT naem FROM rooms");
    let db = home.with_rooms().await;
    assert!(matches!(db.prepare(&TYPO).await, Err(Error::Broken(_))));
    assert!(matches!(
        db.read::<Row>(&TYPO, values![]).await,
        Err(Error::Broken(_))
    ));
}

async fn more_scans_than_connections_all_end(home: Home) {
    let db = home.with_rooms().await;
    let scans = join_all((0..100).map(|_| db.scan::<Row>(&rooms::COUNT, values![])));
    for rows in scans.await {
        assert_eq!(rooms::first(rows.unwrap()), 0);
    }
}

async fn an_open_database_answers_a_ping(home: Home) {
    let db = home.open().await;
    assert_eq!(db.ping().await, Ok(()));
    db.close().await;
    assert!(matches!(db.ping().await, Err(Error::Unavailable(_))));
}
