//! An upload on its way in: from the body of a request to a verified, unpublished blob.
//!
//! Bytes are gathered into batches, which are hashed and written on blocking threads while more arrive: no runtime thread
//! waits for MD5 or the disk, and neither of them for the other. An upload holds a MiB and two batches of 256 KiB in
//! memory at most. Every promise of the client about its bytes (length, digests, signatures) is compared in
//! [`Arrived::finish`] before the blob gets its name: a mismatch leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use md5::{Digest as _, Md5};
use tokio::task::JoinHandle;

use super::blobs::{BlobError, BlobWriter, Blobs, Published, Tier};
use super::checksums::{Algorithm, Checksum, ChecksumError, Running};
use super::serial_queue::{QueueError, SerialQueue, Worker};
use super::stats::Stats;
use super::upload_body::{ChunkDecoder, Framing, FramingError, Piece, Trailer};
use crate::signing::{ChunkSigner, Refusal};

/// The largest object that one PUT may carry (S3, PutObject): 5 GiB.
pub const OBJECT_MAX_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// Bytes gathered before a batch goes to the blocking thread.
const BATCH_BYTES: usize = 256 * 1024;
/// Bytes that may wait to be hashed, or to be written, when the next batch is handed over.
const LEAD_BYTES: usize = 1024 * 1024;
/// Bytes that are hashed on a thread of the runtime when they are all there is.
const HASHED_HERE_BYTES: usize = 64 * 1024;
/// The longest silence of a client in the middle of its body.
const BODY_SILENCE: Duration = Duration::from_secs(30);

/// What the client has promised about its body.
#[derive(Debug)]
pub struct Plan {
    /// Bytes of the object; `None` for a body in chunked transfer coding without a declared length.
    pub length_bytes: Option<u64>,
    /// Set when the body is `aws-chunked`; needs `length_bytes`.
    pub framing: Option<Framing>,
    /// Verifies the chunks; set exactly when the framing is signed.
    pub signer: Option<ChunkSigner>,
    /// `x-amz-content-sha256`.
    pub sha256: Option<[u8; 32]>,
    /// `Content-MD5`.
    pub md5: Option<[u8; 16]>,
    /// The additional checksum.
    pub checksum: ChecksumPlan,
    /// Another checksum to compute beside it.
    pub also: Option<Algorithm>,
    /// Which disks the bytes go to.
    pub tier: Tier,
}

impl Plan {
    /// For what the program itself puts: nothing was announced but the length.
    pub(super) fn of_own(length_bytes: u64) -> Self {
        Plan {
            length_bytes: Some(length_bytes),
            framing: None,
            signer: None,
            sha256: None,
            md5: None,
            checksum: ChecksumPlan::Compute(Algorithm::Crc64Nvme),
            also: None,
            tier: Tier::Data,
        }
    }
}

/// Where the additional checksum comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChecksumPlan {
    /// The client sent none: we compute this one.
    Compute(Algorithm),
    /// It came in the head.
    Given(Checksum),
    /// It will come in the trailer.
    InTrailer(Algorithm),
}

/// Why an upload was not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The `aws-chunked` framing is broken.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// A chunk's or trailer's signature does not match.
    #[error(transparent)]
    Signature(#[from] Refusal),
    /// The body ended early.
    #[error("the body has {actual_bytes} bytes, {expected_bytes} were announced")]
    Incomplete {
        /// Announced.
        expected_bytes: u64,
        /// Came.
        actual_bytes: u64,
    },
    /// The connection broke, or the chunked transfer coding did.
    #[error("the body broke off after {received_bytes} bytes")]
    BrokeOff {
        /// Bytes that came.
        received_bytes: u64,
    },
    /// The client fell silent.
    #[error("no byte of the body for {seconds} s, after {received_bytes} bytes")]
    Silent {
        /// How long.
        seconds: u64,
        /// Bytes that came before.
        received_bytes: u64,
    },
    /// More than [`OBJECT_MAX_BYTES`].
    #[error("an upload has at most {limit_bytes} bytes, this one has {bytes} or more")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
        /// Announced, or received before giving up.
        bytes: u64,
    },
    /// The bytes do not have the announced MD5.
    #[error("the bytes do not have the announced MD5")]
    Md5Mismatch,
    /// The bytes do not have the announced SHA-256.
    #[error("the bytes do not have the SHA-256 of x-amz-content-sha256")]
    Sha256Mismatch,
    /// The bytes do not have the announced checksum.
    #[error("the bytes do not have the announced {}", algorithm.s3_name())]
    ChecksumMismatch {
        /// Which.
        algorithm: Algorithm,
    },
    /// The trailer announced in `x-amz-trailer` did not come, or another one did.
    #[error("the trailer does not hold what x-amz-trailer announced")]
    TrailerFields,
    /// The trailer's checksum cannot be read.
    #[error("the trailer's checksum: {0}")]
    TrailerChecksum(ChecksumError),
    /// The bytes could not be stored.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The thread that hashes and writes died: a bug of ours.
    #[error("the writing thread died")]
    WriterDied,
}

/// A complete upload whose blob is durable.
#[derive(Debug)]
pub struct Received {
    /// MD5 of the bytes in hexadecimal.
    pub etag: String,
    /// The additional checksum, computed here.
    pub checksum: Checksum,
    /// What [`Plan::also`] asked for.
    pub also: Option<Checksum>,
    /// The bytes.
    pub published: Published,
}

/// An upload whose bytes have all come, the last of them not yet hashed and written.
pub struct Arrived {
    stage: Stage,
    rest: Vec<Piece>,
}

impl Arrived {
    /// Hashes and writes what is left, compares every promise and publishes the bytes.
    ///
    /// # Errors
    /// [`UploadError`]; nothing is left behind.
    pub async fn finish(self) -> Result<Received, UploadError> {
        let Arrived { stage, rest } = self;
        let bytes: usize = rest.iter().map(Piece::data_bytes).sum();
        let stage = match stage {
            // Shorter than the way to another thread and back.
            Stage::Idle(mut intake)
                if bytes <= HASHED_HERE_BYTES && intake.writing.is_in_memory() =>
            {
                intake.absorb(rest)?;
                Stage::Idle(intake)
            }
            stage => stage.take_in(rest, bytes).await?,
        };
        stage.idle().await?.finish().await
    }
}

/// Takes in a body. Dropped half-way it leaves nothing behind.
///
/// # Errors
/// [`UploadError`]; nothing is left behind.
pub async fn receive<B>(
    blobs: Arc<dyn Blobs>,
    body: B,
    plan: Plan,
    stats: &Stats,
) -> Result<Arrived, UploadError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if let Some(bytes) = plan.length_bytes.filter(|bytes| *bytes > OBJECT_MAX_BYTES) {
        return Err(UploadError::TooLarge {
            limit_bytes: OBJECT_MAX_BYTES,
            bytes,
        });
    }
    let mut body = body;
    let mut decoder = match (plan.framing, plan.length_bytes) {
        (Some(framing), Some(length)) => Some(ChunkDecoder::new(framing, length)),
        (Some(_), None) | (None, _) => None,
    };
    let mut stage = Stage::Idle(Box::new(Intake::new(blobs, plan)));
    let mut pieces = Vec::new();
    let mut gathered_bytes = 0;
    let mut received_bytes = 0u64;
    while let Some(mut bytes) = next_bytes(&mut body, received_bytes).await? {
        stats.count_received(bytes.len());
        received_bytes += bytes.len() as u64;
        if decoder.is_none() && received_bytes > OBJECT_MAX_BYTES {
            return Err(UploadError::TooLarge {
                limit_bytes: OBJECT_MAX_BYTES,
                bytes: received_bytes,
            });
        }
        gathered_bytes += bytes.len();
        match &mut decoder {
            None => pieces.push(Piece::Data(bytes)),
            Some(decoder) => {
                while let Some(piece) = decoder.decode(&mut bytes)? {
                    pieces.push(piece);
                }
            }
        }
        if gathered_bytes >= BATCH_BYTES {
            let batch = std::mem::take(&mut pieces);
            stage = stage.take_in(batch, gathered_bytes).await?;
            gathered_bytes = 0;
        }
    }
    if let Some(decoder) = &decoder {
        decoder.finish()?;
    }
    Ok(Arrived {
        stage,
        rest: pieces,
    })
}

/// The next bytes of a body, `None` at its end. HTTP trailers, which nobody announced to us, are passed over as
/// RFC 9110 §6.5.1 allows.
///
/// # Errors
/// [`UploadError::Silent`], [`UploadError::BrokeOff`].
pub(super) async fn next_bytes<B>(
    body: &mut B,
    received_bytes: u64,
) -> Result<Option<Bytes>, UploadError>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        let frame = tokio::time::timeout(BODY_SILENCE, body.frame())
            .await
            .map_err(|_| UploadError::Silent {
                seconds: BODY_SILENCE.as_secs(),
                received_bytes,
            })?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(UploadError::BrokeOff { received_bytes }),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(Some(bytes)),
                Err(_trailers) => {}
            },
        }
    }
}

/// Where the intake is: here, or with a batch on a blocking thread, or in two queues when the bytes go to a disk: MD5 takes
/// as long as all else together.
enum Stage {
    Idle(Box<Intake>),
    Busy(JoinHandle<Result<Box<Intake>, UploadError>>),
    Apart {
        hashing: SerialQueue<Hashing>,
        writing: SerialQueue<Writing>,
    },
}

impl Stage {
    /// Hands a batch of `bytes` over, once few enough wait before it.
    async fn take_in(self, pieces: Vec<Piece>, bytes: usize) -> Result<Self, UploadError> {
        let (hashing, writing) = match self {
            Stage::Apart { hashing, writing } => (hashing, writing),
            Stage::Idle(_) | Stage::Busy(_) => {
                let mut intake = self.idle().await?;
                if intake.writing.is_in_memory() {
                    return Ok(Stage::Busy(tokio::task::spawn_blocking(move || {
                        intake.absorb(pieces)?;
                        Ok(intake)
                    })));
                }
                (
                    SerialQueue::new(intake.hashing),
                    SerialQueue::new(intake.writing),
                )
            }
        };
        hashing.room(LEAD_BYTES).await?;
        writing.room(LEAD_BYTES).await?;
        let of_data = |piece: &Piece| match piece {
            Piece::Data(bytes) => Some(bytes.clone()),
            Piece::ChunkEnd(_) | Piece::Trailer(_) => None,
        };
        writing.push(pieces.iter().filter_map(of_data).collect(), bytes);
        hashing.push(pieces, bytes);
        Ok(Stage::Apart { hashing, writing })
    }

    async fn idle(self) -> Result<Box<Intake>, UploadError> {
        match self {
            Stage::Idle(intake) => Ok(intake),
            Stage::Busy(handle) => handle.await.map_err(|_| UploadError::WriterDied)?,
            Stage::Apart { hashing, writing } => {
                let (hashing, writing) = tokio::join!(hashing.finish(), writing.finish());
                Ok(Box::new(Intake {
                    hashing: hashing?,
                    writing: writing?,
                }))
            }
        }
    }
}

impl<E: Into<UploadError>> From<QueueError<E>> for UploadError {
    fn from(error: QueueError<E>) -> Self {
        match error {
            QueueError::Failed(error) => error.into(),
            QueueError::Died => UploadError::WriterDied,
        }
    }
}

/// Hashes, checks and writes. Taking in bytes blocks.
struct Intake {
    hashing: Hashing,
    writing: Writing,
}

/// Writes.
struct Writing {
    blobs: Arc<dyn Blobs>,
    tier: Tier,
    writer: Option<Box<dyn BlobWriter>>,
}

/// Hashes and checks.
struct Hashing {
    plan: Plan,
    md5: Md5,
    sha256: Option<digest::Context>,
    chunk_sha256: digest::Context,
    checksum: Running,
    also: Option<Running>,
}

impl Intake {
    fn new(blobs: Arc<dyn Blobs>, plan: Plan) -> Self {
        let algorithm = match &plan.checksum {
            ChecksumPlan::Compute(algorithm) | ChecksumPlan::InTrailer(algorithm) => *algorithm,
            ChecksumPlan::Given(checksum) => checksum.algorithm(),
        };
        let hashing = Hashing {
            md5: Md5::new(),
            sha256: plan
                .sha256
                .is_some()
                .then(|| digest::Context::new(&digest::SHA256)),
            chunk_sha256: digest::Context::new(&digest::SHA256),
            checksum: Running::new(algorithm),
            also: plan.also.map(Running::new),
            plan,
        };
        let tier = hashing.plan.tier;
        Intake {
            hashing,
            writing: Writing {
                blobs,
                tier,
                writer: None,
            },
        }
    }

    fn absorb(&mut self, pieces: Vec<Piece>) -> Result<(), UploadError> {
        for piece in pieces {
            if let Piece::Data(bytes) = &piece {
                self.writing.write(bytes)?;
            }
            self.hashing.take_in(piece)?;
        }
        Ok(())
    }

    /// Compares what was promised, and publishes the bytes.
    async fn finish(self) -> Result<Received, UploadError> {
        let Intake {
            hashing,
            mut writing,
        } = self;
        let actual_bytes = writing.writer()?.length_bytes();
        let (etag, checksum, also) = hashing.finish(actual_bytes)?;
        let writer = writing.writer.take().expect("the writer was made above");
        Ok(Received {
            etag,
            checksum,
            also,
            published: writer.publish().await?,
        })
    }
}

impl Worker for Writing {
    type Piece = Bytes;
    type Error = BlobError;

    fn take_in(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.write(&bytes)
    }
}

impl Writing {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.writer()?.write(bytes)
    }

    /// Whether taking in more does not touch the disk.
    fn is_in_memory(&self) -> bool {
        self.writer
            .as_ref()
            .is_none_or(|writer| writer.is_in_memory())
    }

    /// It comes into being with the first byte, or at the end of an empty object.
    fn writer(&mut self) -> Result<&mut dyn BlobWriter, BlobError> {
        if self.writer.is_none() {
            self.writer = Some(self.blobs.writer(self.tier)?);
        }
        let writer = self.writer.as_mut().expect("the writer was just made");
        Ok(writer.as_mut())
    }
}

impl Worker for Hashing {
    type Piece = Piece;
    type Error = UploadError;

    fn take_in(&mut self, piece: Piece) -> Result<(), UploadError> {
        match piece {
            Piece::Data(bytes) => self.hash(&bytes),
            Piece::ChunkEnd(signature) => self.check_chunk(signature.as_deref())?,
            Piece::Trailer(trailer) => self.check_trailer(trailer)?,
        }
        Ok(())
    }
}

impl Hashing {
    fn hash(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.checksum.update(bytes);
        if let Some(also) = &mut self.also {
            also.update(bytes);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        if self.plan.signer.is_some() {
            self.chunk_sha256.update(bytes);
        }
    }

    fn check_chunk(&mut self, signature: Option<&str>) -> Result<(), UploadError> {
        let (Some(signer), Some(signature)) = (&mut self.plan.signer, signature) else {
            return Ok(());
        };
        let next = digest::Context::new(&digest::SHA256);
        let chunk = std::mem::replace(&mut self.chunk_sha256, next).finish();
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(chunk.as_ref());
        signer.verify_chunk(signature, &sha256)?;
        Ok(())
    }

    fn check_trailer(&mut self, trailer: Trailer) -> Result<(), UploadError> {
        if let (Some(signer), Some(signature)) = (&mut self.plan.signer, &trailer.signature) {
            signer.verify_trailer(signature, &trailer.canonical())?;
        }
        let announced = match &self.plan.checksum {
            ChecksumPlan::InTrailer(algorithm) => Some(*algorithm),
            ChecksumPlan::Compute(_) | ChecksumPlan::Given(_) => None,
        };
        match (announced, trailer.fields.as_slice()) {
            (None, []) => Ok(()),
            (Some(algorithm), [(name, value)]) if name == algorithm.field_name() => {
                let checksum =
                    Checksum::parse(algorithm, value).map_err(UploadError::TrailerChecksum)?;
                self.plan.checksum = ChecksumPlan::Given(checksum);
                Ok(())
            }
            (Some(_) | None, _) => Err(UploadError::TrailerFields),
        }
    }

    /// Compares what was promised with the bytes. Gives back the ETag, the checksum and the other one.
    fn finish(
        self,
        actual_bytes: u64,
    ) -> Result<(String, Checksum, Option<Checksum>), UploadError> {
        if let Some(expected_bytes) = self.plan.length_bytes
            && actual_bytes != expected_bytes
        {
            return Err(UploadError::Incomplete {
                expected_bytes,
                actual_bytes,
            });
        }
        let md5: [u8; 16] = self.md5.finalize().into();
        if self.plan.md5.is_some_and(|expected| expected != md5) {
            return Err(UploadError::Md5Mismatch);
        }
        if let (Some(sha256), Some(expected)) = (self.sha256, self.plan.sha256)
            && sha256.finish().as_ref() != expected
        {
            return Err(UploadError::Sha256Mismatch);
        }
        let checksum = self.checksum.finish();
        match self.plan.checksum {
            ChecksumPlan::Compute(_) => {}
            ChecksumPlan::Given(expected) if expected == checksum => {}
            ChecksumPlan::Given(expected) => {
                return Err(UploadError::ChecksumMismatch {
                    algorithm: expected.algorithm(),
                });
            }
            ChecksumPlan::InTrailer(_) => return Err(UploadError::TrailerFields),
        }
        let also = self.also.map(Running::finish);
        Ok((hex::encode(md5), checksum, also))
    }
}
