//! The checked configuration: every value in range, every reference resolved, every path absolute.
//!
//! Only these types leave `src/config`. They are plain data: nothing here opens a file or a socket.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::policies::{
    AddressRules, ClientCertificates, Cors, HeaderEdits, ListenerLimits, MinRate, ProxyProtocol,
    RouteLimits, Trust,
};
use super::rights::Rights;
use super::rules::CacheRules;
use crate::secret::Secret;
use crate::signing::{Accept, Key};

/// A whole checked configuration, swapped as one snapshot.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that it was read from, absolute; `None` when it was a text.
    pub file: Option<PathBuf>,
    /// The admin listener.
    pub admin: Admin,
    /// The error log of the process.
    pub log: Log,
    /// The edge node; absent on a machine that runs only the store.
    pub edge: Option<Edge>,
    /// The S3-compatible store; absent on a machine that runs only the edge.
    pub origin: Option<Origin>,
}

/// `admin`: metrics, health and the admin API.
#[derive(Debug, Clone)]
pub struct Admin {
    /// `admin.address`.
    pub address: SocketAddr,
}

/// `log`: the operator's log on standard error (the access log is `edge.access_log`).
#[derive(Debug, Clone)]
pub struct Log {
    /// `log.level`: `error|warn|info|debug|trace`.
    pub level: String,
}

/// `edge`.
#[derive(Debug, Clone)]
pub struct Edge {
    /// `edge.workers`: threads that serve clients; default one per core.
    pub workers: NonZeroUsize,
    /// `edge.trusted_proxies` and `edge.client_address_field`.
    pub trust: Trust,
    /// `edge.listeners`, at least one.
    pub listeners: Vec<Listener>,
    /// `edge.origins`, by name, at least one.
    pub origins: Vec<Arc<OriginPool>>,
    /// `edge.routes`, first match wins, at least one.
    pub routes: Vec<Arc<Route>>,
    /// `edge.cache`.
    pub cache: Cache,
    /// `edge.signing`.
    pub signing: Signing,
    /// `edge.limits`.
    pub limits: Limits,
    /// What of `edge.limits` counts for HTTP/2 only.
    pub h2: H2Limits,
    /// `edge.limits.range_fetch_credit`: bytes that the ranges of one client may make the origin send
    /// beyond what is written to that client, until they are passed on exactly as asked; default 64MiB.
    pub range_fetch_credit_bytes: u64,
    /// `edge.timeouts`.
    pub timeouts: Timeouts,
    /// `edge.access_log`.
    pub access_log: AccessLog,
}

/// One entry of `edge.listeners`.
#[derive(Debug, Clone)]
pub struct Listener {
    /// `address`.
    pub address: SocketAddr,
    /// `proxy_protocol`, default off.
    pub proxy_protocol: ProxyProtocol,
    /// `allow`, `deny`.
    pub addresses: AddressRules,
    /// `limits`.
    pub limits: ListenerLimits,
    /// `tls`; absent = plain HTTP.
    pub tls: Option<Tls>,
}

/// `edge.listeners[].tls`: chosen by SNI, the first certificate when no name matches.
#[derive(Debug, Clone)]
pub struct Tls {
    /// `certificates`, at least one.
    pub certificates: Vec<Certificate>,
    /// `reload_interval`: how often the files are looked at for changes, default 10s.
    pub reload_interval: Duration,
    /// `misdirected`, default `refuse`.
    pub misdirected: Misdirected,
    /// `client_certificates`; absent = clients are not asked for any.
    pub client_certificates: Option<ClientCertificates>,
}

/// `edge.listeners[].tls.misdirected`: what becomes of a request for a host that its connection was not made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misdirected {
    /// 421 (RFC 9110 §15.5.20).
    Refuse,
    /// Served like any other.
    Serve,
}

/// A certificate chain and its private key, both PEM files.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// `chain`: leaf first.
    pub chain: PathBuf,
    /// `key`: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// One entry of `edge.origins`.
#[derive(Debug, Clone)]
pub struct OriginPool {
    /// The entry's name.
    pub name: String,
    /// `servers`: `host:port`, at least one, no duplicates.
    pub servers: Vec<String>,
    /// `connect_timeout`, default 5s.
    pub connect_timeout: Duration,
    /// `read_timeout`: the longest silence while a response is awaited or read, default 30s.
    pub read_timeout: Duration,
    /// `write_timeout`: the longest a write to the origin may block, default 30s.
    pub write_timeout: Duration,
    /// `idle_timeout`: how long an unused connection is kept, default 60s.
    pub idle_timeout: Duration,
    /// `health`.
    pub health: Health,
    /// `signing`; absent = requests are passed on as the client signed them.
    pub signing: Option<OriginSigning>,
}

/// `edge.origins.*.signing`: how the edge signs its requests to a private S3-compatible origin.
#[derive(Debug, Clone)]
pub struct OriginSigning {
    /// `region` of the signature.
    pub region: String,
    /// `host`: the `Host` to send and sign, with a port unless that is the default one; absent = as the
    /// client sent it.
    pub host: Option<String>,
    /// `credentials`: whose secret signs. [`Credential::allow_sigv2`] is false and means nothing here, and
    /// [`Credential::rights`] are those of the origin.
    pub credentials: Credential,
}

/// `edge.origins.*.health`: active checks of each server.
#[derive(Debug, Clone)]
pub struct Health {
    /// `interval`, default 2s.
    pub interval: Duration,
    /// `timeout` of one check, default 1s.
    pub timeout: Duration,
    /// `path`: an HTTP path that must answer 2xx; absent = a TCP connect is enough.
    pub path: Option<String>,
    /// `healthy_after`: successes in a row that bring a server back, default 1.
    pub healthy_after: usize,
    /// `unhealthy_after`: failures in a row that take a server out, default 2.
    pub unhealthy_after: usize,
}

/// One entry of `edge.routes`.
#[derive(Debug, Clone)]
pub struct Route {
    /// `name`: the metric and log label; default made of host and path.
    pub name: String,
    /// `host`: lower-case, without port; absent = any host.
    pub host: Option<String>,
    /// `path`: a prefix that starts with `/`; default `/`.
    pub path: String,
    /// Index into [`Edge::origins`] (`origin` names it).
    pub origin: usize,
    /// `access`: required, because a forgotten key must never open a bucket.
    pub access: Access,
    /// `allow`, `deny`.
    pub addresses: AddressRules,
    /// `limits`.
    pub limits: RouteLimits,
    /// `signing`: which of [`Signing::keys`] count on a signed route; default all.
    pub signing: Accept,
    /// `cors`; absent = what the origin says is passed on.
    pub cors: Option<Cors>,
    /// `response_headers`: what clients get.
    pub response_headers: HeaderEdits,
    /// `request_headers`: what the origin gets.
    pub request_headers: HeaderEdits,
    /// `upload_forms`: whether forms that sign themselves go to the origin, which then verifies them;
    /// default false.
    pub upload_forms: bool,
    /// `cache`: the rules of its stored responses, those of `edge.cache` filled in.
    pub cache: Arc<CacheRules>,
}

/// `edge.routes[].access`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone may ask.
    Public,
    /// Only what is signed with one of `edge.signing.keys`, by a scheme and a key that the route takes.
    Signed,
}

/// `edge.cache`.
#[derive(Debug, Clone)]
pub struct Cache {
    /// `memory`: the memory tier's limit in bytes, default 256MiB, at least 1MiB.
    pub memory_bytes: u64,
    /// `disk`; absent = memory only.
    pub disk: Option<Disk>,
    /// [`CacheRules::default_ttl`] where no route says otherwise.
    pub default_ttl: Duration,
}

/// `edge.cache.disk`.
#[derive(Debug, Clone)]
pub struct Disk {
    /// `path`: a folder of its own.
    pub path: PathBuf,
    /// `size`: what all segments may take, in bytes.
    pub size_bytes: u64,
    /// `segment`: what one takes, in bytes; default a 256th of `size`, whole MiB up to 1 GiB.
    pub segment_bytes: u64,
}

/// `edge.signing`.
#[derive(Debug, Clone)]
pub struct Signing {
    /// `keys`: needed when a route is `signed`.
    pub keys: Vec<Key>,
    /// `region`: the region that URLs must be signed for; absent = any.
    pub region: Option<String>,
    /// `clock_leeway`: how far a signer's clock may run ahead, default 15m as S3 allows. It prolongs
    /// nothing.
    pub clock_leeway: Duration,
    /// `domain`: the domain under which hosts name buckets; absent = the bucket stands in the path.
    pub domain: Option<String>,
}

/// `edge.limits`: what a client may send.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `request_head`: bytes of request line and fields, default 32KiB.
    pub request_head_bytes: usize,
    /// `request_fields`: number of fields, default 100.
    pub request_fields: usize,
    /// `min_receive_rate`, of request bodies; absent = no limit.
    pub min_receive_rate: Option<MinRate>,
    /// `min_send_rate`, of responses; absent = no limit.
    pub min_send_rate: Option<MinRate>,
}

/// `edge.limits`: of one HTTP/2 connection.
#[derive(Debug, Clone, Copy)]
pub struct H2Limits {
    /// `h2_streams`: requests under way at a time, default 100.
    pub streams: u32,
    /// `h2_control_frames`: frames of one kind that ask for nothing, at once; a tenth of that again each second;
    /// default 200.
    pub control_frames: u32,
}

/// `edge.timeouts`: of the client's side.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// `request_head`: from the first byte of a request to the end of its head, default 30s.
    pub request_head: Duration,
    /// `request_body`: the longest silence while the body of a request is awaited, default 60s.
    pub request_body: Duration,
    /// `keep_alive`: an idle connection is closed after this, default 75s.
    pub keep_alive: Duration,
    /// `write`: the longest a write to the client may make no progress, default 60s.
    pub write: Duration,
    /// `drain`: how long requests in flight may go on after a stop signal, default 5s.
    pub drain: Duration,
}

/// `edge.access_log`: one JSON line per request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// `off`.
    Off,
    /// `stdout` (default).
    Stdout,
    /// A file that is appended to.
    File(PathBuf),
}

/// `origin`: the S3-compatible store.
#[derive(Debug, Clone)]
pub struct Origin {
    /// `origin.address`.
    pub address: SocketAddr,
    /// `origin.data`: the folder that holds everything, but for what `disks` holds.
    pub data: PathBuf,
    /// `origin.disks`, where the bytes of objects lie, by number; none = one folder inside `data`.
    pub disks: Vec<StoreDisk>,
    /// `origin.redundancy`, default none.
    pub redundancy: Redundancy,
    /// `origin.cold`: where objects of the class STANDARD_IA lie; `None` = there is no such class.
    pub cold: Option<ColdDisks>,
    /// `origin.scrub`.
    pub scrub: Scrub,
    /// `origin.region`, default us-east-1.
    pub region: String,
    /// `origin.domain`: the domain under which hosts name buckets; absent = path style only.
    pub domain: Option<String>,
    /// `origin.webhooks`: what the URLs of webhooks may begin with; none by default.
    pub webhooks: Vec<String>,
    /// `origin.webhook_ca_file`: authorities beside the system's that sign for webhooks; `None` = none.
    pub webhook_ca_file: Option<PathBuf>,
    /// `origin.purge`: admin addresses of edges, beside this node's own, that forget an object when it changes.
    pub purge: Vec<SocketAddr>,
    /// `origin.credentials`, at least one.
    pub credentials: Vec<Credential>,
}

/// `origin.scrub`: reading everything again, to find damage while it can still be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrub {
    /// `bytes_per_second`, default 20MiB; `None` = only when somebody asks for it.
    pub bytes_per_second: Option<u64>,
    /// `pause` between the end of a pass and the next one, default 7d.
    pub pause: Duration,
}

/// `origin.cold`: disks for what is seldom read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColdDisks {
    /// `disks`, by number, at least one.
    pub disks: Vec<StoreDisk>,
    /// `redundancy`, default none.
    pub redundancy: Redundancy,
}

/// One entry of `origin.disks` or `origin.cold.disks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreDisk {
    /// `path`: a folder of its own.
    pub path: PathBuf,
}

/// `origin.redundancy`: what is kept of objects beyond their bytes. It holds for what is written from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redundancy {
    /// Nothing: a lost disk is a loss.
    #[default]
    None,
    /// `copies`: so many disks have everything.
    Copies(u8),
    /// Reed-Solomon shards: of `data` + `parity` disks any `data` are enough.
    Shards {
        /// `data`: shards that blocks are cut into.
        data: u8,
        /// `parity`: disks that may be lost.
        parity: u8,
    },
}

impl Redundancy {
    /// Disks that every object is spread over.
    pub fn width(self) -> usize {
        match self {
            Redundancy::None => 1,
            Redundancy::Copies(copies) => copies.into(),
            Redundancy::Shards { data, parity } => usize::from(data) + usize::from(parity),
        }
    }
}

/// One entry of `origin.credentials`, or `edge.origins.*.signing.credentials`.
#[derive(Debug, Clone)]
pub struct Credential {
    /// `access_key_id`.
    pub access_key_id: String,
    /// The contents of `secret_file`, or of the variable `secret_env`, surrounding white space removed.
    pub secret: Secret,
    /// `allow_sigv2`: whether it may sign URLs, forms and requests with Signature Version 2 as well, default false.
    pub allow_sigv2: bool,
    /// `rights`, default full, and `buckets`, default all: what it may do by itself.
    pub rights: Rights,
}
