//! The certificates of one listener: which one a client gets, and how new files take the place of old ones.
//!
//! Invariants:
//! - `whole-or-not-at-all`: the pairs of a listener are exchanged together. When one of them cannot be used, all
//!   stay as they were.
//! - `connections-stay`: whoever has shaken hands keeps what was agreed on; only new handshakes meet new files.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::tls::provider;
use crate::config;
use crate::observe::TlsMetrics;

/// Why a certificate cannot be used; the operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or is not PEM.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Chain and key do not belong together, or the key is of no use.
    #[error("{chain} and {key} cannot be used together: {reason}")]
    Pair {
        /// The chain's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        reason: String,
    },
}

/// A listener's certificates. Clients get the first that is valid for the name that they ask for (SNI), else
/// the first of all, which clients that connect by address get too.
pub struct Certificates {
    config: config::Tls,
    metrics: TlsMetrics,
    pairs: ArcSwap<Vec<Arc<CertifiedKey>>>,
    /// The files as they were when they were read last, whatever came of it.
    read: Mutex<Vec<Option<FileState>>>,
}

/// What changes when a file is written, or another takes its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileState {
    modified: SystemTime,
    bytes: u64,
    inode: u64,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({})", self.pairs.load().len())
    }
}

impl Certificates {
    /// Loads a listener's certificates.
    ///
    /// # Errors
    /// [`CertificateError`] for the first that cannot be used.
    pub fn load(tls: &config::Tls, metrics: TlsMetrics) -> Result<Self, CertificateError> {
        let read = states(tls);
        let pairs = load_all(tls)?;
        let certificates = Certificates {
            config: tls.clone(),
            pairs: ArcSwap::from_pointee(pairs),
            metrics,
            read: Mutex::new(read),
        };
        certificates.publish();
        Ok(certificates)
    }

    /// Reads the files again and gives new handshakes what they hold.
    ///
    /// # Errors
    /// [`CertificateError`] for the first that cannot be used; nothing has changed then.
    fn reload(&self) -> Result<(), CertificateError> {
        let states = states(&self.config);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = states;
        let pairs = load_all(&self.config)?;
        self.pairs.store(Arc::new(pairs));
        self.publish();
        Ok(())
    }

    fn have_changed(&self) -> bool {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) != states(&self.config)
    }

    /// Tells the metrics until when each chain is valid.
    fn publish(&self) {
        let pairs = self.pairs.load();
        for (files, pair) in self.config.certificates.iter().zip(pairs.iter()) {
            if let Some(expiry) = pair.cert.iter().filter_map(not_after_seconds).min() {
                self.metrics.set_expiry(&files.chain, expiry);
            }
        }
    }

    /// Keeps up with the files until `shutdown` turns true: looks at them every `tls.reload_interval`, and
    /// reads them whenever `reloads` says so.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the certificates as they are.
    pub async fn follow(
        self: Arc<Self>,
        mut reloads: watch::Receiver<u64>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        loop {
            let asked = tokio::select! {
                // Neither sender goes away before the node does.
                _ = shutdown.wait_for(|stopping| *stopping) => return,
                changed = reloads.changed() => changed.is_ok(),
                () = tokio::time::sleep(self.config.reload_interval) => false,
            };
            let certificates = self.clone();
            let looked = tokio::task::spawn_blocking(move || certificates.look(asked));
            if let Err(failure) = looked.await {
                tracing::error!(%failure, "the certificates could not be looked at");
            }
        }
    }

    /// Reads the files when somebody `asked` for it or when they have changed.
    fn look(&self, asked: bool) {
        if !asked && !self.have_changed() {
            return;
        }
        match self.reload() {
            Ok(()) => {
                self.metrics.record_reload("done");
                let certificates = self.config.certificates.len();
                tracing::info!(
                    certificates,
                    "new handshakes use the certificates as the files have them now"
                );
            }
            Err(error) => {
                self.metrics.record_reload("failed");
                tracing::error!(%error, "the certificates stay as they were");
            }
        }
    }

    /// The certificate for a client that asks for `name`.
    pub(super) fn pair_for(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.pairs.load();
        let named = name.and_then(|name| {
            let name = ServerName::try_from(name).ok()?;
            pairs.iter().find(|pair| is_valid_for(pair, &name))
        });
        named.or(pairs.first()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.pair_for(hello.server_name())
    }
}

pub(super) fn is_valid_for(pair: &CertifiedKey, name: &ServerName<'_>) -> bool {
    pair.end_entity_cert()
        .and_then(ParsedCertificate::try_from)
        .and_then(|leaf| rustls::client::verify_server_name(&leaf, name))
        .is_ok()
}

fn states(tls: &config::Tls) -> Vec<Option<FileState>> {
    let files = tls
        .certificates
        .iter()
        .flat_map(|pair| [&pair.chain, &pair.key]);
    files.map(|file| state(file)).collect()
}

fn state(file: &Path) -> Option<FileState> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(file).ok()?;
    Some(FileState {
        modified: metadata.modified().ok()?,
        bytes: metadata.len(),
        inode: metadata.ino(),
    })
}

fn load_all(tls: &config::Tls) -> Result<Vec<Arc<CertifiedKey>>, CertificateError> {
    let provider = provider();
    let pairs = tls.certificates.iter();
    pairs
        .map(|pair| load(pair, &provider).map(Arc::new))
        .collect()
}

fn load(
    certificate: &config::Certificate,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, CertificateError> {
    let unreadable =
        |path: &PathBuf, error: rustls::pki_types::pem::Error| CertificateError::File {
            path: path.clone(),
            reason: error.to_string(),
        };
    let chain = CertificateDer::pem_file_iter(&certificate.chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(&certificate.chain, error))?;
    let key = PrivateKeyDer::from_pem_file(&certificate.key)
        .map_err(|error| unreadable(&certificate.key, error))?;
    let pair = |reason: String| CertificateError::Pair {
        chain: certificate.chain.clone(),
        key: certificate.key.clone(),
        reason,
    };
    if chain.is_empty() {
        // A file that is being written may be empty for a moment.
        return Err(pair("the chain holds no certificate".to_owned()));
    }
    CertifiedKey::from_der(chain, key, provider).map_err(|error| pair(error.to_string()))
}

/// Until when a certificate is valid (RFC 5280 §4.1.2.5), in seconds of Unix time; `None` when it does not parse.
fn not_after_seconds(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Metrics;
    use rcgen::{CertificateParams, KeyPair};
    use std::time::Duration;

    fn write(files: &config::Certificate, name: &str) -> i64 {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let not_after = certificate.not_after.unix_timestamp();
        let certificate = certificate.self_signed(&key).unwrap();
        fs::write(&files.chain, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        not_after
    }

    fn tls(folder: &Path, names: &[&str]) -> config::Tls {
        let certificates = names.iter().map(|name| {
            let files = config::Certificate {
                chain: folder.join(format!("{name}.pem")),
                key: folder.join(format!("{name}.key")),
            };
            write(&files, name);
            files
        });
        config::Tls {
            certificates: certificates.collect(),
            reload_interval: Duration::from_secs(10),
            misdirected: config::Misdirected::Refuse,
            client_certificates: None,
        }
    }

    fn is_for(certificates: &Certificates, asked: Option<&str>, name: &str) -> bool {
        let pair = certificates.pair_for(asked).unwrap();
        is_valid_for(&pair, &ServerName::try_from(name).unwrap())
    }

    #[test]
    fn certificate_is_chosen_by_name_and_the_first_serves_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let tls = tls(folder.path(), &["a.example", "b.example"]);
        let metrics = Metrics::new().tls_listener("l");
        let certificates = Certificates::load(&tls, metrics).unwrap();
        assert!(is_for(&certificates, Some("b.example"), "b.example"));
        assert!(is_for(&certificates, Some("a.example"), "a.example"));
        for other in [None, Some("c.example"), Some("")] {
            assert!(is_for(&certificates, other, "a.example"), "{other:?}");
        }
    }

    #[test]
    fn files_that_cannot_be_used_leave_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let tls = tls(folder.path(), &["a.example", "b.example"]);
        let metrics = Metrics::new();
        let certificates = Certificates::load(&tls, metrics.tls_listener("l")).unwrap();
        assert!(!certificates.have_changed());
        let [first, second] = &tls.certificates[..] else {
            panic!("there are two");
        };
        write(first, "c.example");
        for broken in ["", "no PEM"] {
            fs::write(&second.chain, broken).unwrap();
            assert!(certificates.have_changed());
            certificates.look(false);
            assert!(is_for(&certificates, None, "a.example"));
            // The same fault is not complained of again and again.
            assert!(!certificates.have_changed());
        }
        // A new chain with the old key.
        let old_key = fs::read(&second.key).unwrap();
        write(second, "d.example");
        let new_key = fs::read(&second.key).unwrap();
        fs::write(&second.key, old_key).unwrap();
        certificates.look(false);
        assert!(is_for(&certificates, Some("b.example"), "b.example"));
        fs::write(&second.key, new_key).unwrap();
        certificates.look(false);
        assert!(is_for(&certificates, None, "c.example"));
        assert!(is_for(&certificates, Some("d.example"), "d.example"));
        let text = metrics.gather_text();
        for line in [
            "tidegate_tls_certificate_reloads_total{listener=\"l\",result=\"done\"} 1",
            "tidegate_tls_certificate_reloads_total{listener=\"l\",result=\"failed\"} 3",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn expiry_is_shown_and_follows_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let tls = tls(folder.path(), &["a.example"]);
        let metrics = Metrics::new();
        let certificates = Certificates::load(&tls, metrics.tls_listener("l")).unwrap();
        let not_after = write(&tls.certificates[0], "a.example");
        certificates.look(true);
        let shown = format!(
            "chain=\"{}\",listener=\"l\"}} {not_after}",
            tls.certificates[0].chain.display()
        );
        let text = metrics.gather_text();
        assert!(text.contains(&shown), "{shown} in {text}");
    }
}
