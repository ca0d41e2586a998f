//! Public keys in PEM, as CloudFront takes them: RSA of 2,048 bits and more, or ECDSA on P-256.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA1_ASN1, ECDSA_P256_SHA256_ASN1, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256,
    VerificationAlgorithm,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

/// The SubjectPublicKeyInfo of an RSA key of 2,048 bits takes at least this many bytes. The library
/// reads shorter keys as well and then refuses every signature, which is too late to be told.
const RSA_DER_BYTES_MIN: usize = 290;

/// A public key that verifies both with SHA-1 and with SHA-256: the signed URL says which.
#[derive(Clone)]
pub struct PublicKey {
    sha1: ParsedPublicKey,
    sha256: ParsedPublicKey,
}

/// The hash under a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureHash {
    /// SHA-1: what CloudFront takes when a URL does not say.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// Why a text is no public key that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyFault {
    /// There is no `PUBLIC KEY` in it.
    #[error("there is no PEM public key in it (BEGIN PUBLIC KEY)")]
    NotPem,
    /// The key is of a kind that is not for this, or too short.
    #[error("it is neither an RSA key of 2048 to 8192 bits nor an ECDSA key on P-256")]
    Kind,
}

impl PublicKey {
    /// Reads the first `PUBLIC KEY` (RFC 7468 §13) of a text in PEM.
    ///
    /// # Errors
    /// [`PublicKeyFault`].
    pub fn from_pem(text: &[u8]) -> Result<Self, PublicKeyFault> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text);
        let der = der.map_err(|_| PublicKeyFault::NotPem)?;
        let rsa_is_long = der.len() >= RSA_DER_BYTES_MIN;
        let rsa: [&'static dyn VerificationAlgorithm; 2] = [
            &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            &RSA_PKCS1_2048_8192_SHA256,
        ];
        let ecdsa: [&'static dyn VerificationAlgorithm; 2] =
            [&ECDSA_P256_SHA1_ASN1, &ECDSA_P256_SHA256_ASN1];
        [(rsa, rsa_is_long), (ecdsa, true)]
            .into_iter()
            .filter_map(|(algorithms, counts)| counts.then_some(algorithms))
            .find_map(|[sha1, sha256]| {
                Some(PublicKey {
                    sha1: ParsedPublicKey::new(sha1, &der).ok()?,
                    sha256: ParsedPublicKey::new(sha256, &der).ok()?,
                })
            })
            .ok_or(PublicKeyFault::Kind)
    }

    /// Whether `signature` was made for `message` with the private key.
    pub(super) fn verifies(&self, hash: SignatureHash, message: &[u8], signature: &[u8]) -> bool {
        let key = match hash {
            SignatureHash::Sha1 => &self.sha1,
            SignatureHash::Sha256 => &self.sha256,
        };
        key.verify_sig(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(…)")
    }
}
