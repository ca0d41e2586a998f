//! Who waits for a stream to grow.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::names::ObjectKey;

/// Wakes the readers of streams when something was committed to one.
#[derive(Debug, Default)]
pub struct Followers {
    /// A count for each object that somebody follows; it moves with every commit to the object.
    waiting: Mutex<HashMap<(i64, ObjectKey), watch::Sender<u64>>>,
}

/// A place among the followers of an object.
#[derive(Debug)]
pub struct Following(watch::Receiver<u64>);

impl Followers {
    /// Follows an object from now on: a commit after this call is not missed.
    pub fn follow(&self, bucket: i64, key: &ObjectKey) -> Following {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        let sender = waiting
            .entry((bucket, key.clone()))
            .or_insert_with(|| watch::channel(0).0);
        Following(sender.subscribe())
    }

    /// Tells the followers of an object that it has changed.
    pub fn wake(&self, bucket: i64, key: &ObjectKey) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.get(&(bucket, key.clone())) {
            sender.send_modify(|count| *count += 1);
        }
    }
}

impl Following {
    /// Returns when the object has changed since the last call.
    ///
    /// # Cancel safety
    /// A change that was not returned for is returned for by the next call.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody can tell any more; the caller finds out by itself whether there is more.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_follower_hears_of_its_object_once_and_of_no_other() {
        let followers = Followers::default();
        let (key, other) = (ObjectKey::new("a").unwrap(), ObjectKey::new("b").unwrap());
        let mut following = followers.follow(1, &key);
        followers.wake(1, &other);
        followers.wake(2, &key);
        assert_eq!(following.changed().now_or_never(), None);
        followers.wake(1, &key);
        followers.wake(1, &key);
        assert_eq!(following.changed().now_or_never(), Some(()));
        assert_eq!(following.changed().now_or_never(), None);
        drop(following);
        let waiting = followers.waiting.lock().unwrap();
        assert!(waiting.values().all(|sender| sender.receiver_count() == 0));
    }
}
