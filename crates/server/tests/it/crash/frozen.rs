//! A PostgreSQL whose host is frozen: it acknowledges every byte and answers none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlor_testkit::proxy::Way;
use parlor_testkit::{Answer, Client, Parlor, Postgres, Proxy};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::crash::{create_meeting, kit_path};
use crate::process::BINARY;

/// Longer than any answer may take by the settings of these tests. An answer that takes longer is
/// one that never comes.
const NEVER: Duration = Duration::from_secs(30);

struct Behind {
    server: Parlor,
    client: Client,
    proxy: Proxy,
    participants: String,
}

async fn behind_a_proxy() -> Result<Behind> {
    let url = Postgres::shared_durable().await?.database().await?;
    let (proxy, url) = Proxy::to_postgres(&url).await?;
    let builder = Parlor::builder(BINARY)
        .database(&url)
        .argument("--database-timeout-secs=1");
    let server = builder.start().await?;
    let client = server.client();
    let kit = kit_path(&server, &mut None).await?;
    let participants = create_meeting(&client, &kit, 0).await?;
    Ok(Behind {
        server,
        client,
        proxy,
        participants,
    })
}

impl Behind {
    async fn add(&self, key: &str) -> Result<Answer> {
        let client = self.client.clone().with_header("idempotency-key", key);
        let body = json!({
            "custom_participant_id": key,
            "preset_name": crate::crash::load::PRESET,
            "name": "Ada",
        });
        let added = client.post(&self.participants, &body);
        tokio::time::timeout(NEVER, added)
            .await
            .context("no answer to a write")?
    }

    async fn list(&self) -> Result<Answer> {
        let path = format!("{}?per_page=1000", self.participants);
        let listed = self.client.get(&path);
        tokio::time::timeout(NEVER, listed)
            .await
            .context("no answer to a read")?
    }

    async fn ready(&self) -> Result<Answer> {
        let ready = self.client.get("/readyz");
        tokio::time::timeout(NEVER, ready)
            .await
            .context("no answer of /readyz")?
    }

    async fn until_ready_is(&self, expected: u16) -> Result<()> {
        // What was found a moment ago is believed for a second.
        for _ in 0..200 {
            if self.ready().await?.status == expected {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("/readyz is never {expected}")
    }

    /// Adds somebody until it works, as a client does that heeds 503.
    async fn add_at_last(&self, key: &str) -> Result<Value> {
        for _ in 0..200 {
            let answer = self.add(key).await?;
            if answer.status != 503 {
                return answer.expect(201);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("{key} was refused for ever")
    }

    async fn listed(&self, custom_id: &str) -> Result<usize> {
        let people = self.list().await?.expect(200)?;
        let people = people.as_array().context("a list")?;
        let same = people
            .iter()
            .filter(|one| one["custom_participant_id"] == custom_id);
        Ok(same.count())
    }
}

fn unavailable(answer: &Answer) -> Result<()> {
    ensure!(answer.status == 503, "{} {}", answer.status, answer.body);
    ensure!(answer.headers.contains_key("retry-after"), "no retry-after");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_postgresql_is_answered_by_503_and_recovers_after_the_thaw() -> Result<()> {
    let behind = behind_a_proxy().await?;
    behind.add("before").await?.expect(201)?;
    behind.proxy.freeze();
    let (write, read) = tokio::join!(behind.add("during"), behind.list());
    unavailable(&write?)?;
    unavailable(&read?)?;
    behind.until_ready_is(503).await?;
    // New connections hang as well: they are accepted, and nobody speaks.
    let (write, read) = tokio::join!(behind.add("again"), behind.list());
    unavailable(&write?)?;
    unavailable(&read?)?;
    behind.proxy.thaw();
    behind.add_at_last("during").await?;
    behind.add_at_last("after").await?;
    for custom_id in ["before", "during", "after"] {
        ensure!(behind.listed(custom_id).await? == 1, "{custom_id}");
    }
    behind.until_ready_is(200).await?;
    // Each 503 is in the log, and nothing worse.
    let errors = behind.server.errors();
    let worse = errors
        .iter()
        .find(|error| !error.contains("a request failed"));
    ensure!(worse.is_none(), "{worse:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_froze_is_there_once_when_the_key_comes_again() -> Result<()> {
    let behind = behind_a_proxy().await?;
    // So that the statements are prepared, and the next commit is one round trip.
    behind.add("warm-1").await?.expect(201)?;
    behind.add("warm-2").await?.expect(201)?;
    for (key, way) in [("told", Way::Replies), ("untold", Way::Requests)] {
        behind.proxy.freeze_only(way);
        let (answer, ()) = tokio::join!(behind.add(key), behind.proxy.holding());
        unavailable(&answer?)?;
        behind.proxy.thaw();
        let first = behind.add_at_last(key).await?;
        let again = behind.add_at_last(key).await?;
        ensure!(first == again, "{first} became {again}");
        ensure!(behind.listed(key).await? == 1, "{key} is not there once");
    }
    Ok(())
}

/// Adds people, each with a key of their own, and asks again after each 503 until it works.
/// Answers who was added.
async fn add_until(
    behind: Arc<Behind>,
    writer: usize,
    stop: watch::Receiver<bool>,
) -> Result<Vec<String>> {
    let mut added = Vec::new();
    while !*stop.borrow() {
        let key = format!("writer-{writer}-{}", added.len());
        behind.add_at_last(&key).await?;
        added.push(key);
    }
    Ok(added)
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_nothing_is_lost_or_doubled_by_freezing_cutting_and_delays() -> Result<()> {
    let behind = Arc::new(behind_a_proxy().await?);
    let stop = watch::Sender::new(false);
    let writers: Vec<_> = (0..8)
        .map(|writer| tokio::spawn(add_until(Arc::clone(&behind), writer, stop.subscribe())))
        .collect();
    for round in 0..4 {
        match round {
            0 => behind.proxy.freeze(),
            1 => behind.proxy.freeze_only(Way::Replies),
            2 => behind.proxy.freeze_only(Way::Requests),
            _ => behind.proxy.delay(Duration::from_millis(20)),
        }
        if round < 3 {
            behind.proxy.holding().await;
            unavailable(&behind.add("refused").await?)?;
        } else {
            behind.proxy.cut();
        }
        behind.proxy.thaw();
        behind.add_at_last(&format!("after-{round}")).await?;
    }
    stop.send_replace(true);
    let mut expected = BTreeSet::new();
    for writer in writers {
        expected.extend(writer.await??);
    }
    ensure!(
        !expected.is_empty(),
        "nothing was written, so nothing is proved"
    );
    let mut found = Vec::new();
    for page in 1.. {
        let path = format!("{}?page_no={page}&per_page=1000", behind.participants);
        let people = behind.client.get(&path).await?.expect(200)?;
        let people = people.as_array().context("a list")?.clone();
        let names = people
            .iter()
            .filter_map(|one| one["custom_participant_id"].as_str());
        found.extend(
            names
                .filter(|name| name.starts_with("writer"))
                .map(str::to_owned),
        );
        if people.len() < 1000 {
            break;
        }
    }
    let count = found.len();
    let found: BTreeSet<String> = found.into_iter().collect();
    ensure!(found.len() == count, "somebody is listed twice");
    ensure!(
        found.is_superset(&expected),
        "lost: {:?}",
        expected.difference(&found)
    );
    Ok(())
}
