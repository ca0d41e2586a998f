//! The admin surface: metrics, health and readiness over HTTP/1.1, on an address that only
//! operators reach.

use std::convert::Infallible;
use std::error::Error;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::metrics::Metrics;
use super::readiness::Readiness;

/// How long requests in flight may go on after a stop; every answer is small.
const DRAIN: Duration = Duration::from_secs(1);

/// A pause after a failed accept: out of file descriptors, the next one fails at once as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The longest request body: a thousand tags of the greatest length, with room for escapes.
const BODY_LIMIT_BYTES: usize = 2 << 20;

/// How long a request body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A path of the admin surface that another part of the node answers.
#[async_trait]
pub trait Endpoint: Send + Sync {
    /// The path, which no other endpoint has.
    fn path(&self) -> &'static str;

    /// What it does, for the page that lists everything.
    fn summary(&self) -> &'static str;

    /// Answers one request, whatever its method.
    async fn answer(&self, question: Question) -> Response<Full<Bytes>>;
}

/// A request to an [`Endpoint`].
#[derive(Debug)]
pub struct Question {
    /// Its head and its whole body.
    pub request: Request<Bytes>,
    /// The address of this machine that the client is connected to.
    pub reached: IpAddr,
}

/// Serves `/metrics`, `/healthz`, `/readyz`, the `endpoints` and a page that lists them, until
/// `shutdown` turns true or its sender is gone.
///
/// # Cancel safety
///
/// Dropping the future closes the listener and every connection.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    endpoints: Vec<Arc<dyn Endpoint>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let surface = Arc::new(Surface {
        metrics,
        readiness,
        endpoints,
    });
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Reaps what has ended, so that the set does not grow with every scrape.
            Some(_) = connections.join_next() => continue,
            // An error means that the sender is gone, which is a stop as well.
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(serve_one(stream, Arc::clone(&surface), shutdown.clone()));
            }
            Err(error) => {
                warn!(%error, "the admin listener cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN, drained).await.is_err() {
        warn!("admin connections were still open after the drain");
    }
}

/// Serves one connection; at a stop, the answer in flight is its last.
async fn serve_one(stream: TcpStream, surface: Arc<Surface>, mut shutdown: watch::Receiver<bool>) {
    let reached = match stream.local_addr() {
        Ok(address) => address.ip(),
        Err(error) => return debug!(%error, "an admin connection ended before its first request"),
    };
    let answer = service_fn(|request: Request<Incoming>| {
        let surface = Arc::clone(&surface);
        async move { Ok::<_, Infallible>(surface.answer(request, reached).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), answer)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = shutdown.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "an admin connection ended early");
    }
}

const INDEX: &str = "\
Tidegate admin

/metrics  metrics in the Prometheus text format
/healthz  200 while the process lives
/readyz   200 when requests may be sent, else 503 with the reasons
";

struct Surface {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    endpoints: Vec<Arc<dyn Endpoint>>,
}

impl Surface {
    async fn answer<B>(&self, request: Request<B>, reached: IpAddr) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let path = request.uri().path();
        let Some(endpoint) = self.endpoints.iter().find(|known| known.path() == path) else {
            return self.page(&request);
        };
        let (head, body) = request.into_parts();
        let body = pin!(Limited::new(body, BODY_LIMIT_BYTES));
        match timeout(BODY_TIMEOUT, body.collect()).await {
            Ok(Ok(body)) => {
                let request = Request::from_parts(head, body.to_bytes());
                endpoint.answer(Question { request, reached }).await
            }
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let limit = format!("the body is longer than {BODY_LIMIT_BYTES} bytes\n");
                text(StatusCode::PAYLOAD_TOO_LARGE, limit)
            }
            Ok(Err(_)) => text(StatusCode::BAD_REQUEST, "the body broke off\n"),
            Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
        }
    }

    fn page<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let page: fn(&Self) -> Response<Full<Bytes>> = match request.uri().path() {
            "/" => Self::index,
            "/metrics" => Self::metrics,
            "/healthz" => |_| text(StatusCode::OK, "ok\n"),
            "/readyz" => Self::readyz,
            _ => return text(StatusCode::NOT_FOUND, "not found; / lists what is here\n"),
        };
        // hyper leaves the body out of an answer to HEAD and keeps its length.
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD\n");
            let allow = HeaderValue::from_static("GET, HEAD");
            refusal.headers_mut().insert(ALLOW, allow);
            return refusal;
        }
        page(self)
    }

    fn index(&self) -> Response<Full<Bytes>> {
        let mut index = INDEX.to_owned();
        for endpoint in &self.endpoints {
            index.push_str(&format!("{:<8}  {}\n", endpoint.path(), endpoint.summary()));
        }
        text(StatusCode::OK, index)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut response = text(StatusCode::OK, self.metrics.gather_text());
        let format = HeaderValue::from_static(Metrics::TEXT_FORMAT);
        response.headers_mut().insert(CONTENT_TYPE, format);
        response
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        match self.readiness.verdict() {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(reasons) => text(StatusCode::SERVICE_UNAVAILABLE, reasons),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn surface() -> Surface {
        Surface {
            metrics: Metrics::new(),
            readiness: Readiness::new(),
            endpoints: vec![Arc::new(Echo)],
        }
    }

    struct Echo;

    #[async_trait]
    impl Endpoint for Echo {
        fn path(&self) -> &'static str {
            "/echo"
        }

        fn summary(&self) -> &'static str {
            "says it again"
        }

        async fn answer(&self, question: Question) -> Response<Full<Bytes>> {
            let method = question.request.method().as_str().to_owned();
            text(
                StatusCode::OK,
                [method.as_bytes(), question.request.body()].concat(),
            )
        }
    }

    fn ask(surface: &Surface, method: &str, path: &str) -> Response<Full<Bytes>> {
        let request = Request::builder().method(method).uri(path).body(());
        surface.page(&request.unwrap())
    }

    async fn post(body: Vec<u8>) -> (StatusCode, Bytes) {
        let request = Request::builder().method("POST").uri("/echo?x");
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let response = surface().answer(request, [127, 0, 0, 1].into()).await;
        let status = response.status();
        (
            status,
            response.into_body().collect().await.unwrap().to_bytes(),
        )
    }

    #[tokio::test]
    async fn an_endpoint_gets_whole_bodies_up_to_the_limit_and_is_listed() {
        assert_eq!(
            post(b"-x".to_vec()).await,
            (StatusCode::OK, "POST-x".into())
        );
        let (status, body) = post(vec![b'x'; BODY_LIMIT_BYTES]).await;
        assert_eq!((status.as_u16(), body.len()), (200, BODY_LIMIT_BYTES + 4));
        let (status, _) = post(vec![b'x'; BODY_LIMIT_BYTES + 1]).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        let index = ask(&surface(), "GET", "/").into_body().collect().await;
        let index = index.unwrap().to_bytes();
        assert!(index.ends_with(b"\n/echo     says it again\n"), "{index:?}");
    }

    #[test]
    fn known_paths_answer_get_and_head_and_refuse_other_methods() {
        let surface = surface();
        surface.readiness.condition("edge").ready();
        for path in ["/", "/metrics", "/healthz", "/readyz", "/metrics?x=1"] {
            for method in ["GET", "HEAD"] {
                assert_eq!(ask(&surface, method, path).status(), 200, "{method} {path}");
            }
            for method in ["POST", "DELETE", "OPTIONS", "BREW"] {
                let refusal = ask(&surface, method, path);
                assert_eq!(refusal.status(), 405, "{method} {path}");
                assert_eq!(refusal.headers()[ALLOW], "GET, HEAD");
            }
        }
        for path in ["/metrics/", "/Metrics", "/other"] {
            assert_eq!(ask(&surface, "GET", path).status(), 404, "{path}");
        }
    }

    #[test]
    fn metrics_are_sent_as_text_format_0_0_4() {
        let response = ask(&surface(), "GET", "/metrics");
        assert_eq!(
            response.headers()[CONTENT_TYPE],
            "text/plain; version=0.0.4"
        );
    }

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_is_served_while_it_changes_and_serving_ends_at_shutdown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let readiness = Readiness::new();
        let edge = readiness.condition("edge");
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(serve(
            listener,
            Metrics::new(),
            Arc::clone(&readiness),
            Vec::new(),
            stopped,
        ));
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nedge: starting\n"), "{answer}");
        edge.ready();
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nready\n"), "{answer}");
        readiness.drain();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503 "));
        assert!(get(address, "/healthz").await.ends_with("\r\n\r\nok\n"));

        // An idle connection does not hold the stop up.
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        assert!(idle.read(&mut [0; 512]).await.unwrap() > 0);
        stop.send_replace(true);
        served.await.unwrap();
        assert_eq!(idle.read(&mut [0; 512]).await.unwrap(), 0);
        assert!(TcpStream::connect(address).await.is_err());
    }
}
