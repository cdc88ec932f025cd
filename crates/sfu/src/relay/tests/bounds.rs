//! What one client may cost, and what it may cost the others.

use tracing::field::{Field, Visit};
use tracing::span;

use super::super::doorway::WAITING_EACH;
use super::super::stream::Outbox;
use super::*;

fn somebody() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1))
}

/// A client of ICE over TCP that has sent its first check, and what the engine heard of it.
async fn checked(place: &mut Place, buffer: usize) -> (DuplexStream, Outlet) {
    let (mut near, far) = duplex(buffer);
    place.relay.accept(far, somebody());
    near.write_all(&framed(&check())).await.unwrap();
    let Some(FromLink::Opened { outlet, .. }) = soon(place.links.recv()).await else {
        panic!("a link opens first");
    };
    let first = soon(place.links.recv()).await;
    assert!(matches!(first, Some(FromLink::Datagram { .. })));
    (near, outlet)
}

#[test]
fn a_client_that_is_never_done_reading_does_not_keep_what_it_has_read() {
    let mut outbox = Outbox::default();
    outbox.bytes.extend([0; 5000]);
    for round in 0..1000_u32 {
        outbox.bytes.extend([round.to_be_bytes(); 300].concat());
        outbox.wrote(1200);
        assert_eq!(outbox.waiting().len(), 5000);
        assert!(outbox.bytes.len() < 2 * 32 * 1024, "{}", outbox.bytes.len());
    }
    assert!(outbox.waiting().ends_with(&999_u32.to_be_bytes()));
    outbox.wrote(5000);
    assert!(outbox.bytes.is_empty());
}

#[tokio::test]
async fn a_slow_but_steady_client_gets_everything_in_order() {
    let mut place = place(config());
    let (mut near, outlet) = checked(&mut place, 700).await;
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
        while !reader.is_finished() && !outlet.send([round.to_be_bytes(); 300].concat()) {
            tokio::task::yield_now().await;
        }
    }
    reader.await.unwrap();
}

#[tokio::test]
async fn a_flood_on_one_link_leaves_room_for_the_others() {
    let mut place = place(config());
    let (mut flooding, _outlet) = checked(&mut place, 4096).await;
    let (mut other, _outlet) = checked(&mut place, 4096).await;
    for _ in 0..3 * WAITING_EACH {
        soon(flooding.write_all(&framed(&[0x80; 100])))
            .await
            .unwrap();
    }
    // Read to the end, for it closes behind it all.
    drop(flooding);
    until(|| place.relay.stats().ice_tcp == 1).await;
    soon(other.write_all(&framed(&[0x81; 100]))).await.unwrap();
    let (mut of_flood, mut closed) = (Vec::new(), false);
    loop {
        match soon(place.links.recv()).await.unwrap() {
            FromLink::Datagram {
                datagram, waits, ..
            } if datagram[0] == 0x80 => of_flood.push(waits),
            FromLink::Datagram { .. } => break,
            FromLink::Closed { .. } => closed = true,
            FromLink::Opened { .. } => panic!("no more links"),
        }
    }
    assert_eq!(of_flood.len(), WAITING_EACH);
    assert!(closed);
    // The other link has places of its own, and gets them back.
    for _ in 0..3 * WAITING_EACH {
        soon(other.write_all(&framed(&[0x81; 100]))).await.unwrap();
        let came = soon(place.links.recv()).await;
        assert!(matches!(came, Some(FromLink::Datagram { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_whom_the_engine_does_not_answer_is_hung_up_on() {
    let mut place = place(config());
    let began = now();
    let (mut near, _outlet) = checked(&mut place, 4096).await;
    let ended = tokio::spawn(async move {
        // Asking again and again does not buy it more time.
        while near.write_all(&framed(&check())).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    until(|| place.relay.stats().streams == 0).await;
    let lasted = now() - began;
    assert!(
        (Duration::from_secs(10)..Duration::from_secs(11)).contains(&lasted),
        "{lasted:?}"
    );
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_answer_of_the_engine_is_enough_to_stay() {
    let mut place = place(config());
    let (mut near, outlet) = checked(&mut place, 4096).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(outlet.send(b"an answer".to_vec()));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(50)).await;
        near.write_all(&framed(&check())).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(place.relay.stats().ice_tcp, 1);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_still_heard() {
    let mut place = place(config());
    let (mut near, outlet) = checked(&mut place, 1024).await;
    let mut refused = 0;
    while refused < 100 {
        refused += usize::from(!outlet.send(vec![0; 1200]));
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        soon(near.write_all(&framed(&[0x80; 900]))).await.unwrap();
        let came = soon(place.links.recv()).await;
        assert!(matches!(came, Some(FromLink::Datagram { .. })));
    }
}

#[tokio::test]
async fn the_engine_hangs_up_on_a_client_that_sends_but_reads_nothing() {
    let mut place = place(config());
    let (mut near, outlet) = checked(&mut place, 1024).await;
    let mut refused = 0;
    while refused < 100 {
        refused += usize::from(!outlet.send(vec![0; 1200]));
        tokio::task::yield_now().await;
    }
    drop(outlet);
    soon(async {
        while near.write_all(&framed(&check())).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    until(|| place.relay.stats() == RelayStats::default()).await;
}

#[tokio::test]
async fn little_waits_in_the_system_for_a_slow_client() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (_near, (stream, _)) = (near.unwrap(), accepted.unwrap());
    prepare(&stream);
    let socket = socket2::SockRef::from(&stream);
    assert_eq!(socket.tcp_notsent_lowat().unwrap(), Relay::UNSENT);
}

/// Keeps the addresses that are logged.
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
async fn the_log_has_the_address_of_a_listener_as_it_is_written() {
    let logged = Addresses::default();
    let _guard = tracing::subscriber::set_default(logged.clone());
    let place = place(config());
    let told = place.relay.tcp_addresses()[0].to_string();
    assert_eq!(*logged.0.lock().unwrap(), [told]);
}
