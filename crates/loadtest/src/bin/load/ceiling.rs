//! The ceiling: a server that validates nothing, stores nothing, and forwards frames.
//!
//! It replies to a join with frames as large as a real server's: the roster, the room, and a push
//! to every peer. It forwards a chat message to every socket of the meeting. Like the server, it
//! runs as a separate process, with as many threads.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use parlor_protocol::signal::socket::chat::{
    ChatMessage, SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};
use parlor_protocol::signal::socket::room::{
    JoinRoomRequest, Peer, PeerFlags, PeerInfoResponse, Room, RoomInfoResponse,
    RoomPeersInfoResponse,
};
use parlor_protocol::signal::{Envelope, event};
use parlor_testkit::Process;
use parlor_testkit::signal::Encodable;
use parlor_testkit::signal::wire::{self, Message};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// First argument with which this program runs as the ceiling.
pub(crate) const COMMAND: &str = "ceiling";

/// Maximum number of frames queued for one socket.
const QUEUE: usize = 65_536;

/// The running ceiling process.
pub(crate) struct Ceiling {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Ceiling {
    /// Starts the process.
    pub(crate) fn start() -> Result<Self> {
        use std::io::BufRead as _;
        let mut child = std::process::Command::new(std::env::current_exe()?)
            .arg(COMMAND)
            // The child exits when its standard input closes, which happens when this process ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("piped above")?;
        let mut line = String::new();
        std::io::BufReader::new(output).read_line(&mut line)?;
        Ok(Self {
            address: line.trim().parse()?,
            child,
        })
    }

    /// The process, for its resource usage.
    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        // An error means that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the ceiling in this process.
pub(crate) fn main() -> Result<ExitCode> {
    std::thread::spawn(|| {
        let mut nothing = String::new();
        // Returns when the parent process ends, however it ends.
        let _ = std::io::stdin().read_line(&mut nothing);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve())
}

async fn serve() -> Result<ExitCode> {
    let listener = tokio::net::TcpSocket::new_v4()?;
    listener.bind("127.0.0.1:0".parse()?)?;
    let listener: TcpListener = listener.listen(4096)?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let rooms = Arc::<Mutex<HashMap<String, Arc<Mutex<Meeting>>>>>::default();
    loop {
        let (stream, _) = listener.accept().await?;
        let rooms = Arc::clone(&rooms);
        tokio::spawn(async move {
            // A client that disconnects is not an error.
            let _ = socket(stream, &rooms).await;
        });
    }
}

/// The sockets of a meeting, and its encoded roster.
#[derive(Default)]
struct Meeting {
    sockets: Vec<mpsc::Sender<Message>>,
    roster: BytesMut,
}

#[expect(
    clippy::result_large_err,
    reason = "the type of tungstenite's callback"
)]
async fn socket(
    stream: TcpStream,
    rooms: &Mutex<HashMap<String, Arc<Mutex<Meeting>>>>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut meeting = String::new();
    let look = |request: &Request, response: Response| {
        let query = request.uri().query().unwrap_or_default();
        query
            .split('&')
            .next()
            .unwrap_or_default()
            .clone_into(&mut meeting);
        Ok(response)
    };
    let accepted =
        tokio_tungstenite::accept_hdr_async_with_config(stream, look, Some(wire::config())).await?;
    let room = Arc::clone(
        rooms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(meeting)
            .or_default(),
    );
    let (sink, mut frames) = accepted.split();
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(write(sink, receiver));
    while let Some(frame) = frames.next().await {
        if let Message::Binary(bytes) = frame? {
            answer(Envelope::decode(bytes)?, &room, &sender)?;
        }
    }
    Ok(())
}

async fn write(
    mut sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    mut frames: mpsc::Receiver<Message>,
) {
    while let Some(frame) = frames.recv().await {
        // All queued frames go out in one flush, or the ceiling would be too low.
        if sink.feed(frame).await.is_err() {
            return;
        }
        while let Ok(frame) = frames.try_recv() {
            if sink.feed(frame).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
}

fn answer(request: Envelope, room: &Mutex<Meeting>, sender: &mpsc::Sender<Message>) -> Result<()> {
    let payload = request.payload.unwrap_or_default();
    match request.event {
        event::JOIN_ROOM => {
            let requested = JoinRoomRequest::decode(payload)?.peer.unwrap_or_default();
            let info = PeerInfoResponse {
                peer: Some(roster_peer(requested)),
            };
            let push = frame(event::JOIN_ROOM, None, info.encode_to_vec().into());
            let entry = RoomPeersInfoResponse {
                peers: info.peer.clone().into_iter().collect(),
            }
            .encode_to_vec();
            let mut room = room.lock().unwrap_or_else(PoisonError::into_inner);
            for other in &room.sockets {
                let _ = other.try_send(push.clone());
            }
            room.sockets.push(sender.clone());
            // A repeated field in protobuf is the concatenation of its entries.
            room.roster.extend_from_slice(&entry);
            drop(room);
            let _ = sender.try_send(frame(
                event::JOIN_ROOM,
                request.id,
                info.encode_to_vec().into(),
            ));
        }
        event::GET_ROOM_PEERS_INFO => {
            let roster =
                Bytes::copy_from_slice(&room.lock().unwrap_or_else(PoisonError::into_inner).roster);
            let _ = sender.try_send(frame(request.event, request.id, roster));
        }
        event::SEND_MESSAGE_TO_ROOM => {
            let said = SendChatMessageToRoomRequest::decode(payload)?;
            let push = frame(
                event::SEND_MESSAGE_TO_ROOM,
                None,
                chat_push(said.payload).encode_to_vec().into(),
            );
            let room = room.lock().unwrap_or_else(PoisonError::into_inner);
            for socket in &room.sockets {
                let _ = socket.try_send(push.clone());
            }
        }
        event::GET_ROOM_INFO => {
            let info = RoomInfoResponse {
                room: Some(Room {
                    room_id: ID.to_owned(),
                    title: "Load".to_owned(),
                    created_at: 1_700_000_000,
                    room_uuid: Some(ID.to_owned()),
                    ..Room::default()
                }),
            };
            let _ = sender.try_send(frame(
                request.event,
                request.id,
                info.encode_to_vec().into(),
            ));
        }
        other => {
            let _ = sender.try_send(frame(other, request.id, Bytes::new()));
        }
    }
    Ok(())
}

/// A placeholder with the length of an ID.
const ID: &str = "0190f3c0-a0b1-7c1d-8e2f-0123456789ab";

fn roster_peer(requested: Peer) -> Peer {
    Peer {
        stage_type: Some(1),
        preset_id: Some(ID.to_owned()),
        flags: Some(PeerFlags {
            preset_name: "group_call_participant".to_owned(),
            recorder_type: "NONE".to_owned(),
            hidden_participant: false,
        }),
        ..requested
    }
}

fn chat_push(payload: String) -> SendChatMessageToRoomResponse {
    let message = ChatMessage {
        chat_id: ID.to_owned(),
        peer_id: ID.to_owned(),
        user_id: ID.to_owned(),
        display_name: "Person 100".to_owned(),
        payload,
        created_at: 1_700_000_000,
        created_at_ms: Some(1_700_000_000_000),
        ..ChatMessage::default()
    };
    SendChatMessageToRoomResponse {
        message: Some(message),
    }
}

fn frame(number: u32, id: Option<String>, payload: Bytes) -> Message {
    let envelope = Envelope {
        event: number,
        id,
        payload: Some(payload),
        metadata: None,
    };
    Message::Binary(envelope.encode_to_vec().into())
}
