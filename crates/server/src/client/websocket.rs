//! The socket of a client: `/ws` (docs/spec/signalling.md 1.3 to 1.5).
//!
//! A client that is rejected at the HTTP level retries fifty times. Therefore every upgrade is
//! accepted, and the socket is then closed with code 1000 if the client must not reconnect.

mod pace;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use parlor_live::{CloseReason, Pace, PeerProfile};
use parlor_protocol::ids::{MeetingId, PeerId};
use parlor_store::Error;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};

use self::pace::ControlMessageRate;
use crate::rest::participants::{self, JoinContext};
use crate::rooms::{
    FIREFOX_MEDIA_LOSS_DELAY, Inbox, MEDIA_LOSS_DELAY, OpenError, Outgoing, RoomMessage,
    SocketSender,
};
use crate::state::ServerState;

/// Ping interval. Clients close a socket that is silent for 30 s.
const PING_INTERVAL: Duration = Duration::from_secs(12);
/// How long a socket may be silent before it counts as lost, and how long a write may take. Clients
/// answer every ping.
const IDLE_TIMEOUT: Duration = Duration::from_secs(40);
/// Timeout for sending the close frame, and for the rest of the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long frames that are not urgent are held back, so that several are sent in one write. Each
/// write costs a system call, here and in the client.
const BATCH_DELAY: Duration = Duration::from_millis(10);
/// Size of the write buffer, in bytes.
const WRITE_BYTES: usize = 16 * 1024;
/// Size of the read buffer, in bytes. Most frames are smaller, and there are many sockets.
const READ_BYTES: usize = 2 * 1024;

/// Maximum length of a text message, in bytes. Clients send one character.
const TEXT_BYTES: usize = 4 * 1024;
/// Maximum number of messages that are read from a client during the closing handshake.
const CLOSING_MESSAGES: usize = 64;

/// Close reason when the room has failed and is being restarted.
const ROOM_RELOADING: CloseReason = CloseReason::Reconnect("the meeting is being reloaded");

/// Texts of the application-level ping and pong.
const PING_TEXT: Utf8Bytes = Utf8Bytes::from_static("2");
const PONG_TEXT: Utf8Bytes = Utf8Bytes::from_static("3");

/// The query parameters that are read. The identity of the participant comes from the token.
#[derive(Deserialize)]
struct Parameters {
    #[serde(rename = "roomID", default)]
    room: String,
    #[serde(rename = "peerID", default)]
    peer: String,
    #[serde(rename = "authToken", default)]
    token: String,
}

/// Returns the router of the socket endpoint.
pub(crate) fn router(state: &Arc<ServerState>) -> Router {
    Router::new()
        .route("/ws", any(upgrade))
        .with_state(Arc::clone(state))
}

async fn upgrade(
    State(state): State<Arc<ServerState>>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    socket: WebSocketUpgrade,
) -> Response {
    if let (Ok(meeting), Ok(peer)) = (parameters.room.parse(), parameters.peer.parse()) {
        let agent = headers
            .get(USER_AGENT)
            .and_then(|agent| agent.to_str().ok());
        let delay = match agent {
            Some(agent) if agent.contains("Firefox/") => FIREFOX_MEDIA_LOSS_DELAY,
            _ => MEDIA_LOSS_DELAY,
        };
        let live = &state.live;
        live.wait_for_media_loss_detection(meeting, peer, delay)
            .await;
    }
    socket
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
        .max_message_size(state.limits.room.frame_bytes)
        .max_frame_size(state.limits.room.frame_bytes)
        .on_upgrade(move |socket| async move {
            let open = state.metrics.socket_opened();
            serve(&state, socket, &parameters).await;
            drop(open);
        })
}

async fn serve(state: &Arc<ServerState>, socket: WebSocket, parameters: &Parameters) {
    let (joining, peer) = match authenticate(state, parameters).await {
        Ok(authenticated) => authenticated,
        Err(closing) => return close_with(socket, closing).await,
    };
    let (app, meeting) = (joining.claims.org_id, joining.claims.meeting_id);
    let (connection, outbox, inbox) = state.live.connection(meeting);
    let profile = Box::new(peer_profile(peer, joining));
    let participant = profile.participant;
    let mut message = RoomMessage::Opened {
        connection,
        profile,
        socket: outbox,
    };
    // If the room has just ended, another one is started.
    for _ in 0..3 {
        let Some(mailbox) = state.live.enter(app, meeting) else {
            break;
        };
        match mailbox.open(connection, participant, message) {
            Ok(sender) => {
                let session = SocketSession {
                    state,
                    socket,
                    inbox,
                    unflushed: false,
                    sender,
                    control_rate: ControlMessageRate::new(),
                };
                return session.run().await;
            }
            Err((OpenError::Closed, unsent)) => message = unsent,
            Err((OpenError::TooMany, _)) => {
                state.metrics.socket_crowded();
                let closing = CloseReason::Reconnect("this participant connects too often");
                return close_with(socket, closing).await;
            }
        }
    }
    close_with(socket, CloseReason::Reconnect("the server is restarting")).await;
}

/// Verifies the token, and that it is for this meeting.
async fn authenticate(
    state: &ServerState,
    parameters: &Parameters,
) -> Result<(JoinContext, PeerId), CloseReason> {
    let Ok(peer) = parameters.peer.parse::<PeerId>() else {
        return Err(CloseReason::Final("peerID must be a UUID"));
    };
    let joining = match participants::verify_join_token(state, &parameters.token).await {
        Ok(Ok(joining)) => joining,
        Ok(Err(refused)) => {
            tracing::debug!(%refused, "a socket was rejected");
            return Err(CloseReason::Final("this token is not valid"));
        }
        Err(Error::Unavailable(_)) => {
            return Err(CloseReason::Reconnect("the database is unavailable"));
        }
        Err(error) => {
            tracing::error!(%error, "a token could not be checked");
            return Err(CloseReason::Reconnect("the token could not be checked"));
        }
    };
    if parameters.room.parse::<MeetingId>() != Ok(joining.claims.meeting_id) {
        return Err(CloseReason::Final("this token is for another meeting"));
    }
    Ok((joining, peer))
}

fn peer_profile(peer: PeerId, joining: JoinContext) -> PeerProfile {
    let participant = joining.participant;
    PeerProfile {
        peer,
        participant: participant.id,
        custom_id: participant.custom_participant_id,
        name: participant.name,
        picture: participant.picture,
        preset: participant.preset_id,
        preset_name: participant.preset_name,
        view: joining.preset.config.view_type,
        permissions: joining.preset.permissions.clone(),
        token_expires: joining.claims.exp,
    }
}

/// A WebSocket connected to its room.
struct SocketSession<'p> {
    state: &'p ServerState,
    socket: WebSocket,
    inbox: Inbox,
    /// Whether the write buffer has frames that were not flushed.
    unflushed: bool,
    sender: SocketSender,
    control_rate: ControlMessageRate,
}

/// Whether the socket is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// The socket is being read.
    Active,
    /// Reading pauses until the mailbox queue of the socket has space.
    QueueFull,
    /// Reading pauses until this time, because of the rate limit of control messages.
    RateLimited(Instant),
}

/// The reason why a session has ended.
enum End {
    /// The client closed the socket. `leaving` is whether it leaves the meeting; otherwise it may
    /// reconnect.
    ClientClosed { leaving: bool },
    /// The connection was lost.
    ConnectionLost,
    /// The room closed the socket.
    RoomClosed(CloseReason),
    /// The room dropped the socket, because the client is too slow.
    TooSlow,
    /// The client sent an oversized text message.
    OversizedText,
}

impl SocketSession<'_> {
    async fn run(mut self) {
        let end = self.exchange().await;
        let leaving = matches!(
            end,
            End::ClientClosed { leaving: true } | End::RoomClosed(CloseReason::Final(_))
        );
        self.sender.close(leaving);
        // Discards unsent frames, and their byte count with them.
        drop(self.inbox);
        match end {
            End::RoomClosed(closing) => close_with(self.socket, closing).await,
            End::OversizedText => {
                self.state.metrics.long_text();
                close(self.socket, 1009, "this text is too long").await;
            }
            End::ClientClosed { .. } => finish_close(self.socket).await,
            End::ConnectionLost | End::TooSlow => {}
        }
    }

    async fn exchange(&mut self) -> End {
        let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_received = Instant::now();
        let mut batch_timer = pin!(sleep(BATCH_DELAY));
        let mut reading = Reading::Active;
        loop {
            tokio::select! {
                outgoing = self.inbox.next() => {
                    let waited = self.unflushed;
                    if let Err(end) = self.send_queued(outgoing).await {
                        return end;
                    }
                    if self.unflushed && !waited {
                        batch_timer.as_mut().reset(Instant::now() + BATCH_DELAY);
                    }
                }
                () = &mut batch_timer, if self.unflushed => {
                    if let Err(end) = self.flush().await {
                        return end;
                    }
                }
                incoming = self.socket.recv(), if reading == Reading::Active => {
                    last_received = Instant::now();
                    match self.receive(incoming).await {
                        Ok(next) => reading = next,
                        Err(end) => return end,
                    }
                }
                is_open = readable(&self.sender, reading), if reading != Reading::Active => {
                    // Nothing is received while reading is paused, so this is not silence.
                    last_received = Instant::now();
                    reading = Reading::Active;
                    if !is_open {
                        return End::RoomClosed(ROOM_RELOADING);
                    }
                }
                _ = pings.tick() => {
                    let silent = reading == Reading::Active && last_received.elapsed() > IDLE_TIMEOUT;
                    let ping = Message::Text(PING_TEXT);
                    if silent || !self.write(ping).await {
                        return End::ConnectionLost;
                    }
                }
            }
        }
    }

    /// Sends all queued items in one batch.
    async fn send_queued(&mut self, first: Option<Outgoing>) -> Result<(), End> {
        let mut next = first;
        let mut urgent = false;
        loop {
            match next {
                Some(Outgoing::Frame(frame, pace)) => {
                    urgent |= pace == Pace::Now;
                    self.unflushed = true;
                    if !self.feed(Message::Binary(frame.into_bytes())).await {
                        return Err(End::ConnectionLost);
                    }
                }
                Some(Outgoing::Close(closing)) => return Err(End::RoomClosed(closing)),
                None => return Err(End::TooSlow),
            }
            match self.inbox.ready() {
                Ok(Some(outgoing)) => next = Some(outgoing),
                Ok(None) => break,
                Err(()) => return Err(End::TooSlow),
            }
        }
        if urgent { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), End> {
        self.unflushed = false;
        let flushed = futures_util::SinkExt::flush(&mut self.socket);
        if !completed(&self.inbox, flushed).await {
            return Err(End::ConnectionLost);
        }
        self.inbox.written();
        Ok(())
    }

    /// Forwards a message of the client, and returns when to read the next one.
    async fn receive(
        &mut self,
        incoming: Option<Result<Message, axum::Error>>,
    ) -> Result<Reading, End> {
        match incoming {
            Some(Ok(Message::Binary(bytes))) => {
                // A copy, because a slice would keep the whole read buffer alive.
                match self.sender.frame(Bytes::copy_from_slice(&bytes)) {
                    Ok(true) => Ok(Reading::Active),
                    Ok(false) => Ok(Reading::QueueFull),
                    Err(_) => Err(End::RoomClosed(ROOM_RELOADING)),
                }
            }
            Some(Ok(Message::Text(text))) if text.len() > TEXT_BYTES => Err(End::OversizedText),
            // Pings from the client.
            Some(Ok(Message::Text(text))) if text == PING_TEXT => {
                if self.write(Message::Text(PONG_TEXT)).await {
                    Ok(self.limit_control_messages())
                } else {
                    Err(End::ConnectionLost)
                }
            }
            Some(Ok(Message::Close(frame))) => {
                // 1001: the page was closed or left.
                let code = frame.map(|frame| frame.code);
                Err(End::ClientClosed {
                    leaving: matches!(code, Some(1000 | 1001)),
                })
            }
            Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_))) => {
                Ok(self.limit_control_messages())
            }
            Some(Err(_)) | None => Err(End::ConnectionLost),
        }
    }

    /// Counts a control message against the rate limit. Every ping causes a buffered response, so
    /// reading pauses after too many pings.
    fn limit_control_messages(&mut self) -> Reading {
        let Some(resume_at) = self.control_rate.record(Instant::now()) else {
            return Reading::Active;
        };
        self.state.metrics.socket_slowed();
        Reading::RateLimited(resume_at)
    }

    async fn write(&mut self, message: Message) -> bool {
        let sent = self.socket.send(message);
        completed(&self.inbox, sent).await
    }

    async fn feed(&mut self, message: Message) -> bool {
        let fed = futures_util::SinkExt::feed(&mut self.socket, message);
        completed(&self.inbox, fed).await
    }
}

/// Whether a write completed in time, and before the room abandoned the socket.
async fn completed(inbox: &Inbox, writing: impl Future<Output = Result<(), axum::Error>>) -> bool {
    tokio::select! {
        biased;
        completed = tokio::time::timeout(IDLE_TIMEOUT, writing) => matches!(completed, Ok(Ok(()))),
        () = inbox.abandoned() => false,
    }
}

/// Waits until the socket may be read again. Returns `false` if the room has ended.
async fn readable(sender: &SocketSender, reading: Reading) -> bool {
    match reading {
        Reading::Active => true,
        Reading::QueueFull => sender.ready().await.is_ok(),
        Reading::RateLimited(resume_at) => {
            sleep_until(resume_at).await;
            true
        }
    }
}

/// Closes a socket with a reason.
async fn close_with(socket: WebSocket, closing: CloseReason) {
    close(socket, closing.code(), closing.reason()).await;
}

async fn close(mut socket: WebSocket, code: u16, reason: &'static str) {
    let frame = CloseFrame {
        code,
        reason: Utf8Bytes::from_static(reason),
    };
    let sent = socket.send(Message::Close(Some(frame)));
    if let Ok(Ok(())) = tokio::time::timeout(CLOSE_TIMEOUT, sent).await {
        finish_close(socket).await;
    }
}

/// Waits briefly for the rest of the closing handshake. Without the handshake, the client considers
/// the connection lost.
async fn finish_close(mut socket: WebSocket) {
    let ending = async {
        for _ in 0..CLOSING_MESSAGES {
            if !matches!(socket.recv().await, Some(Ok(_))) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, ending).await;
}
