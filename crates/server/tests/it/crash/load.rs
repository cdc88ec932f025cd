//! The load during a kill: all kinds of writes, each recorded before it is sent.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use parlor_testkit::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::crash::ledger::{KeyedRequest, Ledger, Presence};

/// The preset of every participant. It exists in a new app.
pub(crate) const PRESET: &str = "group_call_host";

/// Number of participants per bulk.
const BULK: u32 = 20;

/// Tasks that write until the server dies.
pub(crate) struct Load {
    tasks: JoinSet<Option<()>>,
    ledger: Arc<Mutex<Ledger>>,
}

/// Starts the load on one meeting.
pub(crate) fn begin(client: &Client, participants: &str, round: u64) -> Load {
    let ledger = Arc::default();
    let mut tasks = JoinSet::new();
    let writer = |name: &str| Writer {
        client: client.clone(),
        participants: participants.to_owned(),
        prefix: format!("{name}-{round}"),
        ledger: Arc::clone(&ledger),
    };
    for number in 0..6 {
        tasks.spawn(writer(&format!("add{number}")).add_one_by_one());
    }
    for number in 0..2 {
        tasks.spawn(writer(&format!("bulk{number}")).add_in_bulk());
        tasks.spawn(writer(&format!("again{number}")).add_the_same_again());
        // These two race for the same participant.
        tasks.spawn(writer("shared").race_for_the_same(number));
        tasks.spawn(writer(&format!("keyed{number}")).add_with_a_key());
    }
    tasks.spawn(writer("deleted").add_and_delete());
    Load { tasks, ledger }
}

impl Load {
    /// Waits until every task has noticed that the server has died.
    pub(crate) async fn end(mut self) -> Result<Ledger> {
        while let Some(task) = self.tasks.join_next().await {
            task?;
        }
        let ledger = Arc::into_inner(self.ledger).context("no task holds the ledger")?;
        Ok(ledger.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One stream of writes. Each method ends with `None` when the server stops answering.
struct Writer {
    client: Client,
    participants: String,
    /// Makes the custom participant ids of this writer unique.
    prefix: String,
    ledger: Arc<Mutex<Ledger>>,
}

impl Writer {
    async fn add_one_by_one(self) -> Option<()> {
        for number in 0.. {
            let custom_id = format!("{}-{number}", self.prefix);
            let name = format!("Person {number}");
            self.add(&self.client, &custom_id, &name).await?;
        }
        Some(())
    }

    async fn add_the_same_again(self) -> Option<()> {
        for version in 0.. {
            let name = format!("Version {version}");
            self.add(&self.client, &self.prefix, &name).await?;
            self.update(|ledger| ledger.expect_only_name(&self.prefix, &name));
        }
        Some(())
    }

    async fn race_for_the_same(self, lane: u32) -> Option<()> {
        for version in 0.. {
            let name = format!("Version {version} of lane {lane}");
            self.add(&self.client, &self.prefix, &name).await?;
        }
        Some(())
    }

    async fn add_with_a_key(self) -> Option<()> {
        for number in 0.. {
            let custom_id = format!("{}-{number}", self.prefix);
            let body = participant_body(&custom_id, "Keyed");
            self.update(|ledger| {
                ledger.keyed.push(KeyedRequest {
                    key: custom_id.clone(),
                    body,
                    response: None,
                });
            });
            let client = self.client.clone();
            let client = client.with_header("idempotency-key", &custom_id);
            let response = self.add(&client, &custom_id, "Keyed").await?;
            self.update(|ledger| {
                let sent = ledger.keyed.iter_mut().rfind(|sent| sent.key == custom_id);
                sent.expect("it was recorded above").response = Some(response);
            });
        }
        Some(())
    }

    async fn add_and_delete(self) -> Option<()> {
        for number in 0.. {
            let custom_id = format!("{}-{number}", self.prefix);
            let added = self.add(&self.client, &custom_id, "Short-lived").await?;
            let id = added["id"].as_str().unwrap_or_default();
            self.update(|ledger| ledger.entry(&custom_id).presence = Presence::Unknown);
            let path = format!("{}/{id}", self.participants);
            let response = self.client.delete(&path).await.ok()?;
            let deleted = response.expect(200);
            self.update(|ledger| match deleted {
                Ok(_) => {
                    ledger.acknowledged += 1;
                    ledger.entry(&custom_id).presence = Presence::Deleted;
                }
                Err(error) => ledger.refused.push(format!("delete {custom_id}: {error}")),
            });
        }
        Some(())
    }

    async fn add_in_bulk(self) -> Option<()> {
        let path = format!("{}/bulk", self.participants);
        for number in 0.. {
            let name = format!("Bulk {number}");
            let ids: Vec<String> = (0..BULK)
                .map(|item| format!("{}-{number}-{item}", self.prefix))
                .collect();
            let participants: Vec<Value> =
                ids.iter().map(|id| participant_body(id, &name)).collect();
            self.update(|ledger| {
                for id in &ids {
                    ledger.expect_write(id, &name);
                }
                ledger.bulks.push(ids.clone());
            });
            let body = json!({ "participants": participants });
            let response = self.client.post(&path, &body).await.ok()?.expect(201);
            self.update(|ledger| match response {
                Ok(added) if added.as_array().is_some_and(|all| all.len() == ids.len()) => {
                    ledger.acknowledged += 1;
                    for (index, id) in ids.iter().enumerate() {
                        ledger.acknowledge_write(id, &added[index]);
                    }
                }
                other => ledger.refused.push(format!("{}: {other:?}", self.prefix)),
            });
        }
        Some(())
    }

    /// Adds one participant and returns the `data`, or `None` if there was no successful response.
    async fn add(&self, client: &Client, custom_id: &str, name: &str) -> Option<Value> {
        self.update(|ledger| ledger.expect_write(custom_id, name));
        let body = participant_body(custom_id, name);
        let response = client.post(&self.participants, &body).await.ok()?;
        let added = response.expect(201);
        self.update(|ledger| match added {
            Ok(added) => {
                ledger.acknowledged += 1;
                ledger.acknowledge_write(custom_id, &added);
                Some(added)
            }
            Err(error) => {
                ledger.refused.push(format!("add {custom_id}: {error}"));
                None
            }
        })
    }

    fn update<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        change(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn participant_body(custom_id: &str, name: &str) -> Value {
    json!({ "custom_participant_id": custom_id, "preset_name": PRESET, "name": name })
}
