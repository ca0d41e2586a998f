//! A stored response: a head and a body in blocks.
//!
//! Invariant `one-generation-one-body`: blocks are addressed by a generation that is never reused,
//! so bytes of two versions of an object can never mix.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::file_span::FileSpan;
use super::fill::Fill;
use super::memory::block::MemoryBlock;
use super::policy::conditional::EntityTag;
use super::policy::freshness::Freshness;
use super::policy::storable::NotStored;
use super::policy::tags::{Tags, tags_of};
use super::policy::vary::Selecting;
use super::purge::Sequence;
use crate::response_head::write_field;

/// After a validation that failed, stale responses are served for this long before the origin is
/// asked again.
pub const FAILED_VALIDATION_PAUSE: Duration = Duration::from_secs(5);

/// Bits of a generation that count within an epoch: a million a second last for twelve days, and what
/// comes after them is the next epoch.
const COUNTER_BITS: u32 = 40;

/// The last epoch that a folder may begin.
pub const LAST_EPOCH: u32 = (1 << (u64::BITS - COUNTER_BITS)) - 1;

/// The next generation of this process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The name of one version of one body: an epoch, and a number within it. Unique within the process,
/// and within a folder of the disk tier across restarts, as long as
/// - `epoch-before-record`: no record is written to a folder before the folder's stored epoch is at least
///   that of the record's generation (another cache of this process may have moved the epoch on), and
/// - no record is written whose generation is older than the epoch with which this process opened the
///   folder, unless it was recalled from there: bodies that were made before are named as in every
///   earlier process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    /// A generation that was never handed out before.
    pub fn fresh() -> Self {
        Generation(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes every generation that is handed out from now on, to any cache of this process, greater
    /// than those of all epochs up to `stored_epoch`, and returns the new epoch, which is to be stored
    /// in its place before anything else is.
    ///
    /// # Errors
    /// When `stored_epoch` is [`LAST_EPOCH`] or beyond: no process has counted that far, so the number is
    /// damaged and so may be what it guards.
    pub fn begin_epoch(stored_epoch: u32) -> Result<u32, EpochsExhausted> {
        begin_epoch(&NEXT, stored_epoch)
    }

    /// The generation of a body that is recalled from the disk tier.
    pub const fn from_number(number: u64) -> Self {
        Generation(number)
    }

    /// The newest that may have been handed out.
    pub fn latest() -> Self {
        Generation(NEXT.load(Ordering::Relaxed).saturating_sub(1))
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Its epoch, 0 until [`Generation::begin_epoch`] was called.
    pub fn epoch(self) -> u32 {
        // What is left is 24 bits long.
        (self.0 >> COUNTER_BITS) as u32
    }
}

/// There is no epoch after the stored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no epoch can follow {stored_epoch}; the last one is {LAST_EPOCH}")]
pub struct EpochsExhausted {
    /// The stored epoch, or that of the process when it is greater.
    pub stored_epoch: u32,
}

fn begin_epoch(next: &AtomicU64, stored_epoch: u32) -> Result<u32, EpochsExhausted> {
    let epoch_after = |next: u64| Generation(next).epoch().max(stored_epoch) + 1;
    let first_of = |epoch: u32| u64::from(epoch) << COUNTER_BITS;
    let advance = |next| {
        let epoch = epoch_after(next);
        (epoch <= LAST_EPOCH).then(|| first_of(epoch))
    };
    if stored_epoch >= LAST_EPOCH {
        return Err(EpochsExhausted { stored_epoch });
    }
    let moved = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance);
    moved.map(epoch_after).map_err(|next| EpochsExhausted {
        stored_epoch: Generation(next).epoch(),
    })
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
    /// How often it was brought up to date since the body was fetched.
    pub revision: u32,
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
        let fields = values_from_wire(&fields, &wire);
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
            revision: 0,
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
        write_field(&mut wire, name.as_str(), value.as_bytes());
    }
    wire.freeze()
}

/// The same fields, in a map that is no larger than it must be and whose values lie in `wire`: they would
/// otherwise be small allocations of their own, or keep alive what they arrived in.
fn values_from_wire(fields: &HeaderMap, wire: &Bytes) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len());
    let mut at = 0;
    for (name, value) in fields {
        let start = at + name.as_str().len() + 2;
        let end = start + value.len();
        at = end + 2;
        let mut same = HeaderValue::from_maybe_shared(wire.slice(start..end))
            .unwrap_or_else(|_| value.clone());
        same.set_sensitive(value.is_sensitive());
        map.append(name, same);
    }
    map
}

/// A head and its body.
pub struct StoredResponse {
    /// The head; a validation makes a new [`StoredResponse`] with the same body.
    pub head: Head,
    /// The body.
    pub body: Arc<Body>,
}

/// Bytes that a field takes in a map beside its value: name, value's handle and place.
const FIELD_BYTES: usize = 112;

/// Bytes that an allocation costs beside what was asked for: counters of references, rounding.
const ALLOCATION_BYTES: usize = 32;

impl StoredResponse {
    /// Bytes of memory that it takes, with its body as far as that is held in one piece; or that it would take,
    /// when that was left in its file.
    pub fn memory_bytes(&self) -> u64 {
        let own = size_of::<StoredResponse>() + size_of::<Body>() + 2 * ALLOCATION_BYTES;
        let fields = self.head.fields.capacity() * FIELD_BYTES + ALLOCATION_BYTES;
        let wire = self.head.wire.len() + 2 * ALLOCATION_BYTES;
        let whole = self.body.whole().map_or(0, |whole| {
            whole.memory_bytes() + 2 * ALLOCATION_BYTES as u64
        });
        let in_file = match self.body.was_left_in_file() {
            true => self.body.length().unwrap_or(0),
            false => 0,
        };
        (own + fields + wire) as u64 + whole + in_file
    }
}

/// What was stored as a body is not as long as its head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a body of {expected} bytes was stored as {found} bytes")]
pub struct WrongLength {
    /// What the head says.
    pub expected: u64,
    /// What was stored.
    pub found: u64,
}

/// The bytes of one generation: whole, in blocks, or still arriving.
pub struct Body {
    /// Its generation.
    pub generation: Generation,
    /// Its length in bytes, once known.
    length: OnceLock<u64>,
    /// It was known from the head.
    is_length_announced: bool,
    /// All of it, when it fits one block.
    whole: OnceLock<MemoryBlock>,
    /// Of a body that was left in its file on the disk tier, for one request: that file, until a reader takes it.
    left_in_file: Option<Mutex<Option<FileSpan>>>,
    /// Fills under way.
    fills: Mutex<Vec<Arc<Fill>>>,
    /// Which of its heads the disk tier was given: its revision and one; zero when none was.
    written: AtomicU64,
    /// It answered a request from memory.
    used: AtomicBool,
    /// It was made what its key leads to.
    committed: AtomicBool,
    /// The disk tier was given blocks of it before that.
    has_early_blocks: AtomicBool,
}

impl Body {
    /// A body of which nothing has arrived.
    pub fn new(length: Option<u64>) -> Arc<Self> {
        Arc::new(Body::of(Generation::fresh(), length))
    }

    fn of(generation: Generation, length: Option<u64>) -> Self {
        Body {
            generation,
            length: length.map(OnceLock::from).unwrap_or_default(),
            is_length_announced: length.is_some(),
            whole: OnceLock::new(),
            left_in_file: None,
            fills: Mutex::new(Vec::new()),
            written: AtomicU64::new(0),
            used: AtomicBool::new(false),
            committed: AtomicBool::new(false),
            has_early_blocks: AtomicBool::new(false),
        }
    }

    /// A body that the disk tier holds: nothing of it is in memory except `whole`, if given.
    ///
    /// # Errors
    /// When `whole` has another length than `length`: it is not this body.
    pub fn recalled(
        generation: Generation,
        length: Option<u64>,
        whole: Option<MemoryBlock>,
    ) -> Result<Arc<Self>, WrongLength> {
        let body = Body::of(generation, length);
        if let Some(whole) = whole {
            let found = whole.len() as u64;
            match length {
                Some(expected) if expected != found => {
                    return Err(WrongLength { expected, found });
                }
                _ => body.set_whole(whole),
            }
        }
        Ok(Arc::new(body))
    }

    /// A body that stays in its file on the disk tier, for one request.
    pub fn left_in_file(generation: Generation, span: FileSpan) -> Arc<Self> {
        let length = span.remaining();
        Arc::new(Body {
            left_in_file: Some(Mutex::new(Some(span))),
            ..Body::of(generation, Some(length))
        })
    }

    /// The revision of the head that the disk tier was given last; `None` when it was given none.
    pub fn written_revision(&self) -> Option<u32> {
        let written = self.written.load(Ordering::Relaxed);
        u32::try_from(written.checked_sub(1)?).ok()
    }

    /// Notes that the disk tier was given a head.
    pub fn set_written(&self, revision: u32) {
        let written = u64::from(revision) + 1;
        self.written.store(written, Ordering::Relaxed);
    }

    /// Notes that it was made what its key leads to. Says whether the disk tier was given blocks of it
    /// before.
    pub fn set_committed(&self) -> bool {
        self.committed.store(true, Ordering::Relaxed);
        self.has_early_blocks.load(Ordering::Relaxed)
    }

    /// Notes that the disk tier was given a block of it. Says whether it had been committed by then.
    pub fn note_written_block(&self) -> bool {
        let committed = self.committed.load(Ordering::Relaxed);
        if !committed {
            self.has_early_blocks.store(true, Ordering::Relaxed);
        }
        committed
    }

    /// Notes that it answered a request from memory. Writes nothing the second time: readers on other
    /// cores share this.
    pub fn note_use(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it answered a request from memory.
    pub fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// The length, once known.
    pub fn length(&self) -> Option<u64> {
        self.length.get().copied()
    }

    /// Whether the length is told by the end of the fill that brings the body, and not by its head.
    pub fn has_its_length_from_its_end(&self) -> bool {
        !self.is_length_announced
    }

    /// Fixes the length; the first call wins.
    pub fn set_length(&self, length: u64) {
        let _ = self.length.set(length);
    }

    /// The whole body, when it is held in one piece.
    pub fn whole(&self) -> Option<&MemoryBlock> {
        self.whole.get()
    }

    /// Whether all of it was left in its file.
    pub fn was_left_in_file(&self) -> bool {
        self.left_in_file.is_some()
    }

    /// The whole body, when it was left in its file. It is given once, so that nobody else keeps the file.
    pub fn take_file(&self) -> Option<FileSpan> {
        let file = self.left_in_file.as_ref()?;
        file.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether all of it is at hand in one piece, in memory or in its file.
    pub fn is_in_one_piece(&self) -> bool {
        self.whole.get().is_some() || self.was_left_in_file()
    }

    /// Keeps the whole body in one piece; the first call wins.
    pub fn set_whole(&self, whole: MemoryBlock) {
        self.set_length(whole.len() as u64);
        let _ = self.whole.set(whole);
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
        body.set_whole(Bytes::from_static(bytes).into());
        let head = Head::new(
            StatusCode::OK,
            HeaderMap::new(),
            freshness,
            Selecting::default(),
        );
        Arc::new(StoredResponse { head, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_the_same_when_their_values_lie_in_the_wire_form() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("cache-control", &b"max-age=1"[..]),
            ("x-empty", b""),
            ("x-twice", b"a"),
            ("x-bytes", b"\xff\xfe caf\xc3\xa9"),
            ("x-twice", b"b, c"),
        ] {
            let name = http::HeaderName::from_static(name);
            fields.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let wire = to_wire(&fields);
        let same = values_from_wire(&fields, &wire);
        assert_eq!(same, fields);
        let order = |map: &HeaderMap| format!("{map:?}");
        assert_eq!(order(&same), order(&fields));
        assert!(same.capacity() <= fields.capacity());
    }

    #[test]
    fn every_generation_after_the_beginning_of_an_epoch_is_greater_than_all_before_it() {
        let next = AtomicU64::new(1);
        for (stored, expected) in [
            (0, 1),
            (0, 2),
            // Another folder of the same process, with a longer history.
            (9, 10),
            (3, 11),
            (LAST_EPOCH - 1, LAST_EPOCH),
        ] {
            let before = next.fetch_add(1, Ordering::Relaxed);
            assert_eq!(begin_epoch(&next, stored), Ok(expected));
            let first = Generation(next.load(Ordering::Relaxed));
            assert_eq!(first.epoch(), expected);
            let of_stored_epoch = (u64::from(stored) + 1) << COUNTER_BITS;
            assert!(first.number() > before && first.number() >= of_stored_epoch);
        }
    }

    #[test]
    fn a_stored_epoch_that_nothing_can_follow_is_refused_and_changes_nothing() {
        let next = AtomicU64::new(7);
        for stored_epoch in [LAST_EPOCH, u32::MAX] {
            let refused = EpochsExhausted { stored_epoch };
            assert_eq!(begin_epoch(&next, stored_epoch), Err(refused));
        }
        assert_eq!(next.load(Ordering::Relaxed), 7);
        let next = AtomicU64::new(u64::from(LAST_EPOCH) << COUNTER_BITS);
        let stored_epoch = LAST_EPOCH;
        assert_eq!(begin_epoch(&next, 0), Err(EpochsExhausted { stored_epoch }));
    }

    #[test]
    fn generations_of_this_process_follow_its_epoch() {
        let before = Generation::fresh();
        let epoch = Generation::begin_epoch(before.epoch()).unwrap();
        let after = Generation::fresh();
        assert!(after.epoch() >= epoch && epoch > before.epoch());
        assert!(after > before);
        assert_eq!(Generation::from_number(after.number()), after);
    }

    #[test]
    fn a_recalled_body_is_as_long_as_its_head_says_or_refused() {
        let generation = Generation::from_number(5);
        let recalled = |length, whole: Option<&'static [u8]>| {
            let body = Body::recalled(
                generation,
                length,
                whole.map(|whole| Bytes::from_static(whole).into()),
            )?;
            assert_eq!(body.generation, generation);
            Ok((
                body.length(),
                body.whole().map(|whole| whole.bytes().to_vec()),
            ))
        };
        let (expected, found) = (4, 3);
        for (length, whole, expected) in [
            (None, None, Ok((None, None))),
            (Some(4), None, Ok((Some(4), None))),
            (
                Some(3),
                Some(&b"abc"[..]),
                Ok((Some(3), Some(b"abc".to_vec()))),
            ),
            (None, Some(b"abc"), Ok((Some(3), Some(b"abc".to_vec())))),
            (Some(4), Some(b"abc"), Err(WrongLength { expected, found })),
        ] {
            assert_eq!(recalled(length, whole), expected, "{length:?} {whole:?}");
        }
    }
}
