//! Handles the messages of the outbox: each at least once, again with growing pauses when it fails, until it is given
//! up and kept as a dead letter.

use std::time::Duration;

use futures_util::StreamExt as _;

use super::delivery::Delivery;
use super::{PURGE, WEBHOOK, purge, webhook};
use crate::origin::meta::{MetaError, TaskRow};
use crate::origin::stats::Care;
use crate::origin::store::Store;

/// Messages read at a time.
const BATCH: usize = 256;
/// Messages handled at a time.
const AT_ONCE: usize = 16;
/// The pause after the first try that failed; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Tries before a message is given up: about seven hours.
pub(super) const TRIES_MAX: u32 = 18;
/// How long to wait when the metadata is in trouble.
const TROUBLE_PAUSE: Duration = Duration::from_secs(5);

/// Handles what is due, and waits for more, for ever.
pub(super) async fn run(store: &Store) {
    loop {
        let pause = match round(store).await {
            Ok(pause) => pause,
            Err(MetaError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "messages wait: the metadata is in trouble");
                Some(TROUBLE_PAUSE)
            }
        };
        let due = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = store.inner.jobs.rung() => {}
        }
    }
}

/// Handles everything that is due. Gives back how long nothing else will be.
async fn round(store: &Store) -> Result<Option<Duration>, MetaError> {
    let (meta, stats) = (&store.inner.meta, store.stats());
    loop {
        let now_ms = store.now_ms().unwrap_or(0);
        let tasks = meta.due(now_ms, BATCH).await?;
        if tasks.is_empty() {
            let next = meta.next_due_ms().await?;
            return Ok(next.map(|next| {
                let wait = u64::try_from(next - now_ms).unwrap_or(0);
                Duration::from_millis(wait.max(1))
            }));
        }
        let mut outcomes = futures_util::stream::iter(tasks)
            .map(|task| async move {
                let delivery = handle(store, &task).await;
                (task, delivery)
            })
            .buffer_unordered(AT_ONCE);
        let mut done = Vec::new();
        while let Some((task, delivery)) = outcomes.next().await {
            match delivery {
                Delivery::Done => {
                    stats.add(Care::MessagesHandled, 1);
                    done.push(task.id);
                }
                Delivery::Failed(error) if task.attempts + 1 < TRIES_MAX => {
                    tracing::info!(
                        task = task.id,
                        kind = task.kind,
                        error,
                        "a message is put off"
                    );
                    stats.add(Care::MessagesPutOff, 1);
                    let pause = pause(task.attempts, getrandom::u64().unwrap_or(u64::MAX / 2));
                    let run_at_ms = now_ms + i64::try_from(pause.as_millis()).unwrap_or(0);
                    meta.put_off(task.id, run_at_ms, error).await?;
                }
                Delivery::Failed(error) | Delivery::Hopeless(error) => {
                    tracing::warn!(
                        task = task.id,
                        kind = task.kind,
                        error,
                        "a message is given up"
                    );
                    stats.add(Care::MessagesGivenUp, 1);
                    meta.give_up(task.id, now_ms, error).await?;
                }
            }
        }
        meta.done(done).await?;
    }
}

async fn handle(store: &Store, task: &TaskRow) -> Delivery {
    match task.kind.as_str() {
        PURGE => purge::handle(&task.payload).await,
        WEBHOOK => webhook::handle(&task.payload, &store.inner.trust).await,
        other => Delivery::Hopeless(format!("nobody handles {other}")),
    }
}

/// A pause between half of what doubles with every try and all of it, so that those who failed together do not come back
/// together.
fn pause(attempts: u32, random: u64) -> Duration {
    let whole = FIRST_PAUSE
        .saturating_mul(2u32.saturating_pow(attempts))
        .min(LONGEST_PAUSE);
    let half = whole / 2;
    let share = random as f64 / u64::MAX as f64;
    half + half.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour_and_are_spread_over_half_of_themselves() {
        let seconds = |attempts, random| pause(attempts, random).as_secs_f64();
        assert_eq!((seconds(0, 0), seconds(0, u64::MAX)), (0.5, 1.0));
        assert_eq!((seconds(3, 0), seconds(3, u64::MAX)), (4.0, 8.0));
        assert_eq!((seconds(40, 0), seconds(40, u64::MAX)), (1800.0, 3600.0));
    }
}
