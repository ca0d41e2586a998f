//! The store is killed in the middle of writes, again and again, and opened again: what it acknowledged is there byte
//! for byte, what it did not is there whole or not at all, and no bytes stay on disk that nobody names.
//!
//! `STORE_KILLS` says how often (30); `STORE_SEED` repeats a run.

mod origin_support;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use origin_support::{Call, Dice, KEY_ID, SECRET, element, folder, receive, send};

const WRITERS: u64 = 4;
const KEYS: u64 = 12;
/// Inline, packed, packed in several blocks, a file, and several parts.
const SIZES: [usize; 5] = [100, 20_000, 200_000, 1_300_000, 0];

/// The real binary, killed when dropped.
struct Killable {
    child: Child,
    address: SocketAddr,
}

impl Killable {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["origin", "--config"])
            .arg(folder.join("config.yaml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map(|line| line.unwrap())
            .find_map(|line| {
                let (_, rest) = line.split_once("listening for S3 address=")?;
                rest.split_whitespace().next()?.parse().ok()
            })
            .expect("a line with the address");
        // Read on, or the process would wait for somebody to.
        std::thread::spawn(move || lines.for_each(drop));
        Killable { child, address }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What a key may hold: the last acknowledged bytes, or those of the one write after it whose answer never came.
#[derive(Clone, Default)]
struct Expected {
    acknowledged: Option<Vec<u8>>,
    unanswered: Option<Option<Vec<u8>>>,
}

fn content(marker: u64, size: usize) -> Vec<u8> {
    let mut dice = Dice(marker);
    (0..size).map(|_| dice.roll(256) as u8).collect()
}

/// A request whose answer may never come.
fn ask(address: SocketAddr, call: &Call<'_>) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .ok()?;
    send(&mut stream, &call.head(address), call.body)?;
    receive(&mut stream, call.method)
}

/// Puts bytes in two parts, the first of which is as small as S3 lets it be.
fn put_parts(address: SocketAddr, target: &str, bytes: &[u8]) -> Option<u16> {
    let (status, document) = ask(
        address,
        &Call::new("POST", &format!("{target}?uploads")).empty(),
    )?;
    assert_eq!(status, 200, "{document}");
    let id = element(&document, "UploadId").unwrap();
    let mut list = String::new();
    for (number, part) in [(1, &bytes[..5 << 20]), (2, &bytes[5 << 20..])] {
        let part_target = format!("{target}?partNumber={number}&uploadId={id}");
        let (status, document) = ask(address, &Call::new("PUT", &part_target).body(part))?;
        assert_eq!(status, 200, "{document}");
        let etag = hex::encode(<md5::Md5 as md5::Digest>::digest(part));
        list.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        ));
    }
    let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    let target = format!("{target}?uploadId={id}");
    let call = Call::new("POST", &target).body(list.as_bytes());
    let (status, document) = ask(address, &call)?;
    assert_eq!(status, 200, "{document}");
    Some(status)
}

/// Writes and deletes keys of its own until the store is gone.
fn write(
    address: SocketAddr,
    writer: u64,
    seed: u64,
    state: &Mutex<HashMap<String, Expected>>,
    acknowledged: &AtomicU64,
) {
    let mut dice = Dice(seed ^ (writer << 32));
    for turn in 0u64.. {
        let key = format!("/films/{writer}-{}", dice.roll(KEYS));
        let size = SIZES[dice.roll(SIZES.len() as u64) as usize];
        let wanted = match dice.roll(8) {
            0 => None,
            // Parts are large, so there are few of them.
            1 if dice.roll(6) == 0 => Some(content(seed ^ turn, (5 << 20) + 3000)),
            _ => Some(content(seed ^ turn ^ writer, size)),
        };
        let set = |change: &dyn Fn(&mut Expected)| {
            change(state.lock().unwrap().entry(key.clone()).or_default());
        };
        set(&|expected| expected.unanswered = Some(wanted.clone()));
        let status = match &wanted {
            None => ask(address, &Call::new("DELETE", &key)).map(|(status, _)| status),
            Some(bytes) if bytes.len() > 5 << 20 => put_parts(address, &key, bytes),
            Some(bytes) => {
                ask(address, &Call::new("PUT", &key).body(bytes)).map(|(status, _)| status)
            }
        };
        match status {
            Some(200 | 204) => {
                set(&|expected| {
                    expected.acknowledged = wanted.clone();
                    expected.unanswered = None;
                });
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Some(status) => panic!("{key}: {status}"),
            None => return,
        }
    }
}

fn get(address: SocketAddr, key: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).unwrap();
    send(&mut stream, &Call::new("GET", key).head(address), b"").unwrap();
    let mut client = origin_support::Client::over(stream);
    let response = client.response("GET");
    match response.status {
        200 => {
            assert!(response.complete, "{key} breaks off");
            Some(response.body)
        }
        404 => None,
        status => panic!("{key}: {status} {}", response.text()),
    }
}

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let kills = number("STORE_KILLS", 30);
    let seed = number("STORE_SEED", u64::from(std::process::id()));
    println!("STORE_SEED={seed}");
    let data = folder();
    let config = format!(
        "admin: {{ address: 127.0.0.1:0 }}\norigin:\n  address: 127.0.0.1:0\n  data: data\n  \
         credentials: [ {{ access_key_id: {KEY_ID}, secret_file: key }} ]\n"
    );
    std::fs::write(data.path().join("config.yaml"), config).unwrap();
    let mut key = std::fs::OpenOptions::new();
    let mut key = std::os::unix::fs::OpenOptionsExt::mode(key.write(true).create(true), 0o600)
        .open(data.path().join("key"))
        .unwrap();
    key.write_all(SECRET.as_bytes()).unwrap();
    let state: Mutex<HashMap<String, Expected>> = Mutex::default();
    let mut dice = Dice(seed);
    let mut total = 0;
    let began = Instant::now();
    for kill in 0..kills {
        let store = Killable::start(data.path());
        let address = store.address;
        if kill == 0 {
            assert_eq!(ask(address, &Call::new("PUT", "/films")).unwrap().0, 200);
        }
        check(address, &state);
        let acknowledged = AtomicU64::new(0);
        let enough = dice.roll(60);
        std::thread::scope(|scope| {
            let (state, acknowledged) = (&state, &acknowledged);
            for writer in 0..WRITERS {
                let seed = seed ^ (kill << 16);
                scope.spawn(move || write(address, writer, seed, state, acknowledged));
            }
            // Somewhere in the middle of what comes after so many answers.
            while acknowledged.load(Ordering::Relaxed) < enough {
                std::thread::yield_now();
            }
            store.kill();
        });
        total += acknowledged.into_inner();
    }
    let store = Killable::start(data.path());
    check(store.address, &state);
    store.kill();
    println!(
        "{kills} kills, {total} acknowledged writes, {:?}",
        began.elapsed()
    );
}

/// Compares every key, and takes what an unanswered write came to for settled.
fn check(address: SocketAddr, state: &Mutex<HashMap<String, Expected>>) {
    let mut state = state.lock().unwrap();
    for (key, expected) in state.iter_mut() {
        let found = get(address, key);
        let is_acknowledged = found == expected.acknowledged;
        let is_unanswered = expected.unanswered.as_ref() == Some(&found);
        assert!(
            is_acknowledged || is_unanswered,
            "{key} holds {:?} bytes, acknowledged were {:?}, unanswered {:?}",
            found.as_ref().map(Vec::len),
            expected.acknowledged.as_ref().map(Vec::len),
            expected
                .unanswered
                .as_ref()
                .map(|u| u.as_ref().map(Vec::len)),
        );
        *expected = Expected {
            acknowledged: found,
            unanswered: None,
        };
    }
}
