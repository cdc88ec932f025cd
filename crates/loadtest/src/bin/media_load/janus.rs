//! Debian's Janus with its video room plugin, for comparison.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use parlor_testkit::Process;
use parlor_testkit::media::sdp::{RTX, Session, answer, offer};
use parlor_testkit::media::{Phases, Plan, SharedMedia};
use parlor_testkit::signal::wire::{self, Message, Socket};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::options::Options;
use crate::server::{Client, ClientGuard};

/// Timeout of the start and of responses.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A running Janus process, which is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
    next_room: AtomicU64,
    _folder: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // If another process takes the port before Janus does, the start fails.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let child = Command::new(&options.janus_script)
            .arg(folder.path())
            .arg(port.to_string())
            .arg(options.janus_loops.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", options.janus_script.display()))?;
        let mut server = Self {
            child,
            port,
            next_room: AtomicU64::new(1),
            _folder: folder,
        };
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_err()
        {
            if let Some(status) = server.child.try_wait()? {
                bail!(
                    "{} exited with {status}: run it manually to see why",
                    options.janus_script.display()
                );
            }
            ensure!(Instant::now() < deadline, "Janus does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    pub(crate) async fn room(&self) -> Result<Room> {
        let number = self.next_room.fetch_add(1, Ordering::Relaxed);
        let mut session = Api::open(self.port).await?;
        let handle = session.attach().await?;
        let room = json!({
            "request": "create", "room": number, "publishers": 10_000, "bitrate": 0, "fir_freq": 0,
            "audiocodec": "opus", "videocodec": "vp8", "audiolevel_event": false,
            "notify_joining": false, "record": false,
        });
        session.message(handle, &room, None).await?;
        Ok(Room {
            port: self.port,
            number,
            feeds: Mutex::default(),
            _keeper: session,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors mean that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A video room.
pub(crate) struct Room {
    port: u16,
    number: u64,
    /// Feed IDs of the publishers.
    feeds: Mutex<Vec<u64>>,
    _keeper: Api,
}

impl Room {
    pub(crate) async fn enter(&self, shared: &SharedMedia, plan: &Plan) -> Result<Client> {
        let mut phases = Phases::default();
        let mut clock = Instant::now();
        let mut lap = |phase: &mut Duration| {
            *phase += clock.elapsed();
            clock = Instant::now();
        };
        let others = self
            .feeds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut api = Api::open(self.port).await?;
        let mut connections = Vec::new();
        if !plan.publishes.is_empty() {
            let handle = api.attach().await?;
            let join = json!({ "request": "join", "ptype": "publisher", "room": self.number });
            let (joined, _) = api.message(handle, &join, None).await?;
            lap(&mut phases.signalling);
            let transport = shared.transport()?;
            let lines: Vec<_> = (0..)
                .zip(&plan.publishes)
                .map(|(mid, published)| shared.line(&format!("{mid}"), published))
                .collect();
            let jsep =
                json!({ "type": "offer", "sdp": offer(&transport.local_description(), &lines) });
            let publish = json!({ "request": "publish" });
            let (_, answered) = api.message(handle, &publish, Some(jsep)).await?;
            let answered = answered.context("no answer")?;
            let theirs = Session::read(&answered)?;
            lap(&mut phases.offers);
            let connection = shared.connect(transport, &theirs).await?;
            lap(&mut phases.connecting);
            for (line, published) in lines.iter().zip(&plan.publishes) {
                shared.publish(&connection, line, theirs.line(&line.mid)?, published);
            }
            connections.push(connection);
            let feed = joined["id"].as_u64().context("a publisher without id")?;
            let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
            feeds.push(feed);
        }
        if plan.subscribes && !others.is_empty() {
            let handle = api.attach().await?;
            let streams: Vec<Value> = others.iter().map(|feed| json!({ "feed": feed })).collect();
            let join = json!({
                "request": "join", "ptype": "subscriber", "room": self.number, "streams": streams,
            });
            lap(&mut phases.signalling);
            let (_, offered) = api.message(handle, &join, None).await?;
            let theirs = Session::read(&offered.context("no offer")?)?;
            let transport = shared.transport()?;
            let jsep =
                json!({ "type": "answer", "sdp": answer(&transport.local_description(), &theirs) });
            api.message(handle, &json!({ "request": "start" }), Some(jsep))
                .await?;
            lap(&mut phases.offers);
            let connection = shared.connect(transport, &theirs).await?;
            shared.thread.expect(connection.id, None, Some(RTX));
            connections.push(connection);
            lap(&mut phases.connecting);
        }
        Ok(Client {
            phases,
            _guard: ClientGuard::Janus(api.drain(), connections),
        })
    }
}

/// A session of the Janus API.
struct Api {
    socket: Socket,
    session: u64,
    next: u64,
}

impl Api {
    async fn open(port: u16) -> Result<Self> {
        let mut request = format!("ws://127.0.0.1:{port}/").into_client_request()?;
        request.headers_mut().insert(
            "Sec-WebSocket-Protocol",
            HeaderValue::from_static("janus-protocol"),
        );
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let (socket, _) =
            tokio_tungstenite::client_async_with_config(request, stream, Some(wire::config()))
                .await?;
        let mut api = Self {
            socket,
            session: 0,
            next: 0,
        };
        let made = api.ask(json!({ "janus": "create" })).await?;
        api.session = made["data"]["id"].as_u64().context("no session")?;
        Ok(api)
    }

    async fn attach(&mut self) -> Result<u64> {
        let request = json!({ "janus": "attach", "plugin": "janus.plugin.videoroom" });
        let attached = self.ask(request).await?;
        attached["data"]["id"].as_u64().context("no handle")
    }

    /// Sends a message to the plugin. Returns its data, and its SDP if it has one.
    async fn message(
        &mut self,
        handle: u64,
        body: &Value,
        jsep: Option<Value>,
    ) -> Result<(Value, Option<String>)> {
        let mut request = json!({ "janus": "message", "handle_id": handle, "body": body });
        if let Some(jsep) = jsep {
            request["jsep"] = jsep;
        }
        let reply = self.ask(request).await?;
        let data = reply["plugindata"]["data"].clone();
        ensure!(data["error"].is_null(), "Janus rejects {body}: {data}");
        let sdp = reply["jsep"]["sdp"].as_str().map(str::to_owned);
        Ok((data, sdp))
    }

    async fn ask(&mut self, mut request: Value) -> Result<Value> {
        self.next += 1;
        let transaction = self.next.to_string();
        request["transaction"] = json!(transaction);
        if self.session != 0 {
            request["session_id"] = json!(self.session);
        }
        self.socket.send(Message::text(request.to_string())).await?;
        tokio::time::timeout(TIMEOUT, self.reply(&transaction))
            .await
            .with_context(|| format!("no response to {request}"))?
    }

    async fn reply(&mut self, transaction: &str) -> Result<Value> {
        loop {
            let frame = self
                .socket
                .next()
                .await
                .context("Janus closed the socket")??;
            let Message::Text(text) = frame else { continue };
            let reply: Value = serde_json::from_str(&text)?;
            if reply["transaction"] != transaction {
                continue;
            }
            match reply["janus"].as_str() {
                // The actual response follows.
                Some("ack") => {}
                Some("error") => bail!("Janus: {}", reply["error"]),
                _ => return Ok(reply),
            }
        }
    }

    /// Reads and discards all further messages, so that no buffer fills up.
    fn drain(mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move { while let Some(Ok(_)) = self.socket.next().await {} })
    }
}
