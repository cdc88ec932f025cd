//! Many connections: who may have how many, and who gives way to whom.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::http::participants::person;
use crate::http::place::Place;
use crate::http::server::Server;

/// Where those connect from who have too many connections. Everything else comes from 127.0.0.1.
const CROWD: &str = "127.0.0.2:0";
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\r\n";

async fn server(arguments: &[&str]) -> Server {
    let server = Server::beside(Server::sqlite().await, arguments).await;
    // The connection that asked whether it is ready.
    server.counts("parlor_http_connections", 0).await;
    server
}

fn connect(from: &str, place: &Place) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&from.parse::<SocketAddr>().unwrap().into())
        .unwrap();
    let to = place.address().parse::<SocketAddr>().unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).unwrap();
    stream
}

/// Sends a request; what comes until the server closes.
fn exchange(mut stream: &TcpStream, request: &[u8]) -> String {
    // The server may have closed already.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A connection with a request in it that is being served: its body is waited for.
fn busy(from: &str, meeting: &Place, header: &str) -> TcpStream {
    let mut stream = connect(from, meeting);
    let body = person("ada").to_string();
    let length = body.len();
    let head = meeting.head(&format!(
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
async fn an_address_has_its_share_of_connections() {
    let server = server(&["--connections-per-address", "3"]).await;
    let meeting = server.app().await.meeting().await;
    let _busy = [(); 3].map(|()| busy(CROWD, &meeting, ""));
    assert_eq!(exchange(&connect(CROWD, &meeting), HEALTH.as_bytes()), "");
    let refused = "parlor_http_refused_total{reason=\"connections_per_address\"}";
    server.counts(refused, 1).await;
    let answer = exchange(&connect("127.0.0.3:0", &meeting), HEALTH.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn those_who_wait_for_nothing_make_room_for_others() {
    let server = server(&["--connections", "8"]).await;
    let place = server.public();
    let silent: Vec<TcpStream> = (0..8).map(|_| connect(CROWD, &place)).collect();
    for _ in 0..3 {
        let answer = exchange(&connect("127.0.0.3:0", &place), HEALTH.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let idle = "parlor_http_disconnected_total{reason=\"idle\"}";
    assert!(server.counted(idle).await > 0);
    drop(silent);
}

#[tokio::test]
async fn a_request_that_is_served_makes_no_room() {
    let server = server(&["--connections", "8"]).await;
    let meeting = server.app().await.meeting().await;
    let mut requests: Vec<TcpStream> = (0..8).map(|_| busy(CROWD, &meeting, "")).collect();
    let refused = "parlor_http_refused_total{reason=\"connections\"}";
    let answer = exchange(&connect("127.0.0.3:0", &meeting), HEALTH.as_bytes());
    assert_eq!(answer, "");
    assert!(
        server.counted(refused).await > 0,
        "metrics are served all the same"
    );
    let answer = exchange(&requests.pop().unwrap(), b"}");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[tokio::test]
async fn behind_a_proxy_each_client_has_a_share() {
    let arguments = [
        "--trusted-proxies",
        "127.0.0.4/30",
        "--connections-per-address",
        "2",
    ];
    let server = server(&arguments).await;
    let meeting = server.app().await.meeting().await;
    let of = |client: &str| format!("x-forwarded-for: {client}\r\n");
    let ask = |from: &str, client: &str| {
        let request = HEALTH.replace("host", &format!("{}host", of(client)));
        exchange(&connect(from, &meeting), request.as_bytes())
    };
    let proxy = "127.0.0.5:0";
    let _busy = [(); 2].map(|()| busy(proxy, &meeting, &of("203.0.113.1")));
    let refused = ask(proxy, "203.0.113.1");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    // What the client has written before it is not believed.
    let refused = ask(proxy, "203.0.113.9, 203.0.113.1");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    let other = ask(proxy, "203.0.113.2");
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    // Nobody else is believed.
    let stranger = ask(CROWD, "203.0.113.1");
    assert!(stranger.starts_with("HTTP/1.1 200"), "{stranger}");
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
        .post("/participants", &person("ada"))
        .await
        .data(201);
    let upgrade = format!(
        "GET /ws?roomID={}&peerID={}&authToken={} HTTP/1.1\r\nhost: p\r\n\
         x-forwarded-for: 203.0.113.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        meeting.id(),
        crate::http::place::NOBODYS_ID,
        added["token"].as_str().unwrap(),
    );
    let proxy = "127.0.0.5:0";
    let mut socket = connect(proxy, &meeting);
    socket.write_all(upgrade.as_bytes()).unwrap();
    let mut start = [0; 12];
    socket.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 101");
    let request = HEALTH.replace("host", "x-forwarded-for: 203.0.113.1\r\nhost");
    let refused = exchange(&connect(proxy, &meeting), request.as_bytes());
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    drop(socket);
    // Its place is free a moment after the socket is counted out.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = exchange(&connect(proxy, &meeting), request.as_bytes());
        if answer.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(Instant::now() < deadline, "it counts though it is closed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_proxy_may_announce_whose_a_connection_is() {
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
    let first = b"PROXY TCP4 203.0.113.1 192.0.2.1 5000 80\r\n".to_vec();
    let second = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[203, 0, 113, 1, 192, 0, 2, 1, 0x13, 0x88, 0, 80],
    ]
    .concat();
    for header in [&first, &second] {
        let request = [header, HEALTH.as_bytes()].concat();
        let answer = exchange(&connect(proxy, &meeting), &request);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // The share is that of whom the proxy has announced.
    let mut first_one = connect(proxy, &meeting);
    let head = meeting.head("expect: 100-continue\r\ncontent-length: 2");
    first_one
        .write_all(&[&first, head.as_bytes()].concat())
        .unwrap();
    first_one.read_exact(&mut [0; 25]).unwrap();
    let request = [&second, HEALTH.as_bytes()].concat();
    assert_eq!(exchange(&connect(proxy, &meeting), &request), "");
    // Without a header nothing is served.
    assert_eq!(exchange(&connect(proxy, &meeting), HEALTH.as_bytes()), "");
    let refused = "parlor_http_refused_total{reason=\"proxy_protocol\"}";
    server.counts(refused, 1).await;
}
