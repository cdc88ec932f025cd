//! The socket of a client: `/ws` (docs/spec/signalling.md 1.3 to 1.5).
//!
//! A client that is refused at the HTTP level tries again fifty times. So every socket is accepted,
//! and one that must not come back is closed with 1000.

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
use parlor_live::{Closing, Newcomer, Pace};
use parlor_protocol::ids::{MeetingId, PeerId};
use parlor_store::Error;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};

use self::pace::ControlMessageRate;
use crate::rest::participants::{self, Joining};
use crate::rooms::{Inbox, LONGEST_NOTICE, Letter, NOTICE, Outgoing, SocketSender, Unopened};
use crate::state::Parlor;

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

/// Bytes of a text. Clients send one character.
const TEXT_BYTES: usize = 4 * 1024;
/// Messages that are still read from a client that was told to close.
const LAST_WORDS: usize = 64;

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
    let (connection, outbox, inbox) = parlor.live.connection(meeting);
    let who = Box::new(newcomer(peer, joining));
    let person = who.participant;
    let mut letter = Letter::Opened {
        connection,
        who,
        socket: outbox,
    };
    // A room that has just ended is started again.
    for _ in 0..3 {
        let Some(mailbox) = parlor.live.enter(app, meeting) else {
            break;
        };
        match mailbox.open(connection, person, letter) {
            Ok(line) => {
                let talk = Talk {
                    parlor,
                    socket,
                    inbox,
                    unsent: false,
                    line,
                    said: ControlMessageRate::nothing(),
                };
                return talk.run().await;
            }
            Err((Unopened::Gone, unsent)) => letter = unsent,
            Err((Unopened::TooMany, _)) => {
                parlor.metrics.socket_crowded();
                let closing = Closing::Again("this person connects too often");
                return farewell(socket, closing).await;
            }
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
struct Talk<'p> {
    parlor: &'p Parlor,
    socket: WebSocket,
    inbox: Inbox,
    /// Something was fed to the socket and not flushed.
    unsent: bool,
    line: SocketSender,
    said: ControlMessageRate,
}

/// When a socket is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Now.
    On,
    /// When its queue has place again.
    Full,
    /// When it has said little enough that is not for the room.
    Slowed(Instant),
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
    /// The client has sent a long text.
    TooLong,
}

impl Talk<'_> {
    async fn run(mut self) {
        let end = self.talk().await;
        let goodbye = matches!(
            end,
            End::Said { goodbye: true } | End::Told(Closing::Final(_))
        );
        self.line.close(goodbye);
        // What is unsent is not sent any more, and counts no more.
        drop(self.inbox);
        match end {
            End::Told(closing) => farewell(self.socket, closing).await,
            End::TooLong => {
                self.parlor.metrics.long_text();
                close(self.socket, 1009, "this text is too long").await;
            }
            End::Said { .. } => ended(self.socket).await,
            End::Lost | End::Dropped => {}
        }
    }

    async fn talk(&mut self) -> End {
        let mut pings = interval_at(Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut gathered = pin!(sleep(GATHER));
        let mut reading = Reading::On;
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
                incoming = self.socket.recv(), if reading == Reading::On => {
                    heard = Instant::now();
                    match self.hear(incoming).await {
                        Ok(next) => reading = next,
                        Err(end) => return end,
                    }
                }
                again = readable(&self.line, reading), if reading != Reading::On => {
                    // It could not be heard meanwhile.
                    heard = Instant::now();
                    reading = Reading::On;
                    if !again {
                        return End::Told(ANEW);
                    }
                }
                _ = pings.tick() => {
                    let silent = reading == Reading::On && heard.elapsed() > SILENCE;
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
                    if !self.feed(Message::Binary(frame.into_bytes())).await {
                        return Err(End::Lost);
                    }
                }
                Some(Outgoing::Close(closing)) => return Err(End::Told(closing)),
                None => return Err(End::Dropped),
            }
            match self.inbox.ready() {
                Ok(Some(outgoing)) => next = Some(outgoing),
                Ok(None) => break,
                Err(()) => return Err(End::Dropped),
            }
        }
        if urgent { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), End> {
        self.unsent = false;
        let flushed = futures_util::SinkExt::flush(&mut self.socket);
        if !written(&self.inbox, flushed).await {
            return Err(End::Lost);
        }
        self.inbox.written();
        Ok(())
    }

    /// Passes on what the client has said, and says when it is heard again.
    async fn hear(
        &mut self,
        incoming: Option<Result<Message, axum::Error>>,
    ) -> Result<Reading, End> {
        match incoming {
            Some(Ok(Message::Binary(bytes))) => {
                // A copy, because a part of the socket's buffer keeps all of it.
                match self.line.frame(Bytes::copy_from_slice(&bytes)) {
                    Ok(true) => Ok(Reading::On),
                    Ok(false) => Ok(Reading::Full),
                    Err(_) => Err(End::Told(ANEW)),
                }
            }
            Some(Ok(Message::Text(text))) if text.len() > TEXT_BYTES => Err(End::TooLong),
            // Clients that ping by themselves.
            Some(Ok(Message::Text(text))) if text == PING_TEXT => {
                if self.write(Message::Text(PONG_TEXT)).await {
                    Ok(self.slow_down())
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
            Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_))) => {
                Ok(self.slow_down())
            }
            Some(Err(_)) | None => Err(End::Lost),
        }
    }

    /// The client has said something that is not for the room. Each ping is answered, and what it
    /// does not read of the answers is kept, so too many are not read.
    fn slow_down(&mut self) -> Reading {
        let Some(again) = self.said.one_more(Instant::now()) else {
            return Reading::On;
        };
        self.parlor.metrics.socket_slowed();
        Reading::Slowed(again)
    }

    async fn write(&mut self, message: Message) -> bool {
        let sent = self.socket.send(message);
        written(&self.inbox, sent).await
    }

    async fn feed(&mut self, message: Message) -> bool {
        let fed = futures_util::SinkExt::feed(&mut self.socket, message);
        written(&self.inbox, fed).await
    }
}

/// Whether the client has taken what is written to it: in time, and before the room lets go of it.
async fn written(inbox: &Inbox, writing: impl Future<Output = Result<(), axum::Error>>) -> bool {
    tokio::select! {
        biased;
        written = tokio::time::timeout(SILENCE, writing) => matches!(written, Ok(Ok(()))),
        () = inbox.abandoned() => false,
    }
}

/// Waits until a socket may be read again. `false` when the room is gone.
async fn readable(line: &SocketSender, reading: Reading) -> bool {
    match reading {
        Reading::On => true,
        Reading::Full => line.ready().await.is_ok(),
        Reading::Slowed(again) => {
            sleep_until(again).await;
            true
        }
    }
}

/// Closes a socket.
async fn farewell(socket: WebSocket, closing: Closing) {
    close(socket, closing.code(), closing.reason()).await;
}

async fn close(mut socket: WebSocket, code: u16, reason: &'static str) {
    let frame = CloseFrame {
        code,
        reason: Utf8Bytes::from_static(reason),
    };
    let said = socket.send(Message::Close(Some(frame)));
    if let Ok(Ok(())) = tokio::time::timeout(FAREWELL, said).await {
        ended(socket).await;
    }
}

/// Waits a little for the closing handshake: without its end the client takes the connection for
/// lost.
async fn ended(mut socket: WebSocket) {
    let ending = async {
        for _ in 0..LAST_WORDS {
            if !matches!(socket.recv().await, Some(Ok(_))) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(FAREWELL, ending).await;
}
