//! Reads all blobs again and again, slowly, so that damage is found while it can still be mended.
//!
//! - A pass goes through the blobs in the order of their ids. Where it is stands in a note, so a restart costs at most
//!   [`NOTE_BYTES`] of reading, and one blob.
//! - A pass that was asked for reads everything from the first blob on, and leaves that note alone.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::JobError;
use super::repair::{Found, look_at};
use crate::origin::blobs::{BlobId, StoredBlob};
use crate::origin::meta::MetaError;
use crate::origin::store::Store;

/// Rows read at a time.
const BATCH: usize = 256;
/// Bytes read between two notes of where the pass is.
const NOTE_BYTES: u64 = 64 * 1024 * 1024;
/// How long to wait when the store is in trouble.
const TROUBLE_PAUSE: Duration = Duration::from_secs(60);
/// Where the pass in the background is: [`Progress`].
const NOTE: &str = "scrub";
/// What the last whole pass has found: [`Pass`].
const LAST: &str = "scrub-last";

/// What a pass has found so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrubbed {
    /// Blobs read on all of their disks.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that were damaged and are whole again.
    pub repaired: u64,
    /// Those that are damaged, but nothing of them is lost.
    pub damaged: u64,
    /// Those of which some block is on no disk.
    pub lost: u64,
}

/// A pass that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
    /// The last blob that it has looked at, by the number in its row.
    pub after: Option<i64>,
    /// What it has found.
    pub found: Scrubbed,
}

/// A pass that has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
    /// When it ended, in milliseconds since 1970.
    pub finished_ms: i64,
    /// What it has found.
    pub found: Scrubbed,
}

impl Scrubbed {
    fn count(&mut self, found: Found, bytes: u64) {
        match found {
            Found::Gone => return,
            Found::Intact => {}
            Found::Repaired => self.repaired += 1,
            Found::Damaged => self.damaged += 1,
            Found::Lost => self.lost += 1,
        }
        self.blobs += 1;
        self.bytes += bytes;
    }

    /// For a person: an object of counts.
    pub fn to_json(self) -> Value {
        json!({
            "blobs": self.blobs,
            "bytes": self.bytes,
            "repaired": self.repaired,
            "damaged": self.damaged,
            "lost": self.lost,
        })
    }
}

/// Scrubs for ever, as fast as the configuration allows.
pub(super) async fn run(store: &Store) {
    let Some(rate) = store.inner.scrub.bytes_per_second else {
        return;
    };
    loop {
        let pause = match turn(store, rate).await {
            Ok(pause) => pause,
            Err(JobError::Meta(MetaError::Closed)) => return,
            Err(error) => {
                tracing::warn!(%error, "the scrub waits");
                TROUBLE_PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Goes on with the pass under way, or begins one that is due, and brings it to its end. Gives back how long nothing
/// else is due.
pub(super) async fn turn(store: &Store, rate: u64) -> Result<Duration, JobError> {
    let now_ms = store.now_ms()?;
    let under_way = progress(store).await?;
    let last = last_pass(store).await?;
    if let Some(wait) = wait(now_ms, store.inner.scrub.pause, under_way, last) {
        return Ok(wait);
    }
    let mut walk = Walk::from(under_way.unwrap_or(Progress::begun(now_ms)));
    let mut unnoted_bytes = 0;
    while let Some(bytes) = walk.step(store).await? {
        unnoted_bytes += bytes;
        if unnoted_bytes >= NOTE_BYTES {
            note(store, NOTE, &walk.pass).await?;
            unnoted_bytes = 0;
        }
        tokio::time::sleep(share(bytes, rate)).await;
    }
    finish(store, walk.pass).await?;
    store.inner.meta.set_note(NOTE, String::new()).await?;
    Ok(store.inner.scrub.pause)
}

/// One pass over everything, without pauses.
pub(super) async fn pass(store: &Store) -> Result<Scrubbed, JobError> {
    let mut walk = Walk::from(Progress::begun(store.now_ms()?));
    while walk.step(store).await?.is_some() {}
    finish(store, walk.pass).await?;
    Ok(walk.pass.found)
}

/// A pass, blob by blob.
struct Walk {
    pass: Progress,
    /// Rows that were read and not looked at yet.
    rows: VecDeque<StoredBlob>,
}

impl Walk {
    fn from(pass: Progress) -> Self {
        Walk {
            pass,
            rows: VecDeque::new(),
        }
    }

    /// Looks at the next blob. Gives back its length, `None` when there is none.
    async fn step(&mut self, store: &Store) -> Result<Option<u64>, JobError> {
        if self.rows.is_empty() {
            let after = self.pass.after.map(BlobId::from_row);
            self.rows = store.inner.meta.blobs(after, BATCH).await?.into();
        }
        let Some(blob) = self.rows.pop_front() else {
            return Ok(None);
        };
        let (id, bytes) = (blob.id, blob.length_bytes);
        let found = look_at(store, blob).await?;
        self.pass.found.count(found, bytes);
        self.pass.after = Some(id.row());
        Ok(Some(bytes))
    }
}

impl Progress {
    fn begun(started_ms: i64) -> Self {
        Progress {
            started_ms,
            after: None,
            found: Scrubbed::default(),
        }
    }
}

/// How long the next pass has to wait; `None` when there is something to do.
fn wait(
    now_ms: i64,
    pause: Duration,
    under_way: Option<Progress>,
    last: Option<Pass>,
) -> Option<Duration> {
    let last = last.filter(|_| under_way.is_none())?;
    // A clock that was set back must not keep the scrub waiting for longer than the pause.
    let since = u64::try_from(now_ms - last.finished_ms).unwrap_or(0);
    pause
        .checked_sub(Duration::from_millis(since))
        .filter(|left| !left.is_zero())
}

/// How long reading may take at least.
fn share(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64)
}

async fn finish(store: &Store, pass: Progress) -> Result<(), JobError> {
    let finished = Pass {
        started_ms: pass.started_ms,
        finished_ms: store.now_ms()?,
        found: pass.found,
    };
    note(store, LAST, &finished).await?;
    let Scrubbed {
        blobs,
        bytes,
        repaired,
        damaged,
        lost,
    } = pass.found;
    if damaged + lost > 0 {
        tracing::error!(
            blobs,
            bytes,
            repaired,
            damaged,
            lost,
            "the scrub has found damage"
        );
    } else {
        tracing::info!(blobs, bytes, repaired, "the scrub has read everything");
    }
    Ok(())
}

async fn note(store: &Store, name: &'static str, what: &impl Serialize) -> Result<(), MetaError> {
    let text = serde_json::to_string(what).expect("numbers are JSON");
    store.inner.meta.set_note(name, text).await
}

/// Where the pass in the background is.
pub(super) async fn progress(store: &Store) -> Result<Option<Progress>, MetaError> {
    let note = store.inner.meta.note(NOTE).await?;
    // One that cannot be read costs a pass from the beginning.
    Ok(note.and_then(|note| serde_json::from_str(&note).ok()))
}

/// What the last whole pass has found.
pub(super) async fn last_pass(store: &Store) -> Result<Option<Pass>, MetaError> {
    let note = store.inner.meta.note(LAST).await?;
    Ok(note.and_then(|note| serde_json::from_str(&note).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_due_when_one_is_under_way_or_the_pause_after_the_last_is_over() {
        let pause = Duration::from_secs(10);
        let last = |finished_ms| {
            Some(Pass {
                started_ms: 0,
                finished_ms,
                found: Scrubbed::default(),
            })
        };
        let under_way = Some(Progress::begun(0));
        let left = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(wait(50_000, pause, None, None), None);
        assert_eq!(wait(50_000, pause, under_way, last(49_000)), None);
        assert_eq!(wait(50_000, pause, None, last(40_000)), None);
        assert_eq!(wait(50_000, pause, None, last(41_000)), left(1));
        assert_eq!(wait(50_000, pause, None, last(90_000)), left(10));
    }

    #[test]
    fn what_is_read_takes_at_least_its_share_of_a_second() {
        assert_eq!(share(10 << 20, 20 << 20), Duration::from_millis(500));
        assert_eq!(share(64 << 20, 64 << 10), Duration::from_secs(1024));
    }
}
