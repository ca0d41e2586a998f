//! JSON Web Tokens (RFC 7519) signed in compact form (RFC 7515): plain ones, and those of URI signing
//! for CDN interconnection (RFC 9246).
//!
//! | file | |
//! |---|---|
//! | `jwks.rs` | sets of keys; each key fixes the one algorithm that it verifies (`the-key-fixes-the-algorithm`) |
//! | `jws.rs` | a token taken apart and proven |
//! | `jwe.rs` | claims that are encrypted |
//! | `claims.rs` | what both kinds of tokens say in the same words |
//! | `plain.rs` | tokens in `Authorization: Bearer`, query or cookie |
//! | `uri_signing.rs` | `URISigningPackage` |
//! | `renewal.rs` | the token for the next request, when one of URI signing asks for it |
//! | `sign.rs` | for our own tools and tests |
//!
//! `alg: none` is the name of no key's algorithm, and a public key is never taken for a secret: what a
//! token says about its algorithm is only compared.

mod claims;
mod jwe;
mod jwks;
mod jws;
mod plain;
mod renewal;
mod sign;
#[cfg(test)]
mod tests;
mod uri_signing;

pub use jwks::{JwkSet, JwksFault};
pub use plain::JwtKeys;
pub(super) use plain::{explain, verify};
pub use renewal::RenewedToken;
pub use sign::{JwtSigner, UriContainer, sign_jwt, uri_container};
pub use uri_signing::UriSigningKeys;
pub(super) use uri_signing::{explain as explain_uri_signing, verify as verify_uri_signing};
