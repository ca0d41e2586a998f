//! A folder in memory whose calls fail when they are told to, and which can lose what was not synced.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cache::dice::Dice;
use crate::cache::disk::folder::{Folder, SegmentFile};

const PAGE_BYTES: usize = 512;

/// The folder; clones are the same one.
#[derive(Clone)]
pub struct PaperFolder {
    state: Arc<Mutex<State>>,
}

struct State {
    files: BTreeMap<String, Paper>,
    segments: BTreeMap<String, Arc<Mutex<Paper>>>,
    dice: Dice,
    /// Calls until one fails.
    fails_in: Option<u64>,
    /// Once one has failed, all do.
    is_broken: bool,
    stays_broken: bool,
    failed: u64,
    /// The most bytes that all segments ever took.
    peak_bytes: u64,
    held: Option<Held>,
}

/// A write that is to wait.
struct Held {
    /// It has these bytes in it.
    marker: &'static [u8],
    begun: Sender<()>,
    go_on: Receiver<()>,
}

/// A write that waits, until this is dropped.
pub struct Gate {
    begun: Receiver<()>,
    _go_on: Sender<()>,
}

impl Gate {
    /// Waits until the write has begun.
    pub fn wait(&self) {
        self.begun.recv().expect("the folder outlives its gates");
    }
}

/// What a file holds, and what of it would survive a loss of power.
#[derive(Clone, Default)]
pub struct Paper {
    pub written: Vec<u8>,
    durable: Vec<u8>,
}

impl Paper {
    fn lose_power(&mut self, dice: &mut Dice) {
        self.durable.resize(self.written.len(), 0);
        let pages = self.written.chunks_mut(PAGE_BYTES);
        for (page, durable) in pages.zip(self.durable.chunks_mut(PAGE_BYTES)) {
            // The system may have written any page on its own account.
            match dice.chance(50) {
                true => page.copy_from_slice(durable),
                false => durable.copy_from_slice(page),
            }
        }
    }
}

impl PaperFolder {
    pub fn new(seed: u64) -> Self {
        PaperFolder {
            state: Arc::new(Mutex::new(State {
                files: BTreeMap::new(),
                segments: BTreeMap::new(),
                dice: Dice::new(seed),
                fails_in: None,
                is_broken: false,
                stays_broken: false,
                failed: 0,
                peak_bytes: 0,
                held: None,
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the `nth` call from now fail, and those after it too if `stays_broken`.
    pub fn fail_in(&self, nth: u64, stays_broken: bool) {
        let mut state = self.lock();
        state.fails_in = Some(nth);
        state.stays_broken = stays_broken;
    }

    /// All calls go well again. Returns how many have failed.
    pub fn mend(&self) -> u64 {
        let mut state = self.lock();
        state.fails_in = None;
        state.is_broken = false;
        std::mem::take(&mut state.failed)
    }

    /// Makes the next write that has `marker` in it wait, before anything of it is written.
    pub fn hold(&self, marker: &'static [u8]) -> Gate {
        let (begun, waits) = channel();
        let (opens, go_on) = channel();
        self.lock().held = Some(Held {
            marker,
            begun,
            go_on,
        });
        Gate {
            begun: waits,
            _go_on: opens,
        }
    }

    fn wait_if_held(&self, bytes: &[u8]) {
        let is_it = |held: &mut Held| {
            let mut windows = bytes.windows(held.marker.len());
            windows.any(|window| window == held.marker)
        };
        let held = self.lock().held.take_if(is_it);
        if let Some(held) = held {
            // Whoever has let go of the gate does not wait for it.
            let _ = held.begun.send(());
            let _ = held.go_on.recv();
        }
    }

    pub fn lose_power(&self) {
        let mut state = self.lock();
        let State {
            files,
            segments,
            dice,
            ..
        } = &mut *state;
        for paper in segments.values() {
            paper.lock().unwrap().lose_power(dice);
        }
        // Put in place by a rename after a sync, or not at all.
        for paper in files.values_mut() {
            paper.durable.clone_from(&paper.written);
        }
    }

    pub fn peak_bytes(&self) -> u64 {
        self.lock().peak_bytes
    }

    /// The segments, for who wants to damage them.
    pub fn papers(&self) -> Vec<Arc<Mutex<Paper>>> {
        self.lock().segments.values().cloned().collect()
    }

    fn call(&self) -> io::Result<()> {
        self.lock().call()
    }
}

impl State {
    fn call(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.fails_in {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.fails_in = None;
                self.is_broken = self.stays_broken;
                self.failed += 1;
                return Err(self.error());
            }
        }
        match self.is_broken {
            true => Err(self.error()),
            false => Ok(()),
        }
    }

    fn error(&mut self) -> io::Error {
        const KINDS: [io::ErrorKind; 4] = [
            io::ErrorKind::StorageFull,
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::NotFound,
            io::ErrorKind::Other,
        ];
        self.dice.pick(&KINDS).into()
    }
}

impl Folder for PaperFolder {
    fn prepare(&self) -> io::Result<()> {
        self.call()
    }

    fn segments(&self) -> io::Result<Vec<String>> {
        self.call()?;
        Ok(self.lock().segments.keys().cloned().collect())
    }

    fn create_segment(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        self.call()?;
        let paper = Paper {
            written: vec![0; bytes as usize],
            durable: vec![0; bytes as usize],
        };
        let paper = Arc::new(Mutex::new(paper));
        let mut state = self.lock();
        state.segments.insert(name.to_owned(), paper.clone());
        let all = state.segments.values();
        let total = all.map(|paper| paper.lock().unwrap().written.len() as u64);
        let total = total.sum();
        state.peak_bytes = state.peak_bytes.max(total);
        Ok(Arc::new(PaperFile {
            folder: self.clone(),
            paper,
        }))
    }

    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        self.call()?;
        let paper = self.lock().segments.get(name).cloned();
        let paper = paper.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(PaperFile {
            folder: self.clone(),
            paper,
        }))
    }

    fn remove_segment(&self, name: &str) -> io::Result<()> {
        self.call()?;
        self.lock().segments.remove(name);
        Ok(())
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.call()?;
        let state = self.lock();
        Ok(state.files.get(name).map(|paper| paper.written.clone()))
    }

    fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        self.call()?;
        let paper = Paper {
            written: contents.to_vec(),
            durable: contents.to_vec(),
        };
        self.lock().files.insert(name.to_owned(), paper);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call()?;
        self.lock().files.remove(name);
        Ok(())
    }
}

struct PaperFile {
    folder: PaperFolder,
    paper: Arc<Mutex<Paper>>,
}

impl SegmentFile for PaperFile {
    fn bytes(&self) -> io::Result<u64> {
        self.folder.call()?;
        Ok(self.paper.lock().unwrap().written.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.folder.call()?;
        let paper = self.paper.lock().unwrap();
        let bytes = paper.written.get(offset as usize..);
        let bytes = bytes.and_then(|bytes| bytes.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
        self.read_at(buffer, offset).map(|()| true)
    }

    fn send_at(&self, socket: BorrowedFd<'_>, offset: u64, bytes: usize) -> io::Result<usize> {
        let left = self.bytes()?.saturating_sub(offset);
        let mut buffer = vec![0; bytes.min(left as usize)];
        self.read_at(&mut buffer, offset)?;
        Ok(rustix::io::write(socket, &buffer)?)
    }

    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let outcome = self.folder.call();
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        self.folder.wait_if_held(&bytes);
        let mut written = bytes.len();
        if outcome.is_err() {
            // A part may have been written.
            written = self.folder.lock().dice.below(bytes.len() as u64 + 1) as usize;
        }
        let mut paper = self.paper.lock().unwrap();
        let start = offset as usize;
        paper.written[start..start + written].copy_from_slice(&bytes[..written]);
        outcome
    }

    fn sync(&self) -> io::Result<()> {
        let outcome = self.folder.call();
        let mut paper = self.paper.lock().unwrap();
        if outcome.is_ok() {
            let Paper { written, durable } = &mut *paper;
            durable.clone_from(written);
        }
        outcome
    }
}
