//! Bringing a schema up to date, also by several nodes at once.

use parlor_store::{Error, Migration, Row, Statement, values};

use crate::{
    home::Home,
    rooms::{self, MIGRATIONS},
};

crate::on_both_engines!(
    handles_that_open_and_migrate_at_once_apply_each_migration_once,
    a_second_run_applies_only_what_is_new,
    a_changed_migration_is_refused,
    an_unknown_migration_is_newer,
    a_migration_that_fails_leaves_nothing,
);

static HISTORY: Statement = Statement::new(
    "history",
    "SELECT CAST(count(*) AS BIGINT) FROM schema_migrations WHERE applied_at > 0",
);

async fn handles_that_open_and_migrate_at_once_apply_each_migration_once(home: Home) {
    let (one, two, three) = tokio::join!(home.with_rooms(), home.with_rooms(), home.with_rooms());
    for db in [one, two, three] {
        assert_eq!(rooms::first(db.read(&HISTORY, values![]).await.unwrap()), 2);
        assert_eq!(rooms::count(&db).await, 0);
    }
}

async fn a_second_run_applies_only_what_is_new(home: Home) {
    let db = home.open().await;
    db.migrate(&MIGRATIONS[..1]).await.unwrap();
    assert!(db.prepare(&rooms::VISIT).await.is_err());
    db.migrate(&MIGRATIONS).await.unwrap();
    assert_eq!(db.prepare(&rooms::VISIT).await, Ok(()));
    assert_eq!(db.migrate(&MIGRATIONS).await, Ok(()));
}

async fn a_changed_migration_is_refused(home: Home) {
    let db = home.with_rooms().await;
    let mut changed = MIGRATIONS;
    changed[0].sql = "CREATE TABLE rooms (id UUID PRIMARY KEY)";
    let Err(Error::Broken(text)) = db.migrate(&changed).await else {
        panic!("it was accepted")
    };
    assert!(text.contains("0001_rooms"), "{text}");
}

async fn an_unknown_migration_is_newer(home: Home) {
    let db = home.with_rooms().await;
    let migration = "0002_visits".to_owned();
    assert_eq!(
        db.migrate(&MIGRATIONS[..1]).await,
        Err(Error::Newer { migration })
    );
}

async fn a_migration_that_fails_leaves_nothing(home: Home) {
    static HALLS: Statement = Statement::new("halls", "SELECT id FROM halls");
    let db = home.with_rooms().await;
    let broken = Migration {
        name: "0003_halls",
        sql: "CREATE TABLE halls (id UUID PRIMARY KEY); CREATE INDEX none ON nothing (id);",
    };
    let all = [MIGRATIONS[0], MIGRATIONS[1], broken];
    assert!(matches!(db.migrate(&all).await, Err(Error::Broken(_))));
    assert!(db.read::<Row>(&HALLS, values![]).await.is_err());
    assert_eq!(rooms::first(db.read(&HISTORY, values![]).await.unwrap()), 2);
    assert_eq!(db.migrate(&MIGRATIONS).await, Ok(()));
}
