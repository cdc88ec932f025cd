//! `parlor serve`: starts the server and its listeners, and shuts them down.

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
use crate::net::{HttpListener, TrustedProxies, bind, raise_open_files, serve};
use crate::ops::{sweeper, telemetry};
use crate::router;
use crate::site;
use crate::state::{Edge, ServerState};

pub(super) fn run(settings: &Settings) -> anyhow::Result<()> {
    // Starts before the runtime, because the exporter's HTTP client has its own runtime.
    let _telemetry = telemetry::start(settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(until_stopped(settings))
}

async fn until_stopped(settings: &Settings) -> anyhow::Result<()> {
    let limits = settings.connection_limits();
    raise_open_files(&limits);
    let state = ServerState::open(&settings.database_location()?, settings.limits()?).await?;
    let mut edge = Edge::open(settings)?;
    let (media, media_thread) = Media::start(&settings.media(state.keys.media_secret())?)
        .map_err(|error| anyhow::anyhow!("--media-listen {}: {error}", settings.media_listen()))?;
    tracing::info!(addresses = ?media.local_addrs(), "receiving media over UDP");
    edge.media = Some(media.clone());
    let state = Arc::new(state.with_edge(edge));
    let plain = bind("--listen", settings.listen()).await?;
    let created = first_start::prepare(&state, settings).await?;
    let (addresses, origin) = (
        addresses(&plain),
        origin(settings.listen(), &addresses(&plain)),
    );
    let (proxies, stop) = (
        TrustedProxies::from_settings(settings)?,
        CancellationToken::new(),
    );
    let background = TaskTracker::new();
    let router = router::router(&state);
    let mut http_listeners = vec![HttpListener::new(plain, router.clone(), None)];
    if let Some(listen) = settings.tls_listen() {
        let certificates = Certificates::open(settings, &state)?;
        let listeners = bind("--tls-listen", &listen).await?;
        for addr in self::addresses(&listeners) {
            tracing::info!(addr, "serving HTTPS on https://{addr}");
        }
        let https = HttpListener::new(listeners, router, Some(certificates.acceptor()));
        http_listeners.push(https.with_relay(media.relay()));
        let stop = stop.clone();
        background.spawn(async move { stop.run_until_cancelled(certificates.renewal).await });
    }
    let metrics_serving = metrics(settings, &state, &stop).await?;
    state.live.resume().await?;
    background.spawn(sweeper::run(Arc::clone(&state), stop.clone()));
    if let Some(created) = created {
        // A closed standard output must not stop the server.
        let _ = std::io::stdout().write_all(created.text(&origin).as_bytes());
    }
    for addr in &addresses {
        tracing::info!(
            addr,
            database = state.db.engine().as_str(),
            "listening on http://{addr}"
        );
    }
    let metrics = Arc::clone(&state.metrics);
    let serving = tokio::spawn(serve(
        http_listeners,
        limits,
        proxies,
        metrics,
        stop.clone(),
    ));
    stop_signal().await?;
    tracing::info!("stopping: no longer accepting connections, finishing open requests");
    stop.cancel();
    // Closes the clients' sockets, which `serving` waits for.
    state.live.suspend().await;
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
    state.db.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Maximum number of connections to the metrics listener. They are counted separately, so that
/// monitoring still works when clients use up all other connections.
const METRICS_CONNECTIONS: usize = 64;

/// Starts to serve metrics, unless they are off.
async fn metrics(
    settings: &Settings,
    state: &Arc<ServerState>,
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
    let listener = HttpListener::new(listeners, site::metrics_router(state), None);
    // Connections to the metrics listener do not count in the metrics.
    let uncounted = Arc::new(Metrics::default());
    let proxies = TrustedProxies::default();
    let serving = serve(vec![listener], limits, proxies, uncounted, stop.clone());
    Ok(tokio::spawn(serving))
}

/// Binds the metrics listeners. When the default port is in use, the server starts without metrics;
/// when a configured one is, the start fails.
async fn metrics_listeners(settings: &Settings) -> anyhow::Result<Vec<TcpListener>> {
    let Some(listen) = settings.metrics_listen() else {
        return Ok(Vec::new());
    };
    match bind("--metrics-listen", &listen).await {
        Err(error) if settings.metrics_listen.is_none() => {
            tracing::warn!(%error, "metrics are not served: set --metrics-listen to another address");
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

/// The origin under which this machine reaches the server.
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
    async fn a_port_in_use_stops_the_server_only_if_it_was_configured() {
        // If this fails, the port is in use already.
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
