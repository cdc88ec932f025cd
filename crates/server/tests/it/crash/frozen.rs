//! A PostgreSQL whose host is frozen: TCP acknowledges every byte, but no reply arrives.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlor_testkit::proxy::Direction;
use parlor_testkit::{Client, HttpResponse, Postgres, Proxy, ServerProcess};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::crash::{create_meeting, kit_path};
use crate::process::BINARY;

/// Longer than any response may take with the settings of these tests.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

struct ProxiedServer {
    process: ServerProcess,
    client: Client,
    proxy: Proxy,
    participants: String,
}

async fn start_behind_proxy() -> Result<ProxiedServer> {
    let url = Postgres::shared_durable().await?.database().await?;
    let (proxy, url) = Proxy::to_postgres(&url).await?;
    let builder = ServerProcess::builder(BINARY)
        .database(&url)
        .argument("--database-timeout-secs=1");
    let server = builder.start().await?;
    let client = server.client();
    let kit = kit_path(&server, &mut None).await?;
    let participants = create_meeting(&client, &kit, 0).await?;
    Ok(ProxiedServer {
        process: server,
        client,
        proxy,
        participants,
    })
}

impl ProxiedServer {
    async fn add(&self, key: &str) -> Result<HttpResponse> {
        let client = self.client.clone().with_header("idempotency-key", key);
        let body = json!({
            "custom_participant_id": key,
            "preset_name": crate::crash::load::PRESET,
            "name": "Ada",
        });
        let added = client.post(&self.participants, &body);
        tokio::time::timeout(RESPONSE_TIMEOUT, added)
            .await
            .context("no response to a write")?
    }

    async fn list(&self) -> Result<HttpResponse> {
        let path = format!("{}?per_page=1000", self.participants);
        let listed = self.client.get(&path);
        tokio::time::timeout(RESPONSE_TIMEOUT, listed)
            .await
            .context("no response to a read")?
    }

    async fn ready(&self) -> Result<HttpResponse> {
        let ready = self.client.get("/readyz");
        tokio::time::timeout(RESPONSE_TIMEOUT, ready)
            .await
            .context("no response from /readyz")?
    }

    async fn wait_for_readiness(&self, expected: u16) -> Result<()> {
        // The server caches the result of the check for a second.
        for _ in 0..200 {
            if self.ready().await?.status == expected {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("/readyz never returned {expected}")
    }

    /// Adds a participant, and retries after each 503.
    async fn add_with_retries(&self, key: &str) -> Result<Value> {
        for _ in 0..200 {
            let response = self.add(key).await?;
            if response.status != 503 {
                return response.expect(201);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("{key} was refused every time")
    }

    async fn count_listed(&self, custom_id: &str) -> Result<usize> {
        let participants = self.list().await?.expect(200)?;
        let participants = participants.as_array().context("a list")?;
        let same = participants
            .iter()
            .filter(|participant| participant["custom_participant_id"] == custom_id);
        Ok(same.count())
    }
}

fn ensure_unavailable(response: &HttpResponse) -> Result<()> {
    ensure!(
        response.status == 503,
        "{} {}",
        response.status,
        response.body
    );
    ensure!(
        response.headers.contains_key("retry-after"),
        "no retry-after"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_postgresql_causes_503_until_it_thaws() -> Result<()> {
    let server = start_behind_proxy().await?;
    server.add("before").await?.expect(201)?;
    server.proxy.freeze();
    let (write, read) = tokio::join!(server.add("during"), server.list());
    ensure_unavailable(&write?)?;
    ensure_unavailable(&read?)?;
    server.wait_for_readiness(503).await?;
    // New connections hang, too: they are accepted, but get no reply.
    let (write, read) = tokio::join!(server.add("again"), server.list());
    ensure_unavailable(&write?)?;
    ensure_unavailable(&read?)?;
    server.proxy.thaw();
    server.add_with_retries("during").await?;
    server.add_with_retries("after").await?;
    for custom_id in ["before", "during", "after"] {
        ensure!(server.count_listed(custom_id).await? == 1, "{custom_id}");
    }
    server.wait_for_readiness(200).await?;
    // The log contains the failed requests, but no other errors.
    let errors = server.process.errors();
    let other = errors
        .iter()
        .find(|error| !error.contains("a request failed"));
    ensure!(other.is_none(), "{other:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_with_a_lost_reply_is_applied_once_when_retried_with_its_key() -> Result<()> {
    let server = start_behind_proxy().await?;
    // Prepares the statements, so that the next commit is one round trip.
    server.add("warm-1").await?.expect(201)?;
    server.add("warm-2").await?.expect(201)?;
    for (key, direction) in [
        ("replies", Direction::Replies),
        ("requests", Direction::Requests),
    ] {
        server.proxy.freeze_only(direction);
        let (response, ()) = tokio::join!(server.add(key), server.proxy.holding());
        ensure_unavailable(&response?)?;
        server.proxy.thaw();
        let first = server.add_with_retries(key).await?;
        let again = server.add_with_retries(key).await?;
        ensure!(first == again, "{first} became {again}");
        ensure!(
            server.count_listed(key).await? == 1,
            "{key} is not listed exactly once"
        );
    }
    Ok(())
}

/// Adds participants until `stop`, each with its own key, and retries after each 503.
/// Returns the keys, which are also the participants' custom ids.
async fn add_until(
    server: Arc<ProxiedServer>,
    writer: usize,
    stop: watch::Receiver<bool>,
) -> Result<Vec<String>> {
    let mut added = Vec::new();
    while !*stop.borrow() {
        let key = format!("writer-{writer}-{}", added.len());
        server.add_with_retries(&key).await?;
        added.push(key);
    }
    Ok(added)
}

#[tokio::test(flavor = "multi_thread")]
async fn freezes_cuts_and_delays_under_load_neither_lose_nor_duplicate_writes() -> Result<()> {
    let server = Arc::new(start_behind_proxy().await?);
    let stop = watch::Sender::new(false);
    let writers: Vec<_> = (0..8)
        .map(|writer| tokio::spawn(add_until(Arc::clone(&server), writer, stop.subscribe())))
        .collect();
    for round in 0..4 {
        match round {
            0 => server.proxy.freeze(),
            1 => server.proxy.freeze_only(Direction::Replies),
            2 => server.proxy.freeze_only(Direction::Requests),
            _ => server.proxy.delay(Duration::from_millis(20)),
        }
        if round < 3 {
            server.proxy.holding().await;
            ensure_unavailable(&server.add("refused").await?)?;
        } else {
            server.proxy.cut();
        }
        server.proxy.thaw();
        server.add_with_retries(&format!("after-{round}")).await?;
    }
    stop.send_replace(true);
    let mut expected = BTreeSet::new();
    for writer in writers {
        expected.extend(writer.await??);
    }
    ensure!(
        !expected.is_empty(),
        "nothing was written, so the test proves nothing"
    );
    let mut found = Vec::new();
    for page in 1.. {
        let path = format!("{}?page_no={page}&per_page=1000", server.participants);
        let participants = server.client.get(&path).await?.expect(200)?;
        let participants = participants.as_array().context("a list")?.clone();
        let names = participants
            .iter()
            .filter_map(|participant| participant["custom_participant_id"].as_str());
        found.extend(
            names
                .filter(|name| name.starts_with("writer"))
                .map(str::to_owned),
        );
        if participants.len() < 1000 {
            break;
        }
    }
    let count = found.len();
    let found: BTreeSet<String> = found.into_iter().collect();
    ensure!(found.len() == count, "a participant is listed twice");
    ensure!(
        found.is_superset(&expected),
        "lost: {:?}",
        expected.difference(&found)
    );
    Ok(())
}
