//! Drives the real binary between a scripted client and a scripted origin.
//!
//! Every byte on both sides is the test's own. Nothing here sleeps or retries: a test waits for
//! an event (a line of the edge's log, a request at the origin, bytes at the client), and
//! [`within`] turns an event that never comes into a failure.

// Each suite compiles this module for itself and uses a part of it.
#![allow(dead_code, unused_imports)]

mod client;
mod edge;
pub mod h2;
mod origin;
mod recorder;
mod samples;
mod tls;

pub use client::{Client, Response, Short};
pub use edge::{Edge, Environment, SMALL_PAGES, Setup};
pub use h2::{Frame, H2Client, block, frame};
pub use origin::{AnsweringOrigin, Exchange, Origin, Request, answer, ok};
pub use recorder::{Recorder, Seen};
pub use samples::Samples;
pub use tls::{Identity, TlsClient};

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Far beyond what any awaited event takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The result of `event`, which must come.
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(result) => result,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

/// An address nobody else uses, for a listener that another process opens or that must come back
/// on the same address.
///
/// Every test process has a loopback address of its own (127.0.0.0/8 is all local on Linux) and
/// counts ports on it; connections that go out have the source 127.0.0.1 and cannot take one.
pub fn own_address() -> SocketAddr {
    static NEXT_PORT: AtomicU16 = AtomicU16::new(10_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, high + 1, middle, low);
    SocketAddr::from((ip, NEXT_PORT.fetch_add(1, Ordering::Relaxed)))
}
