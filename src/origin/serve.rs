//! The HTTP side: accept, speak HTTP/1.1, drain on shutdown. Ordinary reads are answered by [`super::plain_reads`], all else
//! through hyper.

use std::convert::Infallible;
use std::io::Cursor;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::store::Store;
use super::{answer, coord, jobs, plain_reads};

/// The longest request head in bytes, and the most fields in it.
const HEAD_MAX_BYTES: usize = 32 * 1024;
const HEAD_MAX_FIELDS: usize = 100;
/// The longest wait for a request head, also on an idle connection.
pub(super) const HEAD_WAIT: Duration = Duration::from_secs(75);
/// The pause after a failed accept: the cause is mostly a lack of file descriptors, which only time mends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the store on `listener` until `shutdown` holds true or its sender is gone; then stops accepting,
/// lets the requests in flight finish and returns. Dropped earlier, it cuts every connection.
pub async fn serve(store: Store, listener: TcpListener, mut shutdown: watch::Receiver<bool>) {
    let jobs = tokio::spawn(look_after(store.clone(), shutdown.clone()));
    let _stop_jobs = AbortOnDrop(jobs.abort_handle());
    // Owns the connections, so that dropping this future ends them.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let peer = peer.ip().to_canonical();
                    connections.spawn(connection(store.clone(), stream, peer, shutdown.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = stopped(&mut shutdown) => break,
        }
    }
    drop(listener);
    store.inner.followers.close();
    while connections.join_next().await.is_some() {}
}

/// Does the jobs whenever this process is the one that does them.
async fn look_after(store: Store, mut shutdown: watch::Receiver<bool>) {
    let coord = store.inner.coord.as_ref();
    let until_stopped = shutdown.clone();
    tokio::select! {
        () = coord::in_terms(coord, || jobs::run(store.clone(), until_stopped.clone())) => {}
        () = stopped(&mut shutdown) => {}
    }
}

/// Ends the jobs when the serving is dropped.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns when the store shall stop.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // A sender that is gone can no longer ask for a stop, so its absence is one.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn connection(
    store: Store,
    stream: TcpStream,
    peer: IpAddr,
    mut shutdown: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it began");
        return;
    }
    let ordinary = plain_reads::serve(&store, stream, peer, shutdown.clone());
    let Some((stream, read)) = ordinary.await else {
        return;
    };
    let (reads, writes) = stream.into_split();
    let stream = tokio::io::join(Cursor::new(read).chain(reads), writes);
    let service = service_fn(move |request| {
        let store = store.clone();
        async move { Ok::<_, Infallible>(answer(&store, request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_header_size(HEAD_MAX_BYTES)
        .max_headers(HEAD_MAX_FIELDS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stopped(&mut shutdown) => {
            // Ends an idle connection now and a busy one behind its response.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}
