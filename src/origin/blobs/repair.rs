//! Finding out what is damaged, and mending it from what is not.
//!
//! A file is mended by a new one that takes its name. In a pack only the blocks and headers that are wrong are written
//! again, where they are: a stop in the middle leaves nothing worse than it was, because what was right is not touched.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::disks::DataDisk;
use super::folder::make_private_folder;
use super::parts::Parts;
use super::place::Spot;
use super::reading::pin_of;
use super::record::{HEADER_BYTES, header};
use super::{BlobError, BlobId, DiskBlobs, Inner, StoredBlob};

/// Blobs that wait to be mended. More are not remembered: the next scrub finds them.
const WAITING_MAX: usize = 10_000;

/// Blobs that readers have found damaged, each once, until somebody asks for them.
#[derive(Debug, Default)]
pub struct Repairs {
    waiting: Mutex<BTreeSet<BlobId>>,
    more: Notify,
}

/// What is known of a blob after all of it has been read on all of its disks.
#[derive(Debug)]
pub enum Verdict {
    /// Every disk of its set has what it should.
    Intact,
    /// On these disks something is wrong or missing, and the others make up for it.
    Repairable {
        /// Numbers of the disks.
        disks: Vec<u8>,
    },
    /// Some block is on no disk. [`BlobError::Missing`] when there is nothing at all, which is also what is left of a
    /// blob that was removed meanwhile.
    Lost(BlobError),
}

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Disks on which something was written again.
    pub mended: Vec<u8>,
    /// Disks on which something is still wrong, because they cannot be written.
    pub left: Vec<u8>,
}

/// What is wrong on one disk.
#[derive(Debug, Default)]
struct Damage {
    /// There is no file that could be used: all of it has to be written.
    is_whole: bool,
    header: bool,
    blocks: Vec<u64>,
}

impl Repairs {
    /// Remembers a blob.
    pub fn report(&self, blob: BlobId) {
        let mut waiting = self.lock();
        if waiting.len() < WAITING_MAX && waiting.insert(blob) {
            self.more.notify_one();
        }
    }

    /// Waits for a damaged blob and takes it.
    ///
    /// # Cancel safety
    /// Nothing is lost: what is not returned keeps waiting.
    pub async fn next(&self) -> BlobId {
        loop {
            if let Some(blob) = self.take() {
                return blob;
            }
            self.more.notified().await;
        }
    }

    /// Takes a damaged blob if there is one.
    pub fn take(&self) -> Option<BlobId> {
        self.lock().pop_first()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<BlobId>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Damage {
    fn is_none(&self) -> bool {
        !self.is_whole && !self.header && self.blocks.is_empty()
    }
}

impl DiskBlobs {
    /// Reads a blob on all of its disks and compares every byte. Blocks.
    pub fn verify(&self, blob: &StoredBlob) -> Verdict {
        let parts = Parts::new(blob.clone(), Arc::clone(&self.inner.disks));
        match inspect(&parts) {
            Err(error) => Verdict::Lost(error),
            Ok(damages) => {
                let disks: Vec<u8> = (blob.place.disks.iter().zip(&damages))
                    .filter(|(_, damage)| !damage.is_none())
                    .map(|(number, _)| *number)
                    .collect();
                if disks.is_empty() {
                    Verdict::Intact
                } else {
                    Verdict::Repairable { disks }
                }
            }
        }
    }

    /// Writes again what is wrong or missing of a blob, from what is right, and syncs it. Blocks.
    ///
    /// # Errors
    /// The error of a read when a block is lost; nothing was written then. [`BlobError::NoSpace`] or
    /// [`BlobError::Write`] when a disk fails.
    pub fn repair(&self, blob: &StoredBlob) -> Result<RepairReport, BlobError> {
        let inner = &self.inner;
        let pin = pin_of(blob);
        // What is being removed needs no repair, and must not be written again.
        inner
            .pins
            .hold(&[pin])
            .map_err(|_| BlobError::Missing { id: blob.id.row() })?;
        let outcome = {
            let _one_at_a_time = inner.mending.lock().unwrap_or_else(PoisonError::into_inner);
            mend(inner, blob)
        };
        inner.unpin(&[pin]);
        outcome
    }
}

/// What is wrong on each disk of the set.
fn inspect(parts: &Parts) -> Result<Vec<Damage>, BlobError> {
    parts.check()?;
    let mut damages: Vec<Damage> = (0..parts.count())
        .map(|index| Damage {
            is_whole: parts.file(index).is_err(),
            ..Damage::default()
        })
        .collect();
    if matches!(parts.blob.place.spot, Spot::Pack { .. }) {
        for (index, damage) in damages.iter_mut().enumerate() {
            let read = parts.read_header(index);
            damage.header = read.map_or(true, |read| read != header_of(parts, index));
        }
    }
    for block in parts.blocks() {
        let examined = parts.examine(block);
        if examined.bytes.is_none() {
            return Err(parts.lost(block, examined.faults.iter().map(Option::as_ref)));
        }
        for (damage, fault) in damages.iter_mut().zip(&examined.faults) {
            if fault.is_some() {
                damage.blocks.push(block);
            }
        }
    }
    Ok(damages)
}

fn header_of(parts: &Parts, index: usize) -> [u8; HEADER_BYTES] {
    header(parts.blob.id, parts.blob.length_bytes, parts.form(), index)
}

fn mend(inner: &Inner, blob: &StoredBlob) -> Result<RepairReport, BlobError> {
    let parts = Parts::new(blob.clone(), Arc::clone(&inner.disks));
    let damages = inspect(&parts)?;
    let mut report = RepairReport::default();
    for (index, damage) in damages.iter().enumerate() {
        let number = blob.place.disks[index];
        if damage.is_none() {
            continue;
        }
        if !inner.disks.is_ready(number) {
            report.left.push(number);
            continue;
        }
        let disk = inner.disks.of_set(number);
        let written = match blob.place.spot {
            Spot::File => rewrite_file(inner, &parts, index, disk),
            Spot::Pack { .. } => rewrite_record(inner, &parts, index, disk, damage),
        };
        written.map_err(|failure| match failure {
            Failure::Lost(error) => error,
            Failure::Write(source) => inner.disks.write_failed(number, blob.id.row(), source),
        })?;
        tracing::info!(blob = %blob.id.file_name(), disk = number, "mended a blob");
        report.mended.push(number);
    }
    Ok(report)
}

enum Failure {
    Lost(BlobError),
    Write(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Write(error)
    }
}

/// What the disk at `index` must have of a block.
fn right_part(parts: &Parts, block: u64, index: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; parts.block_bytes(block)];
    parts
        .read(block..block + 1, &mut bytes)
        .map_err(Failure::Lost)?;
    Ok(parts.part_of(bytes, index))
}

/// Writes the file anew and gives it the name of the damaged one.
fn rewrite_file(
    inner: &Inner,
    parts: &Parts,
    index: usize,
    disk: &DataDisk,
) -> Result<(), Failure> {
    let io = inner.disks.io.as_ref();
    let new = disk.mending(parts.blob.id);
    remove_if_there(io.unlink(&new))?;
    let file = io.create(&new)?;
    let written = (|| -> Result<(), Failure> {
        for block in parts.blocks() {
            io.write(&file, &right_part(parts, block, index)?)?;
        }
        io.sync_file(&file)?;
        io.rename(&new, &disk.blob_file(parts.blob.id))?;
        io.sync_folder(&disk.blob_folder(parts.blob.id))?;
        Ok(())
    })();
    if written.is_err() {
        // Should it stay, the next sweep removes it.
        let _ = io.unlink(&new);
    }
    written
}

/// Writes what is wrong of a record where it is, in a new file if the pack is gone from this disk.
fn rewrite_record(
    inner: &Inner,
    parts: &Parts,
    index: usize,
    disk: &DataDisk,
    damage: &Damage,
) -> Result<(), Failure> {
    let io = inner.disks.io.as_ref();
    let Some(pack) = parts.blob.place.pack() else {
        return Ok(());
    };
    let path = disk.pack_file(pack);
    let file = match io.open_to_mend(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = disk.pack_folder(pack.generation());
            make_private_folder(&folder, io)?;
            let file = io.create(&path)?;
            io.sync_folder(&folder)?;
            file
        }
        Err(error) => return Err(error.into()),
    };
    if damage.is_whole || damage.header {
        let header = header_of(parts, index);
        let offset = parts.base() - HEADER_BYTES as u64;
        io.write_at(&file, &mut [IoSlice::new(&header)], offset)?;
    }
    for block in &damage.blocks {
        let part = right_part(parts, *block, index)?;
        let offset = parts.base() + parts.form().part_offset(*block);
        io.write_at(&file, &mut [IoSlice::new(&part)], offset)?;
    }
    io.sync_data(&file)?;
    Ok(())
}

fn remove_if_there(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
