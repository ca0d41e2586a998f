//! Packs: many small blobs in one file, and one sync for all that wait.
//!
//! - Each set of disks that is written has one thread and one open pack. The thread takes whatever has gathered, at
//!   most [`BATCH_MAX`] records, writes it with one call per disk, syncs each disk once, and only then answers
//!   (`durable-before-visible`). Nobody waits for company: a batch is what came while the previous one was synced.
//! - A pack belongs to one start of the process and is never appended to by another, so a torn end is just bytes that
//!   no row names.
//! - `no-write-behind-a-failure`: after a failed write or sync the pack is given up, its waiters fail, and the disk is
//!   not written again. Only a full disk is different: the pack is cut back to its last record, on all disks, because
//!   the offset must be the same on each of them and half a record only takes room that is scarce. The records are
//!   then tried one by one, so that one which fits is not failed by one which does not.
//! - Compaction must not take a pack whose records may yet be named: the open one, and those whose publications are
//!   still on their way to a commit. Those hold the pack's token ([`Place`]).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::disks::{Disks, is_full};
use super::folder::make_private_folder;
use super::place::{Form, Place, Spot};
use super::record::{HEADER_BYTES, header};
use super::{BLOCK_BYTES, BlobError, BlobId, PackId, SEQUENCE_BITS, same_error, stripes};

/// Records that share one sync.
const BATCH_MAX: usize = 128;
/// A pack is at most so long: a unit of compaction, and of what a sweep removes at once.
const PACK_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// The writing side of all packs.
pub(super) struct Packs {
    shared: Arc<Shared>,
    syncers: Mutex<HashMap<Vec<u8>, Syncer>>,
}

struct Shared {
    disks: Arc<Disks>,
    generation: i64,
    next_sequence: AtomicI64,
    full_packs: AtomicUsize,
    /// The packs of this generation that have not been removed.
    known: Mutex<HashMap<PackId, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    is_sealed: bool,
    /// Cloned into every place that is given out.
    token: Arc<()>,
}

struct Syncer {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

/// A record to be written.
struct Job {
    id: BlobId,
    length_bytes: u64,
    form: Form,
    /// What each disk of the set gets; of copies the same bytes.
    parts: Vec<Bytes>,
    answer: oneshot::Sender<Result<Place, BlobError>>,
}

impl Packs {
    pub(super) fn new(disks: Arc<Disks>, generation: i64) -> Self {
        Packs {
            shared: Arc::new(Shared {
                disks,
                generation,
                next_sequence: AtomicI64::new(0),
                full_packs: AtomicUsize::new(0),
                known: Mutex::default(),
            }),
            syncers: Mutex::default(),
        }
    }

    /// Hands a record over to be written on a set of disks; the answer comes when it is durable there. The encoding of
    /// shards takes its time on the calling thread.
    pub(super) fn append(
        &self,
        id: BlobId,
        payload: Bytes,
        form: Form,
        set: Vec<u8>,
    ) -> oneshot::Receiver<Result<Place, BlobError>> {
        let (answer, durable) = oneshot::channel();
        let length_bytes = payload.len() as u64;
        let parts = match form {
            Form::Copies => vec![payload; set.len()],
            Form::Shards { data, parity } => encode(&payload, data, parity),
        };
        let job = Job {
            id,
            length_bytes,
            form,
            parts,
            answer,
        };
        let mut syncers = self.syncers.lock().unwrap_or_else(PoisonError::into_inner);
        let syncer = syncers
            .entry(set)
            .or_insert_with_key(|set| start(Arc::clone(&self.shared), set.clone()));
        if let Err(unsent) = syncer.jobs.send(job) {
            // The thread ends only by a panic of its own; nobody may learn of success from it.
            let _ = unsent.0.answer.send(Err(BlobError::WritesRefused));
        }
        durable
    }

    /// Packs that have become full since the start.
    pub(super) fn full_packs(&self) -> usize {
        self.shared.full_packs.load(Ordering::Relaxed)
    }

    /// Whether a pack may not be compacted or removed now, because its records may yet be named by a commit.
    pub(super) fn is_busy(&self, pack: PackId) -> bool {
        match self.shared.known().get(&pack) {
            Some(known) => !known.is_sealed || Arc::strong_count(&known.token) > 1,
            // Of a dead writer, whose commits are over.
            None => false,
        }
    }

    /// A pack was removed.
    pub(super) fn forget(&self, pack: PackId) {
        self.shared.known().remove(&pack);
    }
}

impl Drop for Packs {
    /// Waits for the threads: nothing is written any more when the store is gone.
    fn drop(&mut self) {
        let syncers = std::mem::take(&mut self.syncers);
        let syncers = syncers.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (_, Syncer { jobs, thread }) in syncers {
            drop(jobs);
            // Its panic has been told already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, HashMap<PackId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shards of all blocks, for each disk those of its own one behind the other.
fn encode(payload: &[u8], data: u8, parity: u8) -> Vec<Bytes> {
    let form = Form::Shards { data, parity };
    // A record is far shorter than any address space.
    let stored_bytes = form.stored_bytes(payload.len() as u64) as usize;
    let mut parts: Vec<Vec<u8>> = (0..usize::from(data) + usize::from(parity))
        .map(|_| Vec::with_capacity(stored_bytes))
        .collect();
    for block in payload.chunks(BLOCK_BYTES) {
        for (part, shard) in parts.iter_mut().zip(stripes::encode(block, data, parity)) {
            part.extend_from_slice(&shard);
        }
    }
    parts.into_iter().map(Bytes::from).collect()
}

fn start(shared: Arc<Shared>, set: Vec<u8>) -> Syncer {
    let (jobs, queue) = channel();
    let thread = thread::Builder::new()
        .name("store-packs".to_owned())
        .spawn(move || {
            let mut writer = PackWriter {
                shared,
                set,
                open: None,
            };
            writer.run(&queue);
            writer.seal();
        })
        .expect("the-system-gives-threads");
    Syncer { jobs, thread }
}

/// The thread of one set of disks.
struct PackWriter {
    shared: Arc<Shared>,
    set: Vec<u8>,
    open: Option<OpenPack>,
}

struct OpenPack {
    id: PackId,
    /// One for each disk of the set.
    files: Vec<File>,
    length_bytes: u64,
    token: Arc<()>,
}

/// Why a batch was not written.
enum Failure {
    /// There is no room; nothing is lost but the batch.
    Full(io::Error),
    /// Disks have failed, and the pack with them.
    Failed(io::Error),
    Refused,
    PacksExhausted,
}

impl PackWriter {
    fn run(&mut self, queue: &Receiver<Job>) {
        while let Ok(first) = queue.recv() {
            let mut batch = vec![first];
            batch.extend(queue.try_iter().take(BATCH_MAX - 1));
            self.commit(batch);
        }
    }

    fn commit(&mut self, batch: Vec<Job>) {
        match self.write(&batch) {
            Ok(places) => {
                for (job, place) in batch.into_iter().zip(places) {
                    // Whoever asked may have gone; the record is then bytes that no row names.
                    let _ = job.answer.send(Ok(place));
                }
            }
            Err(Failure::Full(_)) if batch.len() > 1 => {
                for job in batch {
                    self.commit(vec![job]);
                }
            }
            Err(failure) => {
                for job in batch {
                    let error = failure.for_blob(job.id, self.shared.generation);
                    let _ = job.answer.send(Err(error));
                }
            }
        }
    }

    /// Writes and syncs the records, all of them or none.
    fn write(&mut self, batch: &[Job]) -> Result<Vec<Place>, Failure> {
        let disks = Arc::clone(&self.shared.disks);
        if !self.set.iter().all(|number| disks.is_ready(*number)) {
            self.seal();
            return Err(Failure::Refused);
        }
        let record_bytes =
            |job: &Job| (HEADER_BYTES as u64) + job.form.stored_bytes(job.length_bytes);
        let batch_bytes: u64 = batch.iter().map(record_bytes).sum();
        if (self.open.as_ref()).is_some_and(|pack| pack.length_bytes + batch_bytes > PACK_MAX_BYTES)
        {
            self.seal();
            self.shared.full_packs.fetch_add(1, Ordering::Relaxed);
        }
        let pack = match self.open.take() {
            Some(pack) => pack,
            None => self.create()?,
        };
        let outcomes = on_each(self.set.len(), |index| {
            let headers: Vec<[u8; HEADER_BYTES]> = (batch.iter())
                .map(|job| header(job.id, job.length_bytes, job.form, index))
                .collect();
            let mut slices: Vec<IoSlice<'_>> = (batch.iter().zip(&headers))
                .flat_map(|(job, header)| [IoSlice::new(header), IoSlice::new(&job.parts[index])])
                .collect();
            let file = &pack.files[index];
            (disks.io)
                .write_at(file, &mut slices, pack.length_bytes)
                .map_err(|error| (is_full(&error), error))?;
            // A sync that fails for want of room has dropped pages like any other that fails.
            disks.io.sync_data(file).map_err(|error| (false, error))
        });
        self.settle(pack, batch, batch_bytes, outcomes)
    }

    /// Decides what the outcomes on the disks mean for the pack.
    fn settle(
        &mut self,
        mut pack: OpenPack,
        batch: &[Job],
        batch_bytes: u64,
        outcomes: Vec<Result<(), (bool, io::Error)>>,
    ) -> Result<Vec<Place>, Failure> {
        let mut full = None;
        let mut failed = None;
        for (number, outcome) in self.set.iter().zip(outcomes) {
            match outcome {
                Ok(()) => {}
                Err((true, error)) => full = Some(error),
                Err((false, error)) => {
                    self.shared.disks.fail(*number, &error);
                    failed = Some(error);
                }
            }
        }
        if let Some(error) = full
            && failed.is_none()
        {
            for (number, file) in self.set.iter().zip(&pack.files) {
                let disks = &self.shared.disks;
                if let Err(error) = disks.io.truncate(file, pack.length_bytes) {
                    disks.fail(*number, &error);
                    failed = Some(error);
                }
            }
            if failed.is_none() {
                self.open = Some(pack);
                return Err(Failure::Full(error));
            }
        }
        if let Some(error) = failed {
            self.sealed(pack.id);
            return Err(Failure::Failed(error));
        }
        let mut offset = pack.length_bytes;
        let places = (batch.iter())
            .map(|job| {
                let place = Place {
                    form: job.form,
                    disks: self.set.clone(),
                    spot: Spot::Pack {
                        pack: pack.id,
                        offset,
                    },
                    hold: Some(Arc::clone(&pack.token)),
                };
                offset += place.bytes_on_each_disk(job.length_bytes);
                place
            })
            .collect();
        pack.length_bytes += batch_bytes;
        debug_assert_eq!(offset, pack.length_bytes);
        self.open = Some(pack);
        Ok(places)
    }

    /// Makes a pack on every disk of the set; its names are durable on return.
    fn create(&self) -> Result<OpenPack, Failure> {
        let Shared {
            disks,
            generation,
            next_sequence,
            ..
        } = self.shared.as_ref();
        let sequence = next_sequence.fetch_add(1, Ordering::Relaxed);
        if sequence >> SEQUENCE_BITS != 0 {
            return Err(Failure::PacksExhausted);
        }
        let id = PackId::new(*generation, sequence);
        let io = disks.io.as_ref();
        let outcomes = on_each(self.set.len(), |index| {
            let disk = disks.of_set(self.set[index]);
            let folder = disk.pack_folder(*generation);
            make_private_folder(&folder, io)?;
            let file = io.create(&disk.pack_file(id))?;
            io.sync_folder(&folder)?;
            Ok::<_, io::Error>(file)
        });
        if outcomes.iter().all(Result::is_ok) {
            let known = Known::default();
            let token = Arc::clone(&known.token);
            self.shared.known().insert(id, known);
            return Ok(OpenPack {
                id,
                files: outcomes.into_iter().flatten().collect(),
                length_bytes: 0,
                token,
            });
        }
        let mut failure = Failure::Refused;
        for (number, outcome) in self.set.iter().zip(outcomes) {
            match outcome {
                // It is empty and no row will name it; should it stay, a sweep removes it.
                Ok(_) => drop(io.unlink(&disks.of_set(*number).pack_file(id))),
                Err(error) if !is_full(&error) => {
                    disks.fail(*number, &error);
                    failure = Failure::Failed(error);
                }
                Err(error) if matches!(failure, Failure::Refused) => {
                    failure = Failure::Full(error);
                }
                Err(_) => {}
            }
        }
        Err(failure)
    }

    fn seal(&mut self) {
        if let Some(pack) = self.open.take() {
            self.sealed(pack.id);
        }
    }

    /// The token of the writer goes with the pack; only places hold it from now on.
    fn sealed(&self, pack: PackId) {
        if let Some(known) = self.shared.known().get_mut(&pack) {
            known.is_sealed = true;
        }
    }
}

impl Failure {
    fn for_blob(&self, id: BlobId, generation: i64) -> BlobError {
        match self {
            Failure::Full(error) => BlobError::NoSpace {
                id: id.0,
                source: same_error(error),
            },
            Failure::Failed(error) => BlobError::Write {
                id: id.0,
                source: same_error(error),
            },
            Failure::Refused => BlobError::WritesRefused,
            Failure::PacksExhausted => BlobError::IdsExhausted { generation },
        }
    }
}

/// Does something on each disk of a set, at once where there are several: their syncs take as long as the slowest.
pub(super) fn on_each<T: Send, E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Vec<Result<T, E>> {
    if count == 1 {
        return vec![work(0)];
    }
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count)
            .map(|index| scope.spawn(move || work(index)))
            .collect();
        (threads.into_iter())
            .map(|thread| thread.join().expect("work-on-a-disk-does-not-panic"))
            .collect()
    })
}
