//! How the threads begin, and what their end means.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aws_lc_rs::rand;
use tokio::runtime;
use tokio::sync::mpsc;
use tracing::debug;

use super::gate::Gate;
use super::ways::{Elsewhere, Outlets};
use super::{Command, Counters, Shard, restart};
use crate::Stats;
use crate::engine::{Apps, Engine, Identity, Settings};
use crate::relay::{Doorway, FromLink, MediaSocket, Relay};
use crate::sdp::Candidate;
use crate::sockets::{self, Bound};
use crate::{Config, RelayConfig};

/// What the ids of a thread's transports begin with, by the thread's number. It bounds their number.
pub(super) const SHARDS: &[u8; 62] =
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// What may wait to be handed over to a thread. Datagrams that are more are dropped, as by any router.
const STRAYS: usize = 8192;

/// What runs.
pub(crate) struct Started {
    pub(crate) commands: Vec<mpsc::UnboundedSender<Command>>,
    pub(crate) counters: Vec<Arc<Counters>>,
    pub(crate) local_addrs: Vec<SocketAddr>,
    pub(crate) relay: Option<Relay>,
    /// Ends after all the threads.
    pub(crate) thread: JoinHandle<()>,
}

/// Binds the sockets and starts the threads.
pub(crate) fn start(config: &Config) -> io::Result<Started> {
    let threads = config.threads.clamp(1, SHARDS.len());
    let mut bound = sockets::bind(&config.bind, &config.public, threads)?;
    let mut candidates = Vec::new();
    for bound in &bound {
        debug!(local = %bound.local, advertised = ?bound.advertised, "media is bound");
        let udp = bound.advertised.iter();
        candidates.extend(udp.map(|&address| Candidate {
            address,
            tcp: false,
        }));
    }
    let (relay, mut links) = match &config.relay {
        Some(wanted) => {
            let (relay, links) = start_relay(config, wanted, &bound)?;
            (Some(relay), Some(links))
        }
        None => (None, None),
    };
    let tcp = relay.iter().flat_map(Relay::tcp_addresses);
    candidates.extend(tcp.map(|&address| Candidate { address, tcp: true }));
    let local_addrs = bound.iter().map(|bound| bound.local).collect();

    let (strays, inboxes): (Vec<_>, Vec<_>) = (0..threads).map(|_| mpsc::channel(STRAYS)).unzip();
    let mut started = Started {
        commands: Vec::new(),
        counters: Vec::new(),
        local_addrs,
        relay,
        thread: thread::spawn(|| ()),
    };
    let mut running = Vec::new();
    let (open, apps) = (Arc::default(), Apps::default());
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let (commands, orders) = mpsc::unbounded_channel();
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
            random: |bytes| rand::fill(bytes).expect("the system has random bytes"),
        });
        let own = bound.iter_mut().map(|bound| bound.sockets.pop());
        let own = own.flatten().collect::<Vec<_>>();
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let shard = {
            let _entered = runtime.enter();
            Shard {
                engine,
                sockets: own.into_iter().map(Gate::new).collect::<io::Result<_>>()?,
                orders,
                inbox,
                index,
                strays: strays.clone(),
                links: links.take(),
                outlets: Outlets::default(),
                elsewhere: Elsewhere::default(),
                counters: Arc::clone(&counters),
                stats: Stats::default(),
                claims: HashMap::new(),
            }
        };
        running.push(
            thread::Builder::new()
                .name(format!("media-{index}"))
                .spawn(move || {
                    let _watch = Watch;
                    restart::run(shard, &runtime);
                })?,
        );
        started.commands.push(commands);
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

/// Starts the ways for networks without UDP.
fn start_relay(
    config: &Config,
    wanted: &RelayConfig,
    bound: &[Bound],
) -> io::Result<(Relay, mpsc::UnboundedReceiver<FromLink>)> {
    let (doorway, links) = Doorway::new();
    let media = config
        .bind
        .iter()
        .zip(bound)
        .map(|(wanted, bound)| MediaSocket {
            local: bound.local,
            any_port: wanted.port() == 0,
            advertised: bound.advertised.clone(),
        });
    let media = media.collect::<Vec<_>>();
    let relay = Relay::start(wanted.clone(), &config.secret, &media, doorway)?;
    Ok((relay, links))
}

/// Ends the process with its thread, if that panics while it starts over: the meetings on it would be
/// without media for good, and nothing that was acknowledged is lost.
struct Watch;

impl Drop for Watch {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("a media thread cannot start over: the server ends");
            std::process::abort();
        }
    }
}
