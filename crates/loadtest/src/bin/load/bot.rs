//! A lightweight client: one socket, one task, and counters.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use parlor_protocol::signal::media::edge;
use parlor_protocol::signal::socket::chat::{
    GetChatMessagesResponse, SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};
use parlor_protocol::signal::socket::room::RoomPeersInfoResponse;
use parlor_protocol::signal::{Envelope, event};
use parlor_testkit::signal::wire::{self, Message, PING, PONG, Socket};
use parlor_testkit::signal::{Encodable, Identity, PLUGINS};

/// Timeout of the upgrade and of replies.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of sockets from one address to one server: below the 28,000 ephemeral ports of
/// Linux.
const PER_ADDRESS: usize = 20_000;

/// What all bots of a run observed.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Number of frames received.
    pub(crate) frames: usize,
    /// Chat messages received by any bot: the number in their text, and the time of arrival.
    pub(crate) messages: Vec<(usize, Instant)>,
    /// Number of join pushes.
    pub(crate) joins: usize,
    /// Number of leave pushes.
    pub(crate) leaves: usize,
    /// Number of sockets closed by the server.
    pub(crate) closed: usize,
    /// Number of error replies.
    pub(crate) errors: usize,
}

/// The observations of a run, shared by its bots, which all run on one thread.
pub(crate) type Shared = Rc<RefCell<Observed>>;

/// The result of a join.
#[derive(Debug, Default)]
pub(crate) struct Entered {
    pub(crate) peers: usize,
    pub(crate) history: HashSet<String>,
}

/// A lightweight client.
pub(crate) struct Bot {
    pub(crate) identity: Identity,
    socket: Socket,
    next_id: u64,
    seen: Shared,
    /// Texts of the messages received, if they are kept.
    pub(crate) received: HashSet<String>,
    keeps_messages: bool,
}

impl Bot {
    /// Opens the socket.
    pub(crate) async fn open(identity: Identity, number: usize, seen: &Shared) -> Result<Self> {
        let host = u8::try_from(number / PER_ADDRESS).unwrap_or(0);
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + host));
        let from = (host > 0).then_some(from);
        let path = identity.path();
        let opened = wire::open_path(identity.server, &path, from);
        let socket = tokio::time::timeout(TIMEOUT, opened)
            .await
            .context("no response to the upgrade")??;
        Ok(Self {
            identity,
            socket,
            next_id: 0,
            seen: Rc::clone(seen),
            received: HashSet::new(),
            keeps_messages: false,
        })
    }

    /// Keeps the text of every message from now on.
    pub(crate) fn keep_messages(mut self) -> Self {
        self.keeps_messages = true;
        self
    }

    /// Sends a request and returns its ID.
    pub(crate) async fn tell(&mut self, number: u32, message: &impl Encodable) -> Result<String> {
        self.next_id += 1;
        let id = format!("{}-{:x}", self.identity.peer, self.next_id);
        wire::send(&mut self.socket, wire::frame(number, &id, message)).await?;
        Ok(id)
    }

    /// Joins as the official client does, without media (docs/spec/signalling.md 6.1 and 6.2).
    pub(crate) async fn join(&mut self) -> Result<Entered> {
        let store = self.identity.store_request(PLUGINS);
        let before = [
            self.tell(event::STORE_GET_KEYS, &store).await?,
            self.tell(event::MEDIA_JOIN, &edge::PeerJoinRequest::default())
                .await?,
        ];
        self.replies(&before).await?;
        self.enter().await
    }

    /// Joins the room, for the first time or after a reconnect.
    pub(crate) async fn enter(&mut self) -> Result<Entered> {
        let store = self.identity.store_request(PLUGINS);
        let request = self.identity.join_request();
        let join = self.tell(event::JOIN_ROOM, &request).await?;
        self.replies(&[join]).await?;
        let nothing = edge::PeerJoinCompleteRequest {};
        let burst = [
            self.tell(event::GET_MESSAGES, &nothing).await?,
            self.tell(event::GET_POLLS, &nothing).await?,
            self.tell(event::STORE_GET_KEYS, &store).await?,
            self.tell(event::GET_ROOM_INFO, &nothing).await?,
            self.tell(event::GET_ROOM_PEERS_INFO, &nothing).await?,
        ];
        let replies = self.replies(&burst).await?;
        let mut entered = Entered::default();
        for reply in replies {
            let payload = reply.payload.unwrap_or_default();
            match reply.event {
                event::GET_ROOM_PEERS_INFO => {
                    entered.peers = RoomPeersInfoResponse::decode(payload)?.peers.len();
                }
                event::GET_MESSAGES if self.keeps_messages => {
                    let history = GetChatMessagesResponse::decode(payload)?.messages;
                    entered.history = history.into_iter().map(|message| message.payload).collect();
                }
                _ => {}
            }
        }
        // The SDK sends this once after the first join; the reply is ignored here.
        self.tell(event::GET_CONNECTED_ROOMS_DUMP, &nothing).await?;
        Ok(entered)
    }

    async fn replies(&mut self, ids: &[String]) -> Result<Vec<Envelope>> {
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        let mut replies = Vec::with_capacity(ids.len());
        while replies.len() < ids.len() {
            let frame = tokio::time::timeout_at(deadline, self.next())
                .await
                .context("no reply")??;
            if frame.id.as_ref().is_some_and(|id| ids.contains(id)) {
                ensure!(frame.event != event::ERROR, "rejected: {:?}", frame.payload);
                replies.push(frame);
            }
        }
        Ok(replies)
    }

    /// Returns the next message from the server, and answers pings in between.
    async fn next(&mut self) -> Result<Envelope> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => {
                    let frame = Envelope::decode(bytes)?;
                    self.note(&frame);
                    return Ok(frame);
                }
                Some(Ok(Message::Text(text))) if text.as_str() == PING => {
                    wire::send(&mut self.socket, Message::text(PONG)).await?;
                }
                Some(Ok(Message::Close(frame))) => {
                    self.seen.borrow_mut().closed += 1;
                    bail!("closed: {frame:?}")
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    self.seen.borrow_mut().closed += 1;
                    return Err(error.into());
                }
                None => bail!("the connection was closed"),
            }
        }
    }

    fn note(&mut self, frame: &Envelope) {
        let mut seen = self.seen.borrow_mut();
        seen.frames += 1;
        match frame.event {
            event::SEND_MESSAGE_TO_ROOM => {
                let payload = frame.payload.clone().unwrap_or_default();
                let message = SendChatMessageToRoomResponse::decode(payload)
                    .ok()
                    .and_then(|push| push.message);
                let text = message.map(|message| message.payload).unwrap_or_default();
                if let Some(number) = text
                    .split(' ')
                    .next()
                    .and_then(|number| number.parse().ok())
                {
                    seen.messages.push((number, Instant::now()));
                }
                if self.keeps_messages {
                    self.received.insert(text);
                }
            }
            event::JOIN_ROOM if frame.id.is_none() => seen.joins += 1,
            event::LEAVE_ROOM => seen.leaves += 1,
            event::ERROR => seen.errors += 1,
            _ => {}
        }
    }

    /// Sends a chat message to the room.
    pub(crate) async fn say(&mut self, text: String) -> Result<()> {
        let message = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: text,
        };
        self.tell(event::SEND_MESSAGE_TO_ROOM, &message).await?;
        Ok(())
    }

    /// Receives frames until the deadline.
    pub(crate) async fn listen_until(&mut self, end: Instant) -> Result<()> {
        loop {
            match tokio::time::timeout_at(end.into(), self.next()).await {
                Ok(frame) => frame.map(drop)?,
                Err(_) => return Ok(()),
            }
        }
    }

    /// Receives frames and sends the given texts, until the sender of `texts` is dropped.
    pub(crate) async fn run(
        mut self,
        mut texts: tokio::sync::mpsc::Receiver<String>,
    ) -> Result<Self> {
        loop {
            tokio::select! {
                frame = self.next() => drop(frame?),
                text = texts.recv() => match text {
                    Some(text) => self.say(text).await?,
                    None => return Ok(self),
                },
            }
        }
    }

    /// Drops the connection without a close frame.
    pub(crate) fn disconnect(self) -> (Identity, HashSet<String>) {
        (self.identity, self.received)
    }
}
