//! Tests with two transports of one media thread that are connected to each other.

use super::*;
use crate::media::{Extensions, Identity, Remote, Source};

/// Returns two transports that are connected to each other.
async fn pair(thread: &MediaThread) -> (TransportId, TransportId) {
    let identity = Identity::new().expect("a certificate");
    let mut ends = [(); 2].map(|()| Transport::open(&identity).expect("a socket"));
    let says = ends.each_ref().map(Transport::local_description);
    for (end, (other, is_dtls_client)) in ends.iter_mut().zip([(1, false), (0, true)]) {
        let remote = Remote {
            ufrag: says[other].ufrag.clone(),
            password: says[other].password.clone(),
            address: says[other].address,
            is_dtls_client,
        };
        end.connect(&remote, Instant::now())
            .expect("the socket connects");
    }
    let [first, second] = ends;
    let (first, first_is_up) = thread
        .add(first)
        .await
        .expect("the media thread is running");
    let (second, second_is_up) = thread
        .add(second)
        .await
        .expect("the media thread is running");
    let (one, other) = tokio::join!(first_is_up, second_is_up);
    assert_eq!(
        one.expect("a connection"),
        other.expect("the same connection")
    );
    (first, second)
}

#[tokio::test]
async fn packets_of_one_transport_arrive_at_the_other() {
    let thread = MediaThread::start(1).expect("the media thread starts");
    let (from, to) = pair(&thread).await;
    thread.set_read_mode(ReadMode::Every(Duration::from_millis(1)));
    let stream = Stream::new(Source::video(1000), 96, 5, Extensions::default());
    thread.publish(from, stream, Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(300)).await;
    thread.stop_sending();
    let mut totals = thread.totals().await.expect("the media thread is running");
    let mut latencies = totals.latencies_ns.len() as u64;
    let deadline = Instant::now() + Duration::from_secs(5);
    while totals.arrived.packets < totals.sent && Instant::now() < deadline {
        totals = thread.totals().await.expect("the media thread is running");
        latencies += totals.latencies_ns.len() as u64;
    }
    assert!(totals.sent > 20, "{totals:?}");
    assert_eq!(totals.arrived.packets, totals.sent);
    assert_eq!((totals.arrived.lost, totals.streams), (0, 1));
    assert_eq!(latencies, totals.sent);
    let again = thread.totals().await.expect("the media thread is running");
    assert_eq!((again.sent, again.latencies_ns.len()), (totals.sent, 0));
    assert_eq!(
        thread
            .streams(to)
            .await
            .expect("the media thread is running"),
        1
    );
    thread.remove(to);
    assert_eq!(
        thread
            .streams(to)
            .await
            .expect("the media thread is running"),
        0
    );
    let left = thread.totals().await.expect("the media thread is running");
    assert_eq!(
        left.arrived, totals.arrived,
        "removed transports still count"
    );
}
