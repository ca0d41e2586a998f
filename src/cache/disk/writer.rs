//! The thread that writes.
//!
//! It alone owns the log. While the disk is at fault it drops what it is given, keeps the erasures,
//! and tries every few seconds to go on.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::{info, warn};

use super::early::Keys;
use super::folder::Folder;
use super::format::Kind;
use super::identity::{self, Identity};
use super::log::{Log, OpenFault, Record, WriteFault};
use super::queue::Order;
use super::shelf::count;
use super::{OpenTier, Shared};
use crate::cache::stored::Generation;

/// Between two tries to use a disk that has failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Bytes that are taken from the queue, and written, at a time.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;

/// Erasures that are remembered while the disk is at fault. Of more, none is: everything goes.
const KEPT_ERASURES: usize = 100_000;

/// The name of the list of what the memory tier held.
pub(super) const HOT_FILE_NAME: &str = "hot";

/// Opens the folder if it can be, and starts the thread.
pub(super) fn start(shared: Arc<Shared>) -> JoinHandle<()> {
    let mut writer = Writer {
        shared,
        log: None,
        is_writing: false,
        retry_at: Duration::ZERO,
        erasures: Vec::new(),
        has_forgotten_erasures: false,
    };
    // Before the first request: what is on disk can be served at once.
    writer.go_on();
    thread::Builder::new()
        .name("cache-disk".to_owned())
        .spawn(move || writer.run())
        .expect("the-system-gives-threads-at-the-start")
}

struct Writer {
    shared: Arc<Shared>,
    log: Option<Log>,
    /// The last write went well.
    is_writing: bool,
    /// Monotonic.
    retry_at: Duration,
    /// Asked for while nothing could be written.
    erasures: Vec<Record>,
    has_forgotten_erasures: bool,
}

impl Writer {
    fn run(mut self) {
        loop {
            let is_recovering = self.log.as_ref().is_some_and(Log::is_recovering);
            let patience = match is_recovering && self.is_writing {
                true => Duration::ZERO,
                false => RETRY_AFTER,
            };
            let orders = self.shared.queue.take(BATCH_BYTES, patience);
            if !self.is_writing && self.shared.clock.monotonic() >= self.retry_at {
                self.go_on();
            }
            let mut records = Vec::new();
            for order in orders {
                match order {
                    Order::Write(record) => records.push(record),
                    Order::Erase { hash, generation } => {
                        records.push(Record::erasure(hash, generation))
                    }
                    Order::Clear(reply) => {
                        // Nobody may be waiting any more.
                        let _ = reply.send(self.clear());
                    }
                    Order::Close(hot, reply) => {
                        self.close(&hot);
                        let _ = reply.send(());
                        return;
                    }
                }
            }
            self.write(records);
            if let (true, Some(log)) = (self.is_writing, &mut self.log) {
                log.recover_segment();
            }
            self.show_state();
        }
    }

    fn show_state(&self) {
        let state = &self.shared.state;
        let is_full = self.log.as_ref().is_some_and(Log::is_full);
        state.is_full.store(is_full, Ordering::Relaxed);
        let is_recovering = self.log.as_ref().is_some_and(Log::is_recovering);
        state.is_recovering.store(is_recovering, Ordering::Release);
    }

    fn write(&mut self, mut records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        // What was erased since it was handed over must not lie behind its erasure in the log.
        records.retain(|record| !self.is_erased(record));
        self.append(&records);
        // Whoever erased one of them while it was being written found nothing to take back: it was
        // neither in the queue nor in the index.
        let erased = records.iter().filter(|record| self.is_erased(record));
        let erasures: Vec<_> = erased
            .map(|record| Record::erasure(record.hash, record.generation))
            .collect();
        self.append(&erasures);
    }

    fn is_erased(&self, record: &Record) -> bool {
        match record.kind {
            Kind::Response | Kind::Variant | Kind::Update => {
                let erasures = &self.shared.erasures;
                !erasures.unless_erased(record.hash, record.generation, || ())
            }
            Kind::Block | Kind::Erasure => false,
        }
    }

    fn append(&mut self, records: &[Record]) {
        let outcome = match &mut self.log {
            Some(log) if self.is_writing => log.append(records),
            _ => return self.drop_records(records),
        };
        match outcome {
            Ok(0) => {}
            Ok(too_long) => count(&self.shared.state.dropped_records, too_long as u64),
            Err(fault) => {
                self.drop_records(records);
                self.fail(&fault);
            }
        }
    }

    fn drop_records(&mut self, records: &[Record]) {
        for record in records {
            match record.kind {
                Kind::Erasure => self.keep_erasure(record.clone()),
                Kind::Response | Kind::Variant => {
                    count(&self.shared.state.dropped_records, 1);
                    self.erase_what_it_replaces(record);
                }
                Kind::Update | Kind::Block => count(&self.shared.state.dropped_records, 1),
            }
        }
    }

    /// What a response that could not be written was to take the place of is out of date.
    fn erase_what_it_replaces(&mut self, record: &Record) {
        let Some(log) = &self.log else { return };
        let shelf = log.shelf().clone();
        if !shelf.index.contains(record.hash) {
            return;
        }
        let before = record.generation.saturating_sub(1);
        self.shared.erasures.erase(record.hash, before, || {
            shelf.index.remove_all(record.hash);
        });
        self.keep_erasure(Record::erasure(record.hash, before));
    }

    fn keep_erasure(&mut self, erasure: Record) {
        if self.erasures.len() < KEPT_ERASURES {
            self.erasures.push(erasure);
        } else {
            self.has_forgotten_erasures = true;
        }
    }

    fn fail(&mut self, fault: &WriteFault) {
        count(&self.shared.state.write_faults, 1);
        self.set_fault(&fault.to_string());
    }

    /// Says once that the disk is at fault.
    fn set_fault(&mut self, fault: &str) {
        self.is_writing = false;
        self.retry_at = self.shared.clock.monotonic() + RETRY_AFTER;
        let mut shown = lock(&self.shared.state.fault);
        if *shown != fault {
            warn!(
                fault,
                "the disk tier writes nothing: responses are kept in memory only until the disk is well"
            );
            fault.clone_into(&mut shown);
        }
    }

    /// Tries to use the folder.
    fn go_on(&mut self) {
        match self.try_to_go_on() {
            Ok(()) => {
                self.is_writing = true;
                let mut shown = lock(&self.shared.state.fault);
                if !shown.is_empty() {
                    info!("the disk tier writes again");
                    shown.clear();
                }
            }
            Err(fault) => self.set_fault(&fault),
        }
        self.show_state();
    }

    fn try_to_go_on(&mut self) -> Result<(), String> {
        let folder = self.shared.folder.clone();
        prepare(&*folder).map_err(|fault| fault.to_string())?;
        let identity = read_identity(&*folder)?;
        let has_failed = self.log.is_some();
        let is_ours = |log: &Log| Some(log.identity()) == identity.as_ref().map(|id| id.folder);
        if !self.log.as_ref().is_some_and(is_ours) {
            self.open(identity)?;
        }
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        if self.has_forgotten_erasures {
            warn!("too much was invalidated while the disk was at fault: the disk tier is emptied");
            log.clear().map_err(|fault| fault.to_string())?;
            self.has_forgotten_erasures = false;
            self.erasures.clear();
        }
        log.append(&self.erasures)
            .and_then(|_| if has_failed { log.probe() } else { Ok(()) })
            .map_err(|fault| fault.to_string())?;
        self.erasures.clear();
        Ok(())
    }

    /// Opens the folder for the first time, or after another one has taken its place.
    fn open(&mut self, identity: Option<Identity>) -> Result<(), String> {
        let folder = self.shared.folder.clone();
        (self.shared.on_open)()?;
        let mut identity = match identity {
            Some(identity) => identity,
            None => new_identity()?,
        };
        identity.epoch = match Generation::begin_epoch(identity.epoch) {
            Ok(epoch) => epoch,
            Err(exhausted) => {
                warn!(%exhausted, "the cache folder is begun anew");
                identity = new_identity()?;
                Generation::begin_epoch(0).map_err(|exhausted| exhausted.to_string())?
            }
        };
        folder
            .replace(identity::FILE_NAME, &identity.encode())
            .map_err(|error| format!("cannot write the identity: {error}"))?;
        let policy = self.shared.policy.clone();
        let erasures = self.shared.erasures.clone();
        let mut log = Log::open(
            folder.clone(),
            &identity,
            self.shared.sizes,
            policy,
            erasures,
        )
        .map_err(|fault| fault.to_string())?;
        if self.log.is_some() {
            // Generations of this process may be named as those of the one that left it.
            warn!("another folder has taken the place of the cache folder; it is emptied");
            log.clear().map_err(|fault| fault.to_string())?;
        }
        let hot = folder.read(HOT_FILE_NAME).unwrap_or_default();
        // A list that cannot be removed may be read once more: it is only a hint.
        let _ = folder.remove(HOT_FILE_NAME);
        // Whoever erases as soon as the folder is open must know that more may be found.
        let is_recovering = log.is_recovering();
        self.shared
            .state
            .is_recovering
            .store(is_recovering, Ordering::Release);
        info!(
            segments = log.shelf().segments.len(),
            records = log.shelf().index.len(),
            recovering = log.is_recovering(),
            "opened the disk tier"
        );
        let shared = self.shared.clone();
        shared.early.end(|keys| {
            self.erase_early(keys, &log, &identity);
            shared.open.store(Some(Arc::new(OpenTier {
                shelf: log.shelf().clone(),
                hasher: identity.hasher(),
                hot: Mutex::new(hot),
            })));
        });
        self.log = Some(log);
        Ok(())
    }

    /// Takes back what was erased before there was a log (`erased-before-open`).
    fn erase_early(&mut self, keys: Keys, log: &Log, identity: &Identity) {
        let index = &log.shelf().index;
        let Keys::Known(keys) = keys else {
            index.clear();
            self.has_forgotten_erasures = true;
            return;
        };
        // All that lies there is older than the epoch that has just begun.
        let generation = Generation::latest().number();
        let hasher = identity.hasher();
        for key in keys {
            let hash = hasher.of_key(&key);
            let remove = || {
                index.remove_all(hash);
            };
            self.shared.erasures.erase(hash, generation, remove);
            self.keep_erasure(Record::erasure(hash, generation));
        }
    }

    fn clear(&mut self) -> Result<(), String> {
        let outcome = match &mut self.log {
            Some(log) => log.clear().map_err(|fault| fault.to_string()),
            None => Err(lock(&self.shared.state.fault).clone()),
        };
        // Only now: a read that begins before the index is empty would carry a mark that stays right.
        self.shared.erasures.mark_all();
        outcome
    }

    fn close(&mut self, hot: &[u8]) {
        let Some(log) = self.log.as_mut().filter(|_| self.is_writing) else {
            return;
        };
        if let Err(fault) = log.close() {
            warn!(%fault, "the next start reads the segments of the disk tier");
        }
        if !hot.is_empty()
            && let Err(error) = self.shared.folder.replace(HOT_FILE_NAME, hot)
        {
            warn!(%error, "the next start does not know what the memory tier held");
        }
    }
}

fn lock(fault: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    fault.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes what is missing in the folder and takes its lock.
pub(super) fn prepare(folder: &dyn Folder) -> Result<(), OpenFault> {
    folder.prepare().map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => OpenFault::Locked,
        _ => OpenFault::Io {
            doing: "use the folder",
            error,
        },
    })
}

/// The identity of the folder; `None` when it has none that we can use, and all in it is foreign.
fn read_identity(folder: &dyn Folder) -> Result<Option<Identity>, String> {
    let contents = folder.read(identity::FILE_NAME);
    let contents = contents.map_err(|error| format!("cannot read the identity: {error}"))?;
    let Some(contents) = contents else {
        return Ok(None);
    };
    let identity = Identity::decode(&contents);
    let refused = |fault: &_| warn!(%fault, "the identity of the cache folder cannot be used");
    Ok(identity.inspect_err(refused).ok())
}

fn new_identity() -> Result<Identity, String> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| format!("no random bytes: {error}"))?;
    Ok(Identity::new(random))
}
