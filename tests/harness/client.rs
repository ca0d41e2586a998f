//! A raw HTTP/1.1 client: sends the test's bytes and reads exactly one response at a time.

use std::fmt;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// A connection to the edge.
pub struct Client {
    stream: TcpStream,
    /// Read from the stream and not yet taken.
    buffer: Vec<u8>,
}

/// A whole response.
#[derive(Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Status line and fields, with the empty line.
    pub head: String,
    /// The body without its framing.
    pub body: Vec<u8>,
}

/// The connection ended before the response did.
#[derive(Debug)]
pub struct Short {
    /// Everything that came.
    pub bytes: Vec<u8>,
}

impl Response {
    /// The value of the first field line `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.split("\r\n").skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Whether `Cache-Status` says that a stored response answered (RFC 9211).
    pub fn is_hit(&self) -> bool {
        self.cache_status().starts_with("tidegate; hit")
    }

    /// `Cache-Status`, which every answer of the edge carries.
    pub fn cache_status(&self) -> &str {
        self.field("cache-status")
            .unwrap_or_else(|| panic!("no Cache-Status in {self:?}"))
    }

    fn framing(&self, method: &str) -> Framing {
        let bodyless = method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304);
        if bodyless {
            return Framing::Length(0);
        }
        if let Some(coding) = self.field("transfer-encoding") {
            assert_eq!(coding, "chunked");
            return Framing::Chunked;
        }
        match self.field("content-length") {
            Some(length) => Framing::Length(length.parse().unwrap()),
            None => Framing::UntilClose,
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(200)];
        write!(f, "{}{}", self.head, String::from_utf8_lossy(shown))
    }
}

enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await;
        Client {
            stream: stream.unwrap(),
            buffer: Vec::new(),
        }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.stream.write_all(bytes.as_ref());
        within("the edge takes what the client sends", sent)
            .await
            .unwrap();
    }

    /// Sends bytes to a peer that may close before it has read them all.
    pub async fn send_regardless(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.stream.write_all(bytes.as_ref());
        within("the edge takes or refuses what the client sends", sent)
            .await
            .ok();
    }

    /// Says that nothing more will be sent.
    pub async fn end_sending(&mut self) {
        self.stream.shutdown().await.ok();
    }

    /// A GET with no field but `Host`.
    pub async fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, "").await
    }

    /// A request without body; `fields` are whole lines that end in CRLF.
    pub async fn request(&mut self, method: &str, path: &str, fields: &str) -> Response {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: media.example\r\n{fields}\r\n");
        self.send(head).await;
        self.response(method).await
    }

    /// The response to a request with `method`.
    pub async fn response(&mut self, method: &str) -> Response {
        match self.try_response(method).await {
            Ok(response) => response,
            Err(short) => panic!("short: {}", String::from_utf8_lossy(&short.bytes)),
        }
    }

    /// The response to a request with `method`, or what came of it before the connection ended.
    pub async fn try_response(&mut self, method: &str) -> Result<Response, Short> {
        let mut response = self.try_head().await?;
        match response.framing(method) {
            Framing::Length(length) => response.body = self.take(length).await?,
            Framing::Chunked => response.body = self.chunked().await?,
            Framing::UntilClose => response.body = self.until_close().await,
        }
        Ok(response)
    }

    /// The head of the next response; its body is left to be read.
    pub async fn head(&mut self) -> Response {
        self.try_head().await.unwrap()
    }

    async fn try_head(&mut self) -> Result<Response, Short> {
        let head = self.take_until(b"\r\n\r\n").await?;
        let head = String::from_utf8(head).unwrap();
        let status = head
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("not a status line: {head}"));
        Ok(Response {
            status,
            head,
            body: Vec::new(),
        })
    }

    /// Exactly `count` bytes, as they are on the wire.
    pub async fn read(&mut self, count: usize) -> Vec<u8> {
        self.take(count).await.unwrap()
    }

    /// Everything up to the end of the connection; a reset ends it as well.
    pub async fn until_close(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    async fn chunked(&mut self) -> Result<Vec<u8>, Short> {
        let mut body = Vec::new();
        loop {
            let line = self.take_until(b"\r\n").await?;
            let size = std::str::from_utf8(&line).unwrap().trim_end();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                while self.take_until(b"\r\n").await? != b"\r\n" {}
                return Ok(body);
            }
            body.extend(self.take(size).await?);
            assert_eq!(self.take(2).await?, b"\r\n");
        }
    }

    async fn take(&mut self, count: usize) -> Result<Vec<u8>, Short> {
        while self.buffer.len() < count {
            if !self.more().await {
                return Err(self.short());
            }
        }
        let rest = self.buffer.split_off(count);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn take_until(&mut self, end: &[u8]) -> Result<Vec<u8>, Short> {
        loop {
            let found = self.buffer.windows(end.len()).position(|part| part == end);
            if let Some(start) = found {
                return self.take(start + end.len()).await;
            }
            if !self.more().await {
                return Err(self.short());
            }
        }
    }

    fn short(&mut self) -> Short {
        Short {
            bytes: std::mem::take(&mut self.buffer),
        }
    }

    /// Reads something; false at the end of the connection.
    async fn more(&mut self) -> bool {
        let mut part = [0; 16 * 1024];
        let read = within("bytes at the client", self.stream.read(&mut part)).await;
        match read {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&part[..count]);
                true
            }
        }
    }
}
