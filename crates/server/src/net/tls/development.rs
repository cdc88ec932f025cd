//! Development certificates: an authority of this server's own, created at the first start and
//! kept, and a certificate that it signs for the configured names, created at each start.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use jiff::{Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::files::{CurrentCertificate, certified};
use super::{CHECK_INTERVAL, Certificates, with_prefixes};
use crate::config::Settings;
use crate::state::ServerState;

/// The authority's certificate, to be imported into browsers.
const CERTIFICATE: &str = "ca.pem";
/// The authority's private key.
const KEY: &str = "ca.key";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Validity of the authority. Each new one must be imported into browsers by hand.
const AUTHORITY_DAYS: i64 = 3650;
/// Validity of a certificate.
const LEAF_DAYS: i64 = 90;
/// Age at which a certificate is renewed.
const RENEW_DAYS: i64 = 60;

pub(super) fn open(settings: &Settings, state: &Arc<ServerState>) -> anyhow::Result<Certificates> {
    let mut bases = vec!["localhost".to_owned()];
    bases.extend(settings.tls_name.iter().flatten().cloned());
    let mut names = with_prefixes(&bases);
    // Addresses that are configured as names get no prefixes.
    names.retain(|name| !is_prefixed_address(name));
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    let folder = settings.data_dir().join("tls");
    let now_ms = state.clock.now_ms();
    let authority = Authority::open(&folder, now_ms)
        .map_err(|error| anyhow::anyhow!("{}: {error}", folder.display()))?;
    let current = CurrentCertificate::new(authority.leaf(&names, now_ms)?);
    tracing::info!(
        authority = %folder.join("ca.pem").display(),
        "HTTPS uses a development certificate: import this authority into your browser \
         (docs/operating.md, TLS and names), or set --tls-cert or --acme-domain"
    );
    let (resolver, state) = (Arc::clone(&current), Arc::clone(state));
    let renewal = async move {
        let mut issued_ms = now_ms;
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let now_ms = state.clock.now_ms();
            // In either direction: the last one may have been issued while the clock was wrong.
            if (now_ms - issued_ms).abs() < RENEW_DAYS * DAY_MS {
                continue;
            }
            match authority.leaf(&names, now_ms) {
                Ok(leaf) => {
                    current.replace(leaf);
                    issued_ms = now_ms;
                }
                Err(error) => tracing::warn!(%error, "the TLS certificate could not be renewed"),
            }
        }
    };
    Ok(Certificates {
        resolver,
        protocols: Vec::new(),
        renewal: Box::pin(renewal),
    })
}

/// Whether a name is a prefixed address such as `api.192.0.2.1`, which cannot be resolved.
fn is_prefixed_address(name: &str) -> bool {
    name.split_once('.')
        .is_some_and(|(_, rest)| rest.parse::<std::net::IpAddr>().is_ok())
}

/// The signing authority: a certificate that browsers trust, and its key.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Loads the authority, or creates it.
    fn open(folder: &Path, now_ms: i64) -> anyhow::Result<Self> {
        let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
        if !certificate.exists() {
            create(folder, now_ms)?;
        }
        let pair = KeyPair::from_pem(&std::fs::read_to_string(&key)?)?;
        let pem = std::fs::read(&certificate)?;
        Ok(Self {
            certificate: CertificateDer::from_pem_slice(&pem)?,
            // Only the issuer's name and key are part of signed certificates, so these parameters
            // replace the stored certificate.
            issuer: Issuer::new(authority(&pair, now_ms)?, pair),
        })
    }

    /// Issues a certificate for some names.
    fn leaf(&self, names: &[String], now_ms: i64) -> anyhow::Result<CertifiedKey> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "Parlor (development)");
        set_validity(&mut params, now_ms, LEAF_DAYS);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let pair = KeyPair::generate()?;
        let made = params.signed_by(&pair, &self.issuer)?;
        let chain = vec![made.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        certified(chain, key)
    }
}

/// A short fingerprint of a public key, as hex, to distinguish keys.
fn fingerprint(pair: &KeyPair) -> String {
    let digest = digest::digest(&digest::SHA256, pair.der_bytes());
    let prefix = &digest.as_ref()[..4];
    prefix.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The authority's certificate. Its name distinguishes the authorities of several servers.
fn authority(pair: &KeyPair, now_ms: i64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(
        DnType::CommonName,
        format!("Parlor development CA {}", fingerprint(pair)),
    );
    set_validity(&mut params, now_ms, AUTHORITY_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Sets the validity: from yesterday, to allow for clock differences, for a number of days.
fn set_validity(params: &mut CertificateParams, now_ms: i64, days: i64) {
    let day = |days: i64| {
        let time = Timestamp::from_millisecond(now_ms + days * DAY_MS);
        let time = time.unwrap_or(Timestamp::UNIX_EPOCH);
        let date = time.to_zoned(TimeZone::UTC).date();
        let number = |part: i8| u8::try_from(part).expect("months and days are not negative");
        rcgen::date_time_ymd(date.year().into(), number(date.month()), number(date.day()))
    };
    (params.not_before, params.not_after) = (day(-1), day(days));
}

/// Creates an authority atomically: if several servers start at once on one directory, one creates
/// it and the others load it.
fn create(folder: &Path, now_ms: i64) -> anyhow::Result<()> {
    let pair = KeyPair::generate()?;
    let made = authority(&pair, now_ms)?.self_signed(&pair)?;
    let beside = folder.with_extension(format!("{}.new", fingerprint(&pair)));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&beside)?;
    write(&beside.join(KEY), 0o600, &pair.serialize_pem())?;
    write(&beside.join(CERTIFICATE), 0o644, &made.pem())?;
    // A rename replaces only a missing or an empty directory.
    let moved = std::fs::rename(&beside, folder);
    let _ = std::fs::remove_dir_all(&beside);
    match moved {
        Err(_) if folder.join(CERTIFICATE).exists() => Ok(()),
        moved => Ok(moved?),
    }
}

fn write(path: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.create_new(true).write(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::tests::presented;
    use super::*;

    async fn certificates(folder: &Path, names: &[&str]) -> Certificates {
        let settings = Settings {
            data_dir: Some(folder.to_owned()),
            tls_name: Some(names.iter().map(ToString::to_string).collect()),
            ..Settings::default()
        };
        let location = settings.database_location().unwrap();
        let state = ServerState::open(&location, settings.limits().unwrap())
            .await
            .unwrap();
        open(&settings, &Arc::new(state)).unwrap()
    }

    fn root(folder: &Path) -> [CertificateDer<'static>; 1] {
        let pem = std::fs::read(folder.join("tls/ca.pem")).unwrap();
        [CertificateDer::from_pem_slice(&pem).unwrap()]
    }

    #[tokio::test]
    async fn clients_that_trust_the_authority_reach_every_name() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = certificates(folder.path(), &["calls.test"]).await;
        let root = root(folder.path());
        for name in [
            "localhost",
            "api.localhost",
            "socket-edge.localhost",
            "127.0.0.1",
            "::1",
        ] {
            presented(&certificates, &root, name).await.unwrap();
        }
        for name in ["calls.test", "location-legacy.calls.test"] {
            presented(&certificates, &root, name).await.unwrap();
        }
        presented(&certificates, &root, "other.test")
            .await
            .unwrap_err();
    }

    #[tokio::test]
    async fn the_authority_stays_and_the_certificate_is_new_at_each_start() {
        let folder = tempfile::tempdir().unwrap();
        let first = certificates(folder.path(), &[]).await;
        let before = root(folder.path());
        let one = presented(&first, &before, "localhost").await.unwrap();
        let second = certificates(folder.path(), &["new.test"]).await;
        assert_eq!(root(folder.path()), before);
        let other = presented(&second, &before, "api.new.test").await.unwrap();
        assert_ne!(one[0], other[0]);
        assert_eq!(one[1], other[1]);
    }

    #[test]
    fn servers_that_start_at_once_agree_on_the_authority() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("tls");
        let start = std::sync::Barrier::new(8);
        let open = || {
            start.wait();
            Authority::open(&folder, 0).unwrap().certificate
        };
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(made[0], root(folder.parent().unwrap())[0]);
    }

    #[tokio::test]
    async fn nobody_else_can_read_the_authoritys_key() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path(), &[]).await;
        let key = std::fs::metadata(folder.path().join("tls/ca.key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }
}
