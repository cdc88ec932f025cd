//! Limits on the resources that one client can use.

use tracing::field::{Field, Visit};
use tracing::span;

use super::super::link::MAX_QUEUED_PER_LINK;
use super::super::stream::WriteBuffer;
use super::*;

fn client_address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1))
}

/// Connects a client of ICE over TCP that has sent its first check. Returns the client's stream and
/// the engine's sender.
async fn connect(fixture: &mut Fixture, buffer: usize) -> (DuplexStream, LinkSender) {
    let (mut near, far) = duplex(buffer);
    fixture.relay.accept(far, client_address());
    near.write_all(&framed(&check())).await.unwrap();
    let Some(LinkEvent::Opened { sender, .. }) = soon(fixture.links.recv()).await else {
        panic!("expected the link to open first");
    };
    let first = soon(fixture.links.recv()).await;
    assert!(matches!(first, Some(LinkEvent::Datagram { .. })));
    (near, sender)
}

#[test]
fn the_write_buffer_of_a_client_that_never_catches_up_is_bounded() {
    let mut buffer = WriteBuffer::default();
    buffer.bytes.extend([0; 5000]);
    for round in 0..1000_u32 {
        buffer.bytes.extend([round.to_be_bytes(); 300].concat());
        buffer.advance(1200);
        assert_eq!(buffer.pending().len(), 5000);
        assert!(buffer.bytes.len() < 2 * 32 * 1024, "{}", buffer.bytes.len());
    }
    assert!(buffer.pending().ends_with(&999_u32.to_be_bytes()));
    buffer.advance(5000);
    assert!(buffer.bytes.is_empty());
}

#[tokio::test]
async fn a_slow_client_receives_everything_in_order() {
    let mut fixture = fixture(config());
    let (mut near, sender) = connect(&mut fixture, 700).await;
    let reader = tokio::spawn(async move {
        for round in 0..1000_u32 {
            let mut frame = [0; 1202];
            soon(near.read_exact(&mut frame)).await.unwrap();
            assert_eq!(frame[..2], 1200_u16.to_be_bytes());
            assert_eq!(frame[2..6], round.to_be_bytes());
            assert_eq!(frame[1198..], round.to_be_bytes());
        }
    });
    for round in 0..1000_u32 {
        while !reader.is_finished() && !sender.send([round.to_be_bytes(); 300].concat()) {
            tokio::task::yield_now().await;
        }
    }
    reader.await.unwrap();
}

#[tokio::test]
async fn a_flood_on_one_link_does_not_affect_others() {
    let mut fixture = fixture(config());
    let (mut flooding, _sender) = connect(&mut fixture, 4096).await;
    let (mut other, _sender) = connect(&mut fixture, 4096).await;
    for _ in 0..3 * MAX_QUEUED_PER_LINK {
        soon(flooding.write_all(&framed(&[0x80; 100])))
            .await
            .unwrap();
    }
    // Once the connection is counted as closed, all of its data has been read.
    drop(flooding);
    until(|| fixture.relay.stats().ice_tcp == 1).await;
    soon(other.write_all(&framed(&[0x81; 100]))).await.unwrap();
    let (mut of_flood, mut closed) = (Vec::new(), false);
    loop {
        match soon(fixture.links.recv()).await.unwrap() {
            LinkEvent::Datagram {
                datagram, permits, ..
            } if datagram[0] == 0x80 => of_flood.push(permits),
            LinkEvent::Datagram { .. } => break,
            LinkEvent::Closed { .. } => closed = true,
            LinkEvent::Opened { .. } => panic!("unexpected link"),
        }
    }
    assert_eq!(of_flood.len(), MAX_QUEUED_PER_LINK);
    assert!(closed);
    // The other link has its own permits, which are released.
    for _ in 0..3 * MAX_QUEUED_PER_LINK {
        soon(other.write_all(&framed(&[0x81; 100]))).await.unwrap();
        let event = soon(fixture.links.recv()).await;
        assert!(matches!(event, Some(LinkEvent::Datagram { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_the_engine_does_not_answer_is_disconnected() {
    let mut fixture = fixture(config());
    let start = now();
    let (mut near, _sender) = connect(&mut fixture, 4096).await;
    let client = tokio::spawn(async move {
        // Further checks do not extend the deadline.
        while near.write_all(&framed(&check())).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    until(|| fixture.relay.stats().streams == 0).await;
    let elapsed = now() - start;
    assert!(
        (Duration::from_secs(10)..Duration::from_secs(11)).contains(&elapsed),
        "{elapsed:?}"
    );
    client.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_response_of_the_engine_keeps_the_connection_open() {
    let mut fixture = fixture(config());
    let (mut near, sender) = connect(&mut fixture, 4096).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(sender.send(b"a response".to_vec()));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(50)).await;
        near.write_all(&framed(&check())).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fixture.relay.stats().ice_tcp, 1);
}

#[tokio::test]
async fn a_client_that_reads_nothing_can_still_send() {
    let mut fixture = fixture(config());
    let (mut near, sender) = connect(&mut fixture, 1024).await;
    let mut dropped = 0;
    while dropped < 100 {
        dropped += usize::from(!sender.send(vec![0; 1200]));
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        soon(near.write_all(&framed(&[0x80; 900]))).await.unwrap();
        let event = soon(fixture.links.recv()).await;
        assert!(matches!(event, Some(LinkEvent::Datagram { .. })));
    }
}

#[tokio::test]
async fn the_engine_can_disconnect_a_client_that_sends_but_reads_nothing() {
    let mut fixture = fixture(config());
    let (mut near, sender) = connect(&mut fixture, 1024).await;
    let mut dropped = 0;
    while dropped < 100 {
        dropped += usize::from(!sender.send(vec![0; 1200]));
        tokio::task::yield_now().await;
    }
    drop(sender);
    soon(async {
        while near.write_all(&framed(&check())).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    until(|| fixture.relay.stats() == RelayStats::default()).await;
}

#[tokio::test]
async fn the_unsent_bytes_in_the_system_are_limited() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (_near, (stream, _)) = (near.unwrap(), accepted.unwrap());
    prepare(&stream);
    let socket = socket2::SockRef::from(&stream);
    assert_eq!(socket.tcp_notsent_lowat().unwrap(), Relay::MAX_UNSENT_BYTES);
}

/// A log subscriber that records `address` fields.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<Vec<String>>>);

impl Visit for Addresses {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "address" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

impl tracing::Subscriber for Addresses {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn the_address_of_a_listener_is_logged() {
    let logged = Addresses::default();
    let _guard = tracing::subscriber::set_default(logged.clone());
    let fixture = fixture(config());
    let address = fixture.relay.tcp_addresses()[0].to_string();
    assert_eq!(*logged.0.lock().unwrap(), [address]);
}
