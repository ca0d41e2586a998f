//! A stored response that answers a request.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::Guard;

use super::memory::Entry;
use super::stored::StoredResponse;

/// A stored response, kept for one request for as long as this lives.
///
/// It stays what it is whatever becomes of its entry meanwhile. The response that memory holds is not counted a
/// reference of (that count is one for all workers, and a popular response would have them take its cache line from
/// one another for every hit): each thread notes a few of the entries that it is looking at, and only beyond those
/// references are counted ([`arc_swap::Guard`]).
pub struct HeldResponse(Source);

enum Source {
    Alone(Arc<StoredResponse>),
    /// The variant of that number, which the entry has.
    Variant(Guard<Arc<Entry>>, usize),
}

impl HeldResponse {
    /// The variant of that number, counted from 0, of an entry that has it.
    pub(super) fn variant(entry: Guard<Arc<Entry>>, number: usize) -> Self {
        debug_assert!(number < entry.variants.len(), "{number}");
        HeldResponse(Source::Variant(entry, number))
    }

    /// The response, counting a reference: for what is kept for long.
    #[must_use]
    pub fn counted(self) -> Self {
        Arc::<StoredResponse>::from(self).into()
    }
}

impl From<Arc<StoredResponse>> for HeldResponse {
    fn from(response: Arc<StoredResponse>) -> Self {
        HeldResponse(Source::Alone(response))
    }
}

impl From<HeldResponse> for Arc<StoredResponse> {
    fn from(held: HeldResponse) -> Self {
        match held.0 {
            Source::Alone(response) => response,
            Source::Variant(entry, number) => entry.variants[number].clone(),
        }
    }
}

impl Deref for HeldResponse {
    type Target = Arc<StoredResponse>;

    fn deref(&self) -> &Self::Target {
        match &self.0 {
            Source::Alone(response) => response,
            Source::Variant(entry, number) => &entry.variants[*number],
        }
    }
}

impl Clone for HeldResponse {
    fn clone(&self) -> Self {
        Arc::clone(self).into()
    }
}

impl fmt::Debug for HeldResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a response of {}", self.head.status)
    }
}
