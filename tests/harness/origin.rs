//! A scripted origin: hands every request to the test and sends what the test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::within;

/// An origin server whose every answer is the test's own.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    exchanges: mpsc::UnboundedReceiver<Exchange>,
    seen: Arc<Mutex<Vec<Request>>>,
    accepted: watch::Receiver<usize>,
    server: tokio::task::JoinHandle<()>,
}

/// The head of a request as the origin received it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Every byte up to and with the empty line.
    pub head: String,
}

impl Request {
    /// The method.
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    /// The request target.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// The value of the first field line `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).first().copied()
    }

    /// The values of all field lines `name`.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        let lines = self.head.split("\r\n").skip(1);
        let named = lines.filter_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        named.collect()
    }
}

impl Origin {
    /// An origin on a free port.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// An origin on `address`, from [`super::own_address`].
    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (exchange, exchanges) = mpsc::unbounded_channel();
        let (accept, accepted) = watch::channel(0);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let server = tokio::spawn(async move {
            // Dropped with the server, which closes every connection.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // What the test sends leaves at once, in pieces as small as the test likes.
                stream.set_nodelay(true).unwrap();
                accept.send_modify(|count| *count += 1);
                let (exchange, record) = (exchange.clone(), Arc::clone(&record));
                connections.spawn(serve(stream, exchange, record));
            }
        });
        Origin {
            address,
            exchanges,
            seen,
            accepted,
            server,
        }
    }

    /// The next request, waiting for its answer.
    pub async fn next(&mut self) -> Exchange {
        within("a request at the origin", self.exchanges.recv())
            .await
            .expect("the origin runs")
    }

    /// Answers the next request with `response` and keeps the connection.
    pub async fn answer(&mut self, response: impl AsRef<[u8]>) -> Request {
        let mut exchange = self.next().await;
        exchange.send(response).await;
        let request = exchange.request.clone();
        exchange.finish();
        request
    }

    /// Answers every request from now on by `script`; the answer's end must be clear from its
    /// own framing.
    pub fn answering<A: AsRef<[u8]> + Send + 'static>(
        mut self,
        script: impl Fn(&Request) -> A + Send + 'static,
    ) -> AnsweringOrigin {
        let (address, seen) = (self.address, Arc::clone(&self.seen));
        let accepted = self.accepted.clone();
        let task = tokio::spawn(async move {
            // An edge that does not take one answer may want another one.
            let mut answers = JoinSet::new();
            while let Some(mut exchange) = self.exchanges.recv().await {
                let answer = script(&exchange.request);
                answers.spawn(async move {
                    exchange.stream_mut().write_all(answer.as_ref()).await.ok();
                    exchange.finish();
                });
            }
            answers.join_all().await;
        });
        AnsweringOrigin {
            address,
            seen,
            accepted,
            task,
        }
    }

    /// How many requests have arrived so far.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An origin that answers by a script. Dropping it closes its listener and connections.
pub struct AnsweringOrigin {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    accepted: watch::Receiver<usize>,
    task: tokio::task::JoinHandle<()>,
}

impl AnsweringOrigin {
    /// How many requests have arrived so far.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// How many connections have been accepted so far.
    pub fn connections(&self) -> usize {
        *self.accepted.borrow()
    }

    /// The requests that have arrived so far.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until `count` connections have been accepted since the start.
    pub async fn accepted(&mut self, count: usize) {
        let event = self.accepted.wait_for(|accepted| *accepted >= count);
        within("connections at the origin", event).await.unwrap();
    }

    /// Stops: the listener and every connection are closed when this returns.
    pub async fn stop(self) {
        self.task.abort();
        // The sender of `accepted` lives in the server task, so its end is the server's end.
        let mut accepted = self.accepted.clone();
        within("the origin stops", async {
            while accepted.changed().await.is_ok() {}
        })
        .await;
    }
}

impl Drop for AnsweringOrigin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request at the origin and the connection to answer it on.
///
/// Dropping it closes the connection, with a short response if one has begun.
pub struct Exchange {
    /// The request's head.
    pub request: Request,
    stream: Option<TcpStream>,
    keep: Option<oneshot::Sender<TcpStream>>,
}

impl Exchange {
    fn stream_mut(&mut self) -> &mut TcpStream {
        self.stream.as_mut().expect("the exchange has not finished")
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let write = self
            .stream
            .as_mut()
            .expect("the exchange has not finished")
            .write_all(bytes.as_ref());
        within("the edge takes what the origin sends", write)
            .await
            .unwrap();
    }

    /// Sends bytes to an edge that may close before it has them all.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let write = self.stream_mut().write_all(bytes.as_ref());
        within("the edge takes or refuses what the origin sends", write)
            .await
            .ok();
    }

    /// Reads exactly `count` bytes of what follows the request's head.
    pub async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let read = self.stream_mut().read_exact(&mut bytes);
        within("body bytes at the origin", read).await.unwrap();
        bytes
    }

    /// Reads up to and with `end`.
    pub async fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end) {
            bytes.extend(self.read(1).await);
        }
        bytes
    }

    /// Waits until the edge closes the connection; returns what came before.
    pub async fn closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let end = self.stream_mut().read_to_end(&mut rest);
        // A reset is a close as well.
        within("the edge closes the origin connection", end)
            .await
            .ok();
        rest
    }

    /// Ends the connection with a reset, whatever is under way.
    pub fn reset(mut self) {
        let stream = self.stream.take().expect("the exchange has not finished");
        // Nothing is left to linger for: the close becomes a reset.
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }

    /// Ends the exchange and keeps the connection for the next request.
    pub fn finish(mut self) {
        let (keep, stream) = (self.keep.take(), self.stream.take());
        // The origin may have been stopped meanwhile; then the connection closes.
        keep.expect("an exchange finishes once")
            .send(stream.expect("an exchange finishes once"))
            .ok();
    }
}

/// Reads request after request; the test has the stream in between.
async fn serve(
    mut stream: TcpStream,
    exchanges: mpsc::UnboundedSender<Exchange>,
    seen: Arc<Mutex<Vec<Request>>>,
) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            // Byte by byte, because what follows belongs to the test. A connection that ends
            // here was a health check, or idle.
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let request = Request {
            head: String::from_utf8(head).unwrap(),
        };
        seen.lock().unwrap().push(request.clone());
        let (keep, kept) = oneshot::channel();
        let exchange = Exchange {
            request,
            stream: Some(stream),
            keep: Some(keep),
        };
        if exchanges.send(exchange).is_err() {
            return;
        }
        match kept.await {
            Ok(kept) => stream = kept,
            Err(_) => return,
        }
    }
}

/// A 200 with `fields` (whole lines) and `body`.
pub fn ok(fields: &str, body: &str) -> String {
    answer(200, fields, body)
}

/// A response with `fields` (whole lines) and `body`.
pub fn answer(status: u16, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Scripted\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}
