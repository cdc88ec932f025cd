//! Connecting to the server.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::{task::JoinHandle, time::sleep};
use tokio_postgres::{
    Client, Config, SimpleQueryMessage,
    config::{Host, SslMode},
    types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{Error, deadline::with_deadline};

use super::explain::{explain, unreachable};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long transmitted data may stay unacknowledged before the connection is closed.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of a writer's connection.
const WRITER_SETTINGS: &str = "SET synchronous_commit = on; SET statement_timeout = '30s'; \
                               SET idle_in_transaction_session_timeout = '30s'; \
                               SET client_min_messages = warning";
/// Settings of a reader's connection.
pub(super) const READER_SETTINGS: &str = "SET default_transaction_read_only = on; \
                                          SET statement_timeout = '30s'";

/// How to connect to the server.
pub(super) struct Server {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
    /// Timeout of a statement, and of connecting.
    pub(super) timeout: Duration,
}

/// Identifies the backend process of a connection.
const BACKEND: &str = "SELECT pid, extract(epoch FROM backend_start) FROM pg_stat_activity \
                       WHERE pid = pg_backend_pid()";
/// Terminates a backend process. Returns no row once the process has exited.
const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                         WHERE CAST(pid AS TEXT) = $1 \
                         AND CAST(extract(epoch FROM backend_start) AS TEXT) = $2";
/// Interval for checking whether a terminated process has exited.
const TERMINATE_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A backend process. The start time is included because process ids are reused.
#[derive(Debug, Clone)]
pub(super) struct Backend {
    pid: String,
    started: String,
}

/// A connection and the task that drives it.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) backend: Backend,
    task: JoinHandle<()>,
}

impl Connected {
    /// Closes the socket without a termination message, because the server may hang.
    pub(super) fn abort(self) {
        self.task.abort();
    }

    /// Terminates the backend processes of lost connections and waits until they have exited.
    /// Otherwise the server might execute their statements after those sent on this connection.
    pub(super) async fn terminate(&self, lost: &[Backend]) -> Result<(), Error> {
        for backend in lost {
            let identity = [&backend.pid as &(dyn ToSql + Sync), &backend.started];
            loop {
                match self
                    .client
                    .query(TERMINATE, &identity)
                    .await
                    .map_err(explain)
                {
                    Ok(rows) if rows.is_empty() => break,
                    Ok(_) => sleep(TERMINATE_POLL_INTERVAL).await,
                    Err(error @ Error::Unavailable(_)) => return Err(error),
                    Err(error) => {
                        // Writes must still work for a role without this privilege.
                        tracing::warn!(%error, "cannot terminate the backend of a lost connection; its statement may still be executed");
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Server {
    pub(super) fn new(url: &str, timeout: Duration) -> Result<Self, Error> {
        let mut config: Config = url
            .parse()
            .map_err(|error| Error::Broken(format!("the database URL is not valid: {error}")))?;
        config.application_name("parlor");
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT.min(timeout));
        }
        // Many local servers offer an untrusted self-signed certificate.
        if config.get_ssl_mode() == SslMode::Prefer && is_local(&config) {
            config.ssl_mode(SslMode::Disable);
        }
        Ok(Self {
            config,
            tls: MakeRustlsConnect::new(tls_config()),
            timeout,
        })
    }

    /// Opens a connection for writes.
    pub(super) async fn connect(&self) -> Result<Connected, Error> {
        // The driver's own timeout covers only the TCP handshake, which a frozen host still
        // completes.
        let connect = async {
            let connected = self.config.connect(self.tls.clone()).await;
            connected.map_err(unreachable)
        };
        let (client, connection) = with_deadline(self.timeout, connect).await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "lost a connection to PostgreSQL");
            }
        });
        match with_deadline(self.timeout, set_up(&client)).await {
            Ok(backend) => Ok(Connected {
                client,
                backend,
                task,
            }),
            Err(error) => {
                task.abort();
                Err(error)
            }
        }
    }
}

async fn set_up(client: &Client) -> Result<Backend, Error> {
    client
        .batch_execute(WRITER_SETTINGS)
        .await
        .map_err(unreachable)?;
    let messages = client.simple_query(BACKEND).await.map_err(unreachable)?;
    let backend = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(Backend {
            pid: row.get(0)?.to_owned(),
            started: row.get(1)?.to_owned(),
        }),
        _ => None,
    });
    backend
        .ok_or_else(|| Error::Broken("PostgreSQL does not report its backend process".to_owned()))
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
