//! TLS of the edge's listeners: rustls, with the certificates of [`super::certificates`] and the judgement of clients'
//! own ones in `client_certificates.rs`.

use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as PlainStream;
use pingora::protocols::tls::SslDigest;
use pingora::time::timeout;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::ServerName;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use super::admit::GateRefusal;
use super::certificates::{Certificates, is_valid_for};
use super::client_certificates::subject;
use super::request::Request;
use super::tls_stream::TlsStream;
use crate::config::Misdirected;
use crate::observe::TlsMetrics;

/// The installed provider; aws-lc-rs when the process has not installed another.
pub(super) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| {
        // Losing a race against another thread means that one is installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    })
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
    certificates: Arc<Certificates>,
    refuses_misdirected: bool,
    metrics: TlsMetrics,
}

impl TlsListener {
    /// h2 and HTTP/1.1 by ALPN, sessions resumed by tickets that only this process can read; their keys change
    /// every six hours.
    ///
    /// # Errors
    /// What rustls says.
    pub(super) fn new(
        certificates: Arc<Certificates>,
        clients: Option<Arc<dyn ClientCertVerifier>>,
        misdirected: Misdirected,
        metrics: TlsMetrics,
    ) -> Result<Self, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?;
        let builder = match clients {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(certificates.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.max_fragment_size = Some(FRAGMENT_BYTES);
        config.ticketer = Ticketer::new()?;
        Ok(TlsListener {
            config: Arc::new(config),
            certificates,
            refuses_misdirected: misdirected == Misdirected::Refuse,
            metrics,
        })
    }

    /// Its certificates.
    pub(super) fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Takes the handshake with a client that has just connected, within `patience`.
    ///
    /// # Errors
    /// [`HandshakeFault`].
    pub(super) async fn handshake(
        &self,
        stream: Stream,
        patience: Duration,
    ) -> Result<Secured, HandshakeFault> {
        let plain = stream.into_any().downcast::<PlainStream>();
        let plain = plain.map_err(|_| HandshakeFault::Other)?;
        let accept = TlsStream::accept(self.config.clone(), *plain);
        // Boxed is what an idle connection on HTTP/1.1 would otherwise keep room for.
        let accepted = timeout(patience, Box::pin(accept)).await;
        let (result, stream) = match accepted {
            Ok(Ok(stream)) if stream.is_resumed() => ("resumed", Ok(stream)),
            Ok(Ok(stream)) => ("full", Ok(stream)),
            Ok(Err(error)) => {
                // Scanners fail all day: nothing that an operator has to see.
                tracing::debug!(%error, "a TLS handshake failed");
                ("failed", Err(HandshakeFault::of(&error)))
            }
            Err(_) => ("timed_out", Err(HandshakeFault::Other)),
        };
        self.metrics.record_handshake(result);
        let stream = stream?;
        let name = stream.server_name().filter(|_| self.refuses_misdirected);
        let scope = name.and_then(|name| {
            let pair = self.certificates.pair_for(Some(name))?;
            let name = name.to_owned();
            Some(Scope { name, pair })
        });
        Ok(Secured {
            subject: stream.client_certificate().and_then(subject),
            stream: Box::new(stream),
            scope,
        })
    }
}

/// For which hosts a connection was made: the one that its client named, and all others for which its
/// certificate is good, which browsers ask for on the same connection (RFC 9113 §9.1.1). A client that named
/// none has no scope.
pub(super) struct Scope {
    name: String,
    pair: Arc<CertifiedKey>,
}

impl Scope {
    /// Whether a request for `authority` may come on the connection.
    pub(super) fn covers(&self, authority: &str) -> bool {
        let host = host_of(authority);
        if host.is_empty() || host.eq_ignore_ascii_case(&self.name) {
            return true;
        }
        ServerName::try_from(host).is_ok_and(|host| is_valid_for(&self.pair, &host))
    }
}

/// Lets a request on that is meant for its connection.
///
/// # Errors
/// [`GateRefusal::Misdirected`].
pub(super) fn directed(request: Request, scope: Option<&Scope>) -> Result<Request, GateRefusal> {
    match scope {
        Some(scope) if !scope.covers(request.authority()) => Err(GateRefusal::Misdirected),
        _ => Ok(request),
    }
}

/// An authority without its port, an address without brackets.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// A connection behind its handshake.
pub(super) struct Secured {
    pub(super) stream: Stream,
    /// The subject of the client's certificate, if it was asked for one and has shown it.
    pub(super) subject: Option<String>,
    /// What may be asked for on it; `None`: anything.
    pub(super) scope: Option<Scope>,
}

/// Why a handshake failed, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandshakeFault {
    /// The client's certificate is missing or wrong.
    ClientCertificate,
    /// It broke off, or there was nothing to agree on.
    Other,
}

impl HandshakeFault {
    fn of(error: &std::io::Error) -> Self {
        let inner = (error.get_ref()).and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)) => {
                HandshakeFault::ClientCertificate
            }
            _ => HandshakeFault::Other,
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

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::PrivateKeyDer;

    #[test]
    fn connection_is_made_for_its_name_and_for_those_of_its_certificate() {
        let names = ["a.example", "*.b.example", "127.0.0.1", "::1"];
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names.map(str::to_owned)).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let chain = vec![certificate.der().clone()];
        let pair = CertifiedKey::from_der(chain, private, &provider()).unwrap();
        let scope = Scope {
            name: "named.example".to_owned(),
            pair: Arc::new(pair),
        };
        for authority in [
            "",
            "named.example",
            "NAMED.example:8443",
            "a.example",
            "A.example:443",
            "x.b.example",
            "127.0.0.1:8443",
            "[::1]:8443",
        ] {
            assert!(scope.covers(authority), "{authority}");
        }
        for authority in [
            "b.example",
            "x.y.b.example",
            "named.example.org",
            "127.0.0.2",
            "[::2]",
            "a_b",
        ] {
            assert!(!scope.covers(authority), "{authority}");
        }
    }
}
