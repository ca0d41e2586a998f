//! A blob on its way in.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::{BLOCK_BYTES, BlobError, BlobId, BlockCrcs, Published, crc32c, write_failed};
use crate::origin::disk::Disk;
use crate::origin::latch::WriteLatch;

/// A blob being written. Dropped before [`BlobWriter::publish`] it leaves nothing behind.
pub struct BlobWriter {
    id: BlobId,
    file: File,
    /// `None` once the file has its final name.
    temporary: Option<PathBuf>,
    root: PathBuf,
    disk: Arc<dyn Disk>,
    latch: Arc<WriteLatch>,
    length_bytes: u64,
    /// The unfinished block, kept for its checksum and to write in whole blocks.
    block: Vec<u8>,
    block_crcs: BlockCrcs,
}

impl BlobWriter {
    pub(super) fn new(
        id: BlobId,
        file: File,
        temporary: PathBuf,
        root: PathBuf,
        disk: Arc<dyn Disk>,
        latch: Arc<WriteLatch>,
    ) -> Self {
        BlobWriter {
            id,
            file,
            temporary: Some(temporary),
            root,
            disk,
            latch,
            length_bytes: 0,
            block: Vec::new(),
            block_crcs: BlockCrcs::default(),
        }
    }

    /// Appends. Blocks.
    ///
    /// # Errors
    /// [`BlobError::NoSpace`] or [`BlobError::Write`]; the blob is lost either way.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        self.length_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.block.is_empty() && bytes.len() >= BLOCK_BYTES {
                let whole = bytes.len() - bytes.len() % BLOCK_BYTES;
                let (blocks, rest) = bytes.split_at(whole);
                self.block_crcs
                    .0
                    .extend(blocks.chunks(BLOCK_BYTES).map(crc32c));
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

    /// Bytes so far.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Makes the blob durable and gives it its final name. Blocks until file and folder are synced.
    ///
    /// # Errors
    /// [`BlobError::NoSpace`], or [`BlobError::Write`], after which the store refuses writes.
    pub fn publish(mut self) -> Result<Published, BlobError> {
        if !self.block.is_empty() {
            self.flush_block()?;
        }
        if self.latch.has_fallen() {
            return Err(BlobError::WritesRefused);
        }
        let outcome = self.settle();
        outcome.map_err(|source| write_failed(self.id, source, &self.latch))?;
        Ok(Published {
            id: self.id,
            length_bytes: self.length_bytes,
            block_crcs: std::mem::take(&mut self.block_crcs),
        })
    }

    fn settle(&mut self) -> io::Result<()> {
        self.disk.sync_file(&self.file)?;
        if let Some(temporary) = &self.temporary {
            self.disk.rename(temporary, &self.id.path(&self.root))?;
            self.temporary = None;
        }
        self.disk.sync_folder(&self.id.folder(&self.root))
    }

    fn flush_block(&mut self) -> Result<(), BlobError> {
        let mut block = std::mem::take(&mut self.block);
        self.block_crcs.0.push(crc32c(&block));
        self.append(&block)?;
        block.clear();
        self.block = block;
        Ok(())
    }

    fn append(&self, bytes: &[u8]) -> Result<(), BlobError> {
        self.disk
            .write(&self.file, bytes)
            .map_err(|source| write_failed(self.id, source, &self.latch))
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        let Some(temporary) = self.temporary.take() else {
            return;
        };
        // This writer made the file and nobody else knows its name: proof enough.
        if let Err(error) = self.disk.unlink(&temporary) {
            tracing::warn!(path = %temporary.display(), %error, "an abandoned upload stays until the next start");
        }
    }
}
