//! Eviction of connections.

use std::future::poll_fn;
use std::net::IpAddr;
use std::task::Poll;

use super::super::connections::Registration;
use super::unread::plain;
use super::*;

fn connections(per_address: usize, trusted: TrustedProxies) -> Arc<Connections> {
    let metrics = Arc::new(Metrics::default());
    Arc::new(Connections::new(per_address, trusted, metrics))
}

/// Opens an idle connection of an address, which closes when it is evicted.
async fn idle(connections: &Arc<Connections>, address: IpAddr) -> Result<(), RefusalReason> {
    let share = connections.admit(address).await?;
    let registration = connections.register();
    registration.assign(network(address));
    tokio::spawn(async move {
        closed(&registration).await;
        drop((registration, share));
    });
    Ok(())
}

async fn closed(registration: &Registration) {
    poll_fn(|context| {
        if registration.connection.is_closing(context.waker()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[tokio::test]
async fn a_busy_address_does_not_block_evictions_of_others() {
    const ROUNDS: usize = 50;
    let connections = connections(1, TrustedProxies::default());
    // Searching this many connections takes some time.
    let _crowd: Vec<Registration> = (0..20_000).map(|_| connections.register()).collect();
    let [mallory, ada] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
    let busy = connections.register();
    busy.assign(network(mallory));
    busy.connection.set_busy();
    let _share = connections.admit(mallory).await.unwrap();
    idle(&connections, ada).await.unwrap();
    let mut admitted = 0;
    for _ in 0..ROUNDS {
        let refused = connections.admit(mallory).await.err();
        assert!(
            matches!(refused, Some(RefusalReason::Address)),
            "{refused:?}"
        );
        admitted += usize::from(idle(&connections, ada).await.is_ok());
    }
    assert_eq!(admitted, ROUNDS);
}

#[tokio::test]
async fn concurrent_evictions_all_free_a_slot() {
    const AT_ONCE: usize = 20;
    let connections = connections(AT_ONCE, TrustedProxies::default());
    let ada: IpAddr = "192.0.2.2".parse().unwrap();
    for _ in 0..AT_ONCE {
        idle(&connections, ada).await.unwrap();
    }
    let all = (0..AT_ONCE).map(|_| connections.admit(ada));
    let admitted = futures_util::future::join_all(all).await;
    let count = admitted.iter().filter(|share| share.is_ok()).count();
    assert_eq!(count, AT_ONCE);
}

/// The only worker runs the newest task first: the eviction runs before the tasks of the
/// connections that were just accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_can_be_evicted_before_its_task_has_run() {
    const SLOTS: usize = 8;
    let on_the_worker = tokio::spawn(async {
        let plain = plain(Router::new(), SLOTS, TrustedProxies::default()).await;
        // Without awaiting in between, so that all of them are accepted together.
        let _crowd: Vec<_> = (0..=SLOTS)
            .map(|_| std::net::TcpStream::connect(plain.address).unwrap())
            .collect();
        let counted = || {
            [
                "parlor_http_disconnected_total{reason=\"idle\"}",
                "parlor_http_refused_total{reason=\"connections\"}",
            ]
            .map(|name| plain.metric(name))
        };
        soon(async {
            while counted() == [0, 0] {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(counted(), [1, 0]);
    });
    on_the_worker.await.unwrap();
}
