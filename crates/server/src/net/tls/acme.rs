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

/// The ALPN protocol of challenges.
const ACME: &[u8] = b"acme-tls/1";
/// The directory of Let's Encrypt.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

pub(super) fn open(settings: &Settings, names: &[String]) -> anyhow::Result<Certificates> {
    let folder = settings.data_dir().join("acme");
    create_private(&folder).map_err(|error| anyhow::anyhow!("{}: {error}", folder.display()))?;
    let directory = settings.acme_directory.as_deref().unwrap_or(DIRECTORY);
    anyhow::ensure!(
        directory.starts_with("https://"),
        "--acme-directory must be a URL that starts with https://"
    );
    let contact = settings
        .acme_email
        .iter()
        .map(|email| format!("mailto:{email}"));
    let config = match &settings.acme_root {
        None => AcmeConfig::new(names),
        Some(root) => AcmeConfig::new_with_client_config(names, client_trusting(root)?),
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
        "certificates are issued by an ACME authority"
    );
    let resolver = state.resolver();
    let renewal = async move {
        while let Some(event) = state.next().await {
            match event {
                Ok(event) => tracing::info!(?event, "ACME"),
                Err(error) => {
                    tracing::warn!(%error, "ACME: no certificate was issued; it is retried");
                }
            }
        }
    };
    Ok(Certificates {
        resolver: Arc::clone(&resolver) as _,
        protocols: vec![ACME.to_vec()],
        renewal: Box::pin(renewal),
    })
}

/// Creates the folder of keys, or restricts the permissions of an existing one: its files are
/// written with the process's default mode.
fn create_private(folder: &Path) -> std::io::Result<()> {
    let mode = 0o700;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)?;
    std::fs::set_permissions(folder, Permissions::from_mode(mode))
}

/// Builds a client that trusts a private authority and no other.
fn client_trusting(root: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let failed =
        |error: &dyn std::fmt::Display| anyhow::anyhow!("--acme-root {}: {error}", root.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(root).map_err(|error| failed(&error))? {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    anyhow::ensure!(!roots.is_empty(), failed(&"it contains no certificate"));
    let config = ClientConfig::builder().with_root_certificates(roots);
    Ok(Arc::new(config.with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_keys_is_private_even_if_it_exists() {
        let data = tempfile::tempdir().unwrap();
        let older = data.path().join("older");
        std::fs::create_dir(&older).unwrap();
        std::fs::set_permissions(&older, Permissions::from_mode(0o755)).unwrap();
        for folder in [older, data.path().join("new")] {
            create_private(&folder).unwrap();
            let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
    }
}
