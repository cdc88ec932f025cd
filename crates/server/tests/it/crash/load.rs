//! The load that runs when the kill comes: every kind of write, each noted before it is sent.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use parlor_testkit::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::crash::ledger::{Keyed, Ledger, Presence};

/// The preset of every participant; a new app has it.
pub(crate) const PRESET: &str = "group_call_host";

/// How many people one bulk adds.
const BULK: u32 = 20;

/// Tasks that write until the server is gone.
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
        // These two race for one person.
        tasks.spawn(writer("shared").race_for_the_same(number));
        tasks.spawn(writer(&format!("keyed{number}")).add_with_a_key());
    }
    tasks.spawn(writer("deleted").add_and_delete());
    Load { tasks, ledger }
}

impl Load {
    /// Waits until every task has noticed that the server is gone.
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
    /// Makes the custom participant ids of this writer its own.
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
            self.note(|ledger| ledger.settled(&self.prefix, &name));
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
            let body = person(&custom_id, "Keyed");
            self.note(|ledger| {
                ledger.keyed.push(Keyed {
                    key: custom_id.clone(),
                    body,
                    answer: None,
                });
            });
            let client = self.client.clone();
            let client = client.with_header("idempotency-key", &custom_id);
            let answer = self.add(&client, &custom_id, "Keyed").await?;
            self.note(|ledger| {
                let sent = ledger.keyed.iter_mut().rfind(|sent| sent.key == custom_id);
                sent.expect("it was noted above").answer = Some(answer);
            });
        }
        Some(())
    }

    async fn add_and_delete(self) -> Option<()> {
        for number in 0.. {
            let custom_id = format!("{}-{number}", self.prefix);
            let added = self.add(&self.client, &custom_id, "Short-lived").await?;
            let id = added["id"].as_str().unwrap_or_default();
            self.note(|ledger| ledger.person(&custom_id).presence = Presence::Open);
            let path = format!("{}/{id}", self.participants);
            let answer = self.client.delete(&path).await.ok()?;
            let deleted = answer.expect(200);
            self.note(|ledger| match deleted {
                Ok(_) => {
                    ledger.acknowledged += 1;
                    ledger.person(&custom_id).presence = Presence::Gone;
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
            let people: Vec<Value> = ids.iter().map(|id| person(id, &name)).collect();
            self.note(|ledger| {
                for id in &ids {
                    ledger.sending(id, &name);
                }
                ledger.bulks.push(ids.clone());
            });
            let body = json!({ "participants": people });
            let answer = self.client.post(&path, &body).await.ok()?.expect(201);
            self.note(|ledger| match answer {
                Ok(added) if added.as_array().is_some_and(|all| all.len() == ids.len()) => {
                    ledger.acknowledged += 1;
                    for (index, id) in ids.iter().enumerate() {
                        ledger.written(id, &added[index]);
                    }
                }
                other => ledger.refused.push(format!("{}: {other:?}", self.prefix)),
            });
        }
        Some(())
    }

    /// Adds one person and answers the `data`; `None` when no answer came.
    async fn add(&self, client: &Client, custom_id: &str, name: &str) -> Option<Value> {
        self.note(|ledger| ledger.sending(custom_id, name));
        let body = person(custom_id, name);
        let answer = client.post(&self.participants, &body).await.ok()?;
        let added = answer.expect(201);
        self.note(|ledger| match added {
            Ok(added) => {
                ledger.acknowledged += 1;
                ledger.written(custom_id, &added);
                Some(added)
            }
            Err(error) => {
                ledger.refused.push(format!("add {custom_id}: {error}"));
                None
            }
        })
    }

    fn note<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        change(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn person(custom_id: &str, name: &str) -> Value {
    json!({ "custom_participant_id": custom_id, "preset_name": PRESET, "name": name })
}
