//! The edge, from its configuration to its listeners, and which lane a connection takes.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use pingora::protocols::ALPN;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use tokio::sync::{mpsc, watch};
use tracing::debug;

use super::accept::{Accepted, accept};
use super::authorize::Authorizer;
use super::cache_admin::CacheEndpoint;
use super::certificates::{CertificateError, Certificates};
use super::client_certificates::client_verifier;
use super::explain::endpoint::ExplainEndpoint;
use super::key_reload::KeyReload;
use super::origin_client::OriginClient;
use super::pass::PassLane;
use super::policy::{
    ConnectionRefusal, LetIn, ListenerPolicy, PolicyOfAll, RefusalLog, RoutePolicy,
};
use super::purge::PurgeEndpoint;
use super::range_credit::RangeCredit;
use super::request::Peer;
use super::tls::{HandshakeFault, Secured, TlsListener};
use super::workers::{Taken, Workers};
use super::{Node, Routed, lane_h1, lane_h2};
use crate::cache::disk::DiskTier;
use crate::cache::disk::folder::RealFolder;
use crate::cache::disk::log::LogSizes;
use crate::cache::memory::block::MemoryFiles;
use crate::cache::purge::PurgeLog;
use crate::cache::{Cache, Places};
use crate::clock::SharedClock;
use crate::config;
use crate::observe::admin::Endpoint;
use crate::observe::{AccessLog, AccessLogError, ConnectionMetrics, Metrics};
use crate::routing::{RingError, RouteTable};

/// Why an edge cannot start; the operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A pool cannot be used.
    #[error("edge.origins.{pool}: {error}")]
    Origin {
        /// The pool's name.
        pool: String,
        /// What is wrong with it.
        error: RingError,
    },
    /// The access log cannot be written.
    #[error("edge.access_log: {0}")]
    AccessLog(#[from] AccessLogError),
    /// A listener's certificates cannot be used.
    #[error("edge.listeners[{index}].tls: {error}")]
    Certificate {
        /// The listener, counted from 0.
        index: usize,
        /// What is wrong with them.
        error: CertificateError,
    },
    /// The TLS settings are not accepted.
    #[error("edge.listeners[{index}].tls: {error}")]
    Tls {
        /// The listener, counted from 0.
        index: usize,
        /// What rustls says.
        error: rustls::Error,
    },
}

/// What every connection needs.
pub(super) struct Lanes {
    pub(super) node: Arc<Node>,
    pub(super) proxy: Arc<HttpProxy<PassLane>>,
}

/// An edge node, ready to serve.
pub struct Edge {
    lanes: Arc<Lanes>,
    listeners: Vec<Prepared>,
    purge: Arc<PurgeEndpoint>,
    explain: Arc<ExplainEndpoint>,
    key_reload: Option<Arc<KeyReload>>,
}

struct Prepared {
    config: config::Listener,
    policy: Arc<ListenerPolicy>,
    tls: Option<TlsListener>,
    connections: ConnectionMetrics,
}

impl Edge {
    /// Prepares an edge node; opens no socket.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(
        config: &config::Edge,
        metrics: Arc<Metrics>,
        clock: SharedClock,
    ) -> Result<Self, StartError> {
        let mut pools = Vec::new();
        for pool in &config.origins {
            let client = OriginClient::new(pool, &metrics, clock.clone()).map_err(|error| {
                StartError::Origin {
                    pool: pool.name.clone(),
                    error,
                }
            })?;
            pools.push(Arc::new(client));
        }
        let shared = Arc::new(PolicyOfAll::new(config));
        let mut listeners = Vec::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            let tls = listener.tls.as_ref().map(|tls| {
                let counted = metrics.tls_listener(&listener.address.to_string());
                let certificates = Certificates::load(tls, counted.clone())
                    .map_err(|error| StartError::Certificate { index, error })?;
                let clients = (tls.client_certificates.as_ref())
                    .map(client_verifier)
                    .transpose()
                    .map_err(|error| StartError::Certificate { index, error })?;
                TlsListener::new(Arc::new(certificates), clients, tls.misdirected, counted)
                    .map_err(|error| StartError::Tls { index, error })
            });
            let patience = config.timeouts.request_head;
            listeners.push(Prepared {
                config: listener.clone(),
                policy: ListenerPolicy::new(listener, shared.clone(), patience),
                tls: tls.transpose()?,
                connections: metrics.listener(&listener.address.to_string()),
            });
        }
        let purges = Arc::new(PurgeLog::in_memory());
        let disk = (config.cache.disk.as_ref())
            .map(|disk| Arc::new(open_disk(disk, &purges, clock.clone())));
        let cache = Cache::new(
            &config.cache,
            clock.clone(),
            purges.clone(),
            metrics.purges(),
            Places {
                disk,
                files: memory_files(config),
            },
        );
        publish(&metrics, &cache, &purges, &pools);
        let node = Arc::new(Node {
            routes: config
                .routes
                .iter()
                .map(|route| Routed {
                    config: route.clone(),
                    policy: RoutePolicy::new(route),
                    metrics: metrics.route(&route.name),
                })
                .collect(),
            table: RouteTable::new(&config.routes),
            pools,
            authorizer: Authorizer::new(&config.routes, &config.signing),
            range_credit: RangeCredit::new(config.range_fetch_credit_bytes, *cache.sizes()),
            cache,
            limits: config.limits.clone(),
            h2: config.h2,
            h2_abuse_log: RefusalLog::default(),
            timeouts: config.timeouts.clone(),
            unrouted: metrics.route(""),
            access_log: AccessLog::open(&config.access_log, &metrics)?,
            metrics,
            clock,
        });
        let keyed_by = node.clone();
        let purge = Arc::new(PurgeEndpoint {
            log: purges,
            metrics: node.metrics.purges(),
            clock: node.clock.clone(),
            keyed_query: Box::new(move |url| keyed_by.keyed_query(url)),
        });
        let explain = Arc::new(ExplainEndpoint { node: node.clone() });
        let settings = ServerConf {
            threads: config.workers.get(),
            ..ServerConf::default()
        };
        let mut proxy = HttpProxy::new(PassLane::new(node.clone()), Arc::new(settings));
        proxy.handle_init_modules();
        Ok(Edge {
            lanes: Arc::new(Lanes {
                node,
                proxy: Arc::new(proxy),
            }),
            listeners,
            purge,
            explain,
            key_reload: None,
        })
    }

    /// Says in which file the configuration stands, so that its signing keys can be read again.
    pub fn read_keys_again_from(&mut self, file: PathBuf) {
        let node = self.lanes.node.clone();
        self.key_reload = Some(Arc::new(KeyReload::new(node, file)));
    }

    /// Reads the signing keys again, if it is known where they stand.
    pub fn key_reload(&self) -> Option<Arc<KeyReload>> {
        self.key_reload.clone()
    }

    /// Its cache, to be warmed up at the start and closed after the last connection.
    pub fn cache(&self) -> Arc<Cache> {
        self.lanes.node.cache.clone()
    }

    /// What the edge answers on the admin address.
    pub fn endpoints(&self) -> Vec<Arc<dyn Endpoint>> {
        let cache = self.cache();
        let mut endpoints: Vec<Arc<dyn Endpoint>> = vec![self.purge.clone(), self.explain.clone()];
        for endpoint in CacheEndpoint::all(&cache) {
            endpoints.push(Arc::new(endpoint));
        }
        if let Some(key_reload) = &self.key_reload {
            endpoints.push(key_reload.clone());
        }
        endpoints
    }

    /// Serves on `sockets`, which are bound to the configured listeners in their order, with `workers`, until
    /// `shutdown` turns true and the last connection has ended. Files that may be exchanged meanwhile are
    /// read again whenever `reloads` changes.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing: listeners and connections go on until their workers end.
    pub async fn serve(
        self,
        sockets: Vec<TcpListener>,
        workers: Workers,
        shutdown: watch::Receiver<bool>,
        reloads: watch::Receiver<u64>,
    ) {
        // Every connection holds a sender; when the last is gone, so is the last connection.
        let (open, mut all_closed) = mpsc::channel::<()>(1);
        let mut accepting = Vec::new();
        for (number, (prepared, socket)) in self.listeners.into_iter().zip(sockets).enumerate() {
            if let Some(tls) = &prepared.tls {
                let certificates = tls.certificates().clone();
                tokio::spawn(certificates.follow(reloads.clone(), shutdown.clone()));
            }
            let acceptor = Arc::new(Acceptor {
                lanes: self.lanes.clone(),
                listener: prepared.config.address.to_string(),
                policy: prepared.policy,
                refusals: RefusalLog::default(),
                tls: prepared.tls,
                connections: prepared.connections,
                open: open.clone(),
            });
            let accepted = acceptor.accept(socket, workers.clone(), number, shutdown.clone());
            accepting.push(workers.runtime(number).spawn(accepted));
        }
        drop(open);
        for client in &self.lanes.node.pools {
            let checks = client.ring().clone().run_health_checks(shutdown.clone());
            tokio::spawn(checks);
        }
        for accepting in accepting {
            // A listener that panicked has logged so; the others go on.
            let _ = accepting.await;
        }
        let _ = all_closed.recv().await;
        self.lanes.node.access_log.flush_and_close();
    }
}

/// Only plain connections are sent anything from files of memory.
fn memory_files(config: &config::Edge) -> Arc<MemoryFiles> {
    match config
        .listeners
        .iter()
        .all(|listener| listener.tls.is_some())
    {
        true => MemoryFiles::none(),
        false => MemoryFiles::for_this_process(),
    }
}

/// Gauges are read when somebody asks.
fn publish(
    metrics: &Arc<Metrics>,
    cache: &Arc<Cache>,
    purges: &Arc<PurgeLog>,
    pools: &[Arc<OriginClient>],
) {
    let memory = metrics.cache_tier("memory");
    memory.set_limit(cache.memory().limit_bytes());
    let disk = cache.disk().map(|_| metrics.disk_tier());
    let (cache, purges, pools) = (cache.clone(), purges.clone(), pools.to_vec());
    let purge_metrics = metrics.purges();
    let memory_files = metrics.memory_files();
    metrics.on_gather(Box::new(move || {
        memory_files.set(cache.memory_files().count());
        memory.set_held(cache.memory().bytes(), cache.memory().objects());
        if let (Some(metrics), Some(disk)) = (&disk, cache.disk()) {
            metrics.publish(&disk.stats().shown);
        }
        purge_metrics.set_rules(purges.rules());
        for pool in &pools {
            pool.publish_health();
        }
    }));
}

/// The disk tier. The purge log lives in its folder, and is read before anything that was stored
/// there is used.
fn open_disk(config: &config::Disk, purges: &Arc<PurgeLog>, clock: SharedClock) -> DiskTier {
    let folder = Arc::new(RealFolder::new(&config.path));
    let sizes = LogSizes {
        limit_bytes: config.size_bytes,
        segment_bytes: config.segment_bytes,
    };
    let (path, purges) = (config.path.clone(), purges.clone());
    let attach = move || purges.attach(&path).map_err(|error| error.to_string());
    DiskTier::new(folder, sizes, clock, Box::new(attach))
}

/// The application behind each listener.
struct Acceptor {
    lanes: Arc<Lanes>,
    /// Its address, by which it is named in log and metrics.
    listener: String,
    policy: Arc<ListenerPolicy>,
    refusals: RefusalLog,
    tls: Option<TlsListener>,
    connections: ConnectionMetrics,
    open: mpsc::Sender<()>,
}

impl Acceptor {
    /// Has connections served that come in on `socket`, the `number`th listener's, until `shutdown` turns true.
    async fn accept(
        self: Arc<Self>,
        socket: TcpListener,
        workers: Workers,
        number: usize,
        shutdown: ShutdownWatch,
    ) {
        let give = |accepted: Accepted| {
            let place = workers.place(number);
            let accepted = match place.is_near() {
                true => accepted,
                false => accepted.free()?,
            };
            place.serve(|taken| self.clone().serve(accepted, taken, shutdown.clone()));
            Ok(())
        };
        accept(socket, &self.listener, shutdown.clone(), give).await;
    }

    /// Serves one connection to its end.
    async fn serve(self: Arc<Self>, accepted: Accepted, _taken: Taken, shutdown: ShutdownWatch) {
        let address = canonical(accepted.client());
        let stream = match accepted.take() {
            Ok(stream) => stream,
            Err(error) => return debug!(%error, "a connection ended before it was served"),
        };
        let _open = self.open.clone();
        let LetIn {
            stream,
            client,
            is_trusted_proxy,
            places,
        } = match self.policy.let_in(stream, address).await {
            Ok(let_in) => let_in,
            Err(refusal) => return self.refused(refusal, address),
        };
        let (stream, subject, scope) = match &self.tls {
            None => (stream, None, None),
            Some(tls) => {
                let patience = self.lanes.node.timeouts.request_head;
                match tls.handshake(stream, patience).await {
                    Ok(Secured {
                        stream,
                        subject,
                        scope,
                    }) => (stream, subject, scope),
                    Err(HandshakeFault::ClientCertificate) => {
                        return self.refused(ConnectionRefusal::ClientCertificate, client);
                    }
                    Err(HandshakeFault::Other) => return,
                }
            }
        };
        let _counted = self.connections.opened();
        // Given back before the connection counts as closed: who sees that it is may come in.
        let _places = places;
        let tls = stream.get_ssl_digest();
        let peer = Peer {
            terms: self.policy.terms(is_trusted_proxy, subject),
            ..Peer::new(client, tls.as_deref().map(super::tls::version_name))
        };
        drop(tls);
        if stream.selected_alpn_proto() == Some(ALPN::H2) {
            Box::pin(lane_h2::serve(&self.lanes, stream, peer, scope, &shutdown)).await;
        } else {
            lane_h1::serve(&self.lanes, stream, peer, scope, shutdown).await;
        }
    }

    /// Says that a connection was closed, and why.
    fn refused(&self, refusal: ConnectionRefusal, address: IpAddr) {
        let node = &self.lanes.node;
        (node.metrics).record_connection_refusal(&self.listener, refusal.reason());
        let now = node.clock.monotonic();
        self.refusals.note(&self.listener, address, refusal, now);
    }
}

/// An IPv4 client of a dual-stack listener is logged as such.
fn canonical(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}
