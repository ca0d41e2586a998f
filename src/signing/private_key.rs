//! Private keys in PEM, for our own tools and tests. The edge has none.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// A private key: RSA, ECDSA on P-256, or Ed25519. It signs with SHA-256 where that is a choice.
pub struct PrivateKey(Pair);

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256 {
        der_signatures: EcdsaKeyPair,
        fixed_signatures: EcdsaKeyPair,
    },
    Ed25519(Ed25519KeyPair),
}

/// What kind of key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PrivateKeyKind {
    Rsa,
    P256,
    Ed25519,
}

/// How an ECDSA signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EcdsaForm {
    /// As a sequence in DER, as CloudFront has it.
    Der,
    /// Both numbers, 32 bytes each (RFC 7518 §3.4).
    Fixed,
}

/// Why a text is no private key that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no PEM private key in it that is RSA, ECDSA on P-256 or Ed25519")]
pub struct PrivateKeyFault;

impl PrivateKey {
    /// Reads the first private key of a text in PEM: PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Errors
    /// [`PrivateKeyFault`].
    pub fn from_pem(text: &[u8]) -> Result<Self, PrivateKeyFault> {
        let der = PrivateKeyDer::from_pem_slice(text).map_err(|_| PrivateKeyFault)?;
        let bytes = der.secret_der();
        let rsa = RsaKeyPair::from_pkcs8(bytes).or_else(|_| RsaKeyPair::from_der(bytes));
        if let Ok(pair) = rsa {
            return Ok(PrivateKey(Pair::Rsa(Box::new(pair))));
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(bytes)
            .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes))
        {
            return Ok(PrivateKey(Pair::Ed25519(pair)));
        }
        let p256 = |algorithm: &'static EcdsaSigningAlgorithm| {
            EcdsaKeyPair::from_pkcs8(algorithm, bytes)
                .or_else(|_| EcdsaKeyPair::from_private_key_der(algorithm, bytes))
                .map_err(|_| PrivateKeyFault)
        };
        Ok(PrivateKey(Pair::P256 {
            der_signatures: p256(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
            fixed_signatures: p256(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
        }))
    }

    pub(super) fn kind(&self) -> PrivateKeyKind {
        match self.0 {
            Pair::Rsa(_) => PrivateKeyKind::Rsa,
            Pair::P256 { .. } => PrivateKeyKind::P256,
            Pair::Ed25519(_) => PrivateKeyKind::Ed25519,
        }
    }

    /// A signature of `message`; `None` when the system gives no random numbers.
    pub(super) fn sign(&self, message: &[u8], form: EcdsaForm) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.0 {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .ok()?;
                Some(signature)
            }
            Pair::P256 {
                der_signatures,
                fixed_signatures,
            } => {
                let pair = match form {
                    EcdsaForm::Der => der_signatures,
                    EcdsaForm::Fixed => fixed_signatures,
                };
                Some(pair.sign(&random, message).ok()?.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}
