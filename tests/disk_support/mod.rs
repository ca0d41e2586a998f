//! What the suites of the disk tier share: bodies that tell where they belong, an origin that serves
//! them, nodes on a folder that outlives them, and a file system of the test's own.

// Each suite compiles this module for itself and uses a part of it.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{AnsweringOrigin, Edge, Origin, Request, Samples, Setup, within};

pub const KIB: usize = 1024;

/// Bodies up to this length are kept in one piece.
pub const BLOCK: usize = 256 * KIB;

/// A body of several blocks, the last of them short.
pub const LARGE: usize = 1300 * KIB;

/// Numbers from a seed (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The body of `target`, `/<length>/…`, at `version`, for clients that speak `language`: no eight
/// bytes of it occur in another one.
pub fn body(target: &str, version: usize, language: &str) -> Vec<u8> {
    let length = target.split('/').nth(1).and_then(|text| text.parse().ok());
    let length: usize = length.unwrap_or_else(|| panic!("{target} names no length"));
    let label = format!("{target} {version} {language}");
    let mut seed = 0xcbf2_9ce4_8422_2325_u64;
    for byte in label.bytes() {
        seed = (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut dice = Dice(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(dice.number().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The first version of a body that does not vary.
pub fn first_body(target: &str) -> Vec<u8> {
    body(target, 1, "")
}

/// Records that the disk tier makes of a body.
pub fn records_of(target: &str) -> usize {
    let blocks = first_body(target).len().div_ceil(BLOCK);
    if blocks > 1 { 1 + blocks } else { 1 }
}

/// An origin of everything, and the version that it serves now.
pub struct Library {
    pub origin: AnsweringOrigin,
    version: Arc<AtomicUsize>,
}

impl Library {
    pub async fn open() -> Self {
        let version = Arc::new(AtomicUsize::new(1));
        let now = version.clone();
        let answer = move |request: &Request| answer(request, now.load(Ordering::SeqCst));
        Library {
            origin: Origin::start().await.answering(answer),
            version,
        }
    }

    /// Everything has changed.
    pub fn change(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// An edge before it whose cache lies in `disk`.
    pub fn edge(&self, memory: &'static str, disk: &Path) -> Setup {
        Setup {
            memory,
            cache: format!("disk: {{ path: {disk:?}, size: 64MiB, segment: 1MiB }}"),
            ..Setup::of([self.origin.address])
        }
    }
}

/// Fresh for an hour. `…/vary` varies by language, `…/aged` was old when it came.
fn answer(request: &Request, version: usize) -> Vec<u8> {
    if !matches!(request.method(), "GET" | "HEAD") {
        return b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    }
    let target = request.target();
    let etag = format!("\"v{version}\"");
    let mut fields = format!("Cache-Control: max-age=3600\r\nETag: {etag}\r\nX-Of: {target}\r\n");
    let mut language = "";
    if target.ends_with("/vary") {
        fields += "Vary: Accept-Language\r\n";
        language = request.field("accept-language").unwrap_or("");
    }
    if target.ends_with("/aged") {
        fields += "Age: 100\r\n";
    }
    fields += &format!("Cache-Tag: all, {target}\r\n");
    if request.field("if-none-match") == Some(&etag) {
        return format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n").into_bytes();
    }
    let whole = body(target, version, language);
    let is_current = request.field("if-range").is_none_or(|tag| tag == etag);
    let (status, part) = match request.field("range").filter(|_| is_current) {
        Some(range) => {
            let (start, end) = range
                .strip_prefix("bytes=")
                .and_then(|range| range.split_once('-'))
                .unwrap_or_else(|| panic!("the edge asks for {range}"));
            let start: usize = start.parse().unwrap();
            let last = end.parse().unwrap_or(usize::MAX).min(whole.len() - 1);
            let length = whole.len();
            fields += &format!("Content-Range: bytes {start}-{last}/{length}\r\n");
            ("206 Partial Content", &whole[start..=last])
        }
        None => ("200 OK", &whole[..]),
    };
    let length = part.len();
    let mut answer =
        format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n").into_bytes();
    answer.extend_from_slice(part);
    answer
}

/// Waits until the metrics are as they should be, and gives them.
pub async fn shown(edge: &Edge, what: &str, are: impl Fn(&Samples) -> bool) -> Samples {
    within(what, async {
        loop {
            let metrics = edge.metrics().await;
            if are(&metrics) {
                return metrics;
            }
        }
    })
    .await
}

/// Waits until the disk tier holds `records`, and nothing waits to be written. As long as it takes, if only more
/// has been written whenever one event has been waited for: a disk may be slow, and one on purpose.
pub async fn written(edge: &Edge, records: usize) -> Samples {
    let what = format!("more of {records} records on disk");
    let state = |metrics: &Samples| {
        let queued = metrics.sum("tidegate_cache_disk_queued_bytes", &[]);
        let held = metrics.sum("tidegate_cache_objects", &[r#"tier="disk""#]);
        (queued, held)
    };
    let mut metrics = edge.metrics().await;
    loop {
        let (queued, held) = state(&metrics);
        if queued == 0.0 && held >= records as f64 {
            return metrics;
        }
        let is_nearer = |(now_queued, now_held)| now_queued < queued || now_held > held;
        metrics = shown(edge, &what, |metrics| is_nearer(state(metrics))).await;
    }
}

/// Waits until all that lies in the folder of a node that has just been started is known.
pub async fn recovered(edge: &Edge) -> Samples {
    shown(edge, "the disk tier knows all that it holds", |metrics| {
        metrics.sum("tidegate_cache_disk_recovering", &[]) == 0.0
    })
    .await
}

/// Body bytes that were answered from `source`.
pub fn bytes_from(metrics: &Samples, source: &str) -> usize {
    let label = format!("source={source:?}");
    metrics.sum("tidegate_response_bytes_total", &[&label]) as usize
}

/// Waits until the `total` body bytes of all answers so far have been counted, which may happen after
/// they have arrived, and gives those from disk, memory and origin.
pub async fn counted(edge: &Edge, total: usize) -> [usize; 3] {
    let sources = ["disk", "memory", "origin"];
    let of = |metrics: &Samples| sources.map(|source| bytes_from(metrics, source));
    let what = format!("{total} bytes counted");
    let all = |metrics: &Samples| of(metrics).iter().sum::<usize>() >= total;
    of(&shown(edge, &what, all).await)
}

/// Whether the disk tier is well.
pub fn is_up(metrics: &Samples) -> bool {
    metrics.sum("tidegate_cache_disk_up", &[]) == 1.0
}

/// Ends a node as a crash does: SIGKILL, at once.
pub fn crash(edge: Edge) {
    drop(edge);
}

/// Runs the test `name` of this suite again, where it may mount file systems, and says whether
/// that is where we are now. Prints why the test is skipped when this machine does not allow it.
pub fn in_own_mounts(name: &str) -> bool {
    let ways = [&["--user", "--map-root-user", "--mount"][..], &["--mount"]];
    match own_mounts(name, &ways, "mount -t tmpfs tmpfs /tmp") {
        Mounts::Own => true,
        Mounts::Elsewhere => false,
        Mounts::Refused => {
            println!("skipped: {name} needs unshare(1) and mount(8) with the right to use them");
            false
        }
    }
}

/// Where a test is run.
pub enum Mounts {
    /// Where it may mount what it asked for.
    Own,
    /// It has been run again where it may.
    Elsewhere,
    /// This machine does not allow it.
    Refused,
}

/// Runs the test `name` of this suite again where `probe`, a shell command, succeeds: in mounts of its
/// own, made by unshare(1) in the first of these ways that allows it.
pub fn own_mounts(name: &str, ways: &[&[&str]], probe: &str) -> Mounts {
    const MARK: &str = "TIDEGATE_TEST_OWN_MOUNTS";
    if std::env::var_os(MARK).is_some() {
        return Mounts::Own;
    }
    let unshare = |way: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(way).stdin(Stdio::null());
        command
    };
    let is_allowed = |way: &&&[&str]| {
        let mut command = unshare(way);
        command.args(["sh", "-ec", probe]);
        let output = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        output.is_ok_and(|status| status.success())
    };
    let Some(way) = ways.iter().find(is_allowed) else {
        return Mounts::Refused;
    };
    let status = unshare(way)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(MARK, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name} in its own mounts: {status}");
    Mounts::Elsewhere
}

/// Mounts, or mounts anew with other options, a small file system.
pub fn mount(options: &str, at: &Path) {
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(at)
        .status()
        .unwrap();
    assert!(status.success(), "mount {options}: {status}");
}
