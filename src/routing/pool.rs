//! One origin pool at work: its servers, their shared state, and the candidates for a key.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tokio::sync::watch;
use tracing::{info, warn};

use super::checks;
use super::health::{Thresholds, Transition, Vitality};
use super::ring::{Ring, RingOrder};
use crate::config::{Health, OriginPool};

/// Why a ring could not be made.
#[derive(Debug, Error)]
pub enum RingError {
    /// The pool lists no server.
    #[error("origin pool {pool} has no servers")]
    NoServers {
        /// The pool's name.
        pool: String,
    },
    /// A server's name could not be resolved.
    #[error("origin pool {pool}: cannot resolve {server}: {source}")]
    Resolve {
        /// The pool's name.
        pool: String,
        /// The server as configured.
        server: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// A server's name resolved to nothing.
    #[error("origin pool {pool}: {server} has no address")]
    NoAddress {
        /// The pool's name.
        pool: String,
        /// The server as configured.
        server: String,
    },
    /// Two entries are one server, which would own the points of both.
    #[error("origin pool {pool}: {first} and {second} are both {address}")]
    SameAddress {
        /// The pool's name.
        pool: String,
        /// The earlier entry.
        first: String,
        /// The later entry.
        second: String,
        /// The address they share.
        address: SocketAddr,
    },
}

/// How an attempt to reach a server went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// A connection was made (a new one; a pooled one says nothing about now).
    Connected,
    /// No connection could be made: refused, unreachable or timed out.
    Failed,
}

/// One server of a pool.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its `host:port` as configured: the label in logs and metrics.
    pub name: String,
    /// Its place in [`OriginRing::servers`].
    pub index: usize,
    /// Guards the transitions; requests read `healthy` and take no lock.
    vitality: Mutex<Vitality>,
    healthy: AtomicBool,
    connected: AtomicU64,
    failed: AtomicU64,
}

impl Server {
    fn new(address: SocketAddr, name: String, index: usize) -> Self {
        let vitality = Vitality::new();
        Server {
            address,
            name,
            index,
            healthy: AtomicBool::new(vitality.is_healthy()),
            vitality: Mutex::new(vitality),
            connected: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Whether the server takes requests.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// Connections made so far, as reported.
    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// Failed attempts to connect so far, as reported.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Runs one step of the state machine and publishes the result.
    fn step(&self, step: impl FnOnce(&mut Vitality) -> Option<Transition>) -> Option<Transition> {
        let mut vitality = self.vitality.lock().unwrap_or_else(PoisonError::into_inner);
        let transition = step(&mut vitality);
        self.healthy.store(vitality.is_healthy(), Ordering::Release);
        transition
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("address", &self.address)
            .field("healthy", &self.is_healthy())
            .finish_non_exhaustive()
    }
}

/// The servers of one origin pool on a consistent-hash ring.
pub struct OriginRing {
    pool: String,
    health: Health,
    servers: Vec<Arc<Server>>,
    ring: Ring,
}

impl OriginRing {
    /// Resolves the pool's servers and puts them on a ring.
    ///
    /// A name with several addresses makes several servers, as in nginx: each has its own place
    /// on the ring and its own health. Names are resolved once, here, and the calling thread
    /// waits for the resolver, so this belongs to the start of the process.
    ///
    /// # Errors
    ///
    /// [`RingError`] when a name has no address or two entries are the same server.
    pub fn new(pool: &OriginPool) -> Result<Self, RingError> {
        Self::with_resolver(pool, |server| server.to_socket_addrs().map(Vec::from_iter))
    }

    fn with_resolver(
        pool: &OriginPool,
        resolve: impl Fn(&str) -> std::io::Result<Vec<SocketAddr>>,
    ) -> Result<Self, RingError> {
        let mut servers: Vec<Arc<Server>> = Vec::with_capacity(pool.servers.len());
        for name in &pool.servers {
            let mut addresses = resolve(name).map_err(|source| RingError::Resolve {
                pool: pool.name.clone(),
                server: name.clone(),
                source,
            })?;
            // Resolvers repeat an address once per hosts-file line or socket type.
            addresses.sort_unstable();
            addresses.dedup();
            if addresses.is_empty() {
                return Err(RingError::NoAddress {
                    pool: pool.name.clone(),
                    server: name.clone(),
                });
            }
            for address in addresses {
                if let Some(first) = servers.iter().find(|server| server.address == address) {
                    return Err(RingError::SameAddress {
                        pool: pool.name.clone(),
                        first: first.name.clone(),
                        second: name.clone(),
                        address,
                    });
                }
                let index = servers.len();
                servers.push(Arc::new(Server::new(address, name.clone(), index)));
            }
        }
        if servers.is_empty() {
            return Err(RingError::NoServers {
                pool: pool.name.clone(),
            });
        }
        let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
        Ok(OriginRing {
            pool: pool.name.clone(),
            health: pool.health.clone(),
            ring: Ring::new(&addresses),
            servers,
        })
    }

    /// The pool's name.
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// Every server, healthy or not, in the order of the configuration.
    pub fn servers(&self) -> &[Arc<Server>] {
        &self.servers
    }

    /// The servers to ask for `key`, best first: its owner, then the next distinct servers on
    /// the ring, healthy ones only.
    ///
    /// Fail open: when none is healthy all come in ring order, because an attempt is better than
    /// a sure 502. Health is read as the iterator advances, so a server that was reported in the
    /// meantime is passed over.
    pub fn candidates(&self, key: &[u8]) -> Candidates<'_> {
        Candidates {
            servers: &self.servers,
            ring: &self.ring,
            key: key.into(),
            order: self.ring.order(key),
            phase: Phase::Healthy { offered: false },
        }
    }

    /// Reports how an attempt to connect to `server` went. A failure takes the server out at
    /// once; active checks bring it back.
    pub fn report(&self, server: &Server, result: Attempt) {
        match result {
            Attempt::Connected => {
                server.connected.fetch_add(1, Ordering::Relaxed);
            }
            Attempt::Failed => {
                server.failed.fetch_add(1, Ordering::Relaxed);
                let transition = server.step(Vitality::connect_failed);
                self.log(server, transition, &"a request could not connect");
            }
        }
    }

    /// Takes in the result of an active check.
    pub(super) fn check_ended(&self, server: &Server, result: Result<(), &dyn fmt::Display>) {
        let thresholds = Thresholds {
            healthy_after: self.health.healthy_after,
            unhealthy_after: self.health.unhealthy_after,
        };
        let transition = server.step(|vitality| vitality.check_ended(result.is_ok(), thresholds));
        match result {
            Ok(()) => self.log(server, transition, &"the health check passed"),
            Err(error) => self.log(server, transition, error),
        }
    }

    fn log(&self, server: &Server, transition: Option<Transition>, reason: &dyn fmt::Display) {
        let (pool, name, address) = (&self.pool, &server.name, server.address);
        match transition {
            Some(Transition::WentOut) => {
                warn!(pool, server = name, %address, %reason, "origin server is out");
            }
            Some(Transition::CameBack) => {
                info!(pool, server = name, %address, %reason, "origin server is back");
            }
            None => {}
        }
    }

    /// Checks every server at once and then every `interval`, until `shutdown` turns true or its
    /// sender is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the checks; states stay as they are.
    pub async fn run_health_checks(self: Arc<Self>, shutdown: watch::Receiver<bool>) {
        checks::run(&self, &self.health, shutdown).await;
    }
}

impl fmt::Debug for OriginRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginRing")
            .field("pool", &self.pool)
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

/// The servers to ask for one key; see [`OriginRing::candidates`].
pub struct Candidates<'ring> {
    servers: &'ring [Arc<Server>],
    ring: &'ring Ring,
    key: Box<[u8]>,
    order: RingOrder,
    phase: Phase,
}

enum Phase {
    Healthy { offered: bool },
    All,
}

impl<'ring> Iterator for Candidates<'ring> {
    type Item = &'ring Arc<Server>;

    fn next(&mut self) -> Option<Self::Item> {
        let servers = self.servers;
        if let Phase::Healthy { offered } = &mut self.phase {
            for index in self.order.by_ref() {
                let server = &servers[index];
                if server.is_healthy() {
                    *offered = true;
                    return Some(server);
                }
            }
            if *offered {
                return None;
            }
            self.order = self.ring.order(&self.key);
            self.phase = Phase::All;
        }
        self.order.next().map(|index| &servers[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pool(servers: &[&str]) -> OriginPool {
        OriginPool {
            name: "store".to_owned(),
            servers: servers.iter().map(|server| (*server).to_owned()).collect(),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            health: Health {
                interval: Duration::from_secs(2),
                timeout: Duration::from_secs(1),
                path: None,
                healthy_after: 1,
                unhealthy_after: 2,
            },
            signing: None,
        }
    }

    fn ring() -> OriginRing {
        OriginRing::new(&pool(&[
            "127.0.0.1:9000",
            "127.0.0.1:9001",
            "127.0.0.1:9002",
        ]))
        .unwrap()
    }

    fn indexes(ring: &OriginRing, key: &[u8]) -> Vec<usize> {
        ring.candidates(key).map(|server| server.index).collect()
    }

    #[test]
    fn connect_failure_passes_a_server_over_until_a_check_succeeds() {
        let ring = ring();
        let all = indexes(&ring, b"k");
        assert_eq!(all.len(), 3);
        let owner = &ring.servers()[all[0]];

        ring.report(owner, Attempt::Failed);
        assert_eq!(indexes(&ring, b"k"), all[1..]);
        ring.report(owner, Attempt::Connected);
        assert_eq!(
            indexes(&ring, b"k"),
            all[1..],
            "traffic brings nothing back"
        );
        assert_eq!((owner.failed(), owner.connected()), (1, 1));

        ring.check_ended(owner, Ok(()));
        assert_eq!(indexes(&ring, b"k"), all);
    }

    #[test]
    fn two_failed_checks_take_a_server_out() {
        let ring = ring();
        let all = indexes(&ring, b"k");
        let owner = &ring.servers()[all[0]];
        ring.check_ended(owner, Err(&"refused"));
        assert_eq!(indexes(&ring, b"k"), all);
        ring.check_ended(owner, Err(&"refused"));
        assert_eq!(indexes(&ring, b"k"), all[1..]);
    }

    #[test]
    fn all_servers_are_offered_in_ring_order_when_none_is_healthy() {
        let ring = ring();
        let all = indexes(&ring, b"k");
        for server in ring.servers() {
            ring.report(server, Attempt::Failed);
        }
        assert_eq!(indexes(&ring, b"k"), all);
    }

    #[test]
    fn server_reported_while_candidates_are_walked_is_passed_over() {
        let ring = ring();
        let all = indexes(&ring, b"k");
        let mut candidates = ring.candidates(b"k");
        assert_eq!(candidates.next().unwrap().index, all[0]);
        ring.report(&ring.servers()[all[0]], Attempt::Failed);
        ring.report(&ring.servers()[all[1]], Attempt::Failed);
        assert_eq!(candidates.next().unwrap().index, all[2]);
        assert!(candidates.next().is_none());
    }

    #[test]
    fn name_with_two_addresses_makes_two_servers() {
        let ring = OriginRing::with_resolver(&pool(&["origin.example:80"]), |_| {
            Ok(vec![
                "10.0.0.2:80".parse().unwrap(),
                "10.0.0.1:80".parse().unwrap(),
                "10.0.0.2:80".parse().unwrap(),
            ])
        })
        .unwrap();
        let seen: Vec<_> = ring
            .servers()
            .iter()
            .map(|server| (server.index, server.address.to_string(), &*server.name))
            .collect();
        assert_eq!(
            seen,
            [
                (0, "10.0.0.1:80".to_owned(), "origin.example:80"),
                (1, "10.0.0.2:80".to_owned(), "origin.example:80"),
            ]
        );
    }

    #[test]
    fn unusable_pools_are_refused_with_the_name_at_fault() {
        let resolve = |server: &str| match server {
            "nowhere:80" => Ok(vec![]),
            "broken:80" => Err(std::io::Error::other("no such host")),
            _ => Ok(vec!["10.0.0.1:80".parse().unwrap()]),
        };
        let cases: &[(&[&str], &str)] = &[
            (&[], "origin pool store has no servers"),
            (
                &["nowhere:80"],
                "origin pool store: nowhere:80 has no address",
            ),
            (
                &["a:80", "broken:80"],
                "origin pool store: cannot resolve broken:80: no such host",
            ),
            (
                &["a:80", "b:80"],
                "origin pool store: a:80 and b:80 are both 10.0.0.1:80",
            ),
        ];
        for (servers, message) in cases {
            let error = OriginRing::with_resolver(&pool(servers), resolve).unwrap_err();
            assert_eq!(error.to_string(), *message);
        }
    }
}
