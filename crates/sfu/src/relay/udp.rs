//! TURN on the media ports: whatever comes there that is not for a transport directly.
//!
//! The thread of the media plane hands it over and goes on. A client without an allocation is
//! answered and forgotten; one with an allocation has a task of its own.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tracing::debug;

use super::client::{Client, Outgoing};
use super::message::{Class, Message, is_stun, kind, method, read_type};
use super::turn::Framing;
use super::{Inner, now};

/// Datagrams that may wait to be looked at, of all clients and of each.
const WAITING: usize = 2048;
const WAITING_EACH: usize = 256;

/// Whether a datagram on a media port is for the relay: `ChannelData`, or STUN that is not a check
/// of ICE nor an answer to one (RFC 7983, RFC 8656). Cheap, for every datagram passes here.
pub(crate) fn belongs(datagram: &[u8]) -> bool {
    match datagram {
        [0x40..0x80, ..] => true,
        [first @ 0..4, second, ..] if is_stun(datagram) => {
            match read_type([*first, *second]) {
                // A check of ICE always has a name in it (RFC 8445 7.2.2).
                (method::BINDING, Class::Request) => Message::read(datagram)
                    .is_some_and(|message| message.attribute(kind::USERNAME).is_none()),
                (method::BINDING, _) => false,
                _ => true,
            }
        }
        _ => false,
    }
}

/// One socket, by its index, and an address of a client.
type Path = (usize, SocketAddr);

/// Where the thread of the media plane hands over what [`belongs`] to the relay.
#[derive(Debug, Clone)]
pub(crate) struct UdpDoor {
    queue: mpsc::Sender<(Path, Vec<u8>)>,
}

impl UdpDoor {
    /// Hands over a datagram that came to a socket. False if it was dropped.
    pub(crate) fn take(&self, socket: usize, source: SocketAddr, datagram: &[u8]) -> bool {
        // Reserved first, so that a flood costs no copies.
        let Ok(place) = self.queue.try_reserve() else {
            return false;
        };
        place.send(((socket, source), datagram.to_vec()));
        true
    }
}

pub(super) fn start(relay: Arc<Inner>, sockets: Vec<std::net::UdpSocket>) -> io::Result<UdpDoor> {
    let sockets = sockets
        .into_iter()
        .map(|socket| {
            socket.set_nonblocking(true)?;
            Ok(Arc::new(UdpSocket::from_std(socket)?))
        })
        .collect::<io::Result<Vec<_>>>()?;
    let (queue, inbox) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let doorway = relay.doorway.clone();
        tokio::select! {
            () = dispatch(relay, sockets, inbox) => {}
            () = doorway.gone() => {}
        }
    });
    Ok(UdpDoor { queue })
}

/// Brings each datagram to its client's task, which ends with this.
async fn dispatch(
    relay: Arc<Inner>,
    sockets: Vec<Arc<UdpSocket>>,
    mut inbox: mpsc::Receiver<(Path, Vec<u8>)>,
) {
    let mut clients = HashMap::<Path, mpsc::Sender<Vec<u8>>>::new();
    let mut tasks = JoinSet::new();
    let mut out = Vec::new();
    loop {
        tokio::select! {
            Some(ended) = tasks.join_next() => {
                match ended {
                    Ok(path) => forget(&mut clients, &path),
                    // Which one it was is not said; all that ended are known by their queues.
                    Err(_) => clients.retain(|_, queue| !queue.is_closed()),
                }
            }
            came = inbox.recv() => {
                let Some((path, datagram)) = came else {
                    return;
                };
                let datagram = match clients.get(&path) {
                    None => datagram,
                    Some(queue) => match queue.try_send(datagram) {
                        Err(TrySendError::Closed(datagram)) => datagram,
                        // A full queue drops, as a full socket buffer would.
                        Ok(()) | Err(TrySendError::Full(_)) => continue,
                    },
                };
                let Some(socket) = sockets.get(path.0) else {
                    continue;
                };
                let (mut client, outgoing) = Client::new(Arc::clone(&relay), path.1, Framing::Datagrams);
                out.clear();
                // What is no message has no answer either.
                let _ = client.take(now(), &datagram, &mut out);
                send(socket, path.1, &out);
                if client.expires().is_some() {
                    let (queue, datagrams) = mpsc::channel(WAITING_EACH);
                    clients.insert(path, queue);
                    let socket = Arc::clone(socket);
                    tasks.spawn(async move {
                        attend(client, outgoing, datagrams, &socket, path.1).await;
                        path
                    });
                }
            }
        }
    }
}

/// A path may have a new client already.
fn forget(clients: &mut HashMap<Path, mpsc::Sender<Vec<u8>>>, path: &Path) {
    if clients.get(path).is_some_and(mpsc::Sender::is_closed) {
        clients.remove(path);
    }
}

/// Serves one client for as long as it has an allocation.
async fn attend(
    mut client: Client,
    mut outgoing: Outgoing,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
    socket: &UdpSocket,
    source: SocketAddr,
) {
    let mut out = Vec::new();
    while let Some(expires) = client.expires() {
        out.clear();
        tokio::select! {
            Some(datagram) = datagrams.recv() => {
                // What is no message has no answer either.
                let _ = client.take(now(), &datagram, &mut out);
            }
            Some((link, datagram)) = outgoing.recv() => {
                client.give(now(), link, &datagram, &mut out);
            }
            () = sleep_until(expires.into()) => client.timeout(now()),
            else => return,
        }
        send(socket, source, &out);
    }
}

fn send(socket: &UdpSocket, destination: SocketAddr, datagram: &[u8]) {
    if datagram.is_empty() {
        return;
    }
    // A full buffer drops like any router on the way: whatever matters is sent again.
    if let Err(error) = socket.try_send_to(datagram, destination) {
        debug!(%error, "a datagram of the relay could not be sent");
    }
}
