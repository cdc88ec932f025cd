//! Which connections give way to others.

use std::future::poll_fn;
use std::net::IpAddr;
use std::task::Poll;

use super::super::connections::Registered;
use super::unread::plain;
use super::*;

fn connections(per_address: usize, trusted: TrustedProxies) -> Arc<Connections> {
    let metrics = Arc::new(Metrics::default());
    Arc::new(Connections::new(per_address, trusted, metrics))
}

/// A connection of an address that waits for a request until it is closed.
async fn idle(connections: &Arc<Connections>, address: IpAddr) -> Result<(), Refused> {
    let share = connections.admit(address).await?;
    let registered = connections.register();
    registered.assign(network(address));
    tokio::spawn(async move {
        closed(&registered).await;
        drop((registered, share));
    });
    Ok(())
}

async fn closed(registered: &Registered) {
    poll_fn(|context| {
        if registered.connection.closes(context.waker()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[tokio::test]
async fn a_crowded_address_takes_no_eviction_from_others() {
    const TURNS: usize = 50;
    let connections = connections(1, TrustedProxies::default());
    // So many that it takes some time to look at all of them.
    let _crowd: Vec<Registered> = (0..20_000).map(|_| connections.register()).collect();
    let [mallory, ada] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
    let busy = connections.register();
    busy.assign(network(mallory));
    busy.connection.busy();
    let _share = connections.admit(mallory).await.unwrap();
    idle(&connections, ada).await.unwrap();
    let mut admitted = 0;
    for _ in 0..TURNS {
        let refused = connections.admit(mallory).await.err();
        assert!(matches!(refused, Some(Refused::Address)), "{refused:?}");
        admitted += usize::from(idle(&connections, ada).await.is_ok());
    }
    assert_eq!(admitted, TURNS);
}

#[tokio::test]
async fn several_who_make_room_at_the_same_time_all_get_some() {
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

/// The only worker runs the newest task first: the one that looks for a place, before those of the
/// connections that have just come.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_makes_room_before_its_task_has_run() {
    const PLACES: usize = 8;
    let on_the_worker = tokio::spawn(async {
        let plain = plain(Router::new(), PLACES, TrustedProxies::default()).await;
        // Without waiting in between, so that all of them are accepted in one go.
        let _crowd: Vec<_> = (0..=PLACES)
            .map(|_| std::net::TcpStream::connect(plain.address).unwrap())
            .collect();
        let counted = || {
            [
                "parlor_http_disconnected_total{reason=\"idle\"}",
                "parlor_http_refused_total{reason=\"connections\"}",
            ]
            .map(|name| plain.counted(name))
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
