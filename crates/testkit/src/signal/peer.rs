//! A client that keeps everything it receives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use parlor_protocol::signal::media::edge;
use parlor_protocol::signal::socket::{chat, plugin, polls, room};
use parlor_protocol::signal::{Envelope, event};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::inbox::{Closed, Inbox, Received, Refused};
use super::wire::{self, CloseFrame, Message, PING, PONG};
use super::{Identity, Joined, PLUGINS};

/// Timeout of a reply or a push. Shorter than the SDK's 20 seconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of frames queued for sending.
const QUEUE: usize = 4096;

/// One socket of one client. Dropping it aborts its task, and the server sees a broken connection.
#[derive(Debug)]
pub struct Peer {
    identity: Identity,
    inbox: Arc<Inbox>,
    outgoing: mpsc::Sender<Message>,
    next_id: AtomicU64,
    is_deaf: Arc<AtomicBool>,
    is_inside: AtomicBool,
    task: JoinHandle<()>,
}

/// The error when an expected frame does not arrive.
fn missing(what: &str, closed: Option<&Closed>) -> anyhow::Error {
    match closed {
        Some(closed) => anyhow!(
            "{what}: the socket closed with {:?} {:?}",
            closed.code,
            closed.reason
        ),
        None => anyhow!("{what}: not received within {TIMEOUT:?}"),
    }
}

impl Peer {
    /// Opens a socket.
    ///
    /// # Errors
    /// When the server rejects the upgrade.
    pub async fn open(identity: &Identity) -> Result<Self> {
        let socket = tokio::time::timeout(TIMEOUT, wire::open(identity))
            .await
            .context("no response to the upgrade")??;
        Ok(Self::over(identity.clone(), socket))
    }

    /// Opens a socket and joins.
    ///
    /// # Errors
    /// See [`Peer::open`] and [`Peer::join`].
    pub async fn enter(identity: &Identity) -> Result<Self> {
        let peer = Self::open(identity).await?;
        peer.join().await?;
        Ok(peer)
    }

    fn over(identity: Identity, mut socket: wire::Socket) -> Self {
        let inbox = Arc::new(Inbox::default());
        let (outgoing, mut to_send) = mpsc::channel::<Message>(QUEUE);
        let is_deaf = Arc::new(AtomicBool::new(false));
        let (kept, deaf) = (Arc::clone(&inbox), Arc::clone(&is_deaf));
        let task = tokio::spawn(async move {
            let (mut end, mut is_writable) = (None, true);
            loop {
                tokio::select! {
                    frame = socket.next() => match frame {
                        Some(Ok(Message::Text(text))) if text.as_str() == PING => {
                            kept.update(|state| state.pings += 1);
                            if !deaf.load(Ordering::Relaxed) && socket.send(Message::text(PONG)).await.is_err() {
                                break;
                            }
                        }
                        Some(Ok(Message::Text(text))) if text.as_str() == PONG => kept.update(|state| state.pongs += 1),
                        Some(Ok(Message::Binary(bytes))) => keep(&kept, bytes),
                        Some(Ok(Message::Close(frame))) => end = Some(frame),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(other)) => kept.update(|state| state.malformed.push(format!("{other:?}"))),
                        Some(Err(_)) | None => break,
                    },
                    frame = to_send.recv(), if is_writable => {
                        let Some(frame) = frame else { break };
                        // Frames that the server sent before must still be read.
                        is_writable = socket.send(frame).await.is_ok();
                    }
                }
            }
            let frame = end.flatten();
            let closed = Closed {
                code: frame.as_ref().map(|frame| frame.code.into()),
                reason: frame
                    .map(|frame| frame.reason.to_string())
                    .unwrap_or_default(),
                at: Instant::now(),
            };
            kept.update(|state| state.closed = Some(closed));
        });
        Self {
            identity,
            inbox,
            outgoing,
            next_id: AtomicU64::new(0),
            is_deaf,
            is_inside: AtomicBool::new(false),
            task,
        }
    }

    /// The identity of this client.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The ID of this client.
    pub fn id(&self) -> &str {
        &self.identity.peer
    }

    /// The ID of the participant.
    pub fn user(&self) -> &str {
        &self.identity.participant
    }

    /// Stops answering pings.
    pub fn stop_answering_pings(&self) {
        self.is_deaf.store(true, Ordering::Relaxed);
    }

    fn next_request_id(&self) -> String {
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number:x}", self.identity.peer)
    }

    /// Sends a frame unchanged.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn send(&self, frame: Message) -> Result<()> {
        self.outgoing
            .send(frame)
            .await
            .context("the socket is closed")
    }

    /// Sends a request without waiting for the reply, and returns its ID.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn tell(&self, event: u32, message: &impl prost::Message) -> Result<String> {
        let id = self.next_request_id();
        self.send(wire::frame(event, &id, message)).await?;
        Ok(id)
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// [`Refused`] when the server sends an error reply. Otherwise when no reply arrives, or it is
    /// not such a message.
    pub async fn ask<R: prost::Message + Default>(
        &self,
        event: u32,
        message: &impl prost::Message,
    ) -> Result<R> {
        self.ask_on(event, event, message).await?.message()
    }

    /// Like [`Peer::ask`], but the reply has a different event (docs/spec/signalling.md 4).
    ///
    /// # Errors
    /// See [`Peer::ask`].
    pub async fn ask_on(
        &self,
        event: u32,
        reply_on: u32,
        message: &impl prost::Message,
    ) -> Result<Received> {
        let id = self.tell(event, message).await?;
        self.reply(&id, reply_on).await
    }

    /// Sends a request without a payload, and waits for its reply.
    ///
    /// # Errors
    /// See [`Peer::ask`].
    pub async fn ask_bare<R: prost::Message + Default>(&self, event: u32) -> Result<R> {
        let id = self.next_request_id();
        self.send(wire::bare_frame(event, &id)).await?;
        self.reply(&id, event).await?.message()
    }

    /// Waits for the reply to a request that was already sent.
    ///
    /// # Errors
    /// See [`Peer::ask`].
    pub async fn reply(&self, id: &str, reply_on: u32) -> Result<Received> {
        let what = || {
            format!(
                "reply {} ({}) to {id}",
                reply_on,
                event::name(reply_on).unwrap_or("?")
            )
        };
        let found = self.inbox.wait_for(|state| {
            let mut fitting = state.received.iter_mut().filter(|frame| {
                !frame.is_reply
                    && frame.id.as_deref() == Some(id)
                    && (frame.event == reply_on || frame.refusal().is_some())
            });
            let frame = fitting.next()?;
            frame.is_reply = true;
            Some(frame.clone())
        });
        match tokio::time::timeout(TIMEOUT, found).await {
            Ok(Some(frame)) => match frame.refusal() {
                Some(refused) => Err(anyhow::Error::new(refused).context(what())),
                None => Ok(frame),
            },
            _ => Err(missing(&what(), self.inbox.lock().closed.as_ref())),
        }
    }

    /// Sends a request that must be rejected, and returns the error reply.
    ///
    /// # Errors
    /// When the request succeeds, or no reply arrives.
    pub async fn refused(&self, event: u32, message: &impl prost::Message) -> Result<Refused> {
        let id = self.tell(event, message).await?;
        self.error_reply(&id, event).await
    }

    /// Waits for the error reply to a request that was already sent.
    ///
    /// # Errors
    /// See [`Peer::refused`].
    pub async fn error_reply(&self, id: &str, event: u32) -> Result<Refused> {
        let reply_on = match event {
            event::JOIN_STAGE | event::LEAVE_STAGE => event::PEER_STAGE_STATUS_UPDATE,
            other => other,
        };
        match self.reply(id, reply_on).await {
            Ok(frame) => bail!("event {event} succeeded instead of being rejected: {frame:?}"),
            Err(error) => match error.downcast::<Refused>() {
                Ok(refused) => Ok(refused),
                Err(error) => Err(error),
            },
        }
    }

    /// Waits for the next push of an event that no earlier call has consumed.
    ///
    /// # Errors
    /// When none arrives, or it is not such a message.
    pub async fn push<M: prost::Message + Default>(&self, event: u32) -> Result<M> {
        self.push_frame(event).await?.message()
    }

    /// As [`Peer::push`], but returns the whole frame.
    ///
    /// # Errors
    /// When none arrives.
    pub async fn push_frame(&self, event: u32) -> Result<Received> {
        let found = self.inbox.wait_for(|state| {
            let mut fitting = state.received.iter_mut();
            let frame =
                fitting.find(|frame| frame.event == event && !frame.is_reply && !frame.is_taken)?;
            frame.is_taken = true;
            Some(frame.clone())
        });
        if let Ok(Some(frame)) = tokio::time::timeout(TIMEOUT, found).await {
            return Ok(frame);
        }
        let what = format!("push {event} ({})", event::name(event).unwrap_or("?"));
        Err(missing(&what, self.inbox.lock().closed.as_ref()))
    }

    /// Consumes and returns the pushes of these events that no earlier call has consumed, in order.
    pub fn take_pushes(&self, events: &[u32]) -> Vec<Received> {
        let mut state = self.inbox.lock();
        let fitting = state
            .received
            .iter_mut()
            .filter(|frame| events.contains(&frame.event) && !frame.is_reply && !frame.is_taken);
        fitting
            .map(|frame| {
                frame.is_taken = true;
                frame.clone()
            })
            .collect()
    }

    /// Returns everything received so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.inbox.lock().received.clone()
    }

    /// Number of pings received.
    pub fn pings(&self) -> usize {
        self.inbox.lock().pings
    }

    /// Number of replies to the client's own pings.
    pub fn pongs(&self) -> usize {
        self.inbox.lock().pongs
    }

    /// Descriptions of the frames received that break the official client.
    pub fn malformed(&self) -> Vec<String> {
        self.inbox.lock().malformed.clone()
    }

    /// Discards everything received so far.
    pub fn forget(&self) {
        self.inbox.lock().received.clear();
    }

    /// Waits until the server has processed everything sent before. A room processes its inputs one
    /// by one, so the pushes of a request that another peer got a reply to before this call have
    /// also arrived here.
    ///
    /// # Errors
    /// When the socket closes, no reply arrives, or a received frame breaks the official client.
    pub async fn settle(&self) -> Result<()> {
        let id = self.next_request_id();
        let frame = wire::bare_frame(event::GET_ROOM_INFO, &id);
        self.send(frame).await?;
        match self.reply(&id, event::GET_ROOM_INFO).await {
            Err(error) if !error.is::<Refused>() => return Err(error),
            _ => {}
        }
        let malformed = self.malformed();
        ensure!(
            malformed.is_empty(),
            "the server sent frames that break the official client: {malformed:?}"
        );
        Ok(())
    }

    /// Joins the meeting as the SDK does (docs/spec/signalling.md 6.1, 6.2 and 7).
    ///
    /// # Errors
    /// When a request fails whose failure makes the SDK fail, or a reply is missing that the SDK
    /// waits for.
    pub async fn join(&self) -> Result<Joined> {
        let store = self.identity.store_request(PLUGINS);
        self.ask::<plugin::PluginStoreResponse>(event::STORE_GET_KEYS, &store)
            .await?;
        self.ask::<edge::PeerJoinResponse>(event::MEDIA_JOIN, &edge::PeerJoinRequest::default())
            .await?;
        self.rejoin().await
    }

    /// Performs the part of the join that is repeated after a reconnect.
    ///
    /// # Errors
    /// See [`Peer::join`].
    pub async fn rejoin(&self) -> Result<Joined> {
        let request = self.identity.join_request();
        let reply: room::PeerInfoResponse = self.ask(event::JOIN_ROOM, &request).await?;
        let me = reply.peer.context("the reply to joinRoom has no peer")?;
        self.is_inside.store(!me.waitlisted, Ordering::Relaxed);
        if self.identity.requests_waiting_room {
            self.send(wire::bare_frame(
                event::GET_WAITING_ROOM_REQUESTS,
                &self.next_request_id(),
            ))
            .await?;
        }
        let store = self.identity.store_request(PLUGINS);
        let (chat, polls, plugins, info, peers) = tokio::try_join!(
            self.ask_bare::<chat::GetChatMessagesResponse>(event::GET_MESSAGES),
            self.polls(),
            self.ask::<plugin::PluginStoreResponse>(event::STORE_GET_KEYS, &store),
            self.ask_bare::<room::RoomInfoResponse>(event::GET_ROOM_INFO),
            self.ask_bare::<room::RoomPeersInfoResponse>(event::GET_ROOM_PEERS_INFO),
        )?;
        let rooms = if me.waitlisted {
            None
        } else {
            Some(self.ask_bare(event::GET_CONNECTED_ROOMS_DUMP).await?)
        };
        Ok(Joined {
            me,
            chat: chat.messages,
            polls: polls.polls,
            plugins: plugins.store_items,
            room: info.room.context("the reply to getRoomInfo has no room")?,
            peers: peers.peers,
            rooms,
        })
    }

    /// Requests the polls. Returns none if the participant may not see them; the SDK does not
    /// request them then.
    async fn polls(&self) -> Result<polls::GetPollsResponse> {
        match self.ask_bare(event::GET_POLLS).await {
            Err(error) if is_forbidden(&error) => Ok(polls::GetPollsResponse::default()),
            other => other,
        }
    }

    /// Requests the IDs of all peers in the meeting, sorted. They include this client's, whether
    /// the server lists it or not. Duplicates in the server's list are kept.
    ///
    /// # Errors
    /// When the request is rejected.
    pub async fn roster(&self) -> Result<Vec<String>> {
        let reply: room::RoomPeersInfoResponse = self.ask_bare(event::GET_ROOM_PEERS_INFO).await?;
        let mut ids: Vec<String> = reply.peers.into_iter().map(|peer| peer.peer_id).collect();
        if self.is_inside.load(Ordering::Relaxed) && !ids.contains(&self.identity.peer) {
            ids.push(self.identity.peer.clone());
        }
        ids.sort();
        Ok(ids)
    }

    /// Waits until the server has closed the socket.
    ///
    /// # Errors
    /// When the server does not within ten seconds.
    pub async fn closed(&self) -> Result<Closed> {
        self.closed_within(TIMEOUT).await
    }

    /// As [`Peer::closed`], with a different timeout.
    ///
    /// # Errors
    /// When the server does not within that time.
    pub async fn closed_within(&self, timeout: Duration) -> Result<Closed> {
        let closed = self.inbox.wait_for(|state| state.closed.clone());
        tokio::time::timeout(timeout, closed)
            .await
            .with_context(|| format!("the socket is still open after {timeout:?}"))?
            .context("closed")
    }

    /// Whether the socket is open, as far as the client knows.
    pub fn is_open(&self) -> bool {
        self.inbox.lock().closed.is_none()
    }

    /// Leaves the meeting as the SDK does (docs/spec/signalling.md 6.4), and waits for the close of
    /// the socket.
    ///
    /// # Errors
    /// When the socket is closed already.
    pub async fn leave(&self) -> Result<()> {
        self.tell(event::MEDIA_LEAVE, &edge::PeerLeaveRequest::default())
            .await?;
        self.close(1000).await
    }

    /// Closes the socket with a code, and waits for the server's close.
    ///
    /// # Errors
    /// When the socket is closed already.
    pub async fn close(&self, code: u16) -> Result<()> {
        let frame = CloseFrame {
            code: code.into(),
            reason: "Sockrates disconnect method called.".into(),
        };
        self.send(Message::Close(Some(frame))).await?;
        self.closed().await?;
        Ok(())
    }

    /// Aborts the connection without a close frame, as a network failure does.
    pub async fn cut(self) -> Identity {
        self.break_off().await;
        self.identity.clone()
    }

    /// As [`Peer::cut`], but keeps the received frames.
    pub async fn break_off(&self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// Aborts the connection without a close frame, and opens another one for the same client.
    ///
    /// # Errors
    /// See [`Peer::open`].
    pub async fn reopen(&mut self) -> Result<()> {
        self.break_off().await;
        *self = Self::open(&self.identity).await?;
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn keep(inbox: &Inbox, bytes: Bytes) {
    let at = Instant::now();
    match Received::read(bytes, at) {
        Ok(frame) => inbox.update(|state| {
            if frame.payload.is_none() {
                state
                    .malformed
                    .push(format!("event {} has no payload", frame.event));
            }
            state.received.push(frame);
        }),
        Err(error) => inbox.update(|state| state.malformed.push(error.to_string())),
    }
}

/// Returns a frame with arbitrary fields, for requests that the SDK would not send.
pub fn raw_frame(event: u32, id: Option<&str>, payload: Option<Bytes>) -> Message {
    let envelope = Envelope {
        event,
        id: id.map(str::to_owned),
        payload,
        metadata: None,
    };
    Message::Binary(envelope.encode_to_vec().into())
}

fn is_forbidden(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.code == 403)
}
