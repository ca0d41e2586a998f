//! Who waits for a stream to grow, and what all of them read together.
//!
//! - `one-read-for-all`: of the followers of one object that have come as far as anybody, one looks at the row and
//!   reads, and the others get the same bytes. Who falls behind what is kept in memory ([`Tail`]) reads by itself,
//!   so that nobody waits for the slow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::meta::VersionRow;
use super::names::ObjectKey;
use super::tail::{Found, Tail};

/// Wakes the readers of streams when something was committed to one.
#[derive(Debug)]
pub struct Followers {
    /// The objects that somebody follows.
    objects: Mutex<HashMap<(i64, ObjectKey), Weak<Followed>>>,
    closing: watch::Sender<bool>,
}

impl Default for Followers {
    fn default() -> Self {
        Followers {
            objects: Mutex::default(),
            closing: watch::channel(false).0,
        }
    }
}

/// An object that somebody follows.
#[derive(Debug)]
struct Followed {
    /// A count that moves with every commit to the object.
    commits: watch::Sender<u64>,
    /// The newest version as somebody found it, and the count before that.
    row: AsyncMutex<Option<Look>>,
    /// Held by the one who reads on.
    turn: AsyncMutex<()>,
    tail: Mutex<Tail>,
}

#[derive(Debug)]
struct Look {
    commits: u64,
    row: Option<Arc<VersionRow>>,
}

/// Where a piece of a stream came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Read for this follower, and perhaps for others.
    Store,
    /// Somebody else had read it.
    Memory,
}

/// A place among the followers of an object.
#[derive(Debug)]
pub struct Following {
    object: Arc<Followed>,
    commits: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
}

/// Why a follower stops waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Something was committed to the object.
    Changed,
    /// The store stops.
    Closing,
}

impl Followers {
    /// Follows an object from now on: a commit after this call is not missed.
    pub fn follow(&self, bucket: i64, key: &ObjectKey) -> Following {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.retain(|_, object| object.strong_count() > 0);
        let name = (bucket, key.clone());
        let object = objects.get(&name).and_then(Weak::upgrade);
        let object = object.unwrap_or_else(|| {
            let object = Arc::new(Followed {
                commits: watch::channel(0).0,
                row: AsyncMutex::default(),
                turn: AsyncMutex::default(),
                tail: Mutex::default(),
            });
            objects.insert(name, Arc::downgrade(&object));
            object
        });
        Following {
            commits: object.commits.subscribe(),
            closing: self.closing.subscribe(),
            object,
        }
    }

    /// Tells the followers of an object that it has changed.
    pub fn wake(&self, bucket: i64, key: &ObjectKey) {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let object = objects.get(&(bucket, key.clone())).and_then(Weak::upgrade);
        if let Some(object) = object {
            object.commits.send_modify(|count| *count += 1);
        }
    }

    /// Ends every following read, now and from now on: they would keep a store that stops from its end.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

impl Following {
    /// Returns when the object has changed since the last look at its row, or when the store stops.
    ///
    /// # Cancel safety
    /// A change that was not returned for is returned for by the next call.
    pub async fn woken(&mut self) -> Woken {
        tokio::select! {
            biased;
            // Neither sender goes before its receivers do, so an error is as good as an end.
            _ = self.closing.wait_for(|closing| *closing) => Woken::Closing,
            changed = self.commits.changed() => match changed {
                Ok(()) => Woken::Changed,
                Err(_) => Woken::Closing,
            },
        }
    }

    /// The newest version of the object, no older than the last change that was woken for. `look` is asked unless
    /// another follower has asked since then.
    ///
    /// # Errors
    /// That of `look`.
    pub async fn row<E>(
        &mut self,
        look: impl Future<Output = Result<Option<Arc<VersionRow>>, E>>,
    ) -> Result<Option<Arc<VersionRow>>, E> {
        let mut known = self.object.row.lock().await;
        // Before the look: what is committed from here on wakes again.
        let commits = *self.commits.borrow_and_update();
        match &*known {
            Some(known) if known.commits >= commits => Ok(known.row.clone()),
            _ => {
                let row = look.await?;
                *known = Some(Look {
                    commits,
                    row: row.clone(),
                });
                Ok(row)
            }
        }
    }

    /// Bytes of a version from `position` on, at least one. `read` reads them, and is asked unless another follower has
    /// read them just now.
    ///
    /// # Errors
    /// That of `read`.
    pub async fn piece<E>(
        &self,
        version: i64,
        position: u64,
        read: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<(Bytes, Origin), E> {
        let object = &self.object;
        match object.find(version, position) {
            Found::Bytes(bytes) => return Ok((bytes, Origin::Memory)),
            Found::Behind => return Ok((read.await?, Origin::Store)),
            Found::Ahead => {}
        }
        let turn = object.turn.lock().await;
        match object.find(version, position) {
            Found::Bytes(bytes) => Ok((bytes, Origin::Memory)),
            Found::Behind => {
                drop(turn);
                Ok((read.await?, Origin::Store))
            }
            Found::Ahead => {
                let bytes = read.await?;
                let mut tail = object.tail.lock().unwrap_or_else(PoisonError::into_inner);
                tail.keep(version, position, bytes.clone());
                Ok((bytes, Origin::Store))
            }
        }
    }
}

impl Followed {
    fn find(&self, version: i64, position: u64) -> Found {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.find(version, position)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use futures_util::future::{pending, ready};

    use super::*;

    fn read(text: &'static str) -> impl Future<Output = Result<Bytes, Infallible>> {
        ready(Ok(Bytes::from_static(text.as_bytes())))
    }

    #[test]
    fn a_follower_hears_of_its_object_once_and_of_no_other() {
        let followers = Followers::default();
        let (key, other) = (ObjectKey::new("a").unwrap(), ObjectKey::new("b").unwrap());
        let mut following = followers.follow(1, &key);
        followers.wake(1, &other);
        followers.wake(2, &key);
        assert_eq!(following.woken().now_or_never(), None);
        followers.wake(1, &key);
        followers.wake(1, &key);
        assert_eq!(following.woken().now_or_never(), Some(Woken::Changed));
        assert_eq!(following.woken().now_or_never(), None);
        followers.close();
        assert_eq!(following.woken().now_or_never(), Some(Woken::Closing));
        let mut late = followers.follow(1, &other);
        assert_eq!(late.woken().now_or_never(), Some(Woken::Closing));
        drop(following);
        followers.follow(1, &other);
        assert_eq!(followers.objects.lock().unwrap().len(), 1);
    }

    #[test]
    fn one_look_at_the_row_serves_all_until_something_is_committed() {
        let followers = Followers::default();
        let key = ObjectKey::new("a").unwrap();
        let mut first = followers.follow(1, &key);
        let mut second = followers.follow(1, &key);
        let mut looks = 0;
        for expected in [1, 2] {
            for following in [&mut first, &mut second] {
                let look = async {
                    looks += 1;
                    Ok::<_, Infallible>(None)
                };
                let row = following.row(look).now_or_never();
                assert!(matches!(row, Some(Ok(None))));
            }
            assert_eq!(looks, expected);
            followers.wake(1, &key);
        }
    }

    #[test]
    fn who_is_ahead_reads_for_all_and_who_is_behind_waits_for_nobody() {
        let followers = Followers::default();
        let key = ObjectKey::new("a").unwrap();
        let leader = followers.follow(1, &key);
        let other = followers.follow(1, &key);
        let piece = |following: &Following, position, text| {
            let (bytes, origin) = following
                .piece(5, position, read(text))
                .now_or_never()
                .expect("nothing to wait for")
                .unwrap();
            (String::from_utf8(bytes.to_vec()).unwrap(), origin)
        };
        assert_eq!(
            piece(&leader, 4, "efgh"),
            ("efgh".to_owned(), Origin::Store)
        );
        assert_eq!(piece(&other, 6, "never"), ("gh".to_owned(), Origin::Memory));
        // While the leader reads on, whoever has come as far waits for it, and nobody else does.
        let reading = leader.piece(5, 8, pending::<Result<Bytes, Infallible>>());
        let mut reading = pin!(reading);
        assert!(reading.as_mut().now_or_never().is_none());
        assert!(other.piece(5, 8, read("ijkl")).now_or_never().is_none());
        assert_eq!(piece(&other, 0, "abcd"), ("abcd".to_owned(), Origin::Store));
        assert_eq!(piece(&other, 4, "never").1, Origin::Memory);
    }

    #[test]
    fn a_leader_that_goes_away_leaves_the_reading_to_the_next() {
        let followers = Followers::default();
        let key = ObjectKey::new("a").unwrap();
        let leader = followers.follow(1, &key);
        let other = followers.follow(1, &key);
        {
            let reading = leader.piece(5, 0, pending::<Result<Bytes, Infallible>>());
            assert!(reading.now_or_never().is_none());
        }
        let (bytes, origin) = other
            .piece(5, 0, read("ab"))
            .now_or_never()
            .unwrap()
            .unwrap();
        assert_eq!((&bytes[..], origin), (&b"ab"[..], Origin::Store));
    }
}
