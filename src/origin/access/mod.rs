//! Who may do what: the rights of credentials, bucket policies and access control lists, as pure rules.
//!
//! | question | answer |
//! |---|---|
//! | may this be done? | [`decide`] |
//! | what is done, under S3's names? | [`Action`] |
//! | what does the request say about itself? | [`Context`] |
//! | what does the bucket's policy say? | [`Policy`] |
//! | what do access control lists grant? | [`Acl`] |
//! | which list does a request ask for? | [`AskedAcl`] |
//!
//! Invariants:
//! - `denial-wins`: what a policy denies, nothing else allows.
//! - `rules-stay-reachable`: a policy cannot keep a key with full rights from reading, replacing or deleting the
//!   policy, so no bucket locks its owner out.
//! - `strangers-change-no-rules`: nobody without a key does what needs full rights, whatever policies and lists say.
//! - `refused-not-ignored`: a policy or list that could not be honoured to the letter is refused when it is put.

mod acl;
mod action;
mod asked_acl;
mod conditions;
mod context;
mod decide;
mod json;
mod pattern;
mod policy;

pub use acl::{ACL_MAX_BYTES, Acl, Canned, Grant, Grantee, Permission};
pub use action::{Action, Scope};
pub use asked_acl::AskedAcl;
pub use context::{Authentication, Context, RequestFacts};
pub use decide::{BucketRules, Decision, DenyReason, Principal, Request, decide};
pub use policy::{POLICY_MAX_BYTES, Policy, Verdict};
