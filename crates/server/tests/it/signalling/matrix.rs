//! The permission matrix: every permission that guards an event, denied by the preset and revoked
//! during the call. Without the permission the event is refused and the meeting does not change.
//! With it the same event changes the meeting, because otherwise the cell would prove nothing.

mod cells;
mod fixture;

use parlor_testkit::signal::Refused;

use crate::on_both_databases;
use crate::signalling::server::Server;
use cells::{Cell, Outcome};
use fixture::Fixture;

on_both_databases![an_event_needs_its_permission];

/// Number of cells that run concurrently.
const CONCURRENCY: usize = 4;

async fn an_event_needs_its_permission(server: &Server) {
    use futures_util::StreamExt;
    let cells = cells::all();
    let runs = futures_util::stream::iter(&cells).map(|cell| run(server, cell));
    let findings: Vec<Vec<String>> = runs.buffer_unordered(CONCURRENCY).collect().await;
    let (mut counted, mut wrong) = (0, Vec::new());
    for cell in &cells {
        // With the permission, without it, and after its revocation.
        counted += 2 + usize::from(cell.revokes.is_some());
    }
    wrong.extend(findings.into_iter().flatten());
    println!(
        "{counted} cells of {} permissions and events, {} wrong",
        cells.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Runs one cell with the permission, without it, and after its revocation.
async fn run(server: &Server, cell: &Cell) -> Vec<String> {
    let mut findings = Vec::new();
    let name = format!("{} without {}", cell.name, cell.permission);
    let fixture = Fixture::create(server, None).await;
    if let Err(finding) = check_allowed(&fixture, cell).await {
        findings.push(format!("{} with {}: {finding}", cell.name, cell.permission));
    }
    let fixture = Fixture::create(server, Some(&cell.denies)).await;
    if let Err(finding) = check_denied(&fixture, cell).await {
        findings.push(format!("{name} by preset: {finding}"));
    }
    if let Some(revocation) = &cell.revokes {
        let fixture = Fixture::create(server, None).await;
        (cell.prepare)(&fixture).await;
        fixture.revoke(*revocation).await;
        if let Err(finding) = check_refused(&fixture, cell).await {
            findings.push(format!("{name} by a change during the call: {finding}"));
        }
    }
    findings
}

async fn check_allowed(fixture: &Fixture, cell: &Cell) -> Result<(), String> {
    (cell.prepare)(fixture).await;
    let before = fixture.state().await;
    let refusal = (cell.send)(fixture).await;
    if let Some(refused) = refusal {
        return Err(format!("{refused}"));
    }
    let after = fixture.state().await;
    if cell.outcome == Outcome::Changes && before == after {
        return Err("succeeded and changed nothing".to_owned());
    }
    Ok(())
}

async fn check_denied(fixture: &Fixture, cell: &Cell) -> Result<(), String> {
    (cell.prepare)(fixture).await;
    check_refused(fixture, cell).await
}

async fn check_refused(fixture: &Fixture, cell: &Cell) -> Result<(), String> {
    let before = fixture.state().await;
    let refusal = (cell.send)(fixture).await;
    let after = fixture.state().await;
    if before != after {
        return Err(format!(
            "the meeting changed: {}",
            fixture::difference(&before, &after)
        ));
    }
    match refusal {
        None => Err("was not refused".to_owned()),
        // A media error has no code.
        Some(Refused { code: 403, message }) if !message.is_empty() => Ok(()),
        Some(Refused { code: 0, message }) if message.contains("permission") => Ok(()),
        Some(other) => Err(format!("was refused for another reason: {other}")),
    }
}
