//! Starts the threads.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aws_lc_rs::rand;
use tokio::runtime;
use tokio::sync::mpsc;
use tracing::debug;

use super::batch_socket::BatchSocket;
use super::routes::{LinkSenders, ShardRoutes};
use super::{Command, Counters, Shard, restart};
use crate::Stats;
use crate::engine::{AppCounts, Engine, Identity, Settings};
use crate::relay::{LinkEvent, LinkEvents, MediaSocket, Relay};
use crate::sdp::Candidate;
use crate::sockets::{self, Bound};
use crate::{Config, RelayConfig};

/// The first byte of the transport ids of each thread, by thread index. Its length is the maximum
/// number of threads.
pub(super) const SHARDS: &[u8; 62] =
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// Maximum number of messages in the inbox of a thread. Further datagrams are dropped, as any
/// router would do.
const INBOX_CAPACITY: usize = 8192;

/// The running threads.
pub(crate) struct Started {
    pub(crate) commands: Vec<mpsc::UnboundedSender<Command>>,
    pub(crate) counters: Vec<Arc<Counters>>,
    pub(crate) local_addrs: Vec<SocketAddr>,
    pub(crate) relay: Option<Relay>,
    /// A thread that ends after all the others.
    pub(crate) thread: JoinHandle<()>,
}

/// Binds the sockets and starts the threads.
pub(crate) fn start(config: &Config) -> io::Result<Started> {
    let threads = config.threads.clamp(1, SHARDS.len());
    let mut bound = sockets::bind(&config.bind, &config.public, threads)?;
    let mut candidates = Vec::new();
    for bound in &bound {
        debug!(local = %bound.local, advertised = ?bound.advertised, "bound the media socket");
        let udp = bound.advertised.iter();
        candidates.extend(udp.map(|&address| Candidate {
            address,
            tcp: false,
        }));
    }
    let (relay, mut links) = match &config.relay {
        Some(relay_config) => {
            let (relay, links) = start_relay(config, relay_config, &bound)?;
            (Some(relay), Some(links))
        }
        None => (None, None),
    };
    let tcp = relay.iter().flat_map(Relay::tcp_addresses);
    candidates.extend(tcp.map(|&address| Candidate { address, tcp: true }));
    let local_addrs = bound.iter().map(|bound| bound.local).collect();

    let inboxes = (0..threads).map(|_| mpsc::channel(INBOX_CAPACITY));
    let (inbox_senders, inboxes): (Vec<_>, Vec<_>) = inboxes.unzip();
    let mut started = Started {
        commands: Vec::new(),
        counters: Vec::new(),
        local_addrs,
        relay,
        thread: thread::spawn(|| ()),
    };
    let mut running = Vec::new();
    let (open, apps) = (Arc::default(), AppCounts::default());
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let (command_sender, commands) = mpsc::unbounded_channel();
        let counters = Arc::new(Counters::default());
        let engine = Engine::new(Settings {
            candidates: candidates.clone(),
            shard: SHARDS[index],
            shards: &SHARDS[..threads],
            max_transports: config.max_transports,
            open: Arc::clone(&open),
            shares: config.shares,
            apps: apps.clone(),
            max_consumers: config.max_consumers,
            connect_timeout: config.connect_timeout,
            passwords: config.secret.key("ice passwords"),
            identity: Identity::generate().map_err(io::Error::other)?,
            random: |bytes| rand::fill(bytes).expect("the system provides random bytes"),
        });
        let sockets = bound.iter_mut().map(|bound| bound.sockets.pop());
        let sockets = sockets.flatten().collect::<Vec<_>>();
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let shard = {
            let _entered = runtime.enter();
            Shard {
                engine,
                sockets: sockets
                    .into_iter()
                    .map(BatchSocket::new)
                    .collect::<io::Result<_>>()?,
                commands,
                inbox,
                index,
                inboxes: inbox_senders.clone(),
                links: links.take(),
                senders: LinkSenders::default(),
                routes: ShardRoutes::default(),
                counters: Arc::clone(&counters),
                stats: Stats::default(),
                claims: HashMap::new(),
            }
        };
        running.push(
            thread::Builder::new()
                .name(format!("media-{index}"))
                .spawn(move || {
                    let _guard = AbortOnPanic;
                    restart::run(shard, &runtime);
                })?,
        );
        started.commands.push(command_sender);
        started.counters.push(counters);
    }
    started.thread = thread::Builder::new()
        .name("media".to_owned())
        .spawn(move || {
            for thread in running {
                if thread.join().is_err() {
                    tracing::error!("a media thread panicked");
                }
            }
        })?;
    Ok(started)
}

/// Starts ICE over TCP and TURN.
fn start_relay(
    config: &Config,
    relay_config: &RelayConfig,
    bound: &[Bound],
) -> io::Result<(Relay, mpsc::UnboundedReceiver<LinkEvent>)> {
    let (link_events, links) = LinkEvents::new();
    let media = config
        .bind
        .iter()
        .zip(bound)
        .map(|(configured, bound)| MediaSocket {
            local: bound.local,
            any_port: configured.port() == 0,
            advertised: bound.advertised.clone(),
        });
    let media = media.collect::<Vec<_>>();
    let relay = Relay::start(relay_config.clone(), &config.secret, &media, link_events)?;
    Ok((relay, links))
}

/// Aborts the process if a thread panics while it recovers from a panic. Without that thread, its
/// meetings would never have media again, and aborting loses no acknowledged writes.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("a media thread failed to recover from a panic: aborting the server");
            std::process::abort();
        }
    }
}
