//! What the store counts. The admin surface reads it; nothing here knows how it is shown.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! operations {
    ($($operation:ident),* $(,)?) => {
        /// An operation, by the name that S3 gives it; `Preflight` is a browser's question about CORS, `None` a
        /// request that was refused before an operation was known.
        #[allow(missing_docs, reason = "the names are those of the S3 API reference")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Operation {
            $($operation,)*
            None,
        }

        const OPERATIONS: &[Operation] = &[$(Operation::$operation,)* Operation::None];

        impl Operation {
            /// The name in logs and metric labels.
            pub fn name(self) -> &'static str {
                match self {
                    $(Operation::$operation => stringify!($operation),)*
                    Operation::None => "none",
                }
            }
        }
    };
}

operations! {
    ListBuckets,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    GetBucketLocation,
    GetBucketVersioning,
    PutBucketVersioning,
    GetBucketPolicy,
    PutBucketPolicy,
    DeleteBucketPolicy,
    GetBucketPolicyStatus,
    GetBucketAcl,
    PutBucketAcl,
    GetBucketCors,
    PutBucketCors,
    DeleteBucketCors,
    GetBucketLifecycleConfiguration,
    PutBucketLifecycleConfiguration,
    DeleteBucketLifecycle,
    GetBucketTagging,
    PutBucketTagging,
    DeleteBucketTagging,
    GetBucketNotificationConfiguration,
    PutBucketNotificationConfiguration,
    GetBucketOwnershipControls,
    PutBucketOwnershipControls,
    DeleteBucketOwnershipControls,
    GetPublicAccessBlock,
    PutPublicAccessBlock,
    DeletePublicAccessBlock,
    GetBucketEncryption,
    GetBucketReplication,
    GetBucketWebsite,
    GetObjectLockConfiguration,
    PutObjectLockConfiguration,
    GetBucketLogging,
    GetBucketRequestPayment,
    GetBucketAccelerateConfiguration,
    ListObjects,
    ListObjectsV2,
    ListObjectVersions,
    ListMultipartUploads,
    PutObject,
    GetObject,
    HeadObject,
    DeleteObject,
    DeleteObjects,
    CopyObject,
    GetObjectAttributes,
    GetObjectRetention,
    PutObjectRetention,
    GetObjectLegalHold,
    PutObjectLegalHold,
    GetObjectTagging,
    PutObjectTagging,
    DeleteObjectTagging,
    GetObjectAcl,
    PutObjectAcl,
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    ListParts,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    PostObject,
    Preflight,
}

impl Operation {
    /// Every operation, in the order of the table.
    pub fn all() -> &'static [Operation] {
        OPERATIONS
    }
}

/// Statuses that the store answers with; the last slot counts any other.
const STATUSES: [u16; 18] = [
    200, 201, 204, 206, 303, 304, 400, 403, 404, 405, 409, 411, 412, 416, 500, 501, 503, 0,
];

macro_rules! counted {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            const COUNT: usize = [$($name::$variant),*].len();
        }
    };
}

counted! {
    /// What the store has done beyond answering requests, each with a counter of its own.
    Care {
        /// Blobs read on all of their disks.
        VerifiedBlobs,
        /// Their bytes.
        VerifiedBytes,
        /// Blobs of which some disk had something wrong, or nothing.
        DamagedBlobs,
        /// Those of them that are whole again.
        RepairedBlobs,
        /// Blobs of which some block is on no disk.
        LostBlobs,
        /// Blobs that no row named any more and whose files were removed.
        CollectedBlobs,
        /// Their bytes.
        CollectedBytes,
        /// Packs removed.
        RemovedPacks,
        /// Bytes of blobs that were moved out of them before.
        MovedBytes,
        /// Bytes of versions that lifecycle rules brought to another storage class.
        TransitionedBytes,
        /// Messages handled.
        MessagesHandled,
        /// Tries to handle a message that failed.
        MessagesPutOff,
        /// Messages that nobody could handle.
        MessagesGivenUp,
        /// Pieces of objects that grow, read for a follower and perhaps for others.
        FollowedFromStore,
        /// Pieces that a follower got because another one had read them.
        FollowedFromMemory,
    }
}

counted! {
    /// What there was when somebody looked last.
    Level {
        /// Buckets.
        Buckets,
        /// Versions that are objects.
        Versions,
        /// Bytes of the versions together.
        VersionBytes,
        /// Those of the class STANDARD_IA.
        ColdVersionBytes,
        /// Bytes in files that wait to be removed.
        GarbageBytes,
        /// Bytes in packs that rows name.
        PackLiveBytes,
        /// Bytes in packs that no row names.
        PackDeadBytes,
        /// Messages that wait.
        MessagesWaiting,
        /// Messages that nobody could handle.
        MessagesDead,
    }
}

/// Counters since the store was opened.
#[derive(Debug)]
pub struct Stats {
    care: [AtomicU64; Care::COUNT],
    levels: [AtomicU64; Level::COUNT],
    requests: Vec<[AtomicU64; STATUSES.len()]>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

/// One line of [`Stats::requests`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCount {
    /// The operation.
    pub operation: Operation,
    /// The status; 0 stands for one that the store has no slot for.
    pub status: u16,
    /// Responses so far.
    pub count: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            requests: OPERATIONS.iter().map(|_| Default::default()).collect(),
            care: Default::default(),
            levels: Default::default(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }
    }
}

impl Stats {
    /// Counts a response.
    pub fn count_response(&self, operation: Operation, status: u16) {
        let slot = STATUSES
            .iter()
            .position(|known| *known == status)
            .unwrap_or(STATUSES.len() - 1);
        self.requests[operation as usize][slot].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes of request bodies, as they travelled.
    pub fn count_received(&self, bytes: usize) {
        self.received_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes of response bodies handed to the connection.
    pub fn count_sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts what was done.
    pub fn add(&self, what: Care, count: u64) {
        self.care[what as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// What has been done.
    pub fn care(&self, what: Care) -> u64 {
        self.care[what as usize].load(Ordering::Relaxed)
    }

    /// Keeps what there is.
    pub fn set_level(&self, what: Level, value: u64) {
        self.levels[what as usize].store(value, Ordering::Relaxed);
    }

    /// What there was when somebody looked last; 0 before.
    pub fn level(&self, what: Level) -> u64 {
        self.levels[what as usize].load(Ordering::Relaxed)
    }

    /// Every count that is not zero.
    pub fn requests(&self) -> Vec<RequestCount> {
        let mut counts = Vec::new();
        for (operation, row) in OPERATIONS.iter().copied().zip(&self.requests) {
            for (status, count) in STATUSES.into_iter().zip(row) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    counts.push(RequestCount {
                        operation,
                        status,
                        count,
                    });
                }
            }
        }
        counts
    }

    /// Bytes of request bodies, as they travelled.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of response bodies.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_and_status_has_a_counter_of_its_own() {
        let stats = Stats::default();
        for (index, operation) in OPERATIONS.iter().copied().enumerate() {
            assert_eq!(operation as usize, index);
        }
        stats.count_response(Operation::GetObject, 206);
        stats.count_response(Operation::GetObject, 206);
        stats.count_response(Operation::None, 418);
        let count = |operation, status, count| RequestCount {
            operation,
            status,
            count,
        };
        assert_eq!(
            stats.requests(),
            [
                count(Operation::GetObject, 206, 2),
                count(Operation::None, 0, 1)
            ]
        );
    }
}
