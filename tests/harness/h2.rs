//! HTTP/2 frame by frame, so that a test can send what no library would.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::tls::TlsClient;
use super::within;

/// Frame types (RFC 9113 §6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// ENHANCE_YOUR_CALM (RFC 9113 §7).
pub const CALM: u32 = 0xb;

/// One frame.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a GOAWAY.
    pub fn goaway_code(&self) -> Option<u32> {
        let code = self.payload.get(4..8)?.try_into().ok()?;
        (self.kind == kind::GOAWAY).then(|| u32::from_be_bytes(code))
    }
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A block of fields, each literal, with its name, and without Huffman coding (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fn string(bytes: &mut Vec<u8>, text: &str) {
        // An integer with a prefix of seven bits.
        match text.len() {
            length @ 0..=126 => bytes.push(length as u8),
            length => {
                bytes.push(127);
                let mut rest = length - 127;
                while rest >= 128 {
                    bytes.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                bytes.push(rest as u8);
            }
        }
        bytes.extend(text.as_bytes());
    }
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        string(&mut bytes, name);
        string(&mut bytes, value);
    }
    bytes
}

/// A connection after the prefaces.
pub struct H2Client {
    pub stream: TlsStream<TcpStream>,
    next_stream: u32,
}

impl H2Client {
    /// Connects, and sends the preface with empty SETTINGS.
    pub async fn connect(client: &TlsClient, address: SocketAddr, name: &'static str) -> Self {
        let mut stream = client.connect(address, name).await;
        let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        preface.extend(frame(kind::SETTINGS, 0, 0, &[]));
        stream.write_all(&preface).await.unwrap();
        H2Client {
            stream,
            next_stream: 1,
        }
    }

    /// The number of a new stream.
    pub fn open(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        stream
    }

    /// A GET of `path` from `authority`, on a stream of its own.
    pub fn get(&mut self, authority: &str, path: &str) -> (u32, Vec<u8>) {
        let stream = self.open();
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", authority),
            (":path", path),
        ];
        let flags = END_STREAM | END_HEADERS;
        let bytes = frame(kind::HEADERS, flags, stream, &block(&fields));
        (stream, bytes)
    }

    /// Sends bytes to a peer that may close before it has read them all; says whether it took them.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        within("the edge takes or refuses frames", sent)
            .await
            .is_ok()
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        let read = async {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            Some(Frame {
                kind: head[3],
                flags: head[4],
                stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
                payload,
            })
        };
        within("a frame", read).await
    }

    /// All frames up to the one that ends `stream`, or the connection.
    pub async fn until_end_of(&mut self, stream: u32) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            let is_end = match frame.kind {
                kind::DATA | kind::HEADERS => frame.flags & END_STREAM != 0,
                kind::RST_STREAM => true,
                _ => false,
            };
            let is_last = frame.kind == kind::GOAWAY || (frame.stream == stream && is_end);
            frames.push(frame);
            if is_last {
                break;
            }
        }
        frames
    }

    /// The body that comes on `stream`, up to its end.
    pub async fn body_of(&mut self, stream: u32) -> Vec<u8> {
        let frames = self.until_end_of(stream).await;
        let data = frames
            .into_iter()
            .filter(|frame| frame.kind == kind::DATA && frame.stream == stream);
        data.flat_map(|frame| frame.payload).collect()
    }

    /// The error code with which the edge ends the connection; `None` when it says none.
    pub async fn goaway(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            code = frame.goaway_code().or(code);
        }
        code
    }
}
