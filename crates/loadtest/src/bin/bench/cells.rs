//! The cells of the table: what is asked of the server in each.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN, Builder};
use parlor_testkit::{Client, Parlor};
use serde_json::{Value, json};

use crate::fsync;
use crate::load::{self, Load, Request};
use crate::options::Options;
use crate::table::Row;

/// Connections of every cell that is not about one.
const MANY: usize = 64;

/// People that one bulk adds while a meeting is filled.
const BULK: usize = 1_000;

/// Participants on one listed page.
const PAGE: usize = 100;

/// Measures one server on one database.
pub(crate) async fn measure(
    database: &'static str,
    builder: Builder,
    options: &Options,
) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let server = builder.data_dir(folder.path()).start().await?;
    let kit = Kit::open(&server).await?;
    let mut bench = Bench {
        database,
        server: &server,
        options,
        rows: Vec::new(),
    };
    bench.echo().await?;
    bench.adds(&kit, folder.path()).await?;
    bench.single_participant(&kit).await?;
    bench.lists(&kit).await?;
    Ok(bench.rows)
}

/// The cells of one server, in the order they are measured.
struct Bench<'a> {
    database: &'static str,
    server: &'a Parlor,
    options: &'a Options,
    rows: Vec<Row>,
}

impl Bench<'_> {
    async fn adds(&mut self, kit: &Kit, data_dir: &Path) -> Result<()> {
        let spread = kit.meetings(self.options.meetings).await?;
        let one = kit.meetings(1).await?;
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

    async fn single_participant(&mut self, kit: &Kit) -> Result<()> {
        let meeting = kit.meetings(1).await?.remove(0);
        let person = json!({ "custom_participant_id": "one", "preset_name": "group_call_host" });
        let added = kit.client.post(&meeting, &person).await?.expect(201)?;
        let id = added["id"].as_str().context("a participant has an id")?;
        let path = format!("{meeting}/{id}");
        // Not minting alone: HTTP, authentication and one read, and then the minting.
        let refresh = fixed("POST", &format!("{path}/token"), "");
        self.cell("mint token (refresh)", MANY, 200, refresh)
            .await?;
        let get = fixed("GET", &path, "");
        self.cell("get participant", MANY, 200, get).await
    }

    async fn lists(&mut self, kit: &Kit) -> Result<()> {
        if self.options.rows == 0 {
            return Ok(());
        }
        for rows in [1_000, self.options.rows] {
            let meeting = kit.meetings(1).await?.remove(0);
            kit.fill(&meeting, rows).await?;
            if rows == self.options.rows {
                self.settle().await;
            }
            let last = rows.div_ceil(PAGE);
            for (name, page) in [("first", 1), ("middle", last / 2), ("last", last)] {
                let path = format!("{meeting}?page_no={page}&per_page={PAGE}");
                let title = format!("list {PAGE} of {rows}, {name} page");
                // The first reader of a page walks to it, however long that takes; those after
                // it start from the rank that it found, and they are what is measured.
                kit.client.get(&path).await?.expect(200)?;
                self.cell(&title, MANY, 200, fixed("GET", &path, ""))
                    .await?;
            }
        }
        Ok(())
    }

    /// Waits until the rows of the large meeting are old enough for their ranks to be remembered.
    async fn settle(&self) {
        let settle = self.options.settle;
        if !settle.is_zero() {
            let seconds = settle.as_secs();
            eprintln!("waiting until the participants are {seconds} s old");
            tokio::time::sleep(settle).await;
        }
    }

    /// Measures one cell, and the ceiling after it; the ceiling before it is there already.
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
        let body = person("echo", 0);
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

/// The app that is measured.
struct Kit {
    client: Client,
    path: String,
}

impl Kit {
    async fn open(server: &Parlor) -> Result<Self> {
        let app = server.first_app().await?;
        Ok(Self {
            client: server.client(),
            path: format!("/client/v4/accounts/{ACCOUNT_ID}/realtime/kit/{app}"),
        })
    }

    /// Makes meetings and answers the paths of their participants.
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
            let people: Vec<Value> = (start..rows.min(start + BULK))
                .map(|number| serde_json::from_str(&person("listed", number)))
                .collect::<Result<_, _>>()?;
            let body = json!({ "participants": people });
            self.client.post(&path, &body).await?.expect(201)?;
        }
        Ok(())
    }
}

/// Adds a new person each time, in every meeting in turn.
fn add(prefix: &'static str, meetings: &[String]) -> Request {
    let meetings = meetings.to_vec();
    Rc::new(move |number, bytes| {
        let meeting = &meetings[number % meetings.len()];
        write(bytes, "POST", meeting, &person(prefix, number));
    })
}

/// The same request every time.
fn fixed(method: &str, path: &str, body: &str) -> Request {
    let mut request = Vec::new();
    write(&mut request, method, path, body);
    Rc::new(move |_, bytes| bytes.extend_from_slice(&request))
}

fn person(prefix: &str, number: usize) -> String {
    format!(
        r#"{{"custom_participant_id":"{prefix}-{number:012}","preset_name":"group_call_host","name":"Mary Sue {number}","picture":"https://example.com/pictures/{number}.png"}}"#
    )
}

fn write(bytes: &mut Vec<u8>, method: &str, path: &str, body: &str) {
    // A request without a body says nothing about its type, as the SDKs do.
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
