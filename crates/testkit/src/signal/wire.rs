//! WebSocket connections with small buffers, and the encoding of request frames.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::SinkExt;
use parlor_protocol::signal::Envelope;
use prost::Message as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

pub use tokio_tungstenite::tungstenite::Message;
pub use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::Identity;

/// A socket to the server.
pub type Socket = tokio_tungstenite::WebSocketStream<TcpStream>;

/// The text frame with which the server pings the client.
pub const PING: &str = "2";

/// The client's reply to [`PING`].
pub const PONG: &str = "3";

/// Opens the socket of a client.
///
/// # Errors
/// When the server rejects the upgrade. The message includes the HTTP status.
pub async fn open(identity: &Identity) -> Result<Socket> {
    open_path(identity.server, &identity.path(), None).await
}

/// Opens a socket at any path, optionally from a given local address. One local address has enough
/// ports for about 28,000 sockets to the same server.
///
/// # Errors
/// See [`open`].
pub async fn open_path(server: SocketAddr, path: &str, from: Option<IpAddr>) -> Result<Socket> {
    let socket = match server {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let stream = socket
        .connect(server)
        .await
        .context("the TCP connection failed")?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{server}{path}");
    let opened = tokio_tungstenite::client_async_with_config(url, stream, Some(config())).await;
    match opened {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => {
            bail!("rejected with HTTP {}", response.status())
        }
        Err(error) => Err(error).context("the WebSocket handshake failed"),
    }
}

/// Returns a configuration with small buffers, so that ten thousand sockets fit into one process.
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(2048)
        .write_buffer_size(0)
}

/// Returns a request as the SDK sends it: with an ID, and with a trace context that the server may
/// ignore (docs/spec/signalling.md 4).
pub fn frame(event: u32, id: &str, message: &impl prost::Message) -> Message {
    let envelope = Envelope {
        event,
        id: Some(id.to_owned()),
        payload: Some(message.encode_to_vec().into()),
        metadata: Some(Bytes::from_static(
            br#"{"TRACEPARENT":"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"}"#,
        )),
    };
    Message::Binary(envelope.encode_to_vec().into())
}

/// Returns a request without a payload.
pub fn bare_frame(event: u32, id: &str) -> Message {
    let envelope = Envelope {
        event,
        id: Some(id.to_owned()),
        payload: None,
        metadata: None,
    };
    Message::Binary(envelope.encode_to_vec().into())
}

/// Sends one frame.
///
/// # Errors
/// When the socket is closed.
pub async fn send(socket: &mut Socket, frame: Message) -> Result<()> {
    socket.send(frame).await.context("the socket is closed")
}
