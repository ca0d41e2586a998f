//! A stored response: a head and a body in blocks.
//!
//! Invariant `one-generation-one-body`: blocks are addressed by a generation that is never reused,
//! so bytes of two versions of an object can never mix.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};

use super::fill::Fill;
use super::policy::conditional::EntityTag;
use super::policy::freshness::Freshness;
use super::policy::storable::NotStored;
use super::policy::tags::{Tags, tags_of};
use super::policy::vary::Selecting;
use super::purge::Sequence;

/// After a validation that failed, stale responses are served for this long before the origin is
/// asked again.
pub const FAILED_VALIDATION_PAUSE: Duration = Duration::from_secs(5);

/// The name of one version of one body; unique within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation(u64);

impl Generation {
    /// A generation that was never handed out before.
    pub fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Generation(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// stub
    pub fn begin_epoch(stored: u32) -> u32 {
        stored + 1
    }
    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Status, fields and freshness of a response.
#[derive(Debug)]
pub struct Head {
    /// Status; 200 for a response that was received in parts.
    pub status: StatusCode,
    /// End-to-end fields without those that delivery computes (see [`super::policy::fields::stored`]).
    pub fields: HeaderMap,
    /// The same fields as HTTP/1.1 lines, so that a hit copies them in one piece.
    pub wire: Bytes,
    /// Freshness.
    pub freshness: Freshness,
    /// The request fields that selected it.
    pub selecting: Selecting,
    /// Fields that only the client may see whose request brought the response.
    pub withheld: HeaderMap,
    /// Why it was not stored; `None` when it was.
    pub not_stored: Option<NotStored>,
    /// Its tags.
    pub tags: Tags,
    /// See [`Head::untouched_up_to`].
    purge_sequence: AtomicU64,
    /// Monotonic time, in milliseconds, until which a validation that failed is not tried again.
    failed_until: AtomicU64,
}

impl Head {
    /// Puts a head together; `fields` are already filtered.
    pub fn new(
        status: StatusCode,
        fields: HeaderMap,
        freshness: Freshness,
        selecting: Selecting,
    ) -> Self {
        let wire = to_wire(&fields);
        let tags = tags_of(&fields);
        Head {
            status,
            fields,
            wire,
            freshness,
            selecting,
            withheld: HeaderMap::new(),
            not_stored: None,
            tags,
            purge_sequence: AtomicU64::new(Sequence::START.number()),
            failed_until: AtomicU64::new(0),
        }
    }

    /// The sequence up to which no purge touches this response; [`Sequence::START`] for a new head.
    pub fn untouched_up_to(&self) -> Sequence {
        Sequence::new(self.purge_sequence.load(Ordering::Relaxed))
    }

    /// Sets the sequence: of the moment at which the origin was asked (`judged-from-the-asking`), or
    /// of a judgement that found no purge since.
    pub fn set_untouched_up_to(&self, sequence: Sequence) {
        self.purge_sequence
            .store(sequence.number(), Ordering::Relaxed);
    }

    /// Notes that the origin failed to validate this response.
    pub fn note_failed_validation(&self, now: Duration) {
        let until = now + FAILED_VALIDATION_PAUSE;
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.failed_until.store(until, Ordering::Relaxed);
    }

    /// How long a validation that has failed keeps the origin from being asked again; zero when
    /// none has.
    pub fn failed_validation_pause(&self, now: Duration) -> Duration {
        let until = Duration::from_millis(self.failed_until.load(Ordering::Relaxed));
        until.saturating_sub(now)
    }

    /// Whether a validation has failed just now.
    pub fn has_failed_validation(&self, now: Duration) -> bool {
        now.as_millis() < u128::from(self.failed_until.load(Ordering::Relaxed))
    }

    /// The validator that lets parts of this representation be fetched and combined. Only a 200 has
    /// one: a range selects from nothing else (RFC 9110 §14.2).
    pub fn part_validator(&self) -> Option<EntityTag> {
        EntityTag::of(&self.fields).filter(|tag| self.status == StatusCode::OK && tag.is_strong())
    }
}

fn to_wire(fields: &HeaderMap) -> Bytes {
    let mut wire = BytesMut::with_capacity(fields.len() * 40);
    for (name, value) in fields {
        wire.put_slice(name.as_str().as_bytes());
        wire.put_slice(b": ");
        wire.put_slice(value.as_bytes());
        wire.put_slice(b"\r\n");
    }
    wire.freeze()
}

/// A head and its body.
pub struct StoredResponse {
    /// The head; a validation makes a new [`StoredResponse`] with the same body.
    pub head: Head,
    /// The body.
    pub body: Arc<Body>,
}

/// The bytes of one generation: whole, in blocks, or still arriving.
pub struct Body {
    /// Its generation.
    pub generation: Generation,
    /// Its length in bytes, once known.
    length: OnceLock<u64>,
    /// All of it, when it fits one block.
    whole: OnceLock<Bytes>,
    /// Fills under way.
    fills: Mutex<Vec<Arc<Fill>>>,
}

impl Body {
    /// A body of which nothing has arrived.
    pub fn new(length: Option<u64>) -> Arc<Self> {
        let body = Body {
            generation: Generation::fresh(),
            length: OnceLock::new(),
            whole: OnceLock::new(),
            fills: Mutex::new(Vec::new()),
        };
        if let Some(length) = length {
            body.set_length(length);
        }
        Arc::new(body)
    }

    /// The length, once known.
    pub fn length(&self) -> Option<u64> {
        self.length.get().copied()
    }

    /// Fixes the length; the first call wins.
    pub fn set_length(&self, length: u64) {
        let _ = self.length.set(length);
    }

    /// The whole body, when it is held in one piece.
    pub fn whole(&self) -> Option<&Bytes> {
        self.whole.get()
    }

    /// Keeps the whole body in one piece; the first call wins.
    pub fn set_whole(&self, bytes: Bytes) {
        self.set_length(bytes.len() as u64);
        let _ = self.whole.set(bytes);
    }

    /// Gives `look` the fills under way. Whoever adds one does so inside `look`, so that two
    /// readers that miss the same block start one fill.
    pub fn with_fills<T>(&self, look: impl FnOnce(&mut Vec<Arc<Fill>>) -> T) -> T {
        look(&mut self.fills.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets a fill that ended.
    pub fn forget(&self, ended: &Arc<Fill>) {
        self.with_fills(|fills| fills.retain(|fill| !Arc::ptr_eq(fill, ended)));
    }
}

#[cfg(test)]
impl StoredResponse {
    /// A 200 without fields whose whole body is `bytes`.
    pub(super) fn sample(bytes: &'static [u8]) -> Arc<Self> {
        use super::policy::freshness::Lifetime;
        let freshness = Freshness {
            lifetime: Lifetime::Unknown,
            initial_age: Duration::ZERO,
            received: Duration::ZERO,
            always_validate: false,
            never_stale: false,
            while_revalidating: Duration::ZERO,
            if_error: Duration::ZERO,
        };
        let body = Body::new(None);
        body.set_whole(Bytes::from_static(bytes));
        let head = Head::new(
            StatusCode::OK,
            HeaderMap::new(),
            freshness,
            Selecting::default(),
        );
        Arc::new(StoredResponse { head, body })
    }
}
