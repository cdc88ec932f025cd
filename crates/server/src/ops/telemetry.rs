//! Logs to stderr, and exports traces to a collector if one is configured. Neither contains tokens,
//! names or bodies.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{LogFormat, Settings};

/// Keeps the exporter alive, and flushes the last spans when dropped.
pub struct Telemetry {
    #[cfg(feature = "otel")]
    exporter: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

/// Starts logging and, if configured, tracing.
///
/// # Errors
/// When the filter or the collector's address is malformed.
pub fn start(settings: &Settings) -> anyhow::Result<Telemetry> {
    let filter = settings.log.as_deref().unwrap_or("info");
    // The PostgreSQL driver logs parameters at debug level, and they contain personal data.
    let filter = format!("{filter},tokio_postgres=info");
    let filter = EnvFilter::try_new(filter)?;
    let pretty = match settings.log_format.unwrap_or_default() {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = if pretty {
        lines.with_filter(filter).boxed()
    } else {
        lines.json().flatten_event(true).with_filter(filter).boxed()
    };
    let registry = tracing_subscriber::registry().with(lines);
    #[cfg(feature = "otel")]
    {
        let exporter = settings
            .otlp_endpoint
            .as_ref()
            .map(|url| export::to(url.expose()))
            .transpose()?;
        let spans = exporter.as_ref().map(export::layer);
        registry.with(spans).try_init()?;
        Ok(Telemetry { exporter })
    }
    #[cfg(not(feature = "otel"))]
    {
        anyhow::ensure!(
            settings.otlp_endpoint.is_none(),
            "this build cannot export traces (feature `otel`)"
        );
        registry.try_init()?;
        Ok(Telemetry {})
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        #[cfg(feature = "otel")]
        if let Some(exporter) = &self.exporter
            && let Err(error) = exporter.shutdown()
        {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

#[cfg(feature = "otel")]
mod export {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::{SpanExporter, WithExportConfig};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::Layer;
    use tracing_subscriber::registry::LookupSpan;

    /// A batch exporter over HTTP with protobuf.
    pub(super) fn to(endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
        let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(endpoint)
            .build()?;
        let resource = Resource::builder().with_service_name("parlor").build();
        Ok(SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build())
    }

    /// Exports only the server's spans. They are at debug level, so they cost nothing without a
    /// collector.
    pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        let spans = Targets::new().with_target("parlor_server", tracing::Level::DEBUG);
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("parlor"))
            .with_filter(spans)
    }
}
