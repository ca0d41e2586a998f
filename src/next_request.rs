//! The wait for the next request of an HTTP/1.1 connection, at the edge and at the store.
//!
//! What ends a wait without a request is watched from one wait to the next: neither a timer nor a place
//! in the list of those who wait for the shutdown is taken and given back for each request, and nothing
//! is written that other connections read.
//!
//! Invariant `woken-or-checked`: the task is woken when the shutdown begins and when the alarm goes off;
//! a wake that falls into the time between two waits is made up for at the start of the next.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::{MaybeUninit, take};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use pingora::server::ShutdownWatch;
use pingora::time::sleep;
use tokio::io::{AsyncRead, ReadBuf};

use crate::clock::SharedClock;

/// What is read of a request first; most heads fit.
pub(crate) const READ_BYTES: usize = 4096;

type Event = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What may end the wait of one connection. To be used by one task only, whose waker stays the same.
pub(crate) struct NextRequest {
    clock: SharedClock,
    keep_alive: Duration,
    shutdown: ShutdownWatch,
    /// Ends when the shutdown begins; polled once before it does.
    stopping: Option<Event>,
    /// Made only once `stopping` was polled: where it is, both will wake the task.
    alarm: Option<Alarm>,
}

struct Alarm {
    event: Event,
    /// When it goes off, by the monotonic clock.
    at: Duration,
}

impl NextRequest {
    /// For a connection that may be idle for `keep_alive`.
    pub(crate) fn new(clock: SharedClock, keep_alive: Duration, shutdown: ShutdownWatch) -> Self {
        let mut own = shutdown.clone();
        let stopping = async move {
            // An error: nobody is left to begin a shutdown, so it is under way.
            let _ = own.wait_for(|stopping| *stopping).await;
        };
        let is_stopping = *shutdown.borrow();
        NextRequest {
            clock,
            keep_alive,
            shutdown,
            stopping: (!is_stopping).then(|| Box::pin(stopping) as Event),
            alarm: None,
        }
    }

    /// Whether the shutdown has begun.
    pub(crate) fn is_stopping(&self) -> bool {
        // Only reads; the value itself is behind a lock that all connections share.
        self.stopping.is_none()
            || (self.shutdown.has_changed().unwrap_or(true) && *self.shutdown.borrow())
    }

    /// Waits for the first bytes of a request; `None` when the connection is to be closed: by the client,
    /// after `keep_alive`, or by the shutdown. Nothing is lost by closing an idle connection.
    pub(crate) async fn first_bytes<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> Option<BytesMut> {
        if self.is_stopping() {
            return None;
        }
        let now = self.clock.monotonic();
        let deadline = now + self.keep_alive;
        let mut will_be_woken = self.alarm.as_ref().is_some_and(|alarm| alarm.at > now);
        let read = poll_fn(|cx| {
            if let Poll::Ready(read) = poll_read(stream, cx) {
                return Poll::Ready(read.ok());
            }
            // A wake that brought nothing to read may have been one of the others.
            if !take(&mut will_be_woken) && self.poll_end(cx, deadline).is_ready() {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await;
        read.filter(|first| !first.is_empty())
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, deadline: Duration) -> Poll<()> {
        if let Some(stopping) = &mut self.stopping
            && stopping.as_mut().poll(cx).is_ready()
        {
            self.stopping = None;
            return Poll::Ready(());
        }
        loop {
            let now = self.clock.monotonic();
            if now >= deadline {
                return Poll::Ready(());
            }
            let alarm = self.alarm.take().filter(|alarm| alarm.at > now);
            let mut alarm = alarm.unwrap_or_else(|| Alarm {
                event: Box::pin(sleep(deadline - now)),
                at: deadline,
            });
            if alarm.event.as_mut().poll(cx).is_pending() {
                self.alarm = Some(alarm);
                return Poll::Pending;
            }
        }
    }
}

/// Reads what is there of a request, at most [`READ_BYTES`]. The buffer is on the stack and only for as
/// long as the system copies into it, so that a connection holds none while it waits.
fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
) -> Poll<io::Result<BytesMut>> {
    let mut room = [MaybeUninit::uninit(); READ_BYTES];
    let mut read = ReadBuf::uninit(&mut room);
    Pin::new(stream)
        .poll_read(cx, &mut read)
        .map_ok(|()| BytesMut::from(read.filled()))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::clock::SystemClock;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::watch;

    const KEEP_ALIVE: Duration = Duration::from_millis(80);

    /// What waits, its stream, the client, and what begins the shutdown.
    fn connection() -> (NextRequest, DuplexStream, DuplexStream, watch::Sender<bool>) {
        let (begin, shutdown) = watch::channel(false);
        let (stream, client) = duplex(1024);
        let next = NextRequest::new(SystemClock::shared(), KEEP_ALIVE, shutdown);
        (next, stream, client, begin)
    }

    /// One request that comes while it is waited for.
    async fn take_one(
        next: &mut NextRequest,
        stream: &mut DuplexStream,
        client: &mut DuplexStream,
    ) {
        let (taken, sent) = tokio::join!(next.first_bytes(stream), client.write_all(b"GET"));
        sent.unwrap();
        assert_eq!(taken.as_deref(), Some(&b"GET"[..]));
    }

    #[tokio::test]
    async fn what_is_there_is_read_without_watching_anything() {
        let (mut next, mut stream, mut client, _begin) = connection();
        client.write_all(b"GET").await.unwrap();
        assert!(next.first_bytes(&mut stream).await.is_some());
        assert!(next.alarm.is_none());
    }

    #[tokio::test]
    async fn client_that_closes_ends_the_wait() {
        let (mut next, mut stream, client, _begin) = connection();
        drop(client);
        assert!(next.first_bytes(&mut stream).await.is_none());
    }

    #[tokio::test]
    async fn each_wait_lasts_as_long_as_the_first_may() {
        let (mut next, mut stream, mut client, _begin) = connection();
        take_one(&mut next, &mut stream, &mut client).await;
        // The alarm of the first wait goes off while the request is answered, or soon after.
        tokio::time::sleep(KEEP_ALIVE / 2).await;
        let began = next.clock.monotonic();
        assert!(next.first_bytes(&mut stream).await.is_none());
        assert!(next.clock.monotonic() - began >= KEEP_ALIVE);
        tokio::time::sleep(KEEP_ALIVE).await;
        let began = next.clock.monotonic();
        assert!(next.first_bytes(&mut stream).await.is_none());
        assert!(next.clock.monotonic() - began >= KEEP_ALIVE);
    }

    #[tokio::test]
    async fn shutdown_ends_a_wait_and_those_that_follow() {
        let (mut next, mut stream, mut client, begin) = connection();
        next.keep_alive = Duration::from_secs(3600);
        take_one(&mut next, &mut stream, &mut client).await;
        let begins = async {
            begin.send(true).unwrap();
            pending::<()>().await;
        };
        tokio::select! {
            biased;
            ended = next.first_bytes(&mut stream) => assert!(ended.is_none()),
            () = begins => unreachable!(),
        }
        assert!(next.is_stopping());
        client.write_all(b"GET").await.unwrap();
        assert!(next.first_bytes(&mut stream).await.is_none());
    }

    #[tokio::test]
    async fn shutdown_between_two_waits_is_seen() {
        let (mut next, mut stream, mut client, begin) = connection();
        take_one(&mut next, &mut stream, &mut client).await;
        assert!(!next.is_stopping());
        begin.send(true).unwrap();
        assert!(next.is_stopping());
        assert!(next.first_bytes(&mut stream).await.is_none());
    }
}
