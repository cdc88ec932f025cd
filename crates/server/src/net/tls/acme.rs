//! Certificates from an ACME authority (RFC 8555) such as Let's Encrypt, by TLS-ALPN-01 (RFC 8737)
//! on the HTTPS port itself: the authority connects to port 443 of each name.

use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_acme::caches::DirCache;
use rustls_acme::{AcmeConfig, UseChallenge};

use super::Certificates;
use crate::config::Settings;

/// The protocol of the authority's own connections.
const ACME: &[u8] = b"acme-tls/1";
/// Let's Encrypt.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

pub(super) fn open(settings: &Settings, names: &[String]) -> anyhow::Result<Certificates> {
    let folder = settings.data_dir().join("acme");
    keep_to_ourselves(&folder).map_err(|error| anyhow::anyhow!("{}: {error}", folder.display()))?;
    let directory = settings.acme_directory.as_deref().unwrap_or(DIRECTORY);
    anyhow::ensure!(
        directory.starts_with("https://"),
        "--acme-directory takes a URL that starts with https://"
    );
    let contact = settings
        .acme_email
        .iter()
        .map(|email| format!("mailto:{email}"));
    let config = match &settings.acme_root {
        None => AcmeConfig::new(names),
        Some(root) => AcmeConfig::new_with_client_config(names, trusting(root)?),
    };
    let mut state = config
        .contact(contact)
        .directory(directory)
        .challenge_type(UseChallenge::TlsAlpn01)
        .cache(DirCache::new(folder))
        .state();
    tracing::info!(
        directory,
        ?names,
        "certificates come from an ACME authority"
    );
    let resolver = state.resolver();
    let upkeep = async move {
        while let Some(event) = state.next().await {
            match event {
                Ok(event) => tracing::info!(?event, "ACME"),
                Err(error) => {
                    tracing::warn!(%error, "ACME: no certificate this time; it is tried again");
                }
            }
        }
    };
    Ok(Certificates {
        resolver: Arc::clone(&resolver) as _,
        protocols: vec![ACME.to_vec()],
        upkeep: Box::pin(upkeep),
    })
}

/// Makes the folder of keys, or takes an older one from everybody else: the keys in it are written
/// with the mode that the process gives its files.
fn keep_to_ourselves(folder: &Path) -> std::io::Result<()> {
    let mode = 0o700;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)?;
    std::fs::set_permissions(folder, Permissions::from_mode(mode))
}

/// A client that trusts a private authority and no other.
fn trusting(root: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let failed =
        |error: &dyn std::fmt::Display| anyhow::anyhow!("--acme-root {}: {error}", root.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(root).map_err(|error| failed(&error))? {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    anyhow::ensure!(!roots.is_empty(), failed(&"it holds no certificate"));
    let config = ClientConfig::builder().with_root_certificates(roots);
    Ok(Arc::new(config.with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_looks_into_the_folder_of_keys_even_an_older_one() {
        let data = tempfile::tempdir().unwrap();
        let older = data.path().join("older");
        std::fs::create_dir(&older).unwrap();
        std::fs::set_permissions(&older, Permissions::from_mode(0o755)).unwrap();
        for folder in [older, data.path().join("new")] {
            keep_to_ourselves(&folder).unwrap();
            let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
    }
}
