//! A store on a free port and a client that says exactly what a test wants said.

#![allow(
    dead_code,
    reason = "each test binary uses its own part of this support"
)]

pub mod accounts;
pub mod load;
pub mod machine;
pub mod strace;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use tempfile::TempDir;
use tidegate::clock::{SharedClock, SystemClock};
use tidegate::config::{Credential, Origin, Redundancy, Rights, Scrub};
use tidegate::origin::disk::{Disk, RealDisk};
use tidegate::origin::{OpenError, Store, serve};
use tidegate::secret::Secret;
use tidegate::signing::{AuthorizeSpec, PresignSpec, authorize_headers, presign};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const KEY_ID: &str = "demo";
pub const SECRET: &str = "a-secret-of-the-tests";
pub const REGION: &str = "us-east-1";
/// Under which hosts name buckets.
pub const DOMAIN: &str = "s3.example";
/// Ends a test that would otherwise wait for ever; no test depends on it passing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers: the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

pub fn config(data: &Path) -> Origin {
    Origin {
        address: "127.0.0.1:0".parse().unwrap(),
        data: data.to_owned(),
        disks: Vec::new(),
        redundancy: Redundancy::None,
        cold: None,
        // Only what a test asks for.
        scrub: Scrub {
            bytes_per_second: None,
            pause: Duration::from_secs(3600),
        },
        region: REGION.to_owned(),
        domain: Some(DOMAIN.to_owned()),
        webhooks: Vec::new(),
        webhook_ca_file: None,
        purge: Vec::new(),
        credentials: vec![Credential {
            access_key_id: KEY_ID.to_owned(),
            secret: Secret::new(SECRET),
            allow_sigv2: true,
            rights: Rights::default(),
        }],
    }
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// A store that is being served.
pub struct Server {
    pub address: SocketAddr,
    pub store: Store,
    pub runtime: Runtime,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

impl Server {
    pub fn start(data: &Path) -> Server {
        Server::try_start(data, SystemClock::shared(), Arc::new(RealDisk)).unwrap()
    }

    pub fn try_start(
        data: &Path,
        clock: SharedClock,
        disk: Arc<dyn Disk>,
    ) -> Result<Server, OpenError> {
        Server::with(&config(data), clock, disk)
    }

    pub fn with(
        config: &Origin,
        clock: SharedClock,
        disk: Arc<dyn Disk>,
    ) -> Result<Server, OpenError> {
        let runtime = runtime();
        let store = runtime.block_on(Store::open_on(config, clock, disk))?;
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a free port");
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let served = runtime.spawn(serve(store.clone(), listener, stopped));
        Ok(Server {
            address,
            store,
            runtime,
            stop,
            served,
        })
    }

    pub fn ask_to_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Stops the way an operator does: requests in flight finish, then the store is closed.
    pub fn stop(self) {
        self.stop.send_replace(true);
        self.runtime.block_on(self.served).unwrap();
        self.runtime.block_on(self.store.close());
    }

    /// Stops the way a crash does, as far as one process can: nothing is closed, every task ends where it is.
    pub fn crash(self) {
        let Server { store, runtime, .. } = self;
        drop(store);
        drop(runtime);
    }

    pub fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            buffer: Vec::new(),
        }
    }

    /// One signed request on a connection of its own.
    pub fn call(&self, request: Call<'_>) -> Response {
        let mut client = self.client();
        client.send(&request.head(self.address), request.body);
        client.response(request.method)
    }

    pub fn get(&self, target: &str) -> Response {
        self.call(Call::new("GET", target))
    }

    pub fn put(&self, target: &str, body: &[u8]) -> Response {
        self.call(Call::new("PUT", target).body(body))
    }

    /// A presigned target.
    pub fn presign(&self, method: &str, path: &str, expires: Duration) -> String {
        self.presign_with(method, path, &[], expires)
    }

    /// A presigned target with further query parameters.
    pub fn presign_with(
        &self,
        method: &str,
        path: &str,
        query: &[(String, String)],
        expires: Duration,
    ) -> String {
        let now = SystemClock::shared().wall();
        self.presign_at(method, path, query, expires, now)
    }

    /// A presigned target, signed at some time.
    pub fn presign_at(
        &self,
        method: &str,
        path: &str,
        query: &[(String, String)],
        expires: Duration,
        now: SystemTime,
    ) -> String {
        let host = self.address.to_string();
        let spec = PresignSpec {
            method,
            host: &host,
            path,
            query,
            access_key_id: KEY_ID,
            region: REGION,
            expires,
        };
        presign(&spec, &Secret::new(SECRET), now).unwrap()
    }
}

/// A request to be signed in its headers.
#[derive(Clone)]
pub struct Call<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub fields: Vec<(String, String)>,
    pub payload: &'a str,
    pub body: &'a [u8],
    /// What `Content-Length` says; the body's length unless a test lies.
    pub length: Option<usize>,
}

impl<'a> Call<'a> {
    pub fn new(method: &'a str, target: &'a str) -> Self {
        Call {
            method,
            target,
            fields: Vec::new(),
            payload: "UNSIGNED-PAYLOAD",
            body: b"",
            length: (method == "PUT").then_some(0),
        }
    }

    pub fn body(mut self, body: &'a [u8]) -> Self {
        self.body = body;
        self.length = Some(body.len());
        self
    }

    /// With a body of no bytes.
    pub fn empty(mut self) -> Self {
        self.length = Some(0);
        self
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn payload(mut self, payload: &'a str) -> Self {
        self.payload = payload;
        self
    }

    pub fn head(&self, address: SocketAddr) -> String {
        let host = address.to_string();
        let mut headers = HeaderMap::new();
        for (name, value) in &self.fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        let spec = AuthorizeSpec {
            method: self.method,
            host: &host,
            path,
            query,
            headers: &headers,
            payload: self.payload,
            access_key_id: KEY_ID,
            region: REGION,
        };
        let now = SystemClock::shared().wall();
        let signature = authorize_headers(&spec, &Secret::new(SECRET), now).unwrap();
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: {host}\r\n",
            self.method, self.target
        );
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        for (name, value) in &signature {
            head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        if let Some(length) = self.length {
            head.push_str(&format!("content-length: {length}\r\n"));
        }
        head + "\r\n"
    }
}

/// Sends a request to somebody who may be gone.
pub fn send(stream: &mut TcpStream, head: &str, body: &[u8]) -> Option<()> {
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body was as long as its head promised.
    pub complete: bool,
}

impl Client {
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            buffer: Vec::new(),
        }
    }

    pub fn send(&mut self, head: &str, body: &[u8]) {
        self.stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses early may have closed; its answer is what the test looks at.
        let _ = self.stream.write_all(body);
    }

    fn fill(&mut self) -> usize {
        let mut chunk = [0; 64 * 1024];
        let read = self.stream.read(&mut chunk).unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..read]);
        read
    }

    /// Reads a response head; `None` when the connection ends first.
    pub fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        loop {
            let end = self.buffer.windows(4).position(|w| w == b"\r\n\r\n");
            if let Some(end) = end {
                let head = String::from_utf8(self.buffer[..end].to_vec()).unwrap();
                self.buffer.drain(..end + 4);
                let mut lines = head.split("\r\n");
                let status = lines.next().unwrap().split(' ').nth(1).unwrap();
                let fields = lines
                    .map(|line| line.split_once(": ").unwrap())
                    .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                    .collect();
                return Some((status.parse().unwrap(), fields));
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    pub fn body(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length && self.fill() > 0 {}
        let have = self.buffer.len().min(length);
        self.buffer.drain(..have).collect()
    }

    /// Reads a chunk of a chunked body, which is empty at its end; `None` when the connection ends first.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        while !size.ends_with("\r\n") {
            let byte = self.body(1);
            size.push(char::from(*byte.first()?));
        }
        let length = usize::from_str_radix(size.trim_end(), 16).unwrap();
        let chunk = self.body(length);
        let is_whole = chunk.len() == length && self.body(2) == b"\r\n";
        is_whole.then_some(chunk)
    }

    pub fn response(&mut self, method: &str) -> Response {
        self.answer(method).expect("a response")
    }

    /// A whole response, which may never come.
    pub fn try_response(&mut self, method: &str) -> Option<Response> {
        self.answer(method).filter(|response| response.complete)
    }

    fn answer(&mut self, method: &str) -> Option<Response> {
        let (status, fields) = self.head()?;
        let length = fields
            .iter()
            .find(|(name, _)| name == "content-length")
            .map_or(0, |(_, value)| value.parse().unwrap());
        let length = if method == "HEAD" || status == 304 {
            0
        } else {
            length
        };
        let body = self.body(length);
        Some(Response {
            status,
            complete: body.len() == length,
            fields,
            body,
        })
    }

    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.fill() == 0
    }
}

impl Response {
    pub fn field(&self, name: &str) -> &str {
        self.fields
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The code of an S3 error.
    pub fn code(&self) -> String {
        element(&self.text(), "Code").unwrap_or_default()
    }
}

/// The text of the first such element.
pub fn element(document: &str, name: &str) -> Option<String> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.to_owned())
}

/// Waits until there are so many files of blobs: they may be removed behind the answer.
pub fn blob_files_come_to(data: &Path, count: usize) {
    let began = Instant::now();
    while blob_files(data).len() != count {
        assert!(began.elapsed() < PATIENCE, "{:?}", blob_files(data));
        std::thread::yield_now();
    }
}

/// The files of the blob folder, unfinished uploads included.
pub fn blob_files(data: &Path) -> Vec<PathBuf> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&data.join("blobs"), &mut files);
    // What says whose the folders are is no blob, and a pack holds many.
    files.retain(|path| {
        !path.ends_with("identity") && path.extension().is_none_or(|end| end != "pack")
    });
    files.sort();
    files
}

pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Bytes that differ from block to block.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}
