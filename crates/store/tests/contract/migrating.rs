//! Migrations, including concurrent ones from several nodes.

use parlor_store::{Error, Migration, Row, Statement, values};

use crate::{
    database::TestDatabase,
    rooms::{self, MIGRATIONS},
};

crate::on_both_engines!(
    handles_that_open_and_migrate_at_once_apply_each_migration_once,
    a_second_run_applies_only_what_is_new,
    a_changed_migration_is_rejected,
    an_unknown_migration_means_a_newer_schema,
    a_failed_migration_is_rolled_back,
);

static HISTORY: Statement = Statement::new(
    "history",
    "SELECT CAST(count(*) AS BIGINT) FROM schema_migrations WHERE applied_at > 0",
);

async fn handles_that_open_and_migrate_at_once_apply_each_migration_once(database: TestDatabase) {
    let (one, two, three) = tokio::join!(
        database.with_rooms(),
        database.with_rooms(),
        database.with_rooms()
    );
    for db in [one, two, three] {
        assert_eq!(rooms::first(db.read(&HISTORY, values![]).await.unwrap()), 2);
        assert_eq!(rooms::count(&db).await, 0);
    }
}

async fn a_second_run_applies_only_what_is_new(database: TestDatabase) {
    let db = database.open().await;
    db.migrate(&MIGRATIONS[..1]).await.unwrap();
    assert!(db.prepare(&rooms::VISIT).await.is_err());
    db.migrate(&MIGRATIONS).await.unwrap();
    assert_eq!(db.prepare(&rooms::VISIT).await, Ok(()));
    assert_eq!(db.migrate(&MIGRATIONS).await, Ok(()));
}

async fn a_changed_migration_is_rejected(database: TestDatabase) {
    let db = database.with_rooms().await;
    let mut changed = MIGRATIONS;
    changed[0].sql = "CREATE TABLE rooms (id UUID PRIMARY KEY)";
    let Err(Error::Broken(text)) = db.migrate(&changed).await else {
        panic!("the changed migration was accepted")
    };
    assert!(text.contains("0001_rooms"), "{text}");
}

async fn an_unknown_migration_means_a_newer_schema(database: TestDatabase) {
    let db = database.with_rooms().await;
    let migration = "0002_visits".to_owned();
    assert_eq!(
        db.migrate(&MIGRATIONS[..1]).await,
        Err(Error::Newer { migration })
    );
}

async fn a_failed_migration_is_rolled_back(database: TestDatabase) {
    static DESKS: Statement = Statement::new("desks", "SELECT id FROM desks");
    let db = database.with_rooms().await;
    let broken = Migration {
        name: "0003_desks",
        sql: "CREATE TABLE desks (id UUID PRIMARY KEY); CREATE INDEX none ON nothing (id);",
    };
    let all = [MIGRATIONS[0], MIGRATIONS[1], broken];
    assert!(matches!(db.migrate(&all).await, Err(Error::Broken(_))));
    assert!(db.read::<Row>(&DESKS, values![]).await.is_err());
    assert_eq!(rooms::first(db.read(&HISTORY, values![]).await.unwrap()), 2);
    assert_eq!(db.migrate(&MIGRATIONS).await, Ok(()));
}
