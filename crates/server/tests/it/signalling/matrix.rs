//! Every permission that guards an event, taken away in two ways: by the preset, and by a change
//! in the middle of the call. Each time the event is refused and the meeting is as it was; with the
//! permission the same event changes it, or else the cell would prove nothing.

mod cells;
mod scene;

use parlor_testkit::signal::Refused;

use crate::on_both_databases;
use crate::signalling::server::Server;
use cells::{Cell, Outcome};
use scene::Scene;

on_both_databases![an_event_needs_its_permission];

/// Scenes that are played at the same time.
const AT_ONCE: usize = 4;

async fn an_event_needs_its_permission(server: &Server) {
    use futures_util::StreamExt;
    let cells = cells::all();
    let played = futures_util::stream::iter(&cells).map(|cell| play(server, cell));
    let findings: Vec<Vec<String>> = played.buffer_unordered(AT_ONCE).collect().await;
    let (mut counted, mut wrong) = (0, Vec::new());
    for cell in &cells {
        // With it, without it, and after it was taken away.
        counted += 2 + usize::from(cell.takes_away.is_some());
    }
    wrong.extend(findings.into_iter().flatten());
    println!(
        "{counted} cells of {} permissions and events, {} wrong",
        cells.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Plays one event with the permission, without it, and after it was taken away.
async fn play(server: &Server, cell: &Cell) -> Vec<String> {
    let mut findings = Vec::new();
    let name = format!("{} without {}", cell.name, cell.permission);
    let scene = Scene::set(server, None).await;
    if let Err(finding) = allowed(&scene, cell).await {
        findings.push(format!("{} with {}: {finding}", cell.name, cell.permission));
    }
    let scene = Scene::set(server, Some(&cell.denies)).await;
    if let Err(finding) = denied(&scene, cell).await {
        findings.push(format!("{name} by preset: {finding}"));
    }
    if let Some(taken) = &cell.takes_away {
        let scene = Scene::set(server, None).await;
        (cell.prepare)(&scene).await;
        scene.take_away(*taken).await;
        if let Err(finding) = refused(&scene, cell).await {
            findings.push(format!("{name} by a live change: {finding}"));
        }
    }
    findings
}

async fn allowed(scene: &Scene, cell: &Cell) -> Result<(), String> {
    (cell.prepare)(scene).await;
    let before = scene.state().await;
    let refusal = (cell.act)(scene).await;
    if let Some(refused) = refusal {
        return Err(format!("{refused}"));
    }
    let after = scene.state().await;
    if cell.outcome == Outcome::Changes && before == after {
        return Err("was answered and changed nothing".to_owned());
    }
    Ok(())
}

async fn denied(scene: &Scene, cell: &Cell) -> Result<(), String> {
    (cell.prepare)(scene).await;
    refused(scene, cell).await
}

async fn refused(scene: &Scene, cell: &Cell) -> Result<(), String> {
    let before = scene.state().await;
    let refusal = (cell.act)(scene).await;
    let after = scene.state().await;
    if before != after {
        return Err(format!(
            "the meeting changed: {}",
            scene::difference(&before, &after)
        ));
    }
    match refusal {
        None => Err("was not refused".to_owned()),
        // A media error has no code.
        Some(Refused { code: 403, message }) if !message.is_empty() => Ok(()),
        Some(Refused { code: 0, message }) if message.contains("permission") => Ok(()),
        Some(other) => Err(format!("is refused for another reason: {other}")),
    }
}
