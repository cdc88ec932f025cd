//! The list of checks, and their common parts.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result};
use parlor_testkit::server::Builder;
use parlor_testkit::{LoadTarget, Process};
use serde_json::{Value, json};

use crate::{frames, identity, pools, unread};

/// How much a server's memory may grow because of an attack, in bytes.
pub(crate) const GROWTH: u64 = 50 << 20;

type Running<'a> = Pin<Box<dyn Future<Output = Result<Report>> + 'a>>;

/// A check of one class of attack.
pub(crate) struct Check {
    /// Name on the command line.
    pub(crate) name: &'static str,
    /// Description of the attack.
    pub(crate) about: &'static str,
    /// Databases to run the check on.
    pub(crate) databases: &'static [&'static str],
    pub(crate) run: fn(&Setup) -> Running<'_>,
}

const SQLITE: &[&str] = &["sqlite"];
const POSTGRES: &[&str] = &["postgres"];
const BOTH: &[&str] = &["sqlite", "postgres"];

/// All checks, the most dangerous attack first.
pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "unread-pipeline",
        about: "requests pipelined on connections whose responses are not read",
        databases: SQLITE,
        run: |setup| Box::pin(unread::pipeline(setup)),
    },
    Check {
        name: "unread-files",
        about: "many slow readers of one file",
        databases: SQLITE,
        run: |setup| Box::pin(unread::files(setup)),
    },
    Check {
        name: "request-head",
        about: "request headers that exceed the maximum size",
        databases: SQLITE,
        run: |setup| Box::pin(unread::long_head(setup)),
    },
    Check {
        name: "public-metrics",
        about: "metrics on the listeners for clients",
        databases: SQLITE,
        run: |setup| Box::pin(unread::metrics(setup)),
    },
    Check {
        name: "empty-fields",
        about: "frames of one megabyte with empty repeated fields",
        databases: SQLITE,
        run: |setup| Box::pin(frames::empty_fields(setup)),
    },
    Check {
        name: "move-flood",
        about: "one participant moved thousands of times between breakout rooms",
        databases: BOTH,
        run: |setup| Box::pin(frames::moves(setup)),
    },
    Check {
        name: "kick-flood",
        about: "endless kicks, and endless creation and deletion of breakout rooms",
        databases: SQLITE,
        run: |setup| Box::pin(frames::kicks(setup)),
    },
    Check {
        name: "text-flood",
        about: "endless text frames and pings",
        databases: SQLITE,
        run: |setup| Box::pin(frames::texts(setup)),
    },
    Check {
        name: "search-flood",
        about: "searches in a chat with text that is expensive to case-fold",
        databases: SQLITE,
        run: |setup| Box::pin(frames::searches(setup)),
    },
    Check {
        name: "repeated-ids",
        about: "the same receiver listed a thousand times in a broadcast",
        databases: SQLITE,
        run: |setup| Box::pin(frames::repeated_ids(setup)),
    },
    Check {
        name: "secret-polls",
        about: "identities of voters in anonymous polls and in polls with hidden votes",
        databases: SQLITE,
        run: |setup| Box::pin(identity::polls(setup)),
    },
    Check {
        name: "moved-tokens",
        about: "a participant with a short-lived token moved to a breakout room and back",
        databases: BOTH,
        run: |setup| Box::pin(identity::moved_tokens(setup)),
    },
    Check {
        name: "deleted-people",
        about: "a participant deleted from the meeting while in a breakout room",
        databases: BOTH,
        run: |setup| Box::pin(identity::deleted(setup)),
    },
    Check {
        name: "orphaned-links",
        about: "links to files of a deleted participant",
        databases: BOTH,
        run: |setup| Box::pin(identity::orphaned_links(setup)),
    },
    Check {
        name: "address-share",
        about: "more connections from one address than its share",
        databases: SQLITE,
        run: |setup| Box::pin(pools::connections(setup)),
    },
    Check {
        name: "quotas",
        about: "more files and messages than the quotas of a meeting allow",
        databases: BOTH,
        run: |setup| Box::pin(pools::quotas(setup)),
    },
    Check {
        name: "frozen-database",
        about: "a database whose host hangs while its connections stay open",
        databases: POSTGRES,
        run: |setup| Box::pin(pools::frozen_database(setup)),
    },
    Check {
        name: "upload-slots",
        about: "slow uploads that occupy all slots",
        databases: SQLITE,
        run: |setup| Box::pin(pools::uploads(setup)),
    },
    Check {
        name: "waiting-transports",
        about: "participants in the waiting room who take all media transports",
        databases: SQLITE,
        run: |setup| Box::pin(pools::waiting_transports(setup)),
    },
];

/// The environment of a check: how to start the server, and on which database.
pub(crate) struct Setup {
    pub(crate) builder: Builder,
    /// URL of an empty PostgreSQL database; `None` for SQLite.
    pub(crate) postgres: Option<String>,
    /// Whether to run the larger version of the attack.
    pub(crate) is_long: bool,
}

impl Setup {
    /// Starts a server with one app, with these additional arguments.
    pub(crate) async fn start(&self, arguments: &[&str]) -> Result<LoadTarget> {
        let mut builder = self.builder.clone();
        for argument in arguments {
            builder = builder.argument(argument);
        }
        if let Some(url) = &self.postgres {
            builder = builder.database(url);
        }
        LoadTarget::start(builder, false).await
    }

    /// Returns one of two values, depending on `--long`.
    pub(crate) fn amount<T>(&self, short: T, long: T) -> T {
        if self.is_long { long } else { short }
    }
}

/// The result of a check.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Failures.
    pub(crate) faults: Vec<String>,
    /// Measurements to print.
    pub(crate) figures: Vec<String>,
}

impl Report {
    /// Adds a failure unless the condition holds.
    pub(crate) fn require(&mut self, condition: bool, fault: impl Into<String>) {
        if !condition {
            self.faults.push(fault.into());
        }
    }

    /// Adds a measurement.
    pub(crate) fn figure(&mut self, figure: impl Into<String>) {
        self.figures.push(figure.into());
    }

    /// Adds the growth of memory to its peak, and requires that it is less than [`GROWTH`].
    pub(crate) fn growth(&mut self, before: u64, peak: u64) {
        let grown = peak.saturating_sub(before);
        self.figure(format!("memory +{} MB of {}", grown >> 20, before >> 20));
        self.require(grown < GROWTH, format!("memory grew by {} MB", grown >> 20));
    }

    /// Waits up to ten seconds until the memory is released, and requires that it is.
    pub(crate) async fn released(&mut self, process: Process, before: u64) -> Result<()> {
        let mut now = process.resident()?;
        for _ in 0..100 {
            if now < before + GROWTH {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            now = process.resident()?;
        }
        let left = now.saturating_sub(before);
        self.require(
            left < GROWTH,
            format!("{} MB are still held after 10 s", left >> 20),
        );
        Ok(())
    }
}

/// Returns the server's process.
pub(crate) fn process(target: &LoadTarget) -> Result<Process> {
    target.process.context("the process ID is unknown")
}

/// Adds a participant and returns the `data` of the response.
pub(crate) async fn add(target: &LoadTarget, meeting: &str, body: &Value) -> Result<Value> {
    let path = format!("{}/meetings/{meeting}/participants", target.app);
    target.client.post(&path, body).await?.expect(201)
}

/// Returns the claims of a token, unverified.
pub(crate) fn claims(token: &str) -> Result<Value> {
    use base64::Engine;
    let part = token.split('.').nth(1).context("a token has three parts")?;
    let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Returns the paths to upload and to download a chat file, for the owner of a token.
pub(crate) async fn links(target: &LoadTarget, meeting: &str, token: &str) -> Result<[String; 2]> {
    let origin = format!("http://{}", target.address);
    let client = parlor_testkit::Client::new(&origin).with_token(token);
    let body = json!({"roomUUID": meeting, "filename": "a.bin"});
    let answer = client.post("/v2/meetings/chat-upload", &body).await?;
    let data = answer.expect(200)?;
    let path = |name: &str| {
        let link = data[name].as_str().context("a link")?;
        let path = link
            .strip_prefix(&origin)
            .context("a link to this server")?;
        anyhow::Ok(path.to_owned())
    };
    Ok([path("put_location")?, path("get_location")?])
}
