//! The disk tier: stored responses in append-only segment files.
//!
//! | file | room |
//! |---|---|
//! | [`format`](mod@format) | every byte on disk; pure |
//! | [`identity`] | whose the folder is; pure |
//! | [`folder`] | the system calls, behind traits |
//! | [`index`] | where a record lies; memory only |
//! | [`segments`] | which files there are, and the room they take |
//! | [`shelf`] | reading and verifying |
//! | [`log`] | appending, recovery, reclaiming |
//! | [`policy`] | what is worth writing and keeping; pure |
//! | [`snapshot`] | the index as a clean stop leaves it |
//! | [`verify`] | reading everything to see what is bad |
//! | [`stopped`] | the folder of a node that is stopped |
//! | [`erasures`] | what was taken back stays so |
//! | [`early`] | what was taken back before there was a folder |
//! | [`queue`], [`writer`] | the one thread that writes |
//! | [`reads`] | reads that wait for the disk |
//!
//! Invariants, each told where it is kept: `never-over-the-limit`, `written-before-index`,
//! `newest-decides` and `reclaim-oldest-first` ([`log`]), `verified-or-missed` ([`shelf`]),
//! `never-overwritten` ([`segments`]), `requests-never-wait` ([`queue`]), `erased-stays-erased`
//! ([`erasures`]), `erased-before-open` ([`early`]).

pub mod erasures;
pub mod folder;
pub mod format;
pub mod identity;
pub mod index;
pub mod log;
pub mod policy;
pub mod queue;
pub mod segments;
pub mod shelf;
pub mod snapshot;
pub mod stopped;
pub mod verify;

pub mod early;
pub mod reads;
pub mod writer;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use early::Early;
use erasures::Erasures;
pub use erasures::Mark;
use folder::Folder;
use format::Kind;
use identity::RecordHasher;
use index::Location;
use log::{LogSizes, Record};
use policy::{Admission, Policy, Room};
use queue::{Full, Order, Queue};
use reads::{NotRead, Reads};
use shelf::{BLOCK_BEGINNING_BYTES, Found, RESPONSE_BEGINNING_BYTES, Shelf, count};
use verify::Verified;

use super::file_span::FileSpan;
use crate::clock::SharedClock;
use crate::observe::DiskTierState;

/// Records that wait for the writer, in bytes.
const QUEUE_BYTES: u64 = 64 * 1024 * 1024;

/// The disk tier of one cache.
pub struct DiskTier {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What the tier and its writer share.
struct Shared {
    folder: Arc<dyn Folder>,
    sizes: LogSizes,
    /// What can be read now; `None` before the folder could be opened for the first time.
    open: ArcSwapOption<OpenTier>,
    queue: Queue,
    reads: Arc<Reads>,
    policy: Arc<Policy>,
    erasures: Arc<Erasures>,
    early: Early,
    state: State,
    on_open: OnOpen,
    clock: SharedClock,
}

/// Called when the folder has been locked and before anything in it is used: the purge log lives in
/// it too. An error keeps the tier closed.
pub type OnOpen = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// A folder that is open.
struct OpenTier {
    shelf: Arc<Shelf>,
    hasher: RecordHasher,
    /// The memory tier's keys at the last clean stop, until they are asked for.
    hot: Mutex<Option<Vec<u8>>>,
}

/// What the metrics show beside the shelf's counters.
#[derive(Debug, Default)]
struct State {
    /// Why nothing is written; empty when all is well.
    fault: Mutex<String>,
    is_full: AtomicBool,
    is_recovering: AtomicBool,
    dropped_records: AtomicU64,
    refused_records: AtomicU64,
    slow_reads: AtomicU64,
    write_faults: AtomicU64,
}

/// What the tier holds and has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Why nothing is written at the moment; `None` when all is well.
    pub fault: Option<String>,
    /// Segments.
    pub segments: u64,
    /// The figures that the metrics show too.
    pub shown: DiskTierState,
}

impl Stats {
    /// Takes in what a shelf holds and has done.
    fn note(&mut self, shelf: &Shelf) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &shelf.counters;
        self.segments = shelf.segments.len() as u64;
        let shown = &mut self.shown;
        shown.bytes = shelf.segments.room().taken_bytes();
        shown.records = shelf.index.len() as u64;
        shown.index_bytes = shelf.index.memory_bytes() as u64;
        shown.written_bytes = of(&counters.written_bytes);
        shown.reinserted_bytes = of(&counters.reinserted_bytes);
        shown.evicted_records = of(&counters.evicted_records);
        shown.read_records = of(&counters.read_records);
        shown.read_bytes = of(&counters.read_bytes);
        shown.sent_bytes = of(&counters.sent_bytes);
        shown.read_errors = of(&counters.read_errors);
        shown.bad_records = of(&counters.bad_records);
    }
}

/// A response found on disk, as it was written.
pub struct Recalled {
    /// The record; its body is what lies there of the response's.
    pub found: Found<RecalledBody>,
    /// What was erased when it was read.
    pub mark: Mark,
}

/// A body, or nothing, as it lay with a head.
pub enum RecalledBody {
    /// Read and verified.
    Read(Bytes),
    /// To be sent from its file.
    InFile(FileSpan),
}

impl RecalledBody {
    /// Its length.
    pub fn bytes(&self) -> u64 {
        match self {
            RecalledBody::Read(bytes) => bytes.len() as u64,
            RecalledBody::InFile(span) => span.remaining(),
        }
    }
}

/// What to do with bodies that lie with their heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// They are read.
    Read,
    /// Where it is worth it and needs no disk, they are left in their files to be sent from there.
    LeftInFiles,
}

impl DiskTier {
    /// A tier in `folder`. Opens it at once if that is possible; if not, and whenever the disk fails
    /// later, says so once in the log and tries again every few seconds.
    pub fn new(
        folder: Arc<dyn Folder>,
        sizes: LogSizes,
        clock: SharedClock,
        on_open: OnOpen,
    ) -> Self {
        let shared = Arc::new(Shared {
            folder,
            sizes,
            open: ArcSwapOption::empty(),
            queue: Queue::new(QUEUE_BYTES),
            reads: Arc::default(),
            policy: Arc::new(Policy::new(sizes.limit_bytes, sizes.segment_bytes)),
            erasures: Arc::default(),
            early: Early::default(),
            state: State::default(),
            on_open,
            clock,
        });
        let writer = writer::start(shared.clone());
        DiskTier {
            shared,
            writer: Mutex::new(Some(writer)),
        }
    }

    /// Whether responses are stored under `key`, as far as the index knows: the key itself is compared
    /// when they are read.
    pub fn has_responses(&self, key: &[u8]) -> bool {
        let open = self.shared.open.load();
        open.as_ref().is_some_and(|open| {
            let hash = open.hasher.of_key(key);
            open.shelf.index.contains(hash)
        })
    }

    /// The responses stored under the hash of `key`, in no order, and those of other keys with the
    /// same hash among them; `None` when the index knows none.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn responses(&self, key: &[u8], bodies: Bodies) -> Option<Vec<Recalled>> {
        let open = self.shared.open.load_full()?;
        let hash = open.hasher.of_key(key);
        let mark = self.shared.erasures.mark(hash);
        let locations = open.shelf.index.find(hash);
        if locations.is_empty() {
            return None;
        }
        let mut recalled = Vec::with_capacity(locations.len());
        for location in locations {
            let in_file = match bodies {
                Bodies::LeftInFiles => {
                    let shelf = &open.shelf;
                    shelf.in_file::<RESPONSE_BEGINNING_BYTES>(hash, location)
                }
                Bodies::Read => None,
            };
            let found = match in_file {
                Some(found) => {
                    open.shelf.index.note_hit(hash, location);
                    Some(found.map_body(RecalledBody::InFile))
                }
                None => {
                    let read = self.read(&open, hash, location).await;
                    read.map(|found| found.map_body(RecalledBody::Read))
                }
            };
            recalled.extend(found.map(|found| Recalled { found, mark }));
        }
        Some(recalled)
    }

    /// Whether the folder has been opened: until then nothing can be said of what lies in it.
    pub fn is_open(&self) -> bool {
        self.shared.open.load().is_some()
    }

    /// Whether nothing of `key` was erased since `mark`.
    pub fn is_unerased(&self, key: &[u8], mark: Mark) -> bool {
        let open = self.shared.open.load();
        open.as_ref()
            .is_some_and(|open| self.shared.erasures.mark(open.hasher.of_key(key)) == mark)
    }

    /// Whether a block is stored.
    pub fn has_block(&self, generation: u64, number: u64) -> bool {
        let open = self.shared.open.load();
        open.as_ref().is_some_and(|open| {
            let hash = open.hasher.of_block(generation, number);
            open.shelf.index.contains(hash)
        })
    }

    /// A block.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn block(&self, generation: u64, number: u64) -> Option<Bytes> {
        let open = self.shared.open.load_full()?;
        let hash = open.hasher.of_block(generation, number);
        for location in open.shelf.index.find(hash) {
            let found = self.read(&open, hash, location).await;
            let is_it = |found: &Found| {
                found.kind == Kind::Block
                    && found.generation == generation
                    && found.number == number
            };
            if let Some(found) = found.filter(is_it) {
                return Some(found.body);
            }
        }
        None
    }

    /// A block that can be sent from its file, because it lies in the page cache and is long enough to
    /// be worth it; `None` when it must be read, or is not there.
    pub fn block_in_file(&self, generation: u64, number: u64) -> Option<FileSpan> {
        let open = self.shared.open.load();
        let open = open.as_ref()?;
        let hash = open.hasher.of_block(generation, number);
        open.shelf
            .index
            .find(hash)
            .into_iter()
            .find_map(|location| {
                let shelf = &open.shelf;
                let found = shelf.in_file::<BLOCK_BEGINNING_BYTES>(hash, location)?;
                let is_it = found.kind == Kind::Block
                    && (found.generation, found.number) == (generation, number);
                is_it.then(|| {
                    open.shelf.index.note_hit(hash, location);
                    found.body
                })
            })
    }

    async fn read(&self, open: &Arc<OpenTier>, hash: u64, location: Location) -> Option<Found> {
        match self.shared.reads.read(&open.shelf, hash, location).await {
            Ok(found) => {
                open.shelf.index.note_hit(hash, location);
                Some(found)
            }
            Err(NotRead::Missed) => None,
            Err(NotRead::Slow) => {
                count(&self.shared.state.slow_reads, 1);
                None
            }
        }
    }

    /// Whether a record that a fill has brought is worth writing now. Takes note that it was asked
    /// for. `number` is zero for a response and for a body that is kept with it.
    pub fn admits(&self, key: &[u8], number: u64, bytes: u64) -> bool {
        self.consult(key, number, bytes, Policy::filled)
    }

    /// The same for a record that is in memory, was not written, and was asked for again.
    pub fn admits_again(&self, key: &[u8], number: u64, bytes: u64) -> bool {
        self.consult(key, number, bytes, Policy::asked_again)
    }

    fn consult(
        &self,
        key: &[u8],
        number: u64,
        bytes: u64,
        ask: impl FnOnce(&Policy, u64, u32, Room) -> Admission,
    ) -> bool {
        let open = self.shared.open.load();
        let Some(open) = open.as_ref() else {
            return false;
        };
        let room = self.room();
        let hash = open.hasher.of_place(key, number);
        // Longer ones are not written.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let admission = ask(&self.shared.policy, hash, bytes, room);
        if !admission.writes() {
            count(&self.shared.state.refused_records, 1);
        }
        admission.writes()
    }

    fn room(&self) -> Room {
        match self.shared.state.is_full.load(Ordering::Relaxed) {
            true => Room::Full,
            false => Room::Free,
        }
    }

    /// Hands over a response and says whether it was taken. Never waits; a record that there is no room
    /// for in the queue is dropped and counted.
    pub fn put_response(&self, key: &[u8], response: Response) -> bool {
        self.put(|hasher| Record {
            kind: response.kind,
            hash: hasher.of_key(key),
            generation: response.generation,
            number: u64::from(response.revision),
            head: response.head,
            body: response.body,
            place: 0,
        })
    }

    /// Hands over a block of a response under `key`. Never waits, as [`DiskTier::put_response`].
    pub fn put_block(&self, key: &[u8], generation: u64, number: u64, body: Bytes) {
        self.put(|hasher| Record {
            kind: Kind::Block,
            hash: hasher.of_block(generation, number),
            generation,
            number,
            head: Bytes::new(),
            body,
            place: hasher.of_place(key, number),
        });
    }

    fn put(&self, record: impl FnOnce(&RecordHasher) -> Record) -> bool {
        let open = self.shared.open.load();
        let Some(open) = open.as_ref() else {
            return false;
        };
        let record = record(&open.hasher);
        // Longer ones are not written.
        let bytes = u32::try_from(record.bytes()).unwrap_or(u32::MAX);
        let taken = self.shared.queue.write(record);
        if taken == Err(Full) {
            self.shared.policy.not_written(bytes, self.room());
            count(&self.shared.state.dropped_records, 1);
        }
        taken.is_ok()
    }

    /// Notes that what leaves the memory tier was in use there.
    pub fn note_use(&self, key: &[u8]) {
        let open = self.shared.open.load();
        let Some(open) = open.as_ref() else { return };
        let hash = open.hasher.of_key(key);
        for location in open.shelf.index.find(hash) {
            open.shelf.index.note_hit(hash, location);
        }
    }

    /// Takes back every response under `key` whose generation is not above `generation`. When this
    /// returns, none is found any more; a restart forgets them too, once the writer has come to it.
    /// Of a folder that is not open yet, all that lies under `key` is taken back when it is opened.
    pub fn erase(&self, key: &[u8], generation: u64) {
        if self.shared.open.load().is_none() && self.shared.early.keep(key) {
            return;
        }
        let open = self.shared.open.load();
        let Some(open) = open.as_ref() else { return };
        let hash = open.hasher.of_key(key);
        let mut removed = 0;
        self.shared.erasures.erase(hash, generation, || {
            removed = open.shelf.index.remove_all(hash);
        });
        // Nothing on disk, nothing on the way there, nothing that recovery may yet find.
        let is_known = removed > 0 || self.shared.queue.has_records() || self.is_recovering();
        if is_known {
            self.shared.queue.order(Order::Erase { hash, generation });
        }
    }

    fn is_recovering(&self) -> bool {
        self.shared.state.is_recovering.load(Ordering::Acquire)
    }

    /// What the memory tier held at the last clean stop, as it was given to [`DiskTier::close`]; once.
    pub fn take_hot(&self) -> Option<Vec<u8>> {
        let open = self.shared.open.load_full()?;
        let mut hot = open.hot.lock().unwrap_or_else(PoisonError::into_inner);
        hot.take()
    }

    /// Reads every record to see which are bad; those are not used any more. Takes as long as reading
    /// all of the disk: `progress` is called after each segment and may end it. `None` while the folder
    /// could never be opened.
    pub fn verify(&self, progress: impl FnMut(&Verified) -> ControlFlow<()>) -> Option<Verified> {
        let open = self.shared.open.load_full()?;
        Some(verify::verify(&open.shelf, progress))
    }

    /// Removes everything.
    ///
    /// # Errors
    /// What the system said; nothing is found all the same.
    pub async fn clear(&self) -> Result<(), String> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.shared.queue.order(Order::Clear(reply));
        let stopped = |_| Err("the disk tier has been closed".to_owned());
        answer.await.unwrap_or_else(stopped)
    }

    /// Writes what waits, the index, and `hot`; nothing is written any more.
    pub async fn close(&self, hot: Vec<u8>) {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.shared.queue.order(Order::Close(hot, reply));
        // No answer: it has been closed before.
        let _ = answer.await;
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            // It has answered, so it is about to end.
            let _ = writer.join();
        }
    }

    /// What it holds and has done.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }
}

/// A response to be written.
pub struct Response {
    /// Of its body.
    pub generation: u64,
    /// Of its head; later ones are greater.
    pub revision: u32,
    /// [`Kind::Response`], [`Kind::Variant`] or [`Kind::Update`].
    pub kind: Kind,
    /// The stored form of its head, its key included.
    pub head: Bytes,
    /// The whole body when it is small, else nothing.
    pub body: Bytes,
}

impl Drop for DiskTier {
    fn drop(&mut self) {
        // Lets the writer end; whoever wants the fast next start calls `close`.
        let (reply, _) = tokio::sync::oneshot::channel();
        self.shared.queue.order(Order::Close(Vec::new(), reply));
    }
}

impl Shared {
    fn stats(&self) -> Stats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let state = &self.state;
        let fault = state.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stats = Stats {
            fault: (!fault.is_empty()).then(|| fault.clone()),
            shown: DiskTierState {
                is_up: fault.is_empty(),
                is_recovering: state.is_recovering.load(Ordering::Acquire),
                limit_bytes: self.sizes.limit_bytes,
                queued_bytes: self.queue.bytes(),
                dropped_records: of(&state.dropped_records),
                refused_records: of(&state.refused_records),
                slow_reads: of(&state.slow_reads),
                write_faults: of(&state.write_faults),
                ..DiskTierState::default()
            },
            ..Stats::default()
        };
        if let Some(open) = self.open.load_full() {
            stats.note(&open.shelf);
        }
        stats
    }
}
