//! `parlor serve`: everything wired together, from the start to the last answer.

use std::io::Write;
use std::sync::Arc;

use parlor_sfu::Media;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::first_start;
use crate::config::Settings;
use crate::limits::ConnectionLimits;
use crate::metrics::Metrics;
use crate::net::tls::Certificates;
use crate::net::{Door, TrustedProxies, bind, raise_open_files, serve};
use crate::ops::{sweeper, telemetry};
use crate::router;
use crate::site;
use crate::state::{Edge, Parlor};

pub(super) fn run(settings: &Settings) -> anyhow::Result<()> {
    // Before the runtime, because the exporter's HTTP client has one of its own.
    let _telemetry = telemetry::start(settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(until_stopped(settings))
}

async fn until_stopped(settings: &Settings) -> anyhow::Result<()> {
    let limits = settings.connection_limits();
    raise_open_files(&limits);
    let parlor = Parlor::open(&settings.place()?, settings.limits()?).await?;
    let mut edge = Edge::open(settings)?;
    let (media, media_thread) = Media::start(&settings.media(parlor.keys.media_secret())?)
        .map_err(|error| anyhow::anyhow!("--media-listen {}: {error}", settings.media_listen()))?;
    tracing::info!(addresses = ?media.local_addrs(), "media on UDP");
    edge.media = Some(media.clone());
    let parlor = Arc::new(parlor.with_edge(edge));
    let plain = bind("--listen", settings.listen()).await?;
    let welcome = first_start::prepare(&parlor, settings).await?;
    let (addresses, origin) = (
        addresses(&plain),
        origin(settings.listen(), &addresses(&plain)),
    );
    let (proxies, stop) = (TrustedProxies::of(settings)?, CancellationToken::new());
    let background = TaskTracker::new();
    let router = router::router(&parlor);
    let mut doors = vec![Door::new(plain, router.clone(), None)];
    if let Some(listen) = settings.tls_listen() {
        let certificates = Certificates::open(settings, &parlor)?;
        let listeners = bind("--tls-listen", &listen).await?;
        for addr in self::addresses(&listeners) {
            tracing::info!(addr, "serving HTTPS on https://{addr}");
        }
        let door = Door::new(listeners, router, Some(certificates.acceptor()));
        doors.push(door.with_relay(media.relay()));
        let stop = stop.clone();
        background.spawn(async move { stop.run_until_cancelled(certificates.upkeep).await });
    }
    let metrics_serving = metrics(settings, &parlor, &stop).await?;
    parlor.live.resume().await?;
    background.spawn(sweeper::run(Arc::clone(&parlor), stop.clone()));
    if let Some(welcome) = welcome {
        // A closed stdout must not stop the server.
        let _ = std::io::stdout().write_all(welcome.text(&origin).as_bytes());
    }
    for addr in &addresses {
        tracing::info!(
            addr,
            database = parlor.db.engine().as_str(),
            "listening on http://{addr}"
        );
    }
    let metrics = Arc::clone(&parlor.metrics);
    let serving = tokio::spawn(serve(doors, limits, proxies, metrics, stop.clone()));
    stop_signal().await?;
    tracing::info!("stopping: no new connections, the open requests are finished");
    stop.cancel();
    // Before the sockets are waited for: this is what closes them.
    parlor.live.suspend().await;
    serving.await?;
    metrics_serving.await?;
    media.stop();
    if tokio::task::spawn_blocking(move || media_thread.join())
        .await?
        .is_err()
    {
        tracing::error!("the media plane panicked");
    }
    background.close();
    background.wait().await;
    parlor.db.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Connections to the listener of metrics. It is for an operator's own programs, which must reach it
/// also when everybody else has taken every other connection.
const METRICS_CONNECTIONS: usize = 64;

/// Serves metrics, if they are served.
async fn metrics(
    settings: &Settings,
    parlor: &Arc<Parlor>,
    stop: &CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let listeners = metrics_listeners(settings).await?;
    for addr in addresses(&listeners) {
        tracing::info!(addr, "metrics on http://{addr}/metrics");
    }
    let limits = ConnectionLimits {
        connections: METRICS_CONNECTIONS,
        per_address: 0,
        ..settings.connection_limits()
    };
    let door = Door::new(listeners, site::metrics_router(parlor), None);
    // Whoever looks at the connections is not to be one of them.
    let uncounted = Arc::new(Metrics::default());
    let proxies = TrustedProxies::default();
    let serving = serve(vec![door], limits, proxies, uncounted, stop.clone());
    Ok(tokio::spawn(serving))
}

/// The listeners of metrics. If nobody has said where, a port that is taken is no failure: the server
/// goes on without metrics.
async fn metrics_listeners(settings: &Settings) -> anyhow::Result<Vec<TcpListener>> {
    let Some(listen) = settings.metrics_listen() else {
        return Ok(Vec::new());
    };
    match bind("--metrics-listen", &listen).await {
        Err(error) if settings.metrics_listen.is_none() => {
            tracing::warn!(%error, "there are no metrics: set --metrics-listen");
            Ok(Vec::new())
        }
        bound => bound,
    }
}

fn addresses(listeners: &[TcpListener]) -> Vec<String> {
    let addresses = listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok());
    addresses.map(|addr| addr.to_string()).collect()
}

/// What to put before a path to reach the server from this machine.
fn origin(listen: &str, addresses: &[String]) -> String {
    match (listen.rsplit_once(':'), addresses.first()) {
        (Some((host, "0")), Some(address)) if !host.is_empty() => format!("http://{address}"),
        (Some(("0.0.0.0" | "[::]", port)), _) => format!("http://localhost:{port}"),
        _ => format!("http://{listen}"),
    }
}

async fn stop_signal() -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_stops_the_server_only_if_somebody_chose_it() {
        // If that fails, it is taken already.
        let _taken = TcpListener::bind("127.0.0.1:8788").await;
        let mut settings = Settings {
            listen: Some("127.0.0.1:8787".to_owned()),
            ..Settings::default()
        };
        let none = metrics_listeners(&settings).await.unwrap();
        assert!(none.is_empty());
        settings.metrics_listen = settings.metrics_listen();
        let refused = metrics_listeners(&settings).await.unwrap_err();
        assert!(refused.to_string().contains("--metrics-listen"));
    }
}
