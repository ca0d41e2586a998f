//! AWS Signature Version 4 as Amazon S3 speaks it: presigned URLs, the `Authorization` header and
//! chunked uploads, verified and made.
//!
//! The scheme is specified in the S3 API reference under "Authenticating Requests (AWS Signature
//! Version 4)". Where it leaves a byte open, `canonical.rs` says what we do and why.

mod canonical;
mod chunks;
mod claim;
mod explain;
mod form;
mod header;
mod payload;
mod presign;
mod presigned;
mod query;
mod scope;
mod signed_headers;
#[cfg(test)]
mod tests;

pub(super) use canonical::decode_query;
pub use chunks::ChunkSigner;
pub use explain::{Explanation, explain_presigned};
pub use form::FormSigner;
pub(super) use form::verify_form;
pub(super) use header::{AMZ_DATE, check_skew, single_value};
pub use header::{carries_signature_header, verify_header};
pub use payload::Payload;
pub(super) use payload::payload_without_seed;
pub use presign::{AuthorizeSpec, PresignError, PresignSpec, authorize_headers, presign};
pub(super) use presign::{check_signer, encode_path, push_parameter};
use presigned::check_not_ahead;
pub use presigned::verify_presigned;
pub(super) use query::{AuthParameter, is_only_version_2};
pub use query::{carries_presignature, query_without_signature};
pub(super) use scope::derive_signing_key;

/// The only algorithm that is spoken, as it is named in queries, headers and strings to sign.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
