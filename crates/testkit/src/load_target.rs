//! The server that a load generator puts under load, with its meetings and participants.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::process::Process;
use crate::server::{ACCOUNT_ID, Builder};
use crate::signal::{Identity, address_of, new_peer_id};
use crate::{Client, Postgres, ServerProcess};

/// Number of participants added per request.
const BULK: usize = 500;

/// A server under load. A server that was started here stops when this is dropped.
#[derive(Debug)]
pub struct LoadTarget {
    /// REST client with the API token of the app's owner.
    pub client: Client,
    /// Client of the metrics listener, if this process has started the server.
    pub metrics: Option<Client>,
    /// Path of the app, `/client/v4/accounts/…/realtime/kit/…`.
    pub app: String,
    /// Address of the server.
    pub address: SocketAddr,
    /// Process of the server, if its ID is known.
    pub process: Option<Process>,
    /// Server process, if this process has started it.
    pub parlor: Option<ServerProcess>,
    _postgres: Option<Postgres>,
}

impl LoadTarget {
    /// Starts a server on its own PostgreSQL server or on SQLite.
    ///
    /// # Errors
    /// When the server or PostgreSQL does not start.
    pub async fn start(mut builder: Builder, on_postgres: bool) -> Result<Self> {
        let mut postgres = None;
        if on_postgres {
            let server = Postgres::start().await?;
            builder = builder.database(&server.database().await?);
            postgres = Some(server);
        }
        let parlor = builder.start().await?;
        let app = parlor.first_app().await?;
        Ok(Self {
            client: parlor.client(),
            metrics: parlor.metrics_url().map(Client::new),
            app: format!("/client/v4/accounts/{ACCOUNT_ID}/realtime/kit/{app}"),
            address: address_of(parlor.url())?,
            process: Some(parlor.process()),
            parlor: Some(parlor),
            _postgres: postgres,
        })
    }

    /// Uses a server that is already running.
    ///
    /// # Errors
    /// When the host of the URL is not an IP address with a port.
    pub fn running(url: &str, token: &str, app: String, process: Option<Process>) -> Result<Self> {
        Ok(Self {
            client: Client::new(url).with_token(token),
            metrics: None,
            app,
            address: address_of(url)?,
            process,
            parlor: None,
            _postgres: None,
        })
    }

    /// Creates a meeting and returns its ID.
    ///
    /// # Errors
    /// When the server rejects the request.
    pub async fn meeting(&self) -> Result<String> {
        let path = format!("{}/meetings", self.app);
        let made = self.client.post(&path, &json!({ "title": "Load" })).await?;
        text(&made.expect(201)?, "id")
    }

    /// Adds `count` participants with a preset to a meeting.
    ///
    /// # Errors
    /// When the server rejects the request.
    pub async fn add_participants(
        &self,
        meeting: &str,
        preset: &str,
        count: usize,
    ) -> Result<Vec<Identity>> {
        let mut identities = Vec::with_capacity(count);
        let path = format!("{}/meetings/{meeting}/participants/bulk", self.app);
        while identities.len() < count {
            let numbers = identities.len()..count.min(identities.len() + BULK);
            let bodies: Vec<Value> = numbers
                .map(|number| {
                    json!({
                        "custom_participant_id": format!("p{number}"),
                        "name": format!("Person {number}"),
                        "preset_name": preset,
                    })
                })
                .collect();
            let body = json!({ "participants": bodies });
            let added = self.client.post(&path, &body).await?.expect(201)?;
            let added = added
                .as_array()
                .context("the response is not a list of participants")?;
            ensure!(!added.is_empty(), "no participant was added");
            for participant in added {
                identities.push(Identity {
                    server: self.address,
                    meeting: meeting.to_owned(),
                    peer: new_peer_id(),
                    participant: text(participant, "id")?,
                    custom_id: text(participant, "custom_participant_id")?,
                    name: text(participant, "name")?,
                    token: text(participant, "token")?,
                    requests_waiting_room: false,
                });
            }
        }
        Ok(identities)
    }
}

fn text(value: &Value, name: &str) -> Result<String> {
    let text = value[name].as_str();
    Ok(text
        .with_context(|| format!("{value} has no {name}"))?
        .to_owned())
}
