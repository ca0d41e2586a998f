//! An origin that writes down what it is sent, read by a parser of its own that forgives nothing.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as the origin read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The request target.
    pub target: String,
    /// The body, as far as it came.
    pub body: Vec<u8>,
    /// The body came to its end.
    pub whole: bool,
    /// What a strict server would not take.
    pub faults: Vec<String>,
    /// The whole head.
    pub head: String,
}

/// The origin. It answers every request with 200 and a body of two bytes; `/switch` with 101.
pub struct Recorder {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Recorder {
    /// A recorder on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                connections.spawn(serve(stream, Arc::clone(&record)));
            }
        });
        Recorder {
            address,
            seen,
            server,
        }
    }

    /// All requests so far, in the order of their beginnings.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(mut stream: TcpStream, record: Arc<Mutex<Vec<Seen>>>) -> Option<()> {
    loop {
        let head = read_until(&mut stream, b"\r\n\r\n").await?;
        let (seen, framing) = parse(head);
        let (index, is_head, switches) = {
            let mut all = record.lock().unwrap();
            let (is_head, switches) = (seen.method == "HEAD", seen.target == "/switch");
            all.push(seen);
            (all.len() - 1, is_head, switches)
        };
        let note = |part: &[u8]| record.lock().unwrap()[index].body.extend_from_slice(part);
        let fault = |what: &str| record.lock().unwrap()[index].faults.push(what.to_owned());
        match framing {
            Framing::None => {}
            Framing::Length(length) => {
                for _ in 0..length {
                    note(&[stream.read_u8().await.ok()?]);
                }
            }
            Framing::Chunked => loop {
                let line = read_until(&mut stream, b"\r\n").await?;
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                let Ok(size) = usize::from_str_radix(&line, 16) else {
                    fault("chunk size");
                    return None;
                };
                let mut chunk = vec![0; size + 2];
                stream.read_exact(&mut chunk).await.ok()?;
                if !chunk.ends_with(b"\r\n") {
                    fault("chunk end");
                    return None;
                }
                note(&chunk[..size]);
                if size == 0 {
                    break;
                }
            },
        }
        record.lock().unwrap()[index].whole = true;
        let answer: &[u8] = if switches {
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        } else if is_head {
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\n"
        } else {
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok"
        };
        stream.write_all(answer).await.ok()?;
        if switches {
            while let Ok(byte) = stream.read_u8().await {
                note(&[byte]);
            }
            return None;
        }
    }
}

enum Framing {
    None,
    Length(u64),
    Chunked,
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        bytes.push(stream.read_u8().await.ok()?);
    }
    Some(bytes)
}

fn parse(head: Vec<u8>) -> (Seen, Framing) {
    let mut faults = Vec::new();
    let head = String::from_utf8(head).unwrap_or_else(|error| {
        faults.push("head is not text".to_owned());
        String::from_utf8_lossy(error.as_bytes()).into_owned()
    });
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let line: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    if line.len() != 3 || line[2] != "HTTP/1.1" || !line[1].starts_with('/') {
        faults.push(format!("request line {line:?}"));
    }
    let (mut hosts, mut lengths, mut codings) = (Vec::new(), Vec::new(), Vec::new());
    for field in lines {
        let Some((name, value)) = field.split_once(": ") else {
            faults.push(format!("field {field:?}"));
            continue;
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !name.bytes().all(plain) || value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
            faults.push(format!("field {field:?}"));
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts.push(value),
            "content-length" => lengths.push(value),
            "transfer-encoding" => codings.push(value),
            "te" | "keep-alive" | "trailer" | "proxy-connection" | "http2-settings" => {
                faults.push(format!("hop-by-hop field {field:?}"));
            }
            _ => {}
        }
    }
    if hosts.len() != 1 {
        faults.push(format!("hosts {hosts:?}"));
    }
    let framing = match (&lengths[..], &codings[..]) {
        ([], []) => Framing::None,
        ([length], []) => match length.parse() {
            Ok(length) => Framing::Length(length),
            Err(_) => {
                faults.push(format!("length {length:?}"));
                Framing::None
            }
        },
        ([], ["chunked"]) => Framing::Chunked,
        _ => {
            faults.push(format!("framing {lengths:?} {codings:?}"));
            Framing::None
        }
    };
    let word = |number: usize| line.get(number).copied().unwrap_or_default().to_owned();
    let seen = Seen {
        method: word(0),
        target: word(1),
        body: Vec::new(),
        whole: false,
        faults,
        head: head.clone(),
    };
    (seen, framing)
}
