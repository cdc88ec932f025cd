//! The ceiling: a server that checks nothing, keeps nothing, and passes frames on.
//!
//! It answers a join with frames as large as a real server's: the roster, the room, and a push to
//! everybody. A chat message goes to every socket of its meeting. It runs as a process of its own, as
//! the server does, with as many threads.

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

/// The first argument of the process that is the ceiling.
pub(crate) const COMMAND: &str = "ceiling";

/// Frames that may wait for one socket.
const QUEUE: usize = 65_536;

/// The ceiling, running.
pub(crate) struct Ceiling {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Ceiling {
    /// Starts it.
    pub(crate) fn start() -> Result<Self> {
        use std::io::BufRead as _;
        let mut child = std::process::Command::new(std::env::current_exe()?)
            .arg(COMMAND)
            // It ends with this process: its standard input does.
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

    /// Its process.
    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process.
pub(crate) fn main() -> Result<ExitCode> {
    std::thread::spawn(|| {
        let mut nothing = String::new();
        // Ends when whoever started this ends, however that was.
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
            // A client that went away is no error.
            let _ = socket(stream, &rooms).await;
        });
    }
}

/// Who is in a meeting, and the roster as it is sent.
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
        // As many as there are go out in one flush, or it would be a poor ceiling.
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
            let asked = JoinRoomRequest::decode(payload)?.peer.unwrap_or_default();
            let info = PeerInfoResponse {
                peer: Some(as_told(asked)),
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
            // A list in protobuf is its entries one after the other.
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
                said_by_somebody(said.payload).encode_to_vec().into(),
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

/// As long as every id.
const ID: &str = "0190f3c0-a0b1-7c1d-8e2f-0123456789ab";

fn as_told(asked: Peer) -> Peer {
    Peer {
        stage_type: Some(1),
        preset_id: Some(ID.to_owned()),
        flags: Some(PeerFlags {
            preset_name: "group_call_participant".to_owned(),
            recorder_type: "NONE".to_owned(),
            hidden_participant: false,
        }),
        ..asked
    }
}

fn said_by_somebody(payload: String) -> SendChatMessageToRoomResponse {
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
