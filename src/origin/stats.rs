//! What the store counts. The admin surface reads it; nothing here knows how it is shown.

use std::sync::atomic::{AtomicU64, Ordering};

/// An operation, by the name that S3 gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Operation {
    /// `GET /`
    ListBuckets,
    /// `PUT /bucket`
    CreateBucket,
    /// `HEAD /bucket`
    HeadBucket,
    /// `DELETE /bucket`
    DeleteBucket,
    /// `GET /bucket?location`
    GetBucketLocation,
    /// `GET /bucket?list-type=2`
    ListObjectsV2,
    /// `PUT /bucket/key`
    PutObject,
    /// `GET /bucket/key`
    GetObject,
    /// `HEAD /bucket/key`
    HeadObject,
    /// `DELETE /bucket/key`
    DeleteObject,
    /// `POST /bucket` with a form
    PostObject,
    /// Refused before an operation was known.
    None,
}

const OPERATIONS: [Operation; 12] = [
    Operation::ListBuckets,
    Operation::CreateBucket,
    Operation::HeadBucket,
    Operation::DeleteBucket,
    Operation::GetBucketLocation,
    Operation::ListObjectsV2,
    Operation::PutObject,
    Operation::GetObject,
    Operation::HeadObject,
    Operation::DeleteObject,
    Operation::PostObject,
    Operation::None,
];

impl Operation {
    /// The name in logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Operation::ListBuckets => "ListBuckets",
            Operation::CreateBucket => "CreateBucket",
            Operation::HeadBucket => "HeadBucket",
            Operation::DeleteBucket => "DeleteBucket",
            Operation::GetBucketLocation => "GetBucketLocation",
            Operation::ListObjectsV2 => "ListObjectsV2",
            Operation::PutObject => "PutObject",
            Operation::GetObject => "GetObject",
            Operation::HeadObject => "HeadObject",
            Operation::DeleteObject => "DeleteObject",
            Operation::PostObject => "PostObject",
            Operation::None => "none",
        }
    }
}

/// Statuses that the store answers with; the last slot counts any other.
const STATUSES: [u16; 18] = [
    200, 201, 204, 206, 303, 304, 400, 403, 404, 405, 409, 411, 412, 416, 500, 501, 503, 0,
];

/// Counters since the store was opened.
#[derive(Debug, Default)]
pub struct Stats {
    requests: [[AtomicU64; STATUSES.len()]; OPERATIONS.len()],
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

    /// Every count that is not zero.
    pub fn requests(&self) -> Vec<RequestCount> {
        let mut counts = Vec::new();
        for (operation, row) in OPERATIONS.into_iter().zip(&self.requests) {
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
        for (index, operation) in OPERATIONS.into_iter().enumerate() {
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
