//! The list of checks, and what they have in common.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result};
use parlor_testkit::server::Builder;
use parlor_testkit::{Process, Stage};
use serde_json::{Value, json};

use crate::{frames, identity, pools, unread};

/// Memory that a server may hold after an attack, beyond what it held before.
pub(crate) const GROWTH: u64 = 50 << 20;

type Running<'a> = Pin<Box<dyn Future<Output = Result<Report>> + 'a>>;

/// One class of attack.
pub(crate) struct Check {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What is tried.
    pub(crate) about: &'static str,
    /// The databases that may make a difference.
    pub(crate) databases: &'static [&'static str],
    pub(crate) run: fn(&Ground) -> Running<'_>,
}

const SQLITE: &[&str] = &["sqlite"];
const POSTGRES: &[&str] = &["postgres"];
const BOTH: &[&str] = &["sqlite", "postgres"];

/// Every check, the most dangerous first.
pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "unread-pipeline",
        about: "requests pipelined on connections whose answers nobody reads",
        databases: SQLITE,
        run: |ground| Box::pin(unread::pipeline(ground)),
    },
    Check {
        name: "unread-files",
        about: "many slow readers of one file",
        databases: SQLITE,
        run: |ground| Box::pin(unread::files(ground)),
    },
    Check {
        name: "request-head",
        about: "a head of a request that is longer than it may be",
        databases: SQLITE,
        run: |ground| Box::pin(unread::long_head(ground)),
    },
    Check {
        name: "public-metrics",
        about: "metrics on the addresses that clients reach",
        databases: SQLITE,
        run: |ground| Box::pin(unread::metrics(ground)),
    },
    Check {
        name: "empty-fields",
        about: "frames of a megabyte that consist of empty repeated fields",
        databases: SQLITE,
        run: |ground| Box::pin(frames::empty_fields(ground)),
    },
    Check {
        name: "move-flood",
        about: "one person moved thousands of times between breakout rooms",
        databases: BOTH,
        run: |ground| Box::pin(frames::moves(ground)),
    },
    Check {
        name: "kick-flood",
        about: "kicks, and breakout rooms made and deleted, without end",
        databases: SQLITE,
        run: |ground| Box::pin(frames::kicks(ground)),
    },
    Check {
        name: "text-flood",
        about: "text frames and pings without end",
        databases: SQLITE,
        run: |ground| Box::pin(frames::texts(ground)),
    },
    Check {
        name: "search-flood",
        about: "searches in a chat whose text is expensive to fold",
        databases: SQLITE,
        run: |ground| Box::pin(frames::searches(ground)),
    },
    Check {
        name: "repeated-ids",
        about: "the same receiver named a thousand times in a broadcast",
        databases: SQLITE,
        run: |ground| Box::pin(frames::repeated_ids(ground)),
    },
    Check {
        name: "secret-polls",
        about: "who voted for what in anonymous polls and polls with hidden votes",
        databases: SQLITE,
        run: |ground| Box::pin(identity::polls(ground)),
    },
    Check {
        name: "moved-tokens",
        about: "a short-lived token moved to a breakout room and back",
        databases: BOTH,
        run: |ground| Box::pin(identity::moved_tokens(ground)),
    },
    Check {
        name: "deleted-people",
        about: "somebody who is deleted from the meeting while in a breakout room",
        databases: BOTH,
        run: |ground| Box::pin(identity::deleted(ground)),
    },
    Check {
        name: "orphaned-links",
        about: "links to files whose owner was deleted",
        databases: BOTH,
        run: |ground| Box::pin(identity::orphaned_links(ground)),
    },
    Check {
        name: "address-share",
        about: "connections of one address, more than its share",
        databases: SQLITE,
        run: |ground| Box::pin(pools::connections(ground)),
    },
    Check {
        name: "quotas",
        about: "files and messages, more than a meeting may have",
        databases: BOTH,
        run: |ground| Box::pin(pools::quotas(ground)),
    },
    Check {
        name: "frozen-database",
        about: "a database whose host hangs and is still connected",
        databases: POSTGRES,
        run: |ground| Box::pin(pools::frozen_database(ground)),
    },
    Check {
        name: "upload-slots",
        about: "slow uploads that hold all places",
        databases: SQLITE,
        run: |ground| Box::pin(pools::uploads(ground)),
    },
    Check {
        name: "waiting-transports",
        about: "people in the waiting room who take all media transports",
        databases: SQLITE,
        run: |ground| Box::pin(pools::waiting_transports(ground)),
    },
];

/// Where a check happens: how to start the server, and on what.
pub(crate) struct Ground {
    pub(crate) builder: Builder,
    /// The URL of an empty database; SQLite without it.
    pub(crate) postgres: Option<String>,
    /// More of everything.
    pub(crate) is_long: bool,
}

impl Ground {
    /// A server with one app, with these arguments beside the usual ones.
    pub(crate) async fn start(&self, arguments: &[&str]) -> Result<Stage> {
        let mut builder = self.builder.clone();
        for argument in arguments {
            builder = builder.argument(argument);
        }
        if let Some(url) = &self.postgres {
            builder = builder.database(url);
        }
        Stage::start(builder, false).await
    }

    /// One number for the short form, another for the long one.
    pub(crate) fn amount<T>(&self, short: T, long: T) -> T {
        if self.is_long { long } else { short }
    }
}

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What must not happen.
    pub(crate) faults: Vec<String>,
    /// What was measured, for people.
    pub(crate) figures: Vec<String>,
}

impl Report {
    /// Notes a fault unless something is as it must be.
    pub(crate) fn must(&mut self, is_so: bool, fault: impl Into<String>) {
        if !is_so {
            self.faults.push(fault.into());
        }
    }

    /// Notes a figure.
    pub(crate) fn figure(&mut self, figure: impl Into<String>) {
        self.figures.push(figure.into());
    }

    /// Notes how far memory has grown at its highest, and that it may not grow more than [`GROWTH`].
    pub(crate) fn growth(&mut self, before: u64, most: u64) {
        let grown = most.saturating_sub(before);
        self.figure(format!("memory +{} MB of {}", grown >> 20, before >> 20));
        self.must(grown < GROWTH, format!("memory grew by {} MB", grown >> 20));
    }

    /// Waits for up to ten seconds until memory is back, and notes a fault when it is not.
    pub(crate) async fn back(&mut self, process: Process, before: u64) -> Result<()> {
        let mut now = process.resident()?;
        for _ in 0..100 {
            if now < before + GROWTH {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            now = process.resident()?;
        }
        let left = now.saturating_sub(before);
        self.must(
            left < GROWTH,
            format!("{} MB are held 10 s after the end", left >> 20),
        );
        Ok(())
    }
}

/// The server's process.
pub(crate) fn process(stage: &Stage) -> Result<Process> {
    stage.process.context("the server was started here")
}

/// Adds a person, and answers the `data` of the answer.
pub(crate) async fn add(stage: &Stage, meeting: &str, body: &Value) -> Result<Value> {
    let path = format!("{}/meetings/{meeting}/participants", stage.app);
    stage.client.post(&path, body).await?.expect(201)
}

/// What a token says, unchecked.
pub(crate) fn claims(token: &str) -> Result<Value> {
    use base64::Engine;
    let part = token.split('.').nth(1).context("a token has three parts")?;
    let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Paths to put and to get a file of a chat, for the owner of a token.
pub(crate) async fn links(stage: &Stage, meeting: &str, token: &str) -> Result<[String; 2]> {
    let origin = format!("http://{}", stage.address);
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
