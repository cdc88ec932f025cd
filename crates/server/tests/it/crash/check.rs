//! Compares the state of a restarted server with the writes it acknowledged before the kill.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use parlor_testkit::Client;
use serde_json::Value;

use crate::crash::ledger::{Ledger, Presence};
use crate::crash::load::PRESET;
use crate::crash::{Meeting, Random};

/// Approximate number of participants that are also fetched individually.
const SAMPLE_SIZE: u64 = 30;

/// Maximum number of acknowledged requests that are sent again with their key, newest first.
const MAX_REPLAYS: usize = 20;

/// Rows by custom participant id.
type Rows = BTreeMap<String, Value>;

/// Checks one meeting and records every finding in its ledger. The observed state becomes the
/// expected one.
pub(crate) async fn after_kill(
    client: &Client,
    meeting: &mut Meeting,
    random: &mut Random,
) -> Result<()> {
    let Meeting {
        participants,
        ledger,
    } = meeting;
    let rows = list(client, participants, ledger).await?;
    check_rows(&rows, ledger);
    check_bulks(&rows, ledger);
    adopt_outcome(&rows, ledger);
    check_individually(client, participants, ledger, random).await?;
    replay_keyed_requests(client, participants, &rows, ledger).await
}

/// Reads all pages of the list.
async fn list(client: &Client, participants: &str, ledger: &mut Ledger) -> Result<Rows> {
    let mut rows = Rows::new();
    let mut listed = 0;
    for page in 1.. {
        let path = format!("{participants}?page_no={page}&per_page=100");
        let response = client.get(&path).await?;
        let total = response.body["paging"]["total_count"].as_u64();
        let page = response.expect(200)?;
        let page = page.as_array().context("a list")?;
        listed += page.len() as u64;
        for row in page {
            let custom_id = row["custom_participant_id"].as_str().unwrap_or_default();
            if rows.insert(custom_id.to_owned(), row.clone()).is_some() {
                ledger
                    .half_visible
                    .push(format!("{custom_id} is listed twice"));
            }
        }
        if page.len() < 100 {
            ensure!(
                total == Some(listed),
                "{listed} rows, but total_count {total:?}"
            );
            break;
        }
    }
    Ok(rows)
}

/// Checks that every acknowledged write is present with its contents, and that nothing else is.
fn check_rows(rows: &Rows, ledger: &mut Ledger) {
    let Ledger {
        expected,
        lost,
        half_visible,
        ..
    } = ledger;
    for (custom_id, participant) in &*expected {
        match (rows.get(custom_id), participant.presence) {
            (None, Presence::Present) => lost.push(format!("{custom_id} is missing")),
            (Some(_), Presence::Deleted) => {
                lost.push(format!("{custom_id} was deleted, but is present"));
            }
            (Some(row), _) => {
                let has_name = row["name"]
                    .as_str()
                    .is_some_and(|name| participant.names.contains(name));
                let has_id = participant.id.as_ref().is_none_or(|id| row["id"] == **id);
                if !has_name || !has_id || row["preset_name"] != PRESET {
                    let was_unknown = participant.presence == Presence::Unknown;
                    let findings = if was_unknown {
                        &mut *half_visible
                    } else {
                        &mut *lost
                    };
                    findings.push(format!("{custom_id} is {row}, expected {participant:?}"));
                }
            }
            (None, _) => {}
        }
    }
    for custom_id in rows.keys().filter(|id| !expected.contains_key(*id)) {
        half_visible.push(format!("{custom_id} was never sent"));
    }
}

/// Checks that each bulk was added completely or not at all.
fn check_bulks(rows: &Rows, ledger: &mut Ledger) {
    for bulk in ledger.bulks.drain(..) {
        let seen = bulk.iter().filter(|id| rows.contains_key(*id)).count();
        if seen != 0 && seen != bulk.len() {
            let finding = format!(
                "only {seen} of the {} participants of the bulk of {} are present",
                bulk.len(),
                bulk[0]
            );
            ledger.half_visible.push(finding);
        }
    }
}

/// Replaces the expected state by the observed one: the restart has decided every unknown outcome.
fn adopt_outcome(rows: &Rows, ledger: &mut Ledger) {
    for (custom_id, participant) in &mut ledger.expected {
        if let Some(row) = rows.get(custom_id) {
            participant.presence = Presence::Present;
            participant.id = row["id"].as_str().map(str::to_owned);
            participant.names = row["name"]
                .as_str()
                .map(str::to_owned)
                .into_iter()
                .collect();
        } else {
            participant.presence = Presence::Deleted;
        }
    }
}

/// Checks that the lookup by custom participant id agrees with the list.
async fn check_individually(
    client: &Client,
    participants: &str,
    ledger: &mut Ledger,
    random: &mut Random,
) -> Result<()> {
    let one_in = ledger.expected.len() as u64 / SAMPLE_SIZE + 1;
    for (custom_id, participant) in &ledger.expected {
        if random.below(one_in) != 0 {
            continue;
        }
        let path = format!("{participants}/custom:{custom_id}");
        let response = client.get(&path).await?;
        let agrees = match &participant.id {
            Some(id) if participant.presence == Presence::Present => {
                response.status == 200 && response.body["data"]["id"] == **id
            }
            _ => response.status == 404,
        };
        if !agrees {
            let finding = format!(
                "custom:{custom_id} is {}, expected {participant:?}",
                response.body
            );
            ledger.lost.push(finding);
        }
    }
    Ok(())
}

/// Repeats requests with their idempotency keys, as a client without a response does, and checks
/// that each write happens once.
async fn replay_keyed_requests(
    client: &Client,
    participants: &str,
    rows: &Rows,
    ledger: &mut Ledger,
) -> Result<()> {
    let mut keyed = std::mem::take(&mut ledger.keyed);
    let mut replays = 0;
    for sent in keyed.iter_mut().rev() {
        replays += usize::from(sent.response.is_some());
        if sent.response.is_some() && replays > MAX_REPLAYS {
            continue;
        }
        let again = client.clone().with_header("idempotency-key", &sent.key);
        let added = again.post(participants, &sent.body).await?.expect(201)?;
        let first = sent.response.as_ref();
        if first.is_some_and(|first| *first != added) {
            let finding = format!("key {} gave {first:?}, now {added}", sent.key);
            ledger.lost.push(finding);
        }
        let row = rows.get(&sent.key);
        if row.is_some_and(|row| row["updated_at"] != added["updated_at"]) {
            let finding = format!("the row of key {} was stored without its key", sent.key);
            ledger.half_visible.push(finding);
        }
        ledger.acknowledge_write(&sent.key, &added);
        ledger.expect_only_name(&sent.key, "Keyed");
        sent.response = Some(added);
    }
    ledger.keyed = keyed;
    Ok(())
}
