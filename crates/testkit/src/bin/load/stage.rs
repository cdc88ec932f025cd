//! What is loaded: a server of our own or a running one, its meetings and people.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use parlor_testkit::server::ACCOUNT_ID;
use parlor_testkit::signal::{Identity, address_of, new_peer_id};
use parlor_testkit::{Client, Parlor, Postgres};
use serde_json::{Value, json};

use crate::measure::Process;
use crate::options::Options;

/// People of one request.
const BULK: usize = 500;

/// A server under load.
pub(crate) struct Stage {
    client: Client,
    app: String,
    pub(crate) address: SocketAddr,
    pub(crate) process: Option<Process>,
    _parlor: Option<Parlor>,
    _postgres: Option<Postgres>,
}

impl Stage {
    /// Starts a server, or takes the one that runs.
    pub(crate) async fn set(options: &Options) -> Result<Self> {
        if let Some(running) = &options.running {
            return Ok(Self {
                client: Client::new(&running.url).with_token(&running.token),
                app: running.app.clone(),
                address: address_of(&running.url)?,
                process: running.pid.map(Process),
                _parlor: None,
                _postgres: None,
            });
        }
        let mut builder = Parlor::builder(binary(options)?);
        // What is measured is the server, not its patience with one peer.
        for argument in ["--chat-per-minute", "1000000"] {
            builder = builder.argument(argument);
        }
        for argument in &options.arguments {
            builder = builder.argument(argument);
        }
        let mut postgres = None;
        if options.on_postgres {
            let server = Postgres::start().await?;
            builder = builder.database(&server.database().await?);
            postgres = Some(server);
        }
        let parlor = builder.start().await?;
        let app = format!(
            "/client/v4/accounts/{ACCOUNT_ID}/realtime/kit/{}",
            parlor.first_app().await?
        );
        Ok(Self {
            client: parlor.client(),
            app,
            address: address_of(parlor.url())?,
            process: Some(Process(parlor.pid())),
            _parlor: Some(parlor),
            _postgres: postgres,
        })
    }

    /// Makes a meeting and answers its id.
    pub(crate) async fn meeting(&self) -> Result<String> {
        let path = format!("{}/meetings", self.app);
        let made = self
            .client
            .post(&path, &json!({ "title": "Load" }))
            .await?
            .expect(201)?;
        text(&made, "id")
    }

    /// Adds people to a meeting.
    pub(crate) async fn people(&self, meeting: &str, count: usize) -> Result<Vec<Identity>> {
        let mut people = Vec::with_capacity(count);
        let path = format!("{}/meetings/{meeting}/participants/bulk", self.app);
        while people.len() < count {
            let numbers = people.len()..count.min(people.len() + BULK);
            let bodies: Vec<Value> = numbers.map(|number| json!({
                "custom_participant_id": format!("p{number}"), "name": format!("Person {number}"), "preset_name": "group_call_participant",
            })).collect();
            let body = json!({ "participants": bodies });
            let added = self.client.post(&path, &body).await?.expect(201)?;
            let added = added.as_array().context("a list of people")?;
            ensure!(!added.is_empty(), "nobody was added");
            for person in added {
                people.push(Identity {
                    server: self.address,
                    meeting: meeting.to_owned(),
                    peer: new_peer_id(),
                    participant: text(person, "id")?,
                    custom_id: text(person, "custom_participant_id")?,
                    name: text(person, "name")?,
                    token: text(person, "token")?,
                    asks_who_waits: false,
                });
            }
        }
        Ok(people)
    }
}

fn text(value: &Value, name: &str) -> Result<String> {
    let text = value[name].as_str();
    Ok(text
        .with_context(|| format!("no {name} in {value}"))?
        .to_owned())
}

/// The server to start: the one that was named, or the one beside this program.
fn binary(options: &Options) -> Result<PathBuf> {
    let binary = if let Some(binary) = &options.binary {
        binary.clone()
    } else {
        let own = env::current_exe()?;
        own.with_file_name("parlor")
    };
    ensure!(
        fs::exists(&binary)?,
        "{} is not there: build it, or name one by --server-binary",
        binary.display()
    );
    Ok(binary)
}
