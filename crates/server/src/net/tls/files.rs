//! A certificate from files, read again when they change: who renews them need not tell us.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Certificates, LOOK};

/// A certificate that can be put in another's place while it is in use.
#[derive(Debug)]
pub(super) struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    pub(super) fn new(key: CertifiedKey) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(key))))
    }

    pub(super) fn replace(&self, key: CertifiedKey) {
        *self.0.write().expect("no holder of this lock panics") = Arc::new(key);
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().expect("no holder of this lock panics");
        Some(Arc::clone(&current))
    }
}

/// A chain with its key, if they belong together.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> anyhow::Result<CertifiedKey> {
    let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?;
    certified.keys_match()?;
    Ok(certified)
}

/// The two files, and the certificate in use.
struct Watched {
    pair: Pair,
    current: Arc<Current>,
}

impl Watched {
    fn open(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let mut pair = Pair {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            read: None,
        };
        let first = pair.changed()?.expect("nothing was read before");
        Ok(Self {
            pair,
            current: Current::new(first),
        })
    }

    /// Reads the files again.
    fn look(&mut self) {
        let changed = self.pair.changed();
        take(&self.current, changed);
    }
}

pub(super) fn open(certificate: &Path, key: &Path) -> anyhow::Result<Certificates> {
    let watched = Watched::open(certificate, key)?;
    let resolver = Arc::clone(&watched.current);
    let watched = Arc::new(Mutex::new(watched));
    Ok(Certificates {
        resolver,
        protocols: Vec::new(),
        upkeep: Box::pin(keep_looking(LOOK, move || {
            // Half of a look has changed nothing.
            let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.look();
        })),
    })
}

/// Looks for ever, whatever becomes of one look.
async fn keep_looking(every: Duration, look: impl Fn() + Clone + Send + 'static) {
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = tokio::task::spawn_blocking(look.clone()).await {
            tracing::error!(%error, "looking at the TLS certificate has failed; it is tried again");
        }
    }
}

/// Files may be looked at between the writing of one and of the other: what is in use stays then.
fn take(current: &Current, changed: anyhow::Result<Option<CertifiedKey>>) {
    match changed {
        Ok(Some(key)) => {
            current.replace(key);
            tracing::info!("the TLS certificate was read again");
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(%error, "the TLS certificate could not be read again; the old one stays");
        }
    }
}

/// The two files and what was in them.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
    read: Option<(Vec<u8>, Vec<u8>)>,
}

impl Pair {
    /// What the files hold, if it is not what they held before.
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
        let missing = || anyhow::anyhow!("{} holds no certificate", self.certificate.display());
        anyhow::ensure!(!chain.is_empty(), missing());
        let key = PrivateKeyDer::from_pem_slice(&found.1)
            .map_err(|error| anyhow::anyhow!("{}: {error}", self.key.display()))?;
        let together = certified(chain, key).map_err(|error| {
            let (certificate, key) = (self.certificate.display(), self.key.display());
            anyhow::anyhow!("{certificate} and {key} do not belong together: {error}")
        })?;
        self.read = Some(found);
        Ok(Some(together))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::shown;
    use super::*;

    /// A self-signed certificate for `a.test` and its key, as PEM.
    fn made() -> (String, String) {
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
        let (first, second) = (made(), made());
        write(&first);
        let mut watched = Watched::open(&certificate, &key).unwrap();
        let opened = Certificates {
            resolver: Arc::clone(&watched.current) as _,
            protocols: Vec::new(),
            upkeep: Box::pin(async {}),
        };
        let roots = [der(&first.0), der(&second.0)];
        assert_eq!(shown(&opened, &roots, "a.test").await.unwrap(), roots[..1]);

        // Half of a renewal is no certificate, and no reason to stop.
        std::fs::write(&certificate, &second.0).unwrap();
        watched.look();
        assert_eq!(shown(&opened, &roots, "a.test").await.unwrap(), roots[..1]);

        write(&second);
        watched.look();
        assert_eq!(shown(&opened, &roots, "a.test").await.unwrap(), roots[1..]);
    }

    #[tokio::test]
    async fn a_look_that_panics_is_not_the_last() {
        let (looked, mut looks) = tokio::sync::mpsc::unbounded_channel();
        let looking = keep_looking(Duration::from_millis(1), move || {
            looked.send(()).unwrap();
            panic!("a look has failed");
        });
        let looking = tokio::spawn(looking);
        for _ in 0..3 {
            looks.recv().await.unwrap();
        }
        looking.abort();
    }

    #[test]
    fn files_that_do_not_belong_together_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        let said = || open(&certificate, &key).err().unwrap().to_string();
        assert!(said().contains("c.pem"));
        std::fs::write(&certificate, made().0).unwrap();
        std::fs::write(&key, made().1).unwrap();
        assert!(said().contains("do not belong together"));
        std::fs::write(&certificate, "").unwrap();
        assert!(said().contains("no certificate"));
    }
}
