//! What a load generator plays on: a server of its own or one that runs, its meetings and people.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::process::Process;
use crate::server::{ACCOUNT_ID, Builder};
use crate::signal::{Identity, address_of, new_peer_id};
use crate::{Client, Parlor, Postgres};

/// People of one request.
const BULK: usize = 500;

/// A server under load. One that was started here ends with this.
#[derive(Debug)]
pub struct Stage {
    /// The REST client of the app's owner.
    pub client: Client,
    /// A client of its metrics, if it was started here.
    pub metrics: Option<Client>,
    /// The path of the app, `/client/v4/accounts/…/realtime/kit/…`.
    pub app: String,
    /// Where the server listens.
    pub address: SocketAddr,
    /// The server, unless it is somebody else's and its id was not told.
    pub process: Option<Process>,
    /// The server, if it was started here.
    pub parlor: Option<Parlor>,
    _postgres: Option<Postgres>,
}

impl Stage {
    /// Starts a server, on a PostgreSQL of its own or on SQLite.
    ///
    /// # Errors
    /// When one of them does not start.
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

    /// A server that runs.
    ///
    /// # Errors
    /// When the URL is no plain IP address and port.
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

    /// Makes a meeting and answers its id.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn meeting(&self) -> Result<String> {
        let path = format!("{}/meetings", self.app);
        let made = self.client.post(&path, &json!({ "title": "Load" })).await?;
        text(&made.expect(201)?, "id")
    }

    /// Adds people with this preset to a meeting.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn people(&self, meeting: &str, preset: &str, count: usize) -> Result<Vec<Identity>> {
        let mut people = Vec::with_capacity(count);
        let path = format!("{}/meetings/{meeting}/participants/bulk", self.app);
        while people.len() < count {
            let numbers = people.len()..count.min(people.len() + BULK);
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
