//! The cells of the table: the requests that each one measures.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN, Builder};
use parlor_testkit::{Client, ServerProcess};
use serde_json::{Value, json};

use crate::fsync;
use crate::load::{self, Load, Request};
use crate::options::Options;
use crate::table::Row;

/// Number of connections of every cell, except those that measure a single connection.
const MANY: usize = 64;

/// Number of participants per bulk request when a meeting is filled.
const BULK: usize = 1_000;

/// Page size of lists.
const PAGE: usize = 100;

/// Measures one server on one database.
pub(crate) async fn measure(
    database: &'static str,
    builder: Builder,
    options: &Options,
) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let server = builder.data_dir(folder.path()).start().await?;
    let app = App::open(&server).await?;
    let mut bench = Bench {
        database,
        server: &server,
        options,
        rows: Vec::new(),
    };
    bench.echo().await?;
    bench.adds(&app, folder.path()).await?;
    bench.single_participant(&app).await?;
    bench.lists(&app).await?;
    Ok(bench.rows)
}

/// Measures the cells of one server.
struct Bench<'a> {
    database: &'static str,
    server: &'a ServerProcess,
    options: &'a Options,
    rows: Vec<Row>,
}

impl Bench<'_> {
    async fn adds(&mut self, app: &App, data_dir: &Path) -> Result<()> {
        let spread = app.meetings(self.options.meetings).await?;
        let one = app.meetings(1).await?;
        let title = format!("add, {} meetings", spread.len());
        self.cell(&title, MANY, 201, add("spread", &spread)).await?;
        self.cell("add, one meeting", MANY, 201, add("one", &one))
            .await?;
        let fsync = fsync::median(data_dir)?;
        self.cell("add", 1, 201, add("single", &spread)).await?;
        let alone = self.rows.iter_mut().rfind(|row| row.connections == 1);
        alone.context("it was just measured")?.fsync = Some(fsync);
        Ok(())
    }

    async fn single_participant(&mut self, app: &App) -> Result<()> {
        let meeting = app.meetings(1).await?.remove(0);
        let participant =
            json!({ "custom_participant_id": "one", "preset_name": "group_call_host" });
        let added = app.client.post(&meeting, &participant).await?.expect(201)?;
        let id = added["id"].as_str().context("a participant has an id")?;
        let path = format!("{meeting}/{id}");
        // Includes HTTP, authentication and one read in addition to signing the token.
        let refresh = fixed("POST", &format!("{path}/token"), "");
        self.cell("mint token (refresh)", MANY, 200, refresh)
            .await?;
        let get = fixed("GET", &path, "");
        self.cell("get participant", MANY, 200, get).await
    }

    async fn lists(&mut self, app: &App) -> Result<()> {
        if self.options.rows == 0 {
            return Ok(());
        }
        for rows in [1_000, self.options.rows] {
            let meeting = app.meetings(1).await?.remove(0);
            app.fill(&meeting, rows).await?;
            if rows == self.options.rows {
                self.settle().await;
            }
            let last = rows.div_ceil(PAGE);
            for (name, page) in [("first", 1), ("middle", last / 2), ("last", last)] {
                let path = format!("{meeting}?page_no={page}&per_page={PAGE}");
                let title = format!("list {PAGE} of {rows}, {name} page");
                // The first request for a page scans to it, which may take long. Later requests
                // start from the cached rank, and only those are measured.
                app.client.get(&path).await?.expect(200)?;
                self.cell(&title, MANY, 200, fixed("GET", &path, ""))
                    .await?;
            }
        }
        Ok(())
    }

    /// Waits until the rows of the large meeting are old enough for their ranks to be cached.
    async fn settle(&self) {
        let settle = self.options.settle;
        if !settle.is_zero() {
            let seconds = settle.as_secs();
            eprintln!("waiting until the participants are {seconds} s old");
            tokio::time::sleep(settle).await;
        }
    }

    /// Measures one cell and the ceiling after it. The ceiling before it has already been measured.
    async fn cell(
        &mut self,
        title: &str,
        connections: usize,
        status: u16,
        request: Request,
    ) -> Result<()> {
        self.row(title, connections, status, request).await?;
        self.echo().await
    }

    async fn echo(&mut self) -> Result<()> {
        let body = participant_json("echo", 0);
        let echo = fixed("POST", "/bench/echo", &body);
        self.row(Row::ECHO, MANY, 200, echo).await
    }

    async fn row(
        &mut self,
        title: &str,
        connections: usize,
        status: u16,
        request: Request,
    ) -> Result<()> {
        eprintln!("{}: {title}, {connections} connections", self.database);
        let load = Load {
            connections,
            status,
            request,
        };
        let (warm_up, measured) = (self.options.warm_up, self.options.measured);
        let run = load::run(self.server, &load, warm_up, measured)
            .await
            .with_context(|| format!("{title}:\n{}", self.server.output()))?;
        self.rows.push(Row {
            database: self.database,
            title: title.to_owned(),
            connections,
            run,
            fsync: None,
        });
        Ok(())
    }
}

/// The measured app.
struct App {
    client: Client,
    path: String,
}

impl App {
    async fn open(server: &ServerProcess) -> Result<Self> {
        let app = server.first_app().await?;
        Ok(Self {
            client: server.client(),
            path: format!("/client/v4/accounts/{ACCOUNT_ID}/realtime/kit/{app}"),
        })
    }

    /// Creates meetings and returns the paths of their participants.
    async fn meetings(&self, count: usize) -> Result<Vec<String>> {
        let mut paths = Vec::with_capacity(count);
        for _ in 0..count {
            let path = format!("{}/meetings", self.path);
            let made = self.client.post(&path, &json!({})).await?.expect(201)?;
            let id = made["id"].as_str().context("a meeting has an id")?;
            paths.push(format!("{path}/{id}/participants"));
        }
        Ok(paths)
    }

    async fn fill(&self, meeting: &str, rows: usize) -> Result<()> {
        eprintln!("filling a meeting with {rows} participants");
        let path = format!("{meeting}/bulk");
        for start in (0..rows).step_by(BULK) {
            let participants: Vec<Value> = (start..rows.min(start + BULK))
                .map(|number| serde_json::from_str(&participant_json("listed", number)))
                .collect::<Result<_, _>>()?;
            let body = json!({ "participants": participants });
            self.client.post(&path, &body).await?.expect(201)?;
        }
        Ok(())
    }
}

/// Adds a new participant with each request, to the meetings in rotation.
fn add(prefix: &'static str, meetings: &[String]) -> Request {
    let meetings = meetings.to_vec();
    Rc::new(move |number, bytes| {
        let meeting = &meetings[number % meetings.len()];
        write(bytes, "POST", meeting, &participant_json(prefix, number));
    })
}

/// Sends the same request every time.
fn fixed(method: &str, path: &str, body: &str) -> Request {
    let mut request = Vec::new();
    write(&mut request, method, path, body);
    Rc::new(move |_, bytes| bytes.extend_from_slice(&request))
}

fn participant_json(prefix: &str, number: usize) -> String {
    format!(
        r#"{{"custom_participant_id":"{prefix}-{number:012}","preset_name":"group_call_host","name":"Mary Sue {number}","picture":"https://example.com/pictures/{number}.png"}}"#
    )
}

fn write(bytes: &mut Vec<u8>, method: &str, path: &str, body: &str) {
    // Like the SDKs, a request without a body has no content type.
    let kind = if body.is_empty() {
        ""
    } else {
        "content-type: application/json\r\n"
    };
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {API_TOKEN}\r\n\
         {kind}content-length: {length}\r\n\r\n"
    );
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(body.as_bytes());
}
