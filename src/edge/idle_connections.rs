//! Connections to one origin server that wait for their next request.
//!
//! pingora's own pool watches every idle connection with a task, and a connection that is taken
//! while that task lets go of it is lost ("failed to acquire reusable stream"). Here nobody else
//! holds an idle connection, and whether the server has closed it is asked when it is taken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::clock::SharedClock;

/// No more than this many connections wait per server; further ones are closed.
pub const IDLE_CONNECTIONS: usize = 256;

/// The idle connections of one server.
pub struct IdleConnections<S> {
    /// The newest at the back: it is the likeliest to be alive, and the oldest may expire.
    idle: Mutex<VecDeque<Idle<S>>>,
    timeout: Duration,
    clock: SharedClock,
}

struct Idle<S> {
    stream: S,
    since: Duration,
}

impl<S: AsyncRead + Unpin + Send + 'static> IdleConnections<S> {
    /// Keeps connections for `timeout`.
    pub fn new(timeout: Duration, clock: SharedClock) -> Arc<Self> {
        Arc::new(IdleConnections {
            idle: Mutex::new(VecDeque::new()),
            timeout,
            clock,
        })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle<S>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest connection that the server has not closed.
    pub fn take(&self) -> Option<S> {
        loop {
            let Idle { mut stream, since } = self.lock().pop_back()?;
            let age = self.clock.monotonic().saturating_sub(since);
            if age < self.timeout && is_silent(&mut stream) {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection on which a response has ended cleanly.
    pub fn put(self: &Arc<Self>, mut stream: S) {
        if self.timeout.is_zero() || !is_silent(&mut stream) {
            return;
        }
        let since = self.clock.monotonic();
        let mut idle = self.lock();
        let was_empty = idle.is_empty();
        idle.push_back(Idle { stream, since });
        let surplus = (idle.len() > IDLE_CONNECTIONS).then(|| idle.pop_front());
        drop(idle);
        drop(surplus);
        if was_empty {
            tokio::spawn(close_expired(self.clone()));
        }
    }

    /// Takes out what has waited too long; `None` when nothing waits any more.
    fn expire(&self) -> Option<Vec<Idle<S>>> {
        let now = self.clock.monotonic();
        let mut idle = self.lock();
        let expired = idle
            .iter()
            .take_while(|idle| now.saturating_sub(idle.since) >= self.timeout)
            .count();
        let expired = idle.drain(..expired).collect();
        (!idle.is_empty()).then_some(expired)
    }
}

/// Runs while connections wait, so that none outlives its time when no request comes.
async fn close_expired<S>(connections: Arc<IdleConnections<S>>)
where
    S: AsyncRead + Unpin + Send + 'static,
{
    loop {
        tokio::time::sleep(connections.timeout).await;
        if connections.expire().is_none() {
            return;
        }
    }
}

/// An idle connection has nothing to say: bytes would answer no request, an end is an end.
fn is_silent(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut byte = [0];
    // Out of budget, tokio would call a closed connection silent.
    tokio::task::unconstrained(stream.read(&mut byte))
        .now_or_never()
        .is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::time::SystemTime;
    use tokio::io::AsyncWriteExt;
    use tokio::io::DuplexStream;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn connections() -> (Arc<IdleConnections<DuplexStream>>, Arc<ManualClock>) {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
        (IdleConnections::new(TIMEOUT, clock.clone()), clock)
    }

    /// Our end of a connection and the server's, which can tell when ours is closed.
    fn connected() -> (DuplexStream, DuplexStream) {
        tokio::io::duplex(64)
    }

    async fn is_closed(servers: &mut DuplexStream) -> bool {
        servers.write_all(b"x").await.is_err()
    }

    #[tokio::test]
    async fn the_newest_comes_back_first() {
        let (connections, _) = connections();
        let (old, mut old_server) = connected();
        let (new, mut new_server) = connected();
        connections.put(old);
        connections.put(new);
        let mut taken = connections.take().expect("two wait");
        taken.write_all(b"n").await.unwrap();
        let mut byte = [0];
        new_server.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"n");
        assert!(connections.take().is_some());
        assert!(connections.take().is_none());
        assert!(is_closed(&mut old_server).await);
    }

    #[tokio::test]
    async fn one_that_the_server_closed_or_spoke_on_is_not_used() {
        let (connections, _) = connections();
        let (closed, closed_server) = connected();
        let (talked, mut talking_server) = connected();
        connections.put(closed);
        connections.put(talked);
        drop(closed_server);
        talking_server.write_all(b"HTTP/1.1 408").await.unwrap();
        assert!(connections.take().is_none());
        let (closed, closed_server) = connected();
        drop(closed_server);
        connections.put(closed);
        assert!(connections.lock().is_empty());
    }

    #[tokio::test]
    async fn one_that_waited_too_long_is_closed() {
        let (connections, clock) = connections();
        let (stream, mut server) = connected();
        connections.put(stream);
        clock.advance(TIMEOUT / 2);
        let (younger, _younger_server) = connected();
        connections.put(younger);
        clock.advance(TIMEOUT / 2);
        assert_eq!(connections.expire().expect("one is left").len(), 1);
        assert!(is_closed(&mut server).await);
        clock.advance(TIMEOUT / 2);
        assert!(connections.take().is_none());
    }

    #[tokio::test]
    async fn no_more_than_the_limit_wait() {
        let (connections, _) = connections();
        let mut servers = Vec::new();
        for _ in 0..=IDLE_CONNECTIONS {
            let (stream, server) = connected();
            connections.put(stream);
            servers.push(server);
        }
        assert_eq!(connections.lock().len(), IDLE_CONNECTIONS);
        assert!(is_closed(&mut servers[0]).await);
        assert!(!is_closed(&mut servers[1]).await);
    }
}
