//! TLS of the edge's listeners: rustls, several certificates, chosen by SNI.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as PlainStream;
use pingora::protocols::tls::SslDigest;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::tls_stream::TlsStream;
use crate::config;

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

/// Chooses a certificate by SNI: the first that is valid for the name, else the first of all, which
/// clients that connect by address get too.
pub struct Certificates {
    keys: Vec<Arc<CertifiedKey>>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({})", self.keys.len())
    }
}

impl Certificates {
    /// Loads a listener's certificates.
    ///
    /// # Errors
    /// [`CertificateError`] for the first that cannot be used.
    pub fn load(tls: &config::Tls) -> Result<Self, CertificateError> {
        let provider = provider();
        let keys = tls
            .certificates
            .iter()
            .map(|certificate| load(certificate, &provider).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Certificates { keys })
    }
}

/// The installed provider; aws-lc-rs when the process has not installed another.
fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| {
        // Losing a race against another thread means that one is installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    })
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
    CertifiedKey::from_der(chain, key, provider).map_err(|error| CertificateError::Pair {
        chain: certificate.chain.clone(),
        key: certificate.key.clone(),
        reason: error.to_string(),
    })
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| {
            let name = ServerName::try_from(name).ok()?;
            self.keys.iter().find(|key| is_valid_for(key, &name))
        });
        named.or(self.keys.first()).cloned()
    }
}

fn is_valid_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    key.end_entity_cert()
        .and_then(ParsedCertificate::try_from)
        .and_then(|leaf| rustls::client::verify_server_name(&leaf, name))
        .is_ok()
}

/// Bytes on the wire of a record's header, of the type of its content and of its tag.
const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 16;

/// A record with all that belongs to it fits 16 KiB, and its plaintext is 64 bytes short of a multiple of
/// the page size.
///
/// rustls copies each record's plaintext to five bytes behind the beginning of a buffer, which begins
/// with a page as our blocks do. `rep movsb`, by which glibc copies as much, is about 25 times slower on
/// AMD's Zen processors when the destination is 1 to 15 bytes above the source modulo the page size
/// (figures in `benches/README.md`). Records that are a little shorter keep out of step with the pages, and their
/// buffers in one size class of the allocator.
pub(super) const RECORD_BYTES: usize = 16 * 1024 - 64;
const _: () = assert!(RECORD_BYTES + RECORD_OVERHEAD_BYTES <= 16 * 1024);

/// Bytes to leave free before what is to be written, so that it does not begin with a page.
pub(super) const LEAD_BYTES: usize = 64;

/// rustls counts the record's header.
const FRAGMENT_BYTES: usize = RECORD_BYTES + 5;

/// TLS on one listener.
pub(super) struct TlsListener {
    config: Arc<ServerConfig>,
}

impl TlsListener {
    /// h2 and HTTP/1.1 by ALPN, sessions resumed by tickets that only this process can read.
    ///
    /// # Errors
    /// What rustls says.
    pub(super) fn new(certificates: Certificates) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.max_fragment_size = Some(FRAGMENT_BYTES);
        config.ticketer = Ticketer::new()?;
        Ok(TlsListener {
            config: Arc::new(config),
        })
    }

    /// Takes the handshake with a client that has just connected; `None` when it fails.
    pub(super) async fn handshake(&self, stream: Stream) -> Option<Stream> {
        let plain = stream.into_any().downcast::<PlainStream>().ok()?;
        match TlsStream::accept(self.config.clone(), *plain).await {
            Ok(stream) => Some(Box::new(stream)),
            Err(error) => {
                // Scanners fail all day: nothing that an operator has to see.
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
        }
    }
}

/// The protocol version for the access log.
pub(super) fn version_name(digest: &SslDigest) -> &'static str {
    match digest.version.as_ref() {
        "TLSv1_3" | "TLSv1.3" => "TLSv1.3",
        "TLSv1_2" | "TLSv1.2" => "TLSv1.2",
        _ => "TLS",
    }
}
