//! A TCP proxy in front of a server, to simulate failures of the network or the host.
//!
//! The kernel of a frozen host still acknowledges data. So does a frozen proxy: it accepts
//! connections and reads bytes, but does not forward them. After the thaw it forwards the bytes, as
//! a host does that was only suspended.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Size of the read buffer, in bytes.
const CHUNK: usize = 16 * 1024;

/// Direction of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Replies,
}

/// Whether each direction is held back, and the delay of both.
#[derive(Clone, Copy, Debug, Default)]
struct FlowControl {
    requests_held: bool,
    replies_held: bool,
    delay: Duration,
}

impl FlowControl {
    fn passes(self, direction: Direction) -> bool {
        match direction {
            Direction::Requests => !self.requests_held,
            Direction::Replies => !self.replies_held,
        }
    }
}

/// A proxy that forwards connections from its own port to a server on this machine.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    control: watch::Sender<FlowControl>,
    held: watch::Sender<usize>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Proxy {
    /// Starts a proxy in front of a port on this machine.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn to(server: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let proxy = Self {
            port: listener.local_addr()?.port(),
            control: watch::Sender::default(),
            held: watch::Sender::default(),
            connections: Arc::default(),
        };
        let (control, held) = (proxy.control.clone(), proxy.held.clone());
        let connections = Arc::clone(&proxy.connections);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let connection = forward(client, server, control.clone(), held.clone());
                let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
                while connections.try_join_next().is_some() {}
                connections.spawn(connection);
            }
        });
        Ok(proxy)
    }

    /// Starts a proxy in front of the server of a `postgres://` URL, and returns the URL that goes
    /// through it.
    ///
    /// # Errors
    /// When the URL has no port, or no port is free.
    pub async fn to_postgres(url: &str) -> Result<(Self, String)> {
        let (server, database) = url.rsplit_once('/').context("a URL with a database")?;
        let (scheme, port) = server.rsplit_once(':').context("a URL with a port")?;
        let proxy = Self::to(port.parse()?).await?;
        let url = format!("{scheme}:{}/{database}", proxy.port);
        Ok((proxy, url))
    }

    /// The port of the proxy.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Holds back all data in both directions until [`Proxy::thaw`].
    pub fn freeze(&self) {
        self.set(|control| (control.requests_held, control.replies_held) = (true, true));
    }

    /// Holds back all data in one direction. With [`Direction::Replies`], the server still executes
    /// requests, but the client receives no replies.
    pub fn freeze_only(&self, direction: Direction) {
        self.set(|control| match direction {
            Direction::Requests => control.requests_held = true,
            Direction::Replies => control.replies_held = true,
        });
    }

    /// Forwards the data held back, and from now on forwards data without delay.
    pub fn thaw(&self) {
        self.set(|control| *control = FlowControl::default());
    }

    /// Delays all data from now on.
    pub fn delay(&self, delay: Duration) {
        self.set(|control| control.delay = delay);
    }

    /// Aborts every connection. New ones are accepted.
    pub fn cut(&self) {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.abort_all();
    }

    /// Waits until the proxy holds back some data.
    pub async fn holding(&self) {
        let mut held = self.held.subscribe();
        // The sender is a field of this proxy, so it cannot be dropped here.
        let _ = held.wait_for(|held| *held > 0).await;
    }

    fn set(&self, change: impl FnOnce(&mut FlowControl)) {
        self.control.send_modify(change);
    }
}

async fn forward(
    client: TcpStream,
    server: u16,
    control: watch::Sender<FlowControl>,
    held: watch::Sender<usize>,
) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else {
        return;
    };
    // Without this, tests would measure Nagle's algorithm.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = pump(
        from_client,
        to_server,
        Direction::Requests,
        control.subscribe(),
        &held,
    );
    let replies = pump(
        from_server,
        to_client,
        Direction::Replies,
        control.subscribe(),
        &held,
    );
    tokio::join!(requests, replies);
}

/// Forwards bytes in one direction until either end closes.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    mut control: watch::Receiver<FlowControl>,
    held: &watch::Sender<usize>,
) {
    let mut chunk = vec![0; CHUNK];
    // A read error ends the connection, as does the end of the stream.
    while let Ok(length) = from.read(&mut chunk).await {
        let delay = control.borrow().delay;
        if !control.borrow().passes(direction) {
            let _one = Held::new(held);
            if control
                .wait_for(|control| control.passes(direction))
                .await
                .is_err()
            {
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

/// Counts a chunk while it is held back.
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
