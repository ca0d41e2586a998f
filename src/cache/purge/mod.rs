//! Purge: rules in the order they were given, and which of them touch a stored response.
//!
//! Purging ten million responses by tag is one rule. Nothing is searched for and nothing is
//! removed when a rule comes in; each stored response knows the sequence up to which no rule has
//! touched it, and is judged by the newer ones when it is looked up.
//!
//! Invariants:
//! - `durable-before-in-force`: a rule has a sequence only when it is on disk, so no stored response
//!   can claim to have outlived a rule that a restart forgets.
//! - `judged-from-the-asking`: a stored response carries the sequence of the moment at which its
//!   origin was asked. A rule that comes while the response is under way touches it.
//! - `severest-counts`: a soft purge never softens an earlier hard one of the same subject.
//! - `over-never-under`: where it cannot be told whether a rule touches a response (tags that could
//!   not be kept, rules that were folded), it does.

mod index;
mod journal;
mod log;
mod order;
mod rule;

pub use journal::{LineFault, OpenError};
pub use log::{AppendError, PurgeLog, Sequence};
pub use order::{Order, OrderFault};
pub use rule::{Rule, Severity, Site};

use crate::cache::key::CacheKey;
use crate::cache::policy::tags::Tags;

/// A stored response, as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its primary cache key: a URL is purged with all its variants.
    pub key: &'a CacheKey,
    /// Its tags.
    pub tags: &'a Tags,
}
