//! `parlor serve`: everything wired together, from the start to the last answer.

use std::io::Write;
use std::sync::Arc;

use parlor_sfu::Media;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::first_start;
use crate::config::Settings;
use crate::parlor::{Edge, Parlor};
use crate::serve::{Bounds, Door, bind, raise_open_files, serve};
use crate::tls::Certificates;
use crate::{api, sweeper, telemetry};

pub(super) fn run(settings: &Settings) -> anyhow::Result<()> {
    // Before the runtime, because the exporter's HTTP client has one of its own.
    let _telemetry = telemetry::start(settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(until_stopped(settings))
}

async fn until_stopped(settings: &Settings) -> anyhow::Result<()> {
    let bounds = Bounds::of(settings);
    raise_open_files(&bounds);
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
    let stop = CancellationToken::new();
    let background = TaskTracker::new();
    let router = api::router(&parlor);
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
    parlor.live.resume(&parlor).await?;
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
    let serving = tokio::spawn(serve(doors, bounds, metrics, stop.clone()));
    stop_signal().await?;
    tracing::info!("stopping: no new connections, the open requests are finished");
    stop.cancel();
    // Before the sockets are waited for: this is what closes them.
    parlor.live.suspend(&parlor).await;
    serving.await?;
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
