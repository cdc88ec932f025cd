//! HTTPS: the source of the certificate, and its renewal while the server runs.
//!
//! The official SDKs use HTTPS only, with several names under one base: see [`PREFIXES`].

#[cfg(feature = "acme")]
mod acme;
mod development;
mod files;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use tokio_rustls::TlsAcceptor;

use crate::config::Settings;
use crate::state::ServerState;

/// The labels that the official SDKs prepend to their base name, each with a dot
/// (docs/spec/signalling.md 1.1).
pub const PREFIXES: [&str; 6] = [
    "api",
    "socket-edge",
    "api-silos",
    "da-collector",
    "location",
    "location-legacy",
];

/// How often certificates are checked for renewal.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The ALPN protocol of HTTP.
const HTTP: &[u8] = b"http/1.1";

/// The server's certificate and its renewal.
pub struct Certificates {
    resolver: Arc<dyn ResolvesServerCert>,
    /// ALPN protocols besides HTTP that the renewal needs.
    protocols: Vec<Vec<u8>>,
    /// Renews the certificate until it is dropped.
    pub renewal: BoxFuture<'static, ()>,
}

impl Certificates {
    /// Loads the certificate from files if they are configured, from an ACME authority if a domain
    /// is, and otherwise from a development authority of this server.
    ///
    /// # Errors
    /// When the settings contradict each other or a file is invalid.
    pub fn open(settings: &Settings, state: &Arc<ServerState>) -> anyhow::Result<Self> {
        // Fails if a library has installed one already, which is equivalent.
        let _ = aws_lc_rs::default_provider().install_default();
        match (&settings.tls_cert, &settings.tls_key) {
            (Some(certificate), Some(key)) => return files::open(certificate, key),
            (None, None) => {}
            _ => anyhow::bail!("--tls-cert and --tls-key must be set together"),
        }
        let domains = settings.acme_domain.as_deref().unwrap_or_default();
        if domains.is_empty() {
            return development::open(settings, state);
        }
        #[cfg(feature = "acme")]
        return acme::open(settings, &with_prefixes(domains));
        #[cfg(not(feature = "acme"))]
        anyhow::bail!("--acme-domain: this build has no ACME (cargo feature `acme`)");
    }

    /// Builds the acceptor of TLS connections.
    pub fn acceptor(&self) -> TlsAcceptor {
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.resolver));
        config.alpn_protocols = vec![HTTP.to_vec()];
        config.alpn_protocols.extend(self.protocols.iter().cloned());
        // Sessions are resumed with tickets that clients keep, so no state is stored here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        match aws_lc_rs::Ticketer::new() {
            Ok(ticketer) => config.ticketer = ticketer,
            Err(error) => tracing::warn!(%error, "TLS sessions cannot be resumed"),
        }
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Returns every name with every prefix, without duplicates.
fn with_prefixes(names: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for name in names {
        all.push(name.clone());
        all.extend(PREFIXES.map(|prefix| format!("{prefix}.{name}")));
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|name| seen.insert(name.clone()));
    all
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Connects to an acceptor of these certificates, trusting `roots` and asking for `name`.
    /// Returns the chain that the server presents.
    pub(super) async fn presented(
        certificates: &Certificates,
        roots: &[CertificateDer<'static>],
        name: &str,
    ) -> std::io::Result<Vec<CertificateDer<'static>>> {
        let _ = aws_lc_rs::default_provider().install_default();
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone()).unwrap();
        }
        let config = ClientConfig::builder()
            .with_root_certificates(store)
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let acceptor = certificates.acceptor();
        let accepting = tokio::spawn(async move { acceptor.accept(far).await.map(drop) });
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, near)
            .await?;
        let presented = stream.get_ref().1.peer_certificates().unwrap().to_vec();
        accepting.await.unwrap()?;
        Ok(presented
            .into_iter()
            .map(CertificateDer::into_owned)
            .collect())
    }

    #[test]
    fn every_name_gets_its_prefixes_once() {
        let names = with_prefixes(&[
            "a.example".into(),
            "api.a.example".into(),
            "a.example".into(),
        ]);
        assert_eq!(names.len(), 13);
        assert_eq!(
            names.iter().filter(|name| *name == "api.a.example").count(),
            1
        );
    }
}
