//! The edge under test: the real binary with a configuration of the test's own.

use std::collections::HashSet;
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::tls::Identity;
use super::{Client, Samples, own_address, within};

/// How the line ends that the edge logs once it serves.
const READY: &str = ": ready";

/// Variables of a process's environment, beside those of the test's own.
pub type Environment = &'static [(&'static str, &'static str)];

/// Makes the allocator ask for pages of 4 KiB, for what measures memory by less than many huge pages
/// of 2 MiB: as many of those come or not as other threads happen to run.
pub const SMALL_PAGES: Environment = &[("MIMALLOC_ALLOW_THP", "0")];

/// The configuration of an edge; the rest is fixed.
#[derive(Debug, Clone)]
pub struct Setup {
    /// `host:port` of each server of the one pool, `store`.
    pub servers: Vec<String>,
    /// Further keys of the pool, as YAML.
    pub pool: &'static str,
    /// `edge.cache.memory`.
    pub memory: &'static str,
    /// Further keys of `edge.cache`, as YAML.
    pub cache: String,
    /// Further keys of the one listener, as YAML.
    pub listener: &'static str,
    /// Entries of `edge.routes`, as YAML.
    pub routes: &'static str,
    /// Further keys of `edge`, as YAML.
    pub edge: &'static str,
    /// The names of each certificate of the TLS listener; without any there is no such listener.
    pub certificates: Vec<Vec<&'static str>>,
    /// Further keys of its `tls`, as YAML.
    pub tls: &'static str,
    /// Further variables of the process's environment.
    pub environment: Environment,
}

impl Setup {
    /// One public route to `servers`. Health checks run once, at the start, so that no test sees
    /// one by chance.
    pub fn of(servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        Setup {
            servers: servers
                .into_iter()
                .map(|server| server.to_string())
                .collect(),
            pool: "health: { interval: 1h }",
            memory: "64MiB",
            cache: String::new(),
            listener: "",
            routes: "- { name: all, path: /, origin: store, access: public }",
            edge: "",
            certificates: Vec::new(),
            tls: "",
            environment: &[],
        }
    }

    fn yaml(&self, http: SocketAddr, https: &str, admin: SocketAddr) -> String {
        let mut yaml = String::new();
        write!(
            yaml,
            "\
admin: {{ address: '{admin}' }}
edge:
  workers: 2
  listeners:
    - address: '{http}'
      {listener}
{https}
  origins:
    store:
      servers: {servers:?}
      {pool}
  routes:
    {routes}
  cache:
    memory: {memory}
    {cache}
  access_log: access.log
  {edge}
",
            servers = self.servers,
            pool = self.pool,
            listener = self.listener,
            routes = self.routes,
            memory = self.memory,
            cache = self.cache,
            edge = self.edge,
        )
        .unwrap();
        yaml
    }

    /// Starts the edge and waits until it serves.
    pub async fn start(self) -> Edge {
        let folder = tempfile::tempdir().unwrap();
        let (http, admin) = (own_address(), own_address());
        let config = folder.path().join("tidegate.yaml");
        let https = own_address();
        let identities: Vec<_> = (self.certificates.iter().enumerate())
            .map(|(number, names)| Identity::make(folder.path(), number, names))
            .collect();
        let mut listener = String::new();
        if !identities.is_empty() {
            let pairs: Vec<_> = identities.iter().map(Identity::yaml).collect();
            let (pairs, further) = (pairs.join(", "), self.tls);
            write!(
                listener,
                "    - {{ address: '{https}', tls: {{ certificates: [{pairs}], {further} }} }}"
            )
            .unwrap();
        }
        std::fs::write(&config, self.yaml(http, &listener, admin)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("edge")
            .arg("--config")
            .arg(&config)
            .envs(self.environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (line, log) = unbounded_channel();
        thread::spawn(move || {
            for text in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Shown by the test runner when the test fails.
                println!("edge: {text}");
                line.send(text).ok();
            }
        });
        let mut edge = Edge {
            child: Running(child),
            http,
            https,
            identities,
            admin,
            log,
            passed: Vec::new(),
            access_log: folder.path().join("access.log"),
            config,
            _folder: folder,
        };
        edge.logged(READY).await;
        edge
    }
}

/// A running edge, killed when dropped.
pub struct Edge {
    child: Running,
    /// Where clients connect.
    pub http: SocketAddr,
    /// Where clients connect by TLS, when the setup has certificates.
    pub https: SocketAddr,
    /// Its certificates.
    pub identities: Vec<Identity>,
    /// Where operators connect.
    pub admin: SocketAddr,
    log: UnboundedReceiver<String>,
    /// Lines of the error log that have been waited past.
    passed: Vec<String>,
    /// The access log's file.
    pub access_log: PathBuf,
    /// Its configuration's file.
    pub config: PathBuf,
    _folder: TempDir,
}

impl Edge {
    /// An edge in front of one origin, one public route.
    pub async fn before(origin: &super::Origin) -> Self {
        Setup::of([origin.address]).start().await
    }

    /// The same in front of an origin that answers by a script.
    pub async fn before_any(origin: &super::AnsweringOrigin) -> Self {
        Setup::of([origin.address]).start().await
    }

    /// Waits for a line of the error log that contains `text`.
    pub async fn logged(&mut self, text: &str) -> String {
        within(&format!("log line with {text:?}"), async {
            loop {
                let line = self.log.recv().await;
                let line = line.unwrap_or_else(|| panic!("the edge ended without {text:?}"));
                self.passed.push(line);
                if let Some(line) = self.passed.last().filter(|line| line.contains(text)) {
                    return line.clone();
                }
            }
        })
        .await
    }

    /// How many lines of the error log contain `text`, up to the last that was waited for.
    pub fn lines_with(&self, text: &str) -> usize {
        let lines = self.passed.iter();
        lines.filter(|line| line.contains(text)).count()
    }

    /// A new client connection.
    pub async fn client(&self) -> Client {
        Client::connect(self.http).await
    }

    /// A new connection to the TLS listener, on which nothing is said yet.
    pub async fn tls_client(&self) -> Client {
        Client::connect(self.https).await
    }

    /// One GET on a connection of its own.
    pub async fn get(&self, path: &str) -> super::Response {
        self.client().await.get(path).await
    }

    /// What `/metrics` says now.
    pub async fn metrics(&self) -> Samples {
        let response = Client::connect(self.admin).await.get("/metrics").await;
        assert_eq!(response.status, 200);
        Samples::parse(response.text())
    }

    /// Whether the process that was started still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_none()
    }

    /// Waits until a counter has come to `count`: what a client is told may arrive before it is counted.
    pub async fn counted(&self, name: &str, labels: &[&str], count: f64) {
        let counted = async {
            while self.metrics().await.sum(name, labels) < count {
                tokio::task::yield_now().await;
            }
        };
        within(&format!("{name} {labels:?} comes to {count}"), counted).await;
        assert_eq!(
            self.metrics().await.sum(name, labels),
            count,
            "{name} {labels:?}"
        );
    }

    /// Waits until a gauge stands at `value`.
    pub async fn gauged(&self, name: &str, labels: &[&str], value: f64) {
        let gauged = async {
            while self.metrics().await.sum(name, labels) != value {
                tokio::task::yield_now().await;
            }
        };
        within(&format!("{name} {labels:?} comes to {value}"), gauged).await;
    }

    /// Empties both tiers of its cache.
    pub async fn clear(&self) {
        let mut admin = Client::connect(self.admin).await;
        let fields = "Content-Type: application/json\r\nContent-Length: 2\r\n";
        admin
            .send(format!(
                "POST /cache/clear HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{{}}"
            ))
            .await;
        assert_eq!(admin.response("POST").await.status, 200);
    }

    /// Its resident memory in bytes.
    pub async fn resident_bytes(&self) -> f64 {
        let metrics = self.metrics().await;
        metrics.sum("process_resident_memory_bytes", &[])
    }

    /// The file descriptor that it gets next.
    pub fn next_descriptor(&self) -> u64 {
        let folder = format!("/proc/{}/fd", self.child.0.id());
        let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        let open: HashSet<u64> = entries
            .map(|entry| entry.file_name().to_str().unwrap().parse().unwrap())
            .collect();
        (0..).find(|descriptor| !open.contains(descriptor)).unwrap()
    }

    /// Lets it have file descriptors below `most` (`RLIMIT_NOFILE`); gives what this was before.
    pub fn limit_descriptors(&self, most: u64) -> u64 {
        let pid = Pid::from_child(&self.child.0);
        let before = prlimit(
            Some(pid),
            Resource::Nofile,
            Rlimit {
                current: Some(most),
                maximum: getrlimit(Resource::Nofile).maximum,
            },
        );
        before.unwrap().current.unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.0), signal).unwrap();
    }

    /// Asks the edge to stop (SIGTERM).
    pub fn ask_to_stop(&mut self) {
        kill_process(Pid::from_child(&self.child.0), Signal::TERM).unwrap();
    }

    /// Asks the edge to read files again (SIGHUP).
    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child.0), Signal::HUP).unwrap();
    }

    /// Asks the edge to stop and waits for its end.
    pub async fn stop(mut self) -> StoppedEdge {
        self.ask_to_stop();
        self.ended().await
    }

    /// Waits for the end of an edge that was asked to stop; the access log is complete then.
    pub async fn ended(mut self) -> StoppedEdge {
        let access_log = self.access_log.clone();
        let ended = tokio::task::spawn_blocking(move || {
            let status = self.child.0.wait().unwrap();
            // The folder lives as long as the edge, so the log is read before it goes.
            (status, std::fs::read_to_string(&access_log).unwrap())
        });
        let (status, log) = within("the edge ends after SIGTERM", ended).await.unwrap();
        let line = |line| serde_json::from_str(line).unwrap();
        StoppedEdge {
            status,
            access_log: log.lines().map(line).collect(),
        }
    }
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What an edge left behind.
pub struct StoppedEdge {
    /// How the process ended.
    pub status: ExitStatus,
    /// Its access log, line by line.
    pub access_log: Vec<serde_json::Value>,
}
