//! The socket of a client: `/ws` (contract: signalling, 1.3–1.5).
//!
//! A client that is refused at the HTTP level tries again fifty times. So every socket is accepted,
//! and one that must not come back is closed with 1000.

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
use parlor_live::{Closing, Newcomer, Pace};
use parlor_protocol::ids::{MeetingId, PeerId};
use parlor_store::Error;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::live_sessions::{Inbox, LONGEST_NOTICE, Letter, Mailbox, NOTICE, Outgoing, outbox};
use crate::parlor::Parlor;
use crate::participants::{self, Joining};

/// Clients that hear nothing for 30 s give the socket up.
const PING: Duration = Duration::from_secs(12);
/// A socket from which nothing came for so long is gone: its client answers every ping.
const SILENCE: Duration = Duration::from_secs(40);
/// How long a client gets to close its side.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long frames that are not urgent wait for others: what is written together costs one system
/// call, here and for the client.
const GATHER: Duration = Duration::from_millis(10);
/// Bytes of frames that are written together.
const WRITE_BYTES: usize = 16 * 1024;
/// Bytes that are read at once. Most frames are smaller, and there are many sockets.
const READ_BYTES: usize = 2 * 1024;

/// The room has failed: another takes its place.
const ANEW: Closing = Closing::Again("the meeting is read anew");

/// What the server says to see whether a client is there, and what it says back.
const PING_TEXT: Utf8Bytes = Utf8Bytes::from_static("2");
const PONG_TEXT: Utf8Bytes = Utf8Bytes::from_static("3");

/// The part of the query that is read. Who somebody is, their token says.
#[derive(Deserialize)]
struct Parameters {
    #[serde(rename = "roomID", default)]
    room: String,
    #[serde(rename = "peerID", default)]
    peer: String,
    #[serde(rename = "authToken", default)]
    token: String,
}

/// The route.
pub(crate) fn router(parlor: &Arc<Parlor>) -> Router {
    Router::new()
        .route("/ws", any(upgrade))
        .with_state(Arc::clone(parlor))
}

async fn upgrade(
    State(parlor): State<Arc<Parlor>>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    socket: WebSocketUpgrade,
) -> Response {
    if let (Ok(meeting), Ok(peer)) = (parameters.room.parse(), parameters.peer.parse()) {
        let agent = headers
            .get(USER_AGENT)
            .and_then(|agent| agent.to_str().ok());
        let notice = match agent {
            Some(agent) if agent.contains("Firefox/") => LONGEST_NOTICE,
            _ => NOTICE,
        };
        parlor.live.noticed(meeting, peer, notice).await;
    }
    socket
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
        .max_message_size(parlor.limits.room.frame_bytes)
        .max_frame_size(parlor.limits.room.frame_bytes)
        .on_upgrade(move |socket| async move {
            let open = parlor.metrics.socket_opened();
            serve(&parlor, socket, &parameters).await;
            drop(open);
        })
}

async fn serve(parlor: &Arc<Parlor>, socket: WebSocket, parameters: &Parameters) {
    let (joining, peer) = match admit(parlor, parameters).await {
        Ok(admitted) => admitted,
        Err(closing) => return farewell(socket, closing).await,
    };
    let (app, meeting) = (joining.claims.org_id, joining.claims.meeting_id);
    let connection = parlor.live.connection();
    let (outgoing, inbox) = outbox();
    let mut letter = Letter::Opened {
        connection,
        who: Box::new(newcomer(peer, joining)),
        socket: outgoing,
    };
    // A room that has just ended is started again.
    for _ in 0..3 {
        let Some(mailbox) = parlor.live.enter(parlor, app, meeting) else {
            break;
        };
        match mailbox.send(letter).await {
            Ok(()) => {
                let talk = Talk {
                    socket,
                    inbox,
                    unsent: false,
                    mailbox,
                    connection,
                };
                return talk.run().await;
            }
            Err(mpsc::error::SendError(unsent)) => letter = unsent,
        }
    }
    farewell(socket, Closing::Again("the server restarts")).await;
}

/// Checks the token, and that it is for this room.
async fn admit(parlor: &Parlor, parameters: &Parameters) -> Result<(Joining, PeerId), Closing> {
    let Ok(peer) = parameters.peer.parse::<PeerId>() else {
        return Err(Closing::Final("peerID must be a UUID"));
    };
    let joining = match participants::joining(parlor, &parameters.token).await {
        Ok(Ok(joining)) => joining,
        Ok(Err(refused)) => {
            tracing::debug!(%refused, "a socket is refused");
            return Err(Closing::Final("this token does not admit anybody"));
        }
        Err(Error::Unavailable(_)) => {
            return Err(Closing::Again("the database is out of reach"));
        }
        Err(error) => {
            tracing::error!(%error, "a token could not be checked");
            return Err(Closing::Again("the token could not be checked"));
        }
    };
    if parameters.room.parse::<MeetingId>() != Ok(joining.claims.meeting_id) {
        return Err(Closing::Final("this token is for another meeting"));
    }
    Ok((joining, peer))
}

fn newcomer(peer: PeerId, joining: Joining) -> Newcomer {
    let participant = joining.participant;
    Newcomer {
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

/// A socket and its room.
struct Talk {
    socket: WebSocket,
    inbox: Inbox,
    /// Something was fed to the socket and not flushed.
    unsent: bool,
    mailbox: Mailbox,
    connection: parlor_live::ConnectionId,
}

/// How a talk has ended.
enum End {
    /// The client has closed, with a code for good or not.
    Said { goodbye: bool },
    /// The connection is gone.
    Lost,
    /// The room wants the socket closed.
    Told(Closing),
    /// The room has dropped the socket: it does not read what it is sent.
    Dropped,
}

impl Talk {
    async fn run(mut self) {
        let end = self.talk().await;
        let goodbye = matches!(
            end,
            End::Said { goodbye: true } | End::Told(Closing::Final(_))
        );
        let letter = Letter::Closed {
            connection: self.connection,
            goodbye,
        };
        // The room may be over.
        let _ = self.mailbox.send(letter).await;
        drop(self.mailbox);
        match end {
            End::Told(closing) => farewell(self.socket, closing).await,
            End::Said { .. } => ended(self.socket).await,
            End::Lost | End::Dropped => {}
        }
    }

    async fn talk(&mut self) -> End {
        let mut pings = interval_at(Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut gathered = pin!(sleep(GATHER));
        // A frame that the room has no place for yet: nothing more is read meanwhile.
        let mut unread = None;
        let mailbox = self.mailbox.clone();
        loop {
            tokio::select! {
                outgoing = self.inbox.next() => {
                    let waited = self.unsent;
                    if let Err(end) = self.say(outgoing).await {
                        return end;
                    }
                    if self.unsent && !waited {
                        gathered.as_mut().reset(Instant::now() + GATHER);
                    }
                }
                () = &mut gathered, if self.unsent => {
                    if let Err(end) = self.flush().await {
                        return end;
                    }
                }
                incoming = self.socket.recv(), if unread.is_none() => {
                    heard = Instant::now();
                    match self.hear(incoming).await {
                        Ok(rest) => unread = rest,
                        Err(end) => return end,
                    }
                }
                place = mailbox.reserve(), if unread.is_some() => {
                    let Ok(place) = place else {
                        return End::Told(ANEW);
                    };
                    if let Some(letter) = unread.take() {
                        place.send(letter);
                    }
                }
                _ = pings.tick() => {
                    let silent = unread.is_none() && heard.elapsed() > SILENCE;
                    let ping = Message::Text(PING_TEXT);
                    if silent || !self.write(ping).await {
                        return End::Lost;
                    }
                }
            }
        }
    }

    /// Sends what has been waiting, all of it in one go.
    async fn say(&mut self, first: Option<Outgoing>) -> Result<(), End> {
        let mut next = first;
        let mut urgent = false;
        loop {
            match next {
                Some(Outgoing::Frame(frame, pace)) => {
                    urgent |= pace == Pace::Now;
                    self.unsent = true;
                    if !self.feed(Message::Binary(frame)).await {
                        return Err(End::Lost);
                    }
                }
                Some(Outgoing::Close(closing)) => return Err(End::Told(closing)),
                None => return Err(End::Dropped),
            }
            match self.inbox.ready() {
                Ok(outgoing) => next = Some(outgoing),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(End::Dropped),
            }
        }
        if urgent { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), End> {
        self.unsent = false;
        let flushed = futures_util::SinkExt::flush(&mut self.socket);
        match tokio::time::timeout(SILENCE, flushed).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Lost),
        }
    }

    /// Passes on what the client has said; answers with what the room has no place for.
    async fn hear(
        &mut self,
        incoming: Option<Result<Message, axum::Error>>,
    ) -> Result<Option<Letter>, End> {
        match incoming {
            Some(Ok(Message::Binary(bytes))) => {
                let letter = Letter::Frame {
                    connection: self.connection,
                    bytes,
                };
                match self.mailbox.try_send(letter) {
                    Ok(()) => Ok(None),
                    Err(TrySendError::Full(letter)) => Ok(Some(letter)),
                    Err(TrySendError::Closed(_)) => Err(End::Told(ANEW)),
                }
            }
            // Clients that ping by themselves.
            Some(Ok(Message::Text(text))) if text == PING_TEXT => {
                if self.write(Message::Text(PONG_TEXT)).await {
                    Ok(None)
                } else {
                    Err(End::Lost)
                }
            }
            Some(Ok(Message::Close(frame))) => {
                // 1001 is a page that was closed or left.
                let code = frame.map(|frame| frame.code);
                Err(End::Said {
                    goodbye: matches!(code, Some(1000 | 1001)),
                })
            }
            Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Err(_)) | None => Err(End::Lost),
        }
    }

    async fn write(&mut self, message: Message) -> bool {
        let sent = self.socket.send(message);
        matches!(tokio::time::timeout(SILENCE, sent).await, Ok(Ok(())))
    }

    async fn feed(&mut self, message: Message) -> bool {
        let fed = futures_util::SinkExt::feed(&mut self.socket, message);
        matches!(tokio::time::timeout(SILENCE, fed).await, Ok(Ok(())))
    }
}

/// Closes a socket.
async fn farewell(mut socket: WebSocket, closing: Closing) {
    let frame = CloseFrame {
        code: closing.code(),
        reason: Utf8Bytes::from_static(closing.reason()),
    };
    let said = socket.send(Message::Close(Some(frame)));
    if let Ok(Ok(())) = tokio::time::timeout(FAREWELL, said).await {
        ended(socket).await;
    }
}

/// Waits a little for the closing handshake: without its end the client takes the connection for
/// lost.
async fn ended(mut socket: WebSocket) {
    let ending = async { while let Some(Ok(_)) = socket.recv().await {} };
    let _ = tokio::time::timeout(FAREWELL, ending).await;
}
