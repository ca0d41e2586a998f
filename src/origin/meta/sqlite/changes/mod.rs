//! What each change does inside the transaction: it decides against committed rows, then writes.

pub(super) mod append;
pub(super) mod buckets;
mod content;
pub(super) mod objects;
pub(super) mod settings;
pub(super) mod uploads;

use std::collections::HashMap;

use sqlx::sqlite::SqliteConnection;

use super::super::Versioning;
use super::super::epochs::{Epochs, Touched};
use crate::origin::names::{BucketName, ObjectKey};

/// What the writer remembers from one transaction to the next: nobody else writes, so it stays true until a
/// transaction fails.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// The number and versioning of buckets.
    buckets: HashMap<BucketName, (i64, Versioning)>,
    /// The last number given to a version, part or upload.
    last_row: Option<i64>,
}

/// The transaction of a batch: what is done between its beginning and its end, which are the caller's.
pub(super) struct Changes<'c> {
    connection: &'c mut SqliteConnection,
    memo: &'c mut Memo,
    epochs: &'c Epochs,
    touched: Touched,
    /// Whether a number was given that the row of the counter does not show yet.
    counted: bool,
}

impl<'c> Changes<'c> {
    pub(super) fn begin(
        connection: &'c mut SqliteConnection,
        memo: &'c mut Memo,
        epochs: &'c Epochs,
    ) -> Self {
        Changes {
            connection,
            memo,
            epochs,
            touched: Touched::default(),
            counted: false,
        }
    }

    /// Where statements go.
    pub(super) fn sql(&mut self) -> &mut SqliteConnection {
        self.connection
    }

    /// Writes what the whole batch shares.
    pub(super) async fn finish(mut self) -> Result<Touched, sqlx::Error> {
        if let (true, Some(last)) = (self.counted, self.memo.last_row) {
            sqlx::query("UPDATE counters SET value = ? WHERE name = 'row'")
                .bind(last)
                .execute(self.sql())
                .await?;
        }
        Ok(self.touched)
    }

    /// A number above all that were ever given to a version, part or upload.
    async fn next_row(&mut self) -> Result<i64, sqlx::Error> {
        let last = match self.memo.last_row {
            Some(last) => last,
            None => {
                sqlx::query_scalar("SELECT value FROM counters WHERE name = 'row'")
                    .fetch_one(self.sql())
                    .await?
            }
        };
        self.memo.last_row = Some(last + 1);
        self.counted = true;
        Ok(last + 1)
    }

    /// The number and versioning of a bucket.
    async fn bucket(
        &mut self,
        name: &BucketName,
    ) -> Result<Option<(i64, Versioning)>, sqlx::Error> {
        if let Some(known) = self.memo.buckets.get(name) {
            return Ok(Some(*known));
        }
        let found = buckets::find(self, name).await?;
        if let Some(found) = found {
            self.memo.buckets.insert(name.clone(), found);
        }
        Ok(found)
    }

    /// Notes that the rows of an object change.
    fn touch_object(&mut self, bucket: i64, key: &ObjectKey) {
        self.epochs.touch(&(bucket, key), &mut self.touched);
    }

    /// Notes that rows change whose keys are not known: blobs lie elsewhere.
    fn touch_all(&mut self) {
        self.epochs.touch_all(&mut self.touched);
    }

    /// Notes that the rows of a bucket change.
    fn touch_bucket(&mut self, name: &BucketName) {
        self.memo.buckets.remove(name);
        self.epochs.touch(name, &mut self.touched);
    }
}
