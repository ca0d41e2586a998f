//! Certificates of a test's own, and a client that shows one of them.

// Each suite compiles this module for itself and uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An authority and a site certificate, as files.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    folder: TempDir,
}

/// A certificate and its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        let der = certificate.der().clone();
        let issuer = Issuer::new(params, key);
        let site_key = KeyPair::generate().unwrap();
        let site = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let site = site.signed_by(&site_key, &issuer).unwrap();
        fs::write(folder.path().join("site.pem"), site.pem()).unwrap();
        let key_file = folder.path().join("site.key");
        fs::write(&key_file, site_key.serialize_pem()).unwrap();
        fs::set_permissions(key_file, fs::Permissions::from_mode(0o600)).unwrap();
        Authority {
            issuer,
            certificate: der,
            folder,
        }
    }

    /// `tls` of a listener with this authority's site certificate, which asks clients for one too; `more`
    /// are further keys of `client_certificates`.
    pub fn listener(&self, more: &str) -> &'static str {
        let folder = self.folder.path().display();
        let yaml = format!(
            "tls: {{ certificates: [ {{ chain: '{folder}/site.pem', key: '{folder}/site.key' }} ], client_certificates: {{ ca_file: '{folder}/ca.pem'{more} }} }}"
        );
        yaml.leak()
    }

    /// A client's certificate.
    pub fn client(&self, common_name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    /// Sends `request` to the edge at `address` and reads up to the end of the connection.
    ///
    /// # Errors
    /// What the edge says in an alert.
    pub async fn exchange(
        &self,
        address: SocketAddr,
        identity: Option<&Identity>,
        request: &str,
    ) -> io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())
                .unwrap(),
        };
        let exchange = async {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").unwrap();
            let connector = TlsConnector::from(Arc::new(config));
            let mut stream = connector.connect(name, stream).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut response = String::new();
            stream.read_to_string(&mut response).await?;
            Ok(response)
        };
        crate::harness::within("an answer over TLS", exchange).await
    }
}
