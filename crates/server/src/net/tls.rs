//! HTTPS: where its certificate comes from, and how it is kept fresh while the server runs.
//!
//! The official SDKs speak nothing but HTTPS, to several names under one base: see
//! [`PREFIXES`].

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
use crate::state::Parlor;

/// What the official SDKs put before the base they are given, each with a dot
/// (docs/spec/signalling.md 1.1).
pub const PREFIXES: [&str; 6] = [
    "api",
    "socket-edge",
    "api-silos",
    "da-collector",
    "location",
    "location-legacy",
];

/// How often certificates are looked at.
const LOOK: Duration = Duration::from_secs(60);

/// The protocol that is spoken in TLS.
const HTTP: &[u8] = b"http/1.1";

/// Certificates and what keeps them fresh.
pub struct Certificates {
    resolver: Arc<dyn ResolvesServerCert>,
    /// Protocols besides HTTP that the certificates' upkeep needs.
    protocols: Vec<Vec<u8>>,
    /// Runs until it is dropped.
    pub upkeep: BoxFuture<'static, ()>,
}

impl Certificates {
    /// From files if they are named, from an ACME authority if a domain is, and otherwise from an
    /// authority of this server's own, for development.
    ///
    /// # Errors
    /// When the settings contradict each other or a file is not what it should be.
    pub fn open(settings: &Settings, parlor: &Arc<Parlor>) -> anyhow::Result<Self> {
        // Some library may have installed one already, which is as good.
        let _ = aws_lc_rs::default_provider().install_default();
        match (&settings.tls_cert, &settings.tls_key) {
            (Some(certificate), Some(key)) => return files::open(certificate, key),
            (None, None) => {}
            _ => anyhow::bail!("--tls-cert and --tls-key go together"),
        }
        let domains = settings.acme_domain.as_deref().unwrap_or_default();
        if domains.is_empty() {
            return development::open(settings, parlor);
        }
        #[cfg(feature = "acme")]
        return acme::open(settings, &with_prefixes(domains));
        #[cfg(not(feature = "acme"))]
        anyhow::bail!("--acme-domain: this build has no ACME (cargo feature `acme`)");
    }

    /// What accepts connections with these certificates.
    pub fn acceptor(&self) -> TlsAcceptor {
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.resolver));
        config.alpn_protocols = vec![HTTP.to_vec()];
        config.alpn_protocols.extend(self.protocols.iter().cloned());
        // A client resumes with a ticket that it keeps; nothing is kept here for it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        match aws_lc_rs::Ticketer::new() {
            Ok(ticketer) => config.ticketer = ticketer,
            Err(error) => tracing::warn!(%error, "TLS sessions cannot be resumed"),
        }
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Every name with every prefix, each once.
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

    /// Shakes hands with what these certificates accept, as somebody who trusts `roots` and asks
    /// for `name`; what the server showed.
    pub(super) async fn shown(
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
        let shown = stream.get_ref().1.peer_certificates().unwrap().to_vec();
        accepting.await.unwrap()?;
        Ok(shown.into_iter().map(CertificateDer::into_owned).collect())
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
