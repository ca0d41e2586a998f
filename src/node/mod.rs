//! Starts what a configuration holds, and drains it.
//!
//! The edge has workers of its own, so that a busy store cannot delay a cache hit; the store and the
//! admin surface share a small runtime.
//!
//! Invariants:
//! - `bound-before-touched`: every address is bound before a file is opened, so a second copy harms nothing.
//! - `edge-stops-first`: the store answers until the edge has drained, because fills in flight need it.

mod listening;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::clock::SharedClock;
use crate::config::{Config, Listener};
use crate::edge::key_reload::KeyReload;
use crate::edge::workers::Workers;
use crate::edge::{self, Edge};
use crate::observe::{Metrics, Readiness, admin};
use crate::origin::{self, Store};

pub use listening::{Holder, ListenError};

/// Threads for the store and the admin surface; their disk work runs on tokio's blocking pool.
const BACKGROUND_WORKERS: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

/// How long the disk tier may take to write what waits, and its index.
const CACHE_GRACE: Duration = Duration::from_secs(20);

/// How long the store may take to finish what it is doing once the edge has drained.
const STORE_GRACE: Duration = Duration::from_secs(5);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A runtime or a signal handler could not be made.
    #[error("the system gives no more threads or signals: {0}")]
    System(#[from] io::Error),
    /// The store did not open.
    #[error("cannot open the store: {0}")]
    Store(#[from] origin::OpenError),
    /// The edge could not be made.
    #[error("cannot start the edge: {0}")]
    Edge(#[from] edge::StartError),
}

/// How a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything in flight was finished, or `edge.timeouts.drain` was over.
    Drained,
    /// A second signal came.
    Cut,
    /// A part ended that should have run on.
    Failed,
}

/// Where a node listens; port 0 in the configuration has become a real one here.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The admin surface.
    pub admin: SocketAddr,
    /// The edge's plain HTTP listeners.
    pub http: Vec<SocketAddr>,
    /// The edge's TLS listeners.
    pub https: Vec<SocketAddr>,
    /// The store.
    pub origin: Option<SocketAddr>,
}

/// A node that holds its addresses and its data and waits to be run.
pub struct Node {
    addresses: Addresses,
    drain: Duration,
    metrics: Arc<Metrics>,
    admin: TcpListener,
    edge: Option<(Edge, Vec<TcpListener>, Workers)>,
    store: Option<(Store, TcpListener)>,
    background: Runtime,
}

impl Node {
    /// Binds every address, then opens the store and makes the edge.
    ///
    /// # Errors
    /// Nothing has been changed on disk when an address is taken.
    pub fn start(config: &Config, clock: SharedClock) -> Result<Self, StartError> {
        let admin = listening::open(config.admin.address, "admin.address".to_owned())?;
        let mut addresses = Addresses {
            admin: admin.local_addr()?,
            http: Vec::new(),
            https: Vec::new(),
            origin: None,
        };
        let configured = config.edge.as_ref().map_or(&[][..], |edge| &edge.listeners);
        let edge_listeners = open_edge(configured, &mut addresses)?;
        let origin_listener = (config.origin.as_ref())
            .map(|origin| listening::open(origin.address, "origin.address".to_owned()))
            .transpose()?;
        addresses.origin = (origin_listener.as_ref())
            .map(TcpListener::local_addr)
            .transpose()?;

        let metrics = Metrics::new();
        let background = runtime("background", BACKGROUND_WORKERS)?;
        let store = match (&config.origin, origin_listener) {
            (Some(origin), Some(listener)) => {
                let store = background.block_on(Store::open(origin, Arc::clone(&clock)))?;
                if config.edge.is_some() {
                    store.add_edge(addresses.admin);
                }
                Some((store, listener))
            }
            _ => None,
        };
        let edge = match &config.edge {
            Some(edge) => {
                let workers = Workers::start(edge.workers)?;
                let entered = workers.runtime(0).enter();
                let mut made = Edge::new(edge, Arc::clone(&metrics), clock)?;
                if let Some(file) = &config.file {
                    made.read_keys_again_from(file.clone());
                }
                drop(entered);
                Some((made, edge_listeners, workers))
            }
            None => None,
        };
        Ok(Node {
            addresses,
            drain: (config.edge.as_ref()).map_or(Duration::ZERO, |edge| edge.timeouts.drain),
            metrics,
            admin,
            edge,
            store,
            background,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The store, when the configuration holds one.
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref().map(|(store, _)| store)
    }

    /// Runs a piece of work with the store before the node serves.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.background.block_on(work)
    }

    /// Serves until SIGINT or SIGTERM, then drains; `announce` is called once everything accepts.
    ///
    /// # Errors
    /// When the system gives no signal handlers.
    pub fn run(self, announce: impl FnOnce(&Addresses)) -> Result<Ended, StartError> {
        let Node {
            addresses,
            drain,
            metrics,
            admin,
            edge,
            store,
            background,
        } = self;
        let readiness = Readiness::new();
        let (stop_edge, edge_stopping) = watch::channel(false);
        let (stop_rest, rest_stopping) = watch::channel(false);
        let (reload, reloads) = watch::channel(0);

        let entered = background.enter();
        let mut signals = Signals::new()?;
        let keys = (edge.as_ref()).and_then(|(edge, ..)| edge.key_reload());
        let hangups = signal(SignalKind::hangup())?;
        background.spawn(reload_on_hangup(hangups, keys, reload));
        let admin = tokio::net::TcpListener::from_std(admin)?;
        let mut endpoints = (edge.as_ref()).map_or_else(Vec::new, |(edge, ..)| edge.endpoints());
        if let Some((store, _)) = &store {
            endpoints.extend(origin::admin::endpoints(store));
            origin::admin::publish(store, &metrics);
        }
        let admin = admin::serve(
            admin,
            metrics,
            Arc::clone(&readiness),
            endpoints,
            rest_stopping.clone(),
        );
        let admin = background.spawn(admin);
        let mut store_handle = None;
        let store = match store {
            Some((store, listener)) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                store_handle = Some(store.clone());
                let serving = origin::serve(store, listener, rest_stopping);
                let serving = background.spawn(serving);
                readiness.condition("origin").ready();
                Some(serving)
            }
            None => None,
        };
        let mut edge_workers = None;
        let cache = edge.as_ref().map(|(edge, ..)| edge.cache());
        let edge = edge.map(|(edge, listeners, workers)| {
            let first = workers.runtime(0);
            first.spawn(edge.cache().warm_up());
            let serving = edge.serve(listeners, workers.clone(), edge_stopping, reloads);
            let serving = first.spawn(serving);
            edge_workers = Some(workers);
            readiness.condition("edge").ready();
            serving
        });
        drop(entered);

        log_addresses(&addresses);
        announce(&addresses);
        info!("ready");
        let mut parts = Parts { edge, store, admin };
        let ended = background.block_on(async {
            let ended = tokio::select! {
                () = signals.next() => Ended::Drained,
                name = parts.next_to_end() => {
                    error!(part = name, "a part of the node ended by itself; stopping");
                    Ended::Failed
                }
            };
            info!(drain = ?drain, "stopping: no new connections, requests in flight go on");
            readiness.drain();
            let stop = async {
                stop_edge.send_replace(true);
                wait_for(parts.edge.take(), drain, "edge").await;
                if let Some(cache) = &cache
                    && timeout(CACHE_GRACE, cache.close()).await.is_err()
                {
                    warn!("the cache did not close in time; the next start reads its segments");
                }
                stop_rest.send_replace(true);
                wait_for(parts.store.take(), STORE_GRACE, "store").await;
                if let Some(store) = store_handle
                    && timeout(STORE_GRACE, store.close()).await.is_err()
                {
                    warn!("the store did not close in time; what it acknowledged is on disk");
                }
            };
            tokio::select! {
                () = stop => ended,
                () = signals.next() => Ended::Cut,
            }
        });
        match ended {
            Ended::Drained => info!("stopped"),
            Ended::Cut => warn!("stopped at once by a second signal"),
            Ended::Failed => error!("stopped after a failure"),
        }
        // Not waited for: what is still running has had its time.
        if let Some(workers) = edge_workers {
            workers.end();
        }
        background.shutdown_background();
        Ok(ended)
    }
}

fn open_edge(
    configured: &[Listener],
    addresses: &mut Addresses,
) -> Result<Vec<TcpListener>, StartError> {
    let mut opened = Vec::with_capacity(configured.len());
    for (index, listener) in configured.iter().enumerate() {
        let key = format!("edge.listeners[{index}].address");
        let socket = listening::open(listener.address, key)?;
        let address = socket.local_addr()?;
        match listener.tls {
            Some(_) => addresses.https.push(address),
            None => addresses.http.push(address),
        }
        opened.push(socket);
    }
    Ok(opened)
}

fn runtime(name: &'static str, workers: NonZeroUsize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(workers.get())
        .thread_name(name)
        .enable_all()
        .build()
}

fn log_addresses(addresses: &Addresses) {
    for address in &addresses.http {
        info!(%address, "listening for HTTP");
    }
    for address in &addresses.https {
        info!(%address, "listening for HTTPS");
    }
    if let Some(address) = addresses.origin {
        info!(%address, "listening for S3");
    }
    info!(address = %addresses.admin, "listening for the admin");
}

/// The tasks that run until they are told to stop.
struct Parts {
    edge: Option<JoinHandle<()>>,
    store: Option<JoinHandle<()>>,
    admin: JoinHandle<()>,
}

impl Parts {
    /// Waits for one that ends although nobody asked it to, by a panic for instance.
    async fn next_to_end(&mut self) -> &'static str {
        async fn ended(part: &mut Option<JoinHandle<()>>) {
            match part.as_mut() {
                // The panic's message is on standard error already.
                Some(part) => drop(part.await),
                None => std::future::pending().await,
            }
        }
        let name = tokio::select! {
            () = ended(&mut self.edge) => "edge",
            () = ended(&mut self.store) => "origin",
            _ = &mut self.admin => "admin",
        };
        // A finished handle must not be awaited again.
        match name {
            "edge" => self.edge = None,
            "origin" => self.store = None,
            _ => {}
        }
        name
    }
}

async fn wait_for(part: Option<JoinHandle<()>>, limit: Duration, name: &'static str) {
    let Some(part) = part else { return };
    match timeout(limit, part).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => error!(part = name, %failure, "a part of the node panicked"),
        Err(_) => warn!(part = name, ?limit, "what was still in flight is cut off"),
    }
}

/// SIGHUP asks to read again what may be exchanged while the node runs: signing keys, and what is followed by those
/// who hold a receiver of `reload`.
async fn reload_on_hangup(
    mut hangups: Signal,
    keys: Option<Arc<KeyReload>>,
    reload: watch::Sender<u64>,
) {
    while hangups.recv().await.is_some() {
        info!("SIGHUP: reading files again");
        reload.send_modify(|times| *times += 1);
        if let Some(keys) = &keys {
            keys.run().await;
        }
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
