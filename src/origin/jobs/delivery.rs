//! Handing a message to a server: one POST of JSON, on a connection of its own, over TLS where its URL says https.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::authorities;

/// How long a server may take for all of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is read of an answer before the connection is closed.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It was taken.
    Done,
    /// Another try may help.
    Failed(String),
    /// No other try will help.
    Hopeless(String),
}

/// Whom a store trusts to be the server that a webhook's URL names: the system's authorities, and those of a file. Read when
/// the first message needs them.
#[derive(Debug)]
pub struct Trust {
    ca_file: Option<PathBuf>,
    client: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Trust {
    /// With the authorities of a PEM file beside the system's.
    pub fn new(ca_file: Option<PathBuf>) -> Self {
        Trust {
            ca_file,
            client: OnceLock::new(),
        }
    }

    /// What a connection is made with.
    ///
    /// # Errors
    /// Why there is nobody to trust.
    fn client(&self) -> Result<Arc<ClientConfig>, String> {
        self.client.get_or_init(|| self.read()).clone()
    }

    fn read(&self) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        match rustls_native_certs::load_native_certs() {
            // What rustls cannot use of them nobody can show us either.
            Ok(system) => {
                roots.add_parsable_certificates(system);
            }
            Err(error) => tracing::warn!(%error, "the system's authorities cannot be read"),
        }
        if let Some(file) = &self.ca_file {
            authorities::add_from(file, &mut roots)
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
        if roots.is_empty() {
            return Err("neither the system nor origin.webhook_ca_file has authorities".to_owned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(client))
    }
}

/// A server that takes messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receiver<'a> {
    /// Its name and port, as `Host` has them.
    pub(super) authority: &'a str,
    pub(super) address: SocketAddr,
    /// Over TLS: the name that its certificate must have, and who may have signed it.
    pub(super) tls: Option<(&'a str, &'a Trust)>,
}

/// Posts JSON on a connection of its own. 2xx is success, another 4xx than 408 and 429 will not change.
pub(super) async fn post(to: Receiver<'_>, path: &str, body: String) -> Delivery {
    match tokio::time::timeout(PATIENCE, exchange(to, path, body)).await {
        Err(_) => Delivery::Failed(format!("no answer for {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => Delivery::Failed(error.to_string()),
        Ok(Ok(status)) => match status {
            200..=299 => Delivery::Done,
            408 | 429 => Delivery::Failed(format!("status {status}")),
            400..=499 => Delivery::Hopeless(format!("status {status}")),
            _ => Delivery::Failed(format!("status {status}")),
        },
    }
}

/// Trouble on the way.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("cannot trust anybody: {0}")]
    Trust(String),
    #[error("{0} is no name that a certificate can have")]
    Name(String),
    #[error("no TLS with {name}: {why}")]
    Tls { name: String, why: String },
    #[error("the exchange broke off: {0}")]
    Exchange(hyper::Error),
    #[error("the request cannot be written: {0}")]
    Request(http::Error),
}

async fn exchange(to: Receiver<'_>, path: &str, body: String) -> Result<u16, Trouble> {
    let stream = TcpStream::connect(to.address)
        .await
        .map_err(Trouble::Connect)?;
    let Some((name, trust)) = to.tls else {
        return talk(stream, to.authority, path, body).await;
    };
    let client = trust.client().map_err(Trouble::Trust)?;
    let server = ServerName::try_from(name.to_owned());
    let server = server.map_err(|_| Trouble::Name(name.to_owned()))?;
    let stream = TlsConnector::from(client)
        .connect(server, stream)
        .await
        .map_err(|error| Trouble::Tls {
            name: name.to_owned(),
            why: why_no_tls(&error),
        })?;
    talk(stream, to.authority, path, body).await
}

/// Why a handshake failed, in words for whoever has to mend it.
fn why_no_tls(error: &std::io::Error) -> String {
    let of_tls = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    match of_tls {
        Some(rustls::Error::InvalidCertificate(reason)) => match reason {
            // Or one that bears the name of such an authority and not its key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "no authority that is trusted has signed its certificate".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet".to_owned()
            }
            other => format!("its certificate is not good: {other}"),
        },
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}

/// One request and its answer.
async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    path: &str,
    body: String,
) -> Result<u16, Trouble> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Trouble::Exchange)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("Tidegate/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body)))
        .map_err(Trouble::Request)?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        // Read so that the server is not cut off; what it says does not matter.
        let _ = Limited::new(response.into_body(), ANSWER_MAX_BYTES)
            .collect()
            .await;
        Ok(status)
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    let mut open = true;
    let mut broke_off = None;
    loop {
        tokio::select! {
            status = &mut exchange => {
                return status.map_err(|error| Trouble::Exchange(broke_off.unwrap_or(error)));
            }
            // A server that hangs up without a word, as many do on TLS, may have answered before.
            ended = &mut connection, if open => {
                open = false;
                broke_off = ended.err();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
    };
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// Somebody who signs certificates, known by a file.
    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        folder: TempDir,
    }

    impl Authority {
        fn new(name: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
            let issuer = Issuer::new(params, key);
            Authority { issuer, folder }
        }

        fn trusted(&self) -> Trust {
            Trust::new(Some(self.folder.path().join("ca.pem")))
        }

        /// The settings of a server of this name; the certificate of one that is past its time ended in 2001.
        fn server(&self, name: &str, is_past: bool) -> Arc<ServerConfig> {
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            if is_past {
                params.not_before = date_time_ymd(2000, 1, 1);
                params.not_after = date_time_ymd(2001, 1, 1);
            }
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            let chain = vec![certificate.der().clone()];
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain, key);
            Arc::new(config.unwrap())
        }
    }

    /// Posts to a server that takes one connection, and gives back what came of it and what the server was sent, if it
    /// came to that.
    async fn post_to(server: Arc<ServerConfig>, name: &str, trust: &Trust) -> (Delivery, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = async {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = TlsAcceptor::from(server).accept(stream).await else {
                return String::new();
            };
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                let mut part = [0; 1024];
                let read = stream.read(&mut part).await.unwrap();
                request.extend_from_slice(&part[..read]);
            }
            let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            stream.flush().await.unwrap();
            String::from_utf8(request).unwrap()
        };
        let receiver = Receiver {
            authority: "hooks.example:443",
            address,
            tls: Some((name, trust)),
        };
        tokio::join!(post(receiver, "/a?b", "{}".to_owned()), taken)
    }

    #[tokio::test]
    async fn a_server_with_a_certificate_of_a_trusted_authority_takes_a_message() {
        let authority = Authority::new("ours");
        for name in ["hooks.example", "127.0.0.1", "::1"] {
            let server = authority.server(name, false);
            let (delivery, request) = post_to(server, name, &authority.trusted()).await;
            assert_eq!(delivery, Delivery::Done, "{name}");
            assert!(request.starts_with("POST /a?b HTTP/1.1\r\n"), "{request}");
            assert!(
                request.contains("\r\nhost: hooks.example:443\r\n"),
                "{request}"
            );
        }
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_trusted_is_sent_nothing_and_the_message_says_why() {
        let authority = Authority::new("ours");
        let trust = authority.trusted();
        let (stranger, impostor) = (Authority::new("another"), Authority::new("ours"));
        for (server, why) in [
            (
                impostor.server("hooks.example", false),
                "no authority that is trusted has signed its certificate",
            ),
            (
                stranger.server("hooks.example", false),
                "no authority that is trusted has signed its certificate",
            ),
            (
                authority.server("other.example", false),
                "its certificate is for another name",
            ),
            (
                authority.server("hooks.example", true),
                "its certificate has expired",
            ),
        ] {
            let (delivery, request) = post_to(server, "hooks.example", &trust).await;
            let told = format!("no TLS with hooks.example: {why}");
            assert_eq!(delivery, Delivery::Failed(told));
            assert_eq!(request, "");
        }
        // Nor is one that only a file which is not configured would speak for.
        let server = authority.server("hooks.example", false);
        let (delivery, request) = post_to(server, "hooks.example", &Trust::new(None)).await;
        assert!(matches!(delivery, Delivery::Failed(_)), "{delivery:?}");
        assert_eq!(request, "");
    }

    #[tokio::test]
    async fn a_server_that_speaks_no_tls_is_told_by_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = Authority::new("ours");
        let trust = authority.trusted();
        let receiver = Receiver {
            authority: "hooks.example:443",
            address: listener.local_addr().unwrap(),
            tls: Some(("hooks.example", &trust)),
        };
        let plain = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        };
        let (delivery, ()) = tokio::join!(post(receiver, "/", "{}".to_owned()), plain);
        let Delivery::Failed(told) = delivery else {
            panic!("{delivery:?}")
        };
        assert!(told.starts_with("no TLS with hooks.example: "), "{told}");
    }

    #[test]
    fn authorities_that_cannot_be_read_are_told_with_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gone.pem");
        let told = Trust::new(Some(file.clone())).client().err().unwrap();
        assert!(told.starts_with(&file.display().to_string()), "{told}");
    }
}
