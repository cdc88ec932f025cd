//! Limits on the number of connections, and which connections are closed at a limit.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::http::participants::new_participant;
use crate::http::resource::Resource;
use crate::http::server::Server;

/// Source address of the clients with many connections. All other requests come from 127.0.0.1.
const BUSY_ADDRESS: &str = "127.0.0.2:0";
const HEALTH_REQUEST: &str = "GET /healthz HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\r\n";

/// Starts a server, and waits until it has no open connections.
async fn server(arguments: &[&str]) -> Server {
    let server = Server::dedicated(Server::sqlite().await, arguments).await;
    // The connection of the readiness check closes first.
    server.wait_for_metric("parlor_http_connections", 0).await;
    server
}

/// Connects from a given source address.
fn connect(from: &str, resource: &Resource) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&from.parse::<SocketAddr>().unwrap().into())
        .unwrap();
    let to = resource.address().parse::<SocketAddr>().unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    let timeout = Some(Duration::from_secs(10));
    stream.set_read_timeout(timeout).unwrap();
    stream
}

/// Sends a request, and reads until the server closes the connection.
fn exchange(mut stream: &TcpStream, request: &[u8]) -> String {
    // The server may have closed the connection already.
    let _ = stream.write_all(request);
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    String::from_utf8_lossy(&response).into_owned()
}

/// Opens a connection with an active request, whose last byte the server is waiting for.
fn connect_busy(from: &str, meeting: &Resource, header: &str) -> TcpStream {
    let mut stream = connect(from, meeting);
    let body = new_participant("ada").to_string();
    let length = body.len();
    let head = meeting.raw_post_head(&format!(
        "{header}expect: 100-continue\r\ncontent-length: {length}"
    ));
    stream.write_all(head.as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&body.as_bytes()[..length - 1]).unwrap();
    stream
}

#[tokio::test]
async fn connections_per_address_are_limited() {
    let server = server(&["--connections-per-address", "3"]).await;
    let meeting = server.app().await.meeting().await;
    let _busy = [(); 3].map(|()| connect_busy(BUSY_ADDRESS, &meeting, ""));
    assert_eq!(
        exchange(&connect(BUSY_ADDRESS, &meeting), HEALTH_REQUEST.as_bytes()),
        ""
    );
    let refused = "parlor_http_refused_total{reason=\"connections_per_address\"}";
    server.wait_for_metric(refused, 1).await;
    let response = exchange(&connect("127.0.0.3:0", &meeting), HEALTH_REQUEST.as_bytes());
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

#[tokio::test]
async fn idle_connections_are_closed_to_make_room_for_new_ones() {
    let server = server(&["--connections", "8"]).await;
    let resource = server.public();
    let silent: Vec<TcpStream> = (0..8).map(|_| connect(BUSY_ADDRESS, &resource)).collect();
    for _ in 0..3 {
        let response = exchange(
            &connect("127.0.0.3:0", &resource),
            HEALTH_REQUEST.as_bytes(),
        );
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    }
    let idle = "parlor_http_disconnected_total{reason=\"idle\"}";
    assert!(server.metric(idle).await > 0);
    drop(silent);
}

#[tokio::test]
async fn a_connection_with_an_active_request_is_not_closed_to_make_room() {
    let server = server(&["--connections", "8"]).await;
    let meeting = server.app().await.meeting().await;
    let mut requests: Vec<TcpStream> = (0..8)
        .map(|_| connect_busy(BUSY_ADDRESS, &meeting, ""))
        .collect();
    let refused = "parlor_http_refused_total{reason=\"connections\"}";
    let response = exchange(&connect("127.0.0.3:0", &meeting), HEALTH_REQUEST.as_bytes());
    assert_eq!(response, "");
    assert!(
        server.metric(refused).await > 0,
        "the metrics stay available at the limit"
    );
    let response = exchange(&requests.pop().unwrap(), b"}");
    assert!(response.starts_with("HTTP/1.1 201"), "{response}");
}

#[tokio::test]
async fn behind_a_proxy_the_limit_applies_to_each_client() {
    let arguments = [
        "--trusted-proxies",
        "127.0.0.4/30",
        "--connections-per-address",
        "2",
    ];
    let server = server(&arguments).await;
    let meeting = server.app().await.meeting().await;
    let forwarded_for = |client: &str| format!("x-forwarded-for: {client}\r\n");
    let get_health = |from: &str, client: &str| {
        let request = HEALTH_REQUEST.replace("host", &format!("{}host", forwarded_for(client)));
        exchange(&connect(from, &meeting), request.as_bytes())
    };
    let proxy = "127.0.0.5:0";
    let _busy = [(); 2].map(|()| connect_busy(proxy, &meeting, &forwarded_for("203.0.113.1")));
    let refused = get_health(proxy, "203.0.113.1");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    // Entries that the client sent itself are ignored.
    let refused = get_health(proxy, "203.0.113.9, 203.0.113.1");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    let other = get_health(proxy, "203.0.113.2");
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    // The header of an untrusted peer is ignored.
    let untrusted = get_health(BUSY_ADDRESS, "203.0.113.1");
    assert!(untrusted.starts_with("HTTP/1.1 200"), "{untrusted}");
}

#[tokio::test]
async fn a_socket_behind_a_proxy_counts_for_its_client_until_it_is_closed() {
    let arguments = [
        "--trusted-proxies",
        "127.0.0.4/30",
        "--connections-per-address",
        "1",
    ];
    let server = server(&arguments).await;
    let meeting = server.app().await.meeting().await;
    let added = meeting
        .post("/participants", &new_participant("ada"))
        .await
        .data(201);
    let upgrade = format!(
        "GET /ws?roomID={}&peerID={}&authToken={} HTTP/1.1\r\nhost: p\r\n\
         x-forwarded-for: 203.0.113.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        meeting.id(),
        crate::http::resource::UNKNOWN_ID,
        added["token"].as_str().unwrap(),
    );
    let proxy = "127.0.0.5:0";
    let mut socket = connect(proxy, &meeting);
    socket.write_all(upgrade.as_bytes()).unwrap();
    let mut start = [0; 12];
    socket.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 101");
    let request = HEALTH_REQUEST.replace("host", "x-forwarded-for: 203.0.113.1\r\nhost");
    let refused = exchange(&connect(proxy, &meeting), request.as_bytes());
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    drop(socket);
    // The slot is released shortly after the socket is closed.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let response = exchange(&connect(proxy, &meeting), request.as_bytes());
        if response.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(response.starts_with("HTTP/1.1 503"), "{response}");
        assert!(
            Instant::now() < deadline,
            "the closed socket is still counted"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_proxy_protocol_sets_the_client_address() {
    let arguments = [
        "--trusted-proxies",
        "127.0.0.4/30",
        "--proxy-protocol",
        "--connections-per-address",
        "1",
    ];
    let server = server(&arguments).await;
    let meeting = server.app().await.meeting().await;
    let proxy = "127.0.0.5:0";
    let version1 = b"PROXY TCP4 203.0.113.1 192.0.2.1 5000 80\r\n".to_vec();
    let version2 = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[203, 0, 113, 1, 192, 0, 2, 1, 0x13, 0x88, 0, 80],
    ]
    .concat();
    for header in [&version1, &version2] {
        let request = [header, HEALTH_REQUEST.as_bytes()].concat();
        let response = exchange(&connect(proxy, &meeting), &request);
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    }
    // The limit applies to the announced address.
    let mut active = connect(proxy, &meeting);
    let head = meeting.raw_post_head("expect: 100-continue\r\ncontent-length: 2");
    active
        .write_all(&[&version1, head.as_bytes()].concat())
        .unwrap();
    active.read_exact(&mut [0; 25]).unwrap();
    let request = [&version2, HEALTH_REQUEST.as_bytes()].concat();
    assert_eq!(exchange(&connect(proxy, &meeting), &request), "");
    // A connection without a header is closed.
    assert_eq!(
        exchange(&connect(proxy, &meeting), HEALTH_REQUEST.as_bytes()),
        ""
    );
    let refused = "parlor_http_refused_total{reason=\"proxy_protocol\"}";
    server.wait_for_metric(refused, 1).await;
}
