//! A TCP proxy in front of a server, for tests of a network or a host that fails.
//!
//! A frozen host still acknowledges what it is sent, because its kernel does. So does this proxy
//! while it is frozen: it accepts connections and takes bytes, and passes nothing on. What it has
//! taken is passed on after the thaw, as a host does that was only suspended.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes that are passed on at once.
const CHUNK: usize = 16 * 1024;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Replies,
}

/// What happens to the bytes of both ways.
#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    requests_held: bool,
    replies_held: bool,
    delay: Duration,
}

impl Gate {
    fn passes(self, way: Way) -> bool {
        match way {
            Way::Requests => !self.requests_held,
            Way::Replies => !self.replies_held,
        }
    }
}

/// Forwards connections from a port of its own to a server on this machine.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    gate: watch::Sender<Gate>,
    held: watch::Sender<usize>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Proxy {
    /// A proxy in front of a port of this machine.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn to(server: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let proxy = Self {
            port: listener.local_addr()?.port(),
            gate: watch::Sender::default(),
            held: watch::Sender::default(),
            connections: Arc::default(),
        };
        let (gate, held) = (proxy.gate.clone(), proxy.held.clone());
        let connections = Arc::clone(&proxy.connections);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let connection = forward(client, server, gate.clone(), held.clone());
                let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
                while connections.try_join_next().is_some() {}
                connections.spawn(connection);
            }
        });
        Ok(proxy)
    }

    /// A proxy in front of the server of a `postgres://` URL, and the URL that leads through it.
    ///
    /// # Errors
    /// When the URL names no port, or no port is free.
    pub async fn to_postgres(url: &str) -> Result<(Self, String)> {
        let (server, database) = url.rsplit_once('/').context("a URL with a database")?;
        let (scheme, port) = server.rsplit_once(':').context("a URL with a port")?;
        let proxy = Self::to(port.parse()?).await?;
        let url = format!("{scheme}:{}/{database}", proxy.port);
        Ok((proxy, url))
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Passes nothing on, in either way, until [`Proxy::thaw`].
    pub fn freeze(&self) {
        self.set(|gate| (gate.requests_held, gate.replies_held) = (true, true));
    }

    /// Passes nothing on in one way: with [`Way::Replies`], the server does what it is told, and
    /// nobody hears of it.
    pub fn freeze_only(&self, way: Way) {
        self.set(|gate| match way {
            Way::Requests => gate.requests_held = true,
            Way::Replies => gate.replies_held = true,
        });
    }

    /// Passes on what was held, and everything from now on, at once.
    pub fn thaw(&self) {
        self.set(|gate| *gate = Gate::default());
    }

    /// Passes everything on this much later, from now on.
    pub fn delay(&self, delay: Duration) {
        self.set(|gate| gate.delay = delay);
    }

    /// Breaks every connection without a word. New ones are accepted.
    pub fn cut(&self) {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.abort_all();
    }

    /// Waits until bytes have arrived that are held back.
    pub async fn holding(&self) {
        let mut held = self.held.subscribe();
        // The sender lives as long as this does.
        let _ = held.wait_for(|held| *held > 0).await;
    }

    fn set(&self, change: impl FnOnce(&mut Gate)) {
        self.gate.send_modify(change);
    }
}

async fn forward(
    client: TcpStream,
    server: u16,
    gate: watch::Sender<Gate>,
    held: watch::Sender<usize>,
) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else {
        return;
    };
    // Small messages must not wait for each other, or every test would measure Nagle's algorithm.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = pump(
        from_client,
        to_server,
        Way::Requests,
        gate.subscribe(),
        &held,
    );
    let replies = pump(
        from_server,
        to_client,
        Way::Replies,
        gate.subscribe(),
        &held,
    );
    tokio::join!(requests, replies);
}

/// Passes bytes on one way until either end closes.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    mut gate: watch::Receiver<Gate>,
    held: &watch::Sender<usize>,
) {
    let mut chunk = vec![0; CHUNK];
    // An error is the end of a connection, as is the end of its bytes.
    while let Ok(length) = from.read(&mut chunk).await {
        let delay = gate.borrow().delay;
        if !gate.borrow().passes(way) {
            let _one = Held::new(held);
            if gate.wait_for(|gate| gate.passes(way)).await.is_err() {
                return;
            }
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if length == 0 || to.write_all(&chunk[..length]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// Counts a chunk for as long as it is held.
struct Held<'a>(&'a watch::Sender<usize>);

impl<'a> Held<'a> {
    fn new(held: &'a watch::Sender<usize>) -> Self {
        held.send_modify(|held| *held += 1);
        Self(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}
