//! `parlor serve`: everything wired together, from the start to the last answer.

use std::io::Write;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::first_start;
use crate::config::Settings;
use crate::parlor::Parlor;
use crate::serve::{Bounds, bind, serve};
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
    let parlor = Arc::new(Parlor::open(&settings.place()?, settings.limits()?).await?);
    let listeners = bind(settings.listen()).await?;
    let welcome = first_start::prepare(&parlor, settings).await?;
    let addresses: Vec<String> = listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .map(|addr| addr.to_string())
        .collect();
    let origin = origin(settings.listen(), &addresses);
    let stop = CancellationToken::new();
    let sweeping = tokio::spawn(sweeper::run(Arc::clone(&parlor), stop.clone()));
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
    let router = api::router(&parlor);
    let serving = tokio::spawn(serve(
        listeners,
        router,
        Bounds::of(settings),
        Arc::clone(&parlor.metrics),
        stop.clone(),
    ));
    stop_signal().await?;
    tracing::info!("stopping: no new connections, the open requests are finished");
    stop.cancel();
    serving.await?;
    sweeping.await?;
    parlor.db.close().await;
    tracing::info!("stopped");
    Ok(())
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
