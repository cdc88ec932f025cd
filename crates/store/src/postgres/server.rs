//! Which server to talk to, and how a connection to it is set up.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::{task::JoinHandle, time::sleep};
use tokio_postgres::{
    Client, Config, SimpleQueryMessage,
    config::{Host, SslMode},
    types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{Error, deadline::within};

use super::explain::{explain, unreachable};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server that vanished without a word holds a connection up.
const SILENCE: Duration = Duration::from_secs(30);

/// What a connection that writes says first.
const WRITER: &str = "SET synchronous_commit = on; SET statement_timeout = '30s'; \
                      SET idle_in_transaction_session_timeout = '30s'; \
                      SET client_min_messages = warning";
/// What a connection that reads says first.
pub(super) const READER: &str = "SET default_transaction_read_only = on; \
                                 SET statement_timeout = '30s'";

/// A server and how to reach it.
pub(super) struct Server {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
    /// How long the server may take for an answer, and for a whole connection.
    pub(super) timeout: Duration,
}

/// Which process of the server serves a connection.
const BACKEND: &str = "SELECT pid, extract(epoch FROM backend_start) FROM pg_stat_activity \
                       WHERE pid = pg_backend_pid()";
/// Ends such a process. It answers no row when there is none any more.
const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE CAST(pid AS TEXT) = $1 \
                   AND CAST(extract(epoch FROM backend_start) AS TEXT) = $2";
/// Between two looks whether it has ended.
const ENDING: Duration = Duration::from_millis(10);

/// A process of the server. Its number alone may belong to another one later.
#[derive(Debug, Clone)]
pub(super) struct Backend {
    number: String,
    started: String,
}

/// A connection and the task that drives it.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) backend: Backend,
    task: JoinHandle<()>,
}

impl Connected {
    /// Closes the socket without another word: the server may not be listening any more.
    pub(super) fn abort(self) {
        self.task.abort();
    }

    /// Ends what the server still does for connections that are lost, and waits until it has ended.
    /// What was sent on them may otherwise be carried out after what is sent on this one.
    pub(super) async fn end(&self, lost: &[Backend]) -> Result<(), Error> {
        for backend in lost {
            let named = [&backend.number as &(dyn ToSql + Sync), &backend.started];
            loop {
                match self.client.query(END, &named).await.map_err(explain) {
                    Ok(rows) if rows.is_empty() => break,
                    Ok(_) => sleep(ENDING).await,
                    Err(error @ Error::Unavailable(_)) => return Err(error),
                    Err(error) => {
                        // A role without this right must not be without writes for it.
                        tracing::warn!(%error, "what a lost connection was doing may still be done");
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
        config.tcp_user_timeout(SILENCE);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT.min(timeout));
        }
        // Many servers on loopback offer a self-signed certificate that nobody trusts.
        if config.get_ssl_mode() == SslMode::Prefer && is_local(&config) {
            config.ssl_mode(SslMode::Disable);
        }
        Ok(Self {
            config,
            tls: MakeRustlsConnect::new(tls_config()),
            timeout,
        })
    }

    /// A connection that may write.
    pub(super) async fn connect(&self) -> Result<Connected, Error> {
        // The driver's own limit ends with the handshake of TCP, which a frozen host still makes.
        let connect = async {
            let connected = self.config.connect(self.tls.clone()).await;
            connected.map_err(unreachable)
        };
        let (client, connection) = within(self.timeout, connect).await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "lost a connection to PostgreSQL");
            }
        });
        match within(self.timeout, set_up(&client)).await {
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
    client.batch_execute(WRITER).await.map_err(unreachable)?;
    let answers = client.simple_query(BACKEND).await.map_err(unreachable)?;
    let backend = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(Backend {
            number: row.get(0)?.to_owned(),
            started: row.get(1)?.to_owned(),
        }),
        _ => None,
    });
    backend.ok_or_else(|| Error::Broken("PostgreSQL does not say which process it is".to_owned()))
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
