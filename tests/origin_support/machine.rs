//! The real binary on a folder that outlives it, as often as it is killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tidegate::config::{ColdDisks, Redundancy, StoreDisk};
use tidegate::origin::check::{Finding, Listener, Seen, check};

use super::strace::{self, Injection};
use super::{KEY_ID, PATIENCE, SECRET, config, folder, runtime};

/// Numbers of blobs and packs of one start that [`File`] knows the names of.
const NUMBERS: i64 = 48;

/// The cold disk of those that have one.
const COLD: &str = "cold";

/// A folder with a configuration and a store.
pub struct Machine {
    folder: TempDir,
    /// The disks, below its data.
    disks: &'static [&'static str],
    /// The last generation of writers that told its number.
    generation: i64,
    /// Openings since then that may have counted.
    untold: i64,
}

/// Files by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    Any,
    Database,
    Log,
    /// The database, its log, and the index of that.
    Metadata,
    /// Those in which uploads are gathered, of the next start.
    Upload,
    /// The folders into which uploads go.
    BlobFolder,
    /// The packs of the next start.
    Pack,
    PackFolder,
    /// All that the next start writes to, but the folders of blobs.
    All,
}

/// The binary while it runs.
pub struct Running {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    lock: PathBuf,
    log: Arc<Mutex<String>>,
}

/// The binary when it has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub log: String,
}

impl Machine {
    pub fn new() -> Self {
        Machine::on(&["blobs/d0"])
    }

    /// With a cold disk as well.
    pub fn with_cold() -> Self {
        Machine::on(&["blobs/d0", COLD])
    }

    fn on(disks: &'static [&'static str]) -> Self {
        let folder = folder();
        let cold = match disks.contains(&COLD) {
            true => format!("cold: {{ disks: [ {{ path: data/{COLD} }} ] }}\n  "),
            false => String::new(),
        };
        let config = format!(
            "admin: {{ address: 127.0.0.1:0 }}\norigin:\n  address: 127.0.0.1:0\n  data: data\n  \
             {cold}credentials: [ {{ access_key_id: {KEY_ID}, secret_file: key }} ]\n"
        );
        std::fs::write(folder.path().join("config.yaml"), config).unwrap();
        let mut key = std::fs::OpenOptions::new();
        let key = key.write(true).create(true).mode(0o600);
        let mut key = key.open(folder.path().join("key")).unwrap();
        key.write_all(SECRET.as_bytes()).unwrap();
        Machine {
            folder,
            disks,
            generation: 0,
            untold: 0,
        }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where strace writes.
    pub fn calls(&self) -> PathBuf {
        self.folder.path().join("calls")
    }

    /// Starts the binary and waits until it is ready.
    pub fn start(&mut self) -> Running {
        let program = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let started = self.start_by(program);
        started.unwrap_or_else(|ended| panic!("{}: {}", ended.status, ended.log))
    }

    /// As [`Machine::start`], under strace. It may end before it is ready.
    pub fn start_with(&mut self, injection: &Injection<'_>) -> Result<Running, Ended> {
        // Of an earlier start.
        let _ = std::fs::remove_file(self.calls());
        let mut program = strace::command(injection, &self.calls());
        program.arg(env!("CARGO_BIN_EXE_tidegate"));
        self.start_by(program)
    }

    fn start_by(&mut self, mut program: Command) -> Result<Running, Ended> {
        let mut child = program
            .args(["origin", "--config"])
            .arg(self.folder.path().join("config.yaml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut addresses: Vec<SocketAddr> = Vec::new();
        let (mut generation, mut is_ready) = (None, false);
        while !is_ready && let Some(Ok(line)) = lines.next() {
            let told = |name| {
                let (_, rest) = line.split_once(name)?;
                rest.split_whitespace().next()
            };
            if line.contains("listening for") {
                addresses.push(told("address=").unwrap().parse().unwrap());
            }
            generation = generation.or_else(|| told("store opened generation=")?.parse().ok());
            is_ready = line.ends_with("ready");
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
        match generation {
            Some(generation) => (self.generation, self.untold) = (generation, 0),
            None => self.untold += 1,
        }
        let (true, [address, admin]) = (is_ready, addresses.as_slice()) else {
            let status = child.wait().unwrap();
            let log = std::mem::take(&mut *log.lock().unwrap());
            return Err(Ended { status, log });
        };
        let more = Arc::clone(&log);
        // Read on, or the process would wait for somebody to.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = more.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Ok(Running {
            child,
            address: *address,
            admin: *admin,
            lock: self.data().join("LOCK"),
            log,
        })
    }

    /// The names of such files, as far as they can be known before the next start.
    pub fn paths(&self, file: File) -> Vec<String> {
        let data = self.data();
        let meta = |names: &[&str]| {
            names
                .iter()
                .map(|name| data.join("meta").join(name))
                .collect()
        };
        let on_disks = |names: Vec<String>| -> Vec<PathBuf> {
            let disks = self.disks.iter();
            let on = |disk: &&str| {
                names
                    .iter()
                    .map(|name| data.join(disk).join(name))
                    .collect()
            };
            disks.map(on).collect::<Vec<Vec<PathBuf>>>().concat()
        };
        let next = self.generation + 1..=self.generation + 1 + self.untold;
        let paths: Vec<PathBuf> = match file {
            File::Any => Vec::new(),
            File::Database => meta(&["tg.db"]),
            File::Log => meta(&["tg.db-wal"]),
            File::Metadata => meta(&["tg.db", "tg.db-wal", "tg.db-shm"]),
            File::Upload => {
                let ids = next.flat_map(|generation| {
                    (0..NUMBERS).map(move |number| generation << 40 | number)
                });
                on_disks(ids.map(|id| format!("tmp/{id:016x}")).collect())
            }
            File::BlobFolder => {
                on_disks((0..=255).map(|shard| format!("big/{shard:02x}")).collect())
            }
            File::Pack => {
                let packs = next.flat_map(|generation| {
                    (0..3).map(move |number| format!("pack/{generation:06x}/{number:010x}.pack"))
                });
                on_disks(packs.collect())
            }
            File::PackFolder => {
                let folders = next.map(|generation| format!("pack/{generation:06x}"));
                on_disks(folders.collect())
            }
            File::All => {
                let parts = [File::Metadata, File::Upload, File::Pack, File::PackFolder];
                return parts.iter().flat_map(|part| self.paths(*part)).collect();
            }
        };
        let paths = paths.into_iter().map(|path| path.into_os_string());
        paths.map(|path| path.into_string().unwrap()).collect()
    }

    /// What `tidegate origin verify` sees: everything is read, and nothing may be wrong.
    pub fn verify(&mut self) -> Seen {
        struct Told(Vec<String>);
        impl Listener for Told {
            fn found(&mut self, finding: &Finding) {
                self.0.push(finding.to_string());
            }
            fn seen(&mut self, _: &Seen) {}
        }
        let mut told = Told(Vec::new());
        self.untold += 1;
        let mut config = config(&self.data());
        config.cold = self.disks.contains(&COLD).then(|| ColdDisks {
            disks: vec![StoreDisk {
                path: self.data().join(COLD),
            }],
            redundancy: Redundancy::None,
        });
        let seen = runtime().block_on(check(&config, &mut told));
        let seen = seen.unwrap();
        assert!(told.0.is_empty() && seen.findings == 0, "{:?}", told.0);
        assert_eq!(seen.foreign_files, 0);
        seen
    }

    /// Bytes of files below one of the blobs' folders on all disks: `big`, `tmp` or `pack`.
    pub fn bytes_in(&self, folder: &str) -> u64 {
        fn bytes_below(folder: &Path) -> u64 {
            let entries = std::fs::read_dir(folder).unwrap();
            let bytes = entries.map(|entry| {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true => bytes_below(&entry.path()),
                    false => entry.metadata().unwrap().len(),
                }
            });
            bytes.sum()
        }
        let disks = self.disks.iter();
        disks
            .map(|disk| bytes_below(&self.data().join(disk).join(folder)))
            .sum()
    }
}

impl Ended {
    pub fn is_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }
}

impl Drop for Running {
    /// A test that fails leaves no process behind.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

impl Running {
    /// The process itself: a tracer is another one.
    fn signal(&self, signal: Signal) {
        let pid = std::fs::read_to_string(&self.lock).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        // It may have ended.
        let _ = kill_process(pid, signal);
    }

    /// Kills it; [`Running::ended`] waits until it is gone.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Waits until it has been killed. One that ends by itself was not.
    pub fn ended(mut self) {
        let status = self.child.wait().unwrap();
        let log = self.log.lock().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}: {log}");
    }

    /// Stops it as an operator does.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        let log = self.log.lock().unwrap();
        assert!(status.success(), "{status}: {log}");
    }

    /// What it has said.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Does a job now. `None` when the process is gone.
    pub fn run_job(admin: SocketAddr, job: &str) -> Option<String> {
        let body = format!("{{\"run\": \"{job}\"}}");
        let mut stream = TcpStream::connect(admin).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let request = format!(
            "POST /origin/jobs HTTP/1.1\r\nhost: {admin}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    }
}
