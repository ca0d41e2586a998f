//! Bytes on their way in.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use super::buffers::Buffer;
use super::disks::Tier;
use super::packs::on_each;
use super::place::{Form, Place, Spot};
use super::{
    BLOCK_BYTES, BlobError, BlobId, BlockCrcs, Content, EXTENT_MAX_BYTES, INLINE_MAX_BYTES, Inner,
    NewBlob, PACKED_MAX_BYTES, Published, crc32c, stripes,
};

/// Bytes of a file that are synced together while more of them come.
const SYNC_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes being taken in. Dropped before [`DiskWriter::publish`] they leave nothing behind.
pub struct DiskWriter {
    inner: Arc<Inner>,
    tier: Tier,
    length_bytes: u64,
    /// All bytes so far, as long as they are few.
    buffer: Buffer,
    /// There once they are many.
    extents: Option<Extents>,
}

impl DiskWriter {
    pub(super) fn new(inner: Arc<Inner>, tier: Tier) -> Self {
        DiskWriter {
            buffer: inner.gathering.gather(),
            inner,
            tier,
            length_bytes: 0,
            extents: None,
        }
    }

    /// Appends. Blocks, unless [`DiskWriter::has_room_for`] says that it does not.
    ///
    /// # Errors
    /// [`BlobError::NoSpace`], [`BlobError::WritesRefused`] or [`BlobError::Write`]; the bytes are lost either way.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.length_bytes += bytes.len() as u64;
        if self.extents.is_none() && self.buffer.len() + bytes.len() <= PACKED_MAX_BYTES {
            self.buffer.extend(bytes);
            return Ok(());
        }
        let (inner, tier) = (&self.inner, self.tier);
        let extents = self
            .extents
            .get_or_insert_with(|| Extents::new(Arc::clone(inner), tier));
        if self.buffer.len() > 0 {
            extents.write(self.buffer.bytes())?;
            self.buffer.clear();
        }
        extents.write(bytes)
    }

    /// Bytes so far.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Whether nothing has gone to a disk yet: up to [`PACKED_MAX_BYTES`].
    pub fn buffers_only(&self) -> bool {
        self.extents.is_none()
    }

    /// Whether so many more bytes are only kept in memory.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.buffers_only() && self.buffer.len() + bytes <= PACKED_MAX_BYTES
    }

    /// Makes the bytes durable. Few come back as they are, to be put into the row.
    ///
    /// # Errors
    /// [`BlobError::NoSpace`], [`BlobError::WritesRefused`] or [`BlobError::Write`], after which the disk is not
    /// written again.
    ///
    /// # Cancel safety
    /// Dropped half-way it may leave a record that no row names in a pack. Files of blobs are removed.
    pub async fn publish(self) -> Result<Published, BlobError> {
        let DiskWriter {
            inner,
            tier,
            length_bytes,
            buffer,
            extents,
        } = self;
        let content = match extents {
            Some(extents) => Content::Blobs(extents.publish().await?),
            None if buffer.len() <= INLINE_MAX_BYTES => Content::Inline(buffer.into_bytes()),
            None => Content::Blobs(vec![pack(&inner, tier, buffer.into_bytes()).await?]),
        };
        Ok(Published {
            length_bytes,
            content,
        })
    }
}

/// Puts a blob into a pack.
async fn pack(inner: &Arc<Inner>, tier: Tier, payload: Bytes) -> Result<NewBlob, BlobError> {
    let id = inner.next_id()?;
    let set = inner.next_pack_set(tier)?;
    let form = inner.disks.form(tier);
    let length_bytes = payload.len() as u64;
    let block_crcs = BlockCrcs::of(&payload);
    let durable = match form {
        Form::Copies => inner.packs.append(id, payload, form, set),
        Form::Shards { .. } => {
            let inner = Arc::clone(inner);
            // Encoding a MiB would keep a runtime thread from its other work.
            tokio::task::spawn_blocking(move || inner.packs.append(id, payload, form, set))
                .await
                .map_err(|_| BlobError::WritesRefused)?
        }
    };
    Ok(NewBlob {
        id,
        length_bytes,
        block_crcs,
        // Nobody answers when the thread has died.
        place: durable.await.map_err(|_| BlobError::WritesRefused)??,
    })
}

/// The files of an upload. Dropped before they are given out they are removed: nobody else knows their names, which is
/// proof enough.
struct Extents {
    inner: Arc<Inner>,
    tier: Tier,
    done: Vec<NewBlob>,
    /// The thread that makes a full file durable, while the next one is written.
    finishing: Option<JoinHandle<Result<NewBlob, BlobError>>>,
    current: Option<ExtentWriter>,
}

impl Extents {
    fn new(inner: Arc<Inner>, tier: Tier) -> Self {
        Extents {
            inner,
            tier,
            done: Vec::new(),
            finishing: None,
            current: None,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let written = self.write_on(bytes);
        if written.is_err() {
            // What failed first says more: after it nothing is written.
            self.end_finishing()?;
        }
        written
    }

    fn write_on(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        while !bytes.is_empty() {
            let extent = match &mut self.current {
                Some(extent) => extent,
                None => self
                    .current
                    .insert(ExtentWriter::create(Arc::clone(&self.inner), self.tier)?),
            };
            let room = EXTENT_MAX_BYTES - extent.length_bytes;
            // No longer than `bytes`, so it fits every usize.
            let (now, later) = bytes.split_at(room.min(bytes.len() as u64) as usize);
            extent.write(now)?;
            bytes = later;
            if extent.length_bytes == EXTENT_MAX_BYTES {
                self.finish_beside()?;
            }
        }
        Ok(())
    }

    /// Makes the current file durable on a thread of its own, when the one before it is.
    fn finish_beside(&mut self) -> Result<(), BlobError> {
        self.end_finishing()?;
        if let Some(extent) = self.current.take() {
            let thread = thread::Builder::new().name("store-finish".to_owned());
            let finishing = thread.spawn(move || extent.finish());
            self.finishing = Some(finishing.expect("the-system-gives-threads"));
        }
        Ok(())
    }

    fn end_finishing(&mut self) -> Result<(), BlobError> {
        if let Some(finishing) = self.finishing.take() {
            let finished = finishing.join().expect("a-file-is-finished-without-panic");
            self.done.push(finished?);
        }
        Ok(())
    }

    fn finish_all(&mut self) -> Result<(), BlobError> {
        self.end_finishing()?;
        if let Some(extent) = self.current.take() {
            self.done.push(extent.finish()?);
        }
        Ok(())
    }

    async fn publish(mut self) -> Result<Vec<NewBlob>, BlobError> {
        let finished = tokio::task::spawn_blocking(move || {
            self.finish_all()?;
            // Should nobody take it, dropping it removes the files.
            Ok(self)
        });
        let mut finished = finished.await.map_err(|_| BlobError::WritesRefused)??;
        Ok(std::mem::take(&mut finished.done))
    }
}

impl Drop for Extents {
    fn drop(&mut self) {
        let (inner, mut unnamed) = (Arc::clone(&self.inner), std::mem::take(&mut self.done));
        let remove = move |unnamed: Vec<NewBlob>| {
            for blob in unnamed {
                // Each failure has been logged, and a sweep repeats it.
                let _ = inner.unlink_blob(blob.id, &blob.place.disks);
            }
        };
        let Some(finishing) = self.finishing.take() else {
            return remove(unnamed);
        };
        // Nobody waits for its sync. Without a thread, what it leaves is for the next sweep.
        let _ = thread::Builder::new().spawn(move || {
            if let Ok(finished) = finishing.join() {
                unnamed.extend(finished);
            }
            remove(unnamed);
        });
    }
}

/// A file of a blob being written, on every disk of its set.
struct ExtentWriter {
    inner: Arc<Inner>,
    id: BlobId,
    form: Form,
    set: Vec<u8>,
    files: Vec<Written>,
    length_bytes: u64,
    /// Bytes that are synced already, or will be when `syncing` is done.
    synced_bytes: u64,
    /// The thread that syncs what there was, while more comes.
    syncing: Option<JoinHandle<Result<(), BlobError>>>,
    /// The unfinished block, kept for its checksum and to write in whole blocks.
    block: Vec<u8>,
    block_crcs: BlockCrcs,
}

/// A file on one disk, under its present name; `None` when it is not ours to remove any more.
struct Written {
    file: Arc<File>,
    path: Option<PathBuf>,
}

impl ExtentWriter {
    fn create(inner: Arc<Inner>, tier: Tier) -> Result<Self, BlobError> {
        let mut extent = ExtentWriter {
            id: inner.next_id()?,
            form: inner.disks.form(tier),
            set: inner.next_set(tier)?,
            inner,
            files: Vec::new(),
            length_bytes: 0,
            synced_bytes: 0,
            syncing: None,
            block: Vec::new(),
            block_crcs: BlockCrcs::default(),
        };
        for number in extent.set.clone() {
            let disks = &extent.inner.disks;
            let path = disks.of_set(number).temporary(extent.id);
            let file = (disks.io.create(&path))
                .map_err(|source| disks.write_failed(number, extent.id.0, source))?;
            extent.files.push(Written {
                file: Arc::new(file),
                path: Some(path),
            });
        }
        Ok(extent)
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        self.length_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.block.is_empty() && bytes.len() >= BLOCK_BYTES {
                let whole = bytes.len() - bytes.len() % BLOCK_BYTES;
                let (blocks, rest) = bytes.split_at(whole);
                self.append(blocks)?;
                bytes = rest;
                continue;
            }
            let take = (BLOCK_BYTES - self.block.len()).min(bytes.len());
            self.block.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if self.block.len() == BLOCK_BYTES {
                self.flush_block()?;
            }
        }
        Ok(())
    }

    fn flush_block(&mut self) -> Result<(), BlobError> {
        let mut block = std::mem::take(&mut self.block);
        self.append(&block)?;
        block.clear();
        self.block = block;
        Ok(())
    }

    /// Writes blocks, of which only the last of the file may be short.
    fn append(&mut self, blocks: &[u8]) -> Result<(), BlobError> {
        let crcs = blocks.chunks(BLOCK_BYTES).map(crc32c);
        self.block_crcs.0.extend(crcs);
        match self.form {
            Form::Copies => {
                for index in 0..self.files.len() {
                    self.append_part(index, blocks)?;
                }
            }
            Form::Shards { data, parity } => {
                let mut parts = vec![Vec::new(); self.files.len()];
                for block in blocks.chunks(BLOCK_BYTES) {
                    for (part, shard) in parts.iter_mut().zip(stripes::encode(block, data, parity))
                    {
                        part.extend_from_slice(&shard);
                    }
                }
                for (index, part) in parts.iter().enumerate() {
                    self.append_part(index, part)?;
                }
            }
        }
        let is_full = self.length_bytes == EXTENT_MAX_BYTES;
        if self.length_bytes - self.synced_bytes >= SYNC_BYTES && !is_full {
            self.sync_early()?;
        }
        Ok(())
    }

    /// Begins to sync what there is so far, so that little is left for the end, which somebody waits for. What comes
    /// meanwhile is written beside it, up to where the next such sync is due.
    fn sync_early(&mut self) -> Result<(), BlobError> {
        self.end_early_sync()?;
        let (inner, id, set) = (Arc::clone(&self.inner), self.id, self.set.clone());
        let files: Vec<Arc<File>> = (self.files.iter())
            .map(|written| Arc::clone(&written.file))
            .collect();
        let thread = thread::Builder::new().name("store-sync".to_owned());
        let syncing = thread.spawn(move || {
            let io = inner.disks.io.as_ref();
            let synced = on_each(files.len(), |index| io.sync_data(&files[index]));
            inner.disks.sort(id, &set, synced)
        });
        // Where the system gives no thread, it is tried again with the next bytes, and the end does it in any case.
        if let Ok(syncing) = syncing {
            self.syncing = Some(syncing);
            self.synced_bytes = self.length_bytes;
        }
        Ok(())
    }

    /// What became of the sync that is under way.
    fn end_early_sync(&mut self) -> Result<(), BlobError> {
        match self.syncing.take() {
            Some(syncing) => syncing.join().expect("a-sync-does-not-panic"),
            None => Ok(()),
        }
    }

    fn append_part(&mut self, index: usize, part: &[u8]) -> Result<(), BlobError> {
        if !self.inner.disks.is_ready(self.set[index]) {
            // It may be this file that could not be synced.
            self.end_early_sync()?;
            return Err(BlobError::WritesRefused);
        }
        let disks = &self.inner.disks;
        (disks.io.write(&self.files[index].file, part))
            .map_err(|source| disks.write_failed(self.set[index], self.id.0, source))
    }

    /// Syncs the files and gives them their names.
    fn finish(mut self) -> Result<NewBlob, BlobError> {
        if !self.block.is_empty() {
            self.flush_block()?;
        }
        self.end_early_sync()?;
        let disks = Arc::clone(&self.inner.disks);
        // What has failed meanwhile may have dropped writes of this file too.
        if !self.set.iter().all(|number| disks.is_ready(*number)) {
            return Err(BlobError::WritesRefused);
        }
        let synced = on_each(self.files.len(), |index| {
            disks.io.sync_file(&self.files[index].file)
        });
        disks.sort(self.id, &self.set, synced)?;
        for index in 0..self.files.len() {
            let disk = disks.of_set(self.set[index]);
            let path = disk.blob_file(self.id);
            if let Some(temporary) = &self.files[index].path {
                (disks.io.rename(temporary, &path))
                    .map_err(|source| disks.write_failed(disk.number, self.id.0, source))?;
            }
            self.files[index].path = Some(path);
        }
        let named = on_each(self.files.len(), |index| {
            let disk = disks.of_set(self.set[index]);
            disks.io.sync_folder(&disk.blob_folder(self.id))
        });
        disks.sort(self.id, &self.set, named)?;
        for written in &mut self.files {
            written.path = None;
        }
        Ok(NewBlob {
            id: self.id,
            length_bytes: self.length_bytes,
            block_crcs: std::mem::take(&mut self.block_crcs),
            place: Place {
                form: self.form,
                disks: self.set.clone(),
                spot: Spot::File,
                hold: None,
            },
        })
    }
}

impl Drop for ExtentWriter {
    fn drop(&mut self) {
        for written in &self.files {
            let Some(path) = &written.path else { continue };
            // This writer made the file and nobody else knows its name: proof enough.
            if let Err(error) = self.inner.disks.io.unlink(path) {
                tracing::warn!(path = %path.display(), %error, "an abandoned upload stays until the next start");
            }
        }
    }
}
