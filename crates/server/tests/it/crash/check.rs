//! Compares what a restarted server shows with what was acknowledged before the kill.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use parlor_testkit::Client;
use serde_json::Value;

use crate::crash::ledger::{Ledger, Presence};
use crate::crash::load::PRESET;
use crate::crash::{Meeting, Random};

/// How many people are also asked for one by one.
const ASKED_FOR: u64 = 30;

/// How many acknowledged requests are sent again with their key, newest first.
const REPLAYED: usize = 20;

/// Rows by custom participant id.
type Rows = BTreeMap<String, Value>;

/// Checks one meeting and notes every finding in its ledger. What is seen now must stay.
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
    compare(&rows, ledger);
    whole_or_absent(&rows, ledger);
    settle(&rows, ledger);
    ask_one_by_one(client, participants, ledger, random).await?;
    send_keys_again(client, participants, &rows, ledger).await
}

/// Pages through the list.
async fn list(client: &Client, participants: &str, ledger: &mut Ledger) -> Result<Rows> {
    let mut rows = Rows::new();
    let mut listed = 0;
    for page in 1.. {
        let path = format!("{participants}?page_no={page}&per_page=100");
        let answer = client.get(&path).await?;
        let total = answer.body["paging"]["total_count"].as_u64();
        let page = answer.expect(200)?;
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

/// Every acknowledged write is there with its content, and nothing else is.
fn compare(rows: &Rows, ledger: &mut Ledger) {
    let Ledger {
        people,
        lost,
        half_visible,
        ..
    } = ledger;
    for (custom_id, person) in &*people {
        match (rows.get(custom_id), person.presence) {
            (None, Presence::Certain) => lost.push(format!("{custom_id} is not there")),
            (Some(_), Presence::Gone) => lost.push(format!("{custom_id} came back")),
            (Some(row), _) => {
                let has_name = row["name"]
                    .as_str()
                    .is_some_and(|name| person.names.contains(name));
                let has_id = person.id.as_ref().is_none_or(|id| row["id"] == **id);
                if !has_name || !has_id || row["preset_name"] != PRESET {
                    let was_open = person.presence == Presence::Open;
                    let findings = if was_open {
                        &mut *half_visible
                    } else {
                        &mut *lost
                    };
                    findings.push(format!("{custom_id} is {row}, expected {person:?}"));
                }
            }
            (None, _) => {}
        }
    }
    for custom_id in rows.keys().filter(|id| !people.contains_key(*id)) {
        half_visible.push(format!("{custom_id} was never sent"));
    }
}

fn whole_or_absent(rows: &Rows, ledger: &mut Ledger) {
    for bulk in ledger.bulks.drain(..) {
        let seen = bulk.iter().filter(|id| rows.contains_key(*id)).count();
        if seen != 0 && seen != bulk.len() {
            let sentence = format!("{seen} of the {} people of {}", bulk.len(), bulk[0]);
            ledger.half_visible.push(sentence);
        }
    }
}

/// What is seen after a restart was decided by it: from now on nothing is open.
fn settle(rows: &Rows, ledger: &mut Ledger) {
    for (custom_id, person) in &mut ledger.people {
        if let Some(row) = rows.get(custom_id) {
            person.presence = Presence::Certain;
            person.id = row["id"].as_str().map(str::to_owned);
            person.names = row["name"]
                .as_str()
                .map(str::to_owned)
                .into_iter()
                .collect();
        } else {
            person.presence = Presence::Gone;
        }
    }
}

/// The index by custom participant id agrees with the list.
async fn ask_one_by_one(
    client: &Client,
    participants: &str,
    ledger: &mut Ledger,
    random: &mut Random,
) -> Result<()> {
    let one_in = ledger.people.len() as u64 / ASKED_FOR + 1;
    for (custom_id, person) in &ledger.people {
        if random.below(one_in) != 0 {
            continue;
        }
        let path = format!("{participants}/custom:{custom_id}");
        let answer = client.get(&path).await?;
        let agrees = match &person.id {
            Some(id) if person.presence == Presence::Certain => {
                answer.status == 200 && answer.body["data"]["id"] == **id
            }
            _ => answer.status == 404,
        };
        if !agrees {
            let sentence = format!("custom:{custom_id} is {}, expected {person:?}", answer.body);
            ledger.lost.push(sentence);
        }
    }
    Ok(())
}

/// A client that got no answer asks again with the same key: the write happens once.
async fn send_keys_again(
    client: &Client,
    participants: &str,
    rows: &Rows,
    ledger: &mut Ledger,
) -> Result<()> {
    let mut keyed = std::mem::take(&mut ledger.keyed);
    let mut replays = 0;
    for sent in keyed.iter_mut().rev() {
        replays += usize::from(sent.answer.is_some());
        if sent.answer.is_some() && replays > REPLAYED {
            continue;
        }
        let again = client.clone().with_header("idempotency-key", &sent.key);
        let added = again.post(participants, &sent.body).await?.expect(201)?;
        let first = sent.answer.as_ref();
        if first.is_some_and(|first| *first != added) {
            let sentence = format!("key {} gave {first:?}, now {added}", sent.key);
            ledger.lost.push(sentence);
        }
        let row = rows.get(&sent.key);
        if row.is_some_and(|row| row["updated_at"] != added["updated_at"]) {
            let sentence = format!("the row of key {} was stored without its key", sent.key);
            ledger.half_visible.push(sentence);
        }
        ledger.written(&sent.key, &added);
        ledger.settled(&sent.key, "Keyed");
        sent.answer = Some(added);
    }
    ledger.keyed = keyed;
    Ok(())
}
