//! Prepares every SQL statement of the server against the schema on both databases.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use parlor_server::schema::MIGRATIONS;
use parlor_server::statements::statements;
use parlor_store::{DatabaseLocation, Db, Options};

use crate::process::new_database;

async fn prepare_all(location: &DatabaseLocation) {
    let db = Db::open(location, Options::default(), Arc::new(()))
        .await
        .unwrap();
    db.migrate(MIGRATIONS).await.unwrap();
    let mut broken = Vec::new();
    for statement in statements() {
        if let Err(error) = db.prepare(statement).await {
            broken.push(format!("{}: {error}", statement.name()));
        }
    }
    db.close().await;
    assert!(broken.is_empty(), "{broken:#?}");
}

#[tokio::test]
async fn every_statement_prepares_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    prepare_all(&DatabaseLocation::Sqlite(folder.path().join("parlor.db"))).await;
}

#[tokio::test]
async fn every_statement_prepares_on_postgresql() {
    prepare_all(&DatabaseLocation::Postgres(new_database().await)).await;
}

#[test]
fn every_statement_has_a_unique_name() {
    let names: HashSet<&str> = statements()
        .iter()
        .map(|statement| statement.name())
        .collect();
    assert_eq!(names.len(), statements().len());
}

#[test]
fn every_statement_in_the_source_is_listed() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert_eq!(declared_in(&source), statements().len());
}

/// Counts the statements that the files below a directory declare.
fn declared_in(folder: &Path) -> usize {
    let entries = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let declared = |path: &Path| {
        std::fs::read_to_string(path)
            .unwrap()
            .matches("Statement::new(")
            .count()
    };
    entries
        .map(|path| {
            if path.is_dir() {
                declared_in(&path)
            } else if path.ends_with("tests.rs") {
                // Statements in test modules are not part of the server.
                0
            } else {
                declared(&path)
            }
        })
        .sum()
}
