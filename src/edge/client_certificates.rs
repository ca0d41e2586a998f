//! Certificates that clients show in the handshake (mutual TLS): who may connect, and by which name.

use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificates::CertificateError;
use super::tls::provider;
use crate::authorities;
use crate::config;

/// Judges clients' certificates.
///
/// # Errors
/// [`CertificateError`] when the authorities' certificates cannot be used.
pub(super) fn client_verifier(
    clients: &config::ClientCertificates,
) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    let unusable = |reason: String| CertificateError::File {
        path: clients.ca_file.clone(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    authorities::add_from(&clients.ca_file, &mut roots).map_err(unusable)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match clients.required {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| unusable(error.to_string()))
}

/// The subject of a certificate that was found good, in visible ASCII: what else a name holds is
/// percent-encoded, since it goes into a log and a field.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    const ENCODED: &AsciiSet = &CONTROLS.add(b'%');
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject().to_string();
    Some(utf8_percent_encode(&subject, ENCODED).to_string())
}
