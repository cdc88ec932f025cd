//! A client that keeps everything it is told.

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

/// How long anything may take before it counts as lost. Shorter than the SDK's 20 seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Frames that may wait to be sent.
const QUEUE: usize = 4096;

/// One socket of one client. Its task ends with it; the server then sees a connection that broke.
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

/// What a client waits for that never came.
fn lost(what: &str, closed: Option<&Closed>) -> anyhow::Error {
    match closed {
        Some(closed) => anyhow!(
            "{what}: the socket closed with {:?} {:?}",
            closed.code,
            closed.reason
        ),
        None => anyhow!("{what}: nothing came in {PATIENCE:?}"),
    }
}

impl Peer {
    /// Opens the socket.
    ///
    /// # Errors
    /// When the server refuses the upgrade.
    pub async fn open(identity: &Identity) -> Result<Self> {
        let socket = tokio::time::timeout(PATIENCE, wire::open(identity))
            .await
            .context("no answer to the upgrade")??;
        Ok(Self::over(identity.clone(), socket))
    }

    /// Opens the socket and joins.
    ///
    /// # Errors
    /// As [`Peer::open`] and [`Peer::join`].
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
                            kept.note(|state| state.pings += 1);
                            if !deaf.load(Ordering::Relaxed) && socket.send(Message::text(PONG)).await.is_err() {
                                break;
                            }
                        }
                        Some(Ok(Message::Text(text))) if text.as_str() == PONG => kept.note(|state| state.pongs += 1),
                        Some(Ok(Message::Binary(bytes))) => keep(&kept, bytes),
                        Some(Ok(Message::Close(frame))) => end = Some(frame),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(other)) => kept.note(|state| state.malformed.push(format!("{other:?}"))),
                        Some(Err(_)) | None => break,
                    },
                    frame = to_send.recv(), if is_writable => {
                        let Some(frame) = frame else { break };
                        // Whatever the server had sent before is still to be read.
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
            kept.note(|state| state.closed = Some(closed));
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

    /// Who this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The client's id.
    pub fn id(&self) -> &str {
        &self.identity.peer
    }

    /// The person's id.
    pub fn user(&self) -> &str {
        &self.identity.participant
    }

    /// Does not answer pings any more.
    pub fn fall_silent(&self) {
        self.is_deaf.store(true, Ordering::Relaxed);
    }

    fn draw_id(&self) -> String {
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number:x}", self.identity.peer)
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn send(&self, frame: Message) -> Result<()> {
        self.outgoing
            .send(frame)
            .await
            .context("the socket is closed")
    }

    /// Sends a request whose reply nobody waits for, and answers its id.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn tell(&self, event: u32, message: &impl prost::Message) -> Result<String> {
        let id = self.draw_id();
        self.send(wire::frame(event, &id, message)).await?;
        Ok(id)
    }

    /// Sends a request and waits for its reply, or for the error with its id.
    ///
    /// # Errors
    /// [`Refused`] inside, when the server refuses. Otherwise when nothing comes, or no such message.
    pub async fn ask<R: prost::Message + Default>(
        &self,
        event: u32,
        message: &impl prost::Message,
    ) -> Result<R> {
        self.ask_on(event, event, message).await?.message()
    }

    /// As [`Peer::ask`], with the reply on another event (docs/spec/signalling.md 4).
    ///
    /// # Errors
    /// As [`Peer::ask`].
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
    /// As [`Peer::ask`].
    pub async fn ask_bare<R: prost::Message + Default>(&self, event: u32) -> Result<R> {
        let id = self.draw_id();
        self.send(wire::bare_frame(event, &id)).await?;
        self.reply(&id, event).await?.message()
    }

    /// Waits for the reply to a request that was sent before.
    ///
    /// # Errors
    /// As [`Peer::ask`].
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
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(Some(frame)) => match frame.refusal() {
                Some(refused) => Err(anyhow::Error::new(refused).context(what())),
                None => Ok(frame),
            },
            _ => Err(lost(&what(), self.inbox.lock().closed.as_ref())),
        }
    }

    /// The error that a request must be refused with.
    ///
    /// # Errors
    /// When it is answered, or not at all.
    pub async fn refused(&self, event: u32, message: &impl prost::Message) -> Result<Refused> {
        let id = self.tell(event, message).await?;
        self.refusal_of(&id, event).await
    }

    /// The error reply to a request that was sent before.
    ///
    /// # Errors
    /// As [`Peer::refused`].
    pub async fn refusal_of(&self, id: &str, event: u32) -> Result<Refused> {
        let reply_on = match event {
            event::JOIN_STAGE | event::LEAVE_STAGE => event::PEER_STAGE_STATUS_UPDATE,
            other => other,
        };
        match self.reply(id, reply_on).await {
            Ok(frame) => bail!("event {event} was answered instead of refused: {frame:?}"),
            Err(error) => match error.downcast::<Refused>() {
                Ok(refused) => Ok(refused),
                Err(error) => Err(error),
            },
        }
    }

    /// The next push of an event that no earlier call has taken.
    ///
    /// # Errors
    /// When none comes, or it is no such message.
    pub async fn push<M: prost::Message + Default>(&self, event: u32) -> Result<M> {
        self.push_frame(event).await?.message()
    }

    /// As [`Peer::push`], whole.
    ///
    /// # Errors
    /// When none comes.
    pub async fn push_frame(&self, event: u32) -> Result<Received> {
        let found = self.inbox.wait_for(|state| {
            let mut fitting = state.received.iter_mut();
            let frame =
                fitting.find(|frame| frame.event == event && !frame.is_reply && !frame.is_taken)?;
            frame.is_taken = true;
            Some(frame.clone())
        });
        if let Ok(Some(frame)) = tokio::time::timeout(PATIENCE, found).await {
            return Ok(frame);
        }
        let what = format!("push {event} ({})", event::name(event).unwrap_or("?"));
        Err(lost(&what, self.inbox.lock().closed.as_ref()))
    }

    /// The frames of these events that no call has taken, in the order they came. Takes them.
    pub fn untaken(&self, events: &[u32]) -> Vec<Received> {
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

    /// Everything that arrived, in order.
    pub fn received(&self) -> Vec<Received> {
        self.inbox.lock().received.clone()
    }

    /// Pings that arrived.
    pub fn pings(&self) -> usize {
        self.inbox.lock().pings
    }

    /// Answers to own pings that arrived.
    pub fn pongs(&self) -> usize {
        self.inbox.lock().pongs
    }

    /// Frames from the server that break the official client.
    pub fn malformed(&self) -> Vec<String> {
        self.inbox.lock().malformed.clone()
    }

    /// Forgets what arrived so far.
    pub fn forget(&self) {
        self.inbox.lock().received.clear();
    }

    /// Waits until the server has dealt with everything sent before. A room takes its inputs one
    /// by one, so what another peer was answered before this call has also arrived here.
    ///
    /// # Errors
    /// When the socket closes, nothing comes, or anything came that breaks the official client.
    pub async fn settle(&self) -> Result<()> {
        let id = self.draw_id();
        let frame = wire::bare_frame(event::GET_ROOM_INFO, &id);
        self.send(frame).await?;
        match self.reply(&id, event::GET_ROOM_INFO).await {
            Err(error) if !error.is::<Refused>() => return Err(error),
            _ => {}
        }
        let malformed = self.malformed();
        ensure!(
            malformed.is_empty(),
            "the server sent what breaks clients: {malformed:?}"
        );
        Ok(())
    }

    /// Joins as the SDK does (docs/spec/signalling.md 6.1, 6.2 and 7).
    ///
    /// # Errors
    /// When anything of it fails that makes the SDK fail, or that the SDK waits for in vain.
    pub async fn join(&self) -> Result<Joined> {
        let store = self.identity.store_request(PLUGINS);
        self.ask::<plugin::PluginStoreResponse>(event::STORE_GET_KEYS, &store)
            .await?;
        self.ask::<edge::PeerJoinResponse>(event::MEDIA_JOIN, &edge::PeerJoinRequest::default())
            .await?;
        self.rejoin().await
    }

    /// The part of the join that is done again after a reconnect.
    ///
    /// # Errors
    /// As [`Peer::join`].
    pub async fn rejoin(&self) -> Result<Joined> {
        let request = self.identity.join_request();
        let reply: room::PeerInfoResponse = self.ask(event::JOIN_ROOM, &request).await?;
        let me = reply.peer.context("the reply to joinRoom names no peer")?;
        self.is_inside.store(!me.waitlisted, Ordering::Relaxed);
        if self.identity.asks_who_waits {
            self.send(wire::bare_frame(
                event::GET_WAITING_ROOM_REQUESTS,
                &self.draw_id(),
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

    /// The polls; none for those who may not see them, whose clients do not ask.
    async fn polls(&self) -> Result<polls::GetPollsResponse> {
        match self.ask_bare(event::GET_POLLS).await {
            Err(error) if is_forbidden(&error) => Ok(polls::GetPollsResponse::default()),
            other => other,
        }
    }

    /// The ids of everybody inside, sorted: oneself too, whether the server lists one or not. Whoever
    /// is listed twice is here twice.
    ///
    /// # Errors
    /// When it is refused.
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
    /// When it does not in ten seconds.
    pub async fn closed(&self) -> Result<Closed> {
        self.closed_within(PATIENCE).await
    }

    /// As [`Peer::closed`], for closings that take their time.
    ///
    /// # Errors
    /// When it does not in that time.
    pub async fn closed_within(&self, patience: Duration) -> Result<Closed> {
        let closed = self.inbox.wait_for(|state| state.closed.clone());
        tokio::time::timeout(patience, closed)
            .await
            .with_context(|| format!("the socket is still open after {patience:?}"))?
            .context("closed")
    }

    /// Whether the socket is open as far as this end knows.
    pub fn is_open(&self) -> bool {
        self.inbox.lock().closed.is_none()
    }

    /// Leaves as the SDK does (docs/spec/signalling.md 6.4), and waits for the end of the socket.
    ///
    /// # Errors
    /// When the socket is closed already.
    pub async fn leave(&self) -> Result<()> {
        self.tell(event::MEDIA_LEAVE, &edge::PeerLeaveRequest::default())
            .await?;
        self.close(1000).await
    }

    /// Closes with a code, and waits for the end of the socket.
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

    /// Breaks the connection without a word, as a network does.
    pub async fn cut(self) -> Identity {
        self.break_off().await;
        self.identity.clone()
    }

    /// As [`Peer::cut`], for those who want what has arrived.
    pub async fn break_off(&self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// Breaks the connection without a word, and opens another for the same client.
    ///
    /// # Errors
    /// As [`Peer::open`].
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
        Ok(frame) => inbox.note(|state| {
            if frame.payload.is_none() {
                state
                    .malformed
                    .push(format!("event {} has no payload", frame.event));
            }
            state.received.push(frame);
        }),
        Err(error) => inbox.note(|state| state.malformed.push(error.to_string())),
    }
}

/// An envelope of anything, for requests that the SDK would not send.
pub fn odd_frame(event: u32, id: Option<&str>, payload: Option<Bytes>) -> Message {
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
