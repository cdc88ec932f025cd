//! Two transports of one rig, with each other.

use super::*;
use crate::media::{Extensions, Identity, Remote, Source};

/// Two transports that are told of each other.
async fn pair(rig: &Rig) -> (TransportId, TransportId) {
    let identity = Identity::new().expect("a certificate");
    let mut ends = [(); 2].map(|()| Transport::open(&identity).expect("a socket"));
    let says = ends.each_ref().map(Transport::says);
    for (end, (other, is_dtls_client)) in ends.iter_mut().zip([(1, false), (0, true)]) {
        let remote = Remote {
            ufrag: says[other].ufrag.clone(),
            password: says[other].password.clone(),
            address: says[other].address,
            is_dtls_client,
        };
        end.connect(&remote, Instant::now()).expect("a way");
    }
    let [first, second] = ends;
    let (first, first_is_up) = rig.add(first).await.expect("a rig");
    let (second, second_is_up) = rig.add(second).await.expect("a rig");
    let (one, other) = tokio::join!(first_is_up, second_is_up);
    assert_eq!(
        one.expect("a connection"),
        other.expect("the same connection")
    );
    (first, second)
}

#[tokio::test]
async fn what_one_transport_sends_arrives_at_the_other() {
    let rig = Rig::start(1).expect("a thread");
    let (from, to) = pair(&rig).await;
    rig.pace(Pace::Every(Duration::from_millis(1)));
    let stream = Stream::new(Source::video(1000), 96, 5, Extensions::default());
    rig.publish(from, stream, Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(300)).await;
    rig.silence();
    let mut totals = rig.totals().await.expect("a rig");
    let mut latencies = totals.latencies_ns.len() as u64;
    let deadline = Instant::now() + Duration::from_secs(5);
    while totals.arrived.packets < totals.sent && Instant::now() < deadline {
        totals = rig.totals().await.expect("a rig");
        latencies += totals.latencies_ns.len() as u64;
    }
    assert!(totals.sent > 20, "{totals:?}");
    assert_eq!(totals.arrived.packets, totals.sent);
    assert_eq!((totals.arrived.lost, totals.streams), (0, 1));
    assert_eq!(latencies, totals.sent);
    let again = rig.totals().await.expect("a rig");
    assert_eq!((again.sent, again.latencies_ns.len()), (totals.sent, 0));
    assert_eq!(rig.streams(to).await.expect("a rig"), 1);
    rig.remove(to);
    assert_eq!(rig.streams(to).await.expect("a rig"), 0);
    let left = rig.totals().await.expect("a rig");
    assert_eq!(left.arrived, totals.arrived, "what has arrived counts on");
}
