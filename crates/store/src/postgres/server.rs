//! Which server to talk to, and how a connection to it is set up.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio_postgres::{
    Client, Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::Error;

use super::explain::unreachable;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server that vanished without a word holds a connection up.
const SILENCE: Duration = Duration::from_secs(30);

/// What a connection that writes says first.
const WRITER: &str = "SET synchronous_commit = on; SET statement_timeout = '30s'; \
                      SET client_min_messages = warning";
/// What a connection that reads says first.
pub(super) const READER: &str = "SET default_transaction_read_only = on; \
                                 SET statement_timeout = '30s'";

/// A server and how to reach it.
pub(super) struct Server {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
}

impl Server {
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        let mut config: Config = url
            .parse()
            .map_err(|error| Error::Broken(format!("the database URL is not valid: {error}")))?;
        config.application_name("parlor");
        config.tcp_user_timeout(SILENCE);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        // Many servers on loopback offer a self-signed certificate that nobody trusts.
        if config.get_ssl_mode() == SslMode::Prefer && is_local(&config) {
            config.ssl_mode(SslMode::Disable);
        }
        Ok(Self {
            config,
            tls: MakeRustlsConnect::new(tls_config()),
        })
    }

    /// A connection that may write.
    pub(super) async fn connect(&self) -> Result<Client, Error> {
        let connected = self.config.connect(self.tls.clone()).await;
        let (client, connection) = connected.map_err(unreachable)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "lost a connection to PostgreSQL");
            }
        });
        client.batch_execute(WRITER).await.map_err(unreachable)?;
        Ok(client)
    }
}

fn is_local(config: &Config) -> bool {
    let is_loopback = |name: &str| {
        name == "localhost"
            || name
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    };
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => is_loopback(name),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }) && config
        .get_hostaddrs()
        .iter()
        .all(std::net::IpAddr::is_loopback)
}

fn tls_config() -> ClientConfig {
    let roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
