//! A certificate from files, which are reloaded when they change, so that renewal needs no signal.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{CHECK_INTERVAL, Certificates};

/// A certificate that can be replaced while it is in use.
#[derive(Debug)]
pub(super) struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl CurrentCertificate {
    pub(super) fn new(key: CertifiedKey) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(key))))
    }

    pub(super) fn replace(&self, key: CertifiedKey) {
        *self.0.write().expect("no holder of this lock panics") = Arc::new(key);
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().expect("no holder of this lock panics");
        Some(Arc::clone(&current))
    }
}

/// Combines a chain with its key, if they match.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> anyhow::Result<CertifiedKey> {
    let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?;
    certified.keys_match()?;
    Ok(certified)
}

/// The certificate in use, with its files.
struct FileReloader {
    files: CertificateFiles,
    current: Arc<CurrentCertificate>,
}

impl FileReloader {
    fn open(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let mut files = CertificateFiles {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            read: None,
        };
        let first = files.changed()?.expect("nothing was loaded before");
        Ok(Self {
            files,
            current: CurrentCertificate::new(first),
        })
    }

    /// Reloads the files if they have changed.
    fn reload(&mut self) {
        let changed = self.files.changed();
        apply(&self.current, changed);
    }
}

pub(super) fn open(certificate: &Path, key: &Path) -> anyhow::Result<Certificates> {
    let reloader = FileReloader::open(certificate, key)?;
    let resolver = Arc::clone(&reloader.current);
    let reloader = Arc::new(Mutex::new(reloader));
    Ok(Certificates {
        resolver,
        protocols: Vec::new(),
        renewal: Box::pin(reload_loop(CHECK_INTERVAL, move || {
            // A check that panics has changed nothing.
            let mut reloader = reloader.lock().unwrap_or_else(PoisonError::into_inner);
            reloader.reload();
        })),
    })
}

/// Checks forever, even if a single check panics.
async fn reload_loop(every: Duration, reload: impl Fn() + Clone + Send + 'static) {
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = tokio::task::spawn_blocking(reload.clone()).await {
            tracing::error!(%error, "checking the TLS certificate failed; it is retried");
        }
    }
}

/// The files may be read while only one of them was replaced; the certificate in use is kept then.
fn apply(current: &CurrentCertificate, changed: anyhow::Result<Option<CertifiedKey>>) {
    match changed {
        Ok(Some(key)) => {
            current.replace(key);
            tracing::info!("the TLS certificate was reloaded");
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(%error, "the TLS certificate could not be reloaded; the old one is kept");
        }
    }
}

/// The two files and the content that was last loaded.
struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    read: Option<(Vec<u8>, Vec<u8>)>,
}

impl CertificateFiles {
    /// Returns the certificate in the files, if it has changed.
    fn changed(&mut self) -> anyhow::Result<Option<CertifiedKey>> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
        };
        let found = (read(&self.certificate)?, read(&self.key)?);
        if self.read.as_ref() == Some(&found) {
            return Ok(None);
        }
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&found.0)
            .collect::<Result<_, _>>()
            .map_err(|error| anyhow::anyhow!("{}: {error}", self.certificate.display()))?;
        let missing = || anyhow::anyhow!("{} contains no certificate", self.certificate.display());
        anyhow::ensure!(!chain.is_empty(), missing());
        let key = PrivateKeyDer::from_pem_slice(&found.1)
            .map_err(|error| anyhow::anyhow!("{}: {error}", self.key.display()))?;
        let certified = certified(chain, key).map_err(|error| {
            let (certificate, key) = (self.certificate.display(), self.key.display());
            anyhow::anyhow!("{certificate} and {key} do not match: {error}")
        })?;
        self.read = Some(found);
        Ok(Some(certified))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::presented;
    use super::*;

    /// Generates a self-signed certificate for `a.test` and its key, as PEM.
    fn generate() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_shown_without_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        let write = |(made, its_key): &(String, String)| {
            std::fs::write(&certificate, made).unwrap();
            std::fs::write(&key, its_key).unwrap();
        };
        let (first, second) = (generate(), generate());
        write(&first);
        let mut reloader = FileReloader::open(&certificate, &key).unwrap();
        let opened = Certificates {
            resolver: Arc::clone(&reloader.current) as _,
            protocols: Vec::new(),
            renewal: Box::pin(async {}),
        };
        let roots = [der(&first.0), der(&second.0)];
        assert_eq!(
            presented(&opened, &roots, "a.test").await.unwrap(),
            roots[..1]
        );

        // A partial renewal is invalid, but keeps the old certificate.
        std::fs::write(&certificate, &second.0).unwrap();
        reloader.reload();
        assert_eq!(
            presented(&opened, &roots, "a.test").await.unwrap(),
            roots[..1]
        );

        write(&second);
        reloader.reload();
        assert_eq!(
            presented(&opened, &roots, "a.test").await.unwrap(),
            roots[1..]
        );
    }

    #[tokio::test]
    async fn a_check_that_panics_is_not_the_last() {
        let (checked, mut checks) = tokio::sync::mpsc::unbounded_channel();
        let reloading = reload_loop(Duration::from_millis(1), move || {
            checked.send(()).unwrap();
            panic!("a check failed");
        });
        let reloading = tokio::spawn(reloading);
        for _ in 0..3 {
            checks.recv().await.unwrap();
        }
        reloading.abort();
    }

    #[test]
    fn files_that_do_not_match_are_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        let error = || open(&certificate, &key).err().unwrap().to_string();
        assert!(error().contains("c.pem"));
        std::fs::write(&certificate, generate().0).unwrap();
        std::fs::write(&key, generate().1).unwrap();
        assert!(error().contains("do not match"));
        std::fs::write(&certificate, "").unwrap();
        assert!(error().contains("no certificate"));
    }
}
