//! Certificates of a test's own, and clients that trust them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::within;

/// A certificate that signed itself, and its key, in two files.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// Its file.
    pub chain: PathBuf,
    /// Its key's file.
    pub key: PathBuf,
}

impl Identity {
    /// A certificate for `names`, in files that `number` tells apart.
    pub fn make(folder: &Path, number: usize, names: &[&str]) -> Self {
        let identity = Identity {
            der: CertificateDer::from(Vec::new()),
            chain: folder.join(format!("site{number}.pem")),
            key: folder.join(format!("site{number}.key")),
        };
        identity.renewed(names)
    }

    /// Another certificate, for `names`, in the same files.
    pub fn renewed(&self, names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        std::fs::write(&self.key, key.serialize_pem()).unwrap();
        std::fs::write(&self.chain, certificate.pem()).unwrap();
        Identity {
            der: certificate.der().clone(),
            ..self.clone()
        }
    }

    pub(super) fn yaml(&self) -> String {
        format!("{{ chain: {:?}, key: {:?} }}", self.chain, self.key)
    }
}

/// Connects by TLS as one client does: with its trust, its protocols and its tickets.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
}

impl TlsClient {
    /// Trusts `identities` and offers `protocols` by ALPN.
    pub fn new<'a>(
        identities: impl IntoIterator<Item = &'a Identity>,
        protocols: &[&[u8]],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for identity in identities {
            roots.add(identity.der.clone()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        TlsClient {
            connector: TlsConnector::from(Arc::new(config)),
        }
    }

    /// A connection to `address`, to the server that calls itself `name`.
    pub async fn try_connect(
        &self,
        address: SocketAddr,
        name: &'static str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(name).unwrap();
            self.connector.connect(name, stream).await
        };
        within("a TLS connection", connect).await
    }

    /// The same where it must succeed.
    pub async fn connect(&self, address: SocketAddr, name: &'static str) -> TlsStream<TcpStream> {
        self.try_connect(address, name).await.unwrap()
    }
}
