//! Active checks: asks every server of a pool, again and again, whether it takes requests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pingora::lb::Backend;
use pingora::lb::health_check::{HealthCheck, HttpHealthCheck, TcpHealthCheck};
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::{Error, ErrorType};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::cause::Cause;
use super::pool::{OriginRing, Server};
use crate::config::Health;

/// Checks all servers of `ring` side by side until `shutdown` turns true or its sender is gone.
pub(super) async fn run(ring: &OriginRing, health: &Health, mut shutdown: watch::Receiver<bool>) {
    let rounds = join_all(
        ring.servers()
            .iter()
            .map(|server| check_server(ring, server, health)),
    );
    tokio::select! {
        _ = rounds => {}
        // An error means that the sender is gone, which is a stop as well.
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

/// Checks one server for ever. Servers do not wait for each other, so one that hangs delays no
/// verdict but its own.
async fn check_server(ring: &OriginRing, server: &Arc<Server>, health: &Health) {
    let check = probe(server, health);
    let target = Backend {
        addr: PingoraAddr::Inet(server.address),
        weight: 1,
        ext: http::Extensions::new(),
    };
    let mut rounds = interval(health.interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        // pingora bounds connect and each read; this bounds the check as a whole, so a server
        // that drips its answer does not pass.
        match timeout(health.timeout, check.check(&target)).await {
            Ok(Ok(())) => ring.check_ended(server, Ok(())),
            Ok(Err(error)) => ring.check_ended(server, Err(&Failed(&error))),
            Err(_) => ring.check_ended(server, Err(&TimedOut(health.timeout))),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the health check took longer than {0:?}")]
struct TimedOut(Duration);

/// A check that failed before its time was up.
struct Failed<'a>(&'a Error);

impl fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.root_etype() {
            ErrorType::HTTPStatus(status) => {
                write!(f, "the health path answered {status} instead of 2xx")
            }
            _ => write!(f, "{}", Cause(self.0)),
        }
    }
}

/// pingora's check of the kind the pool asks for: a GET of `path`, else a TCP connect.
fn probe(server: &Server, health: &Health) -> Box<dyn HealthCheck + Send + Sync> {
    let Some(path) = &health.path else {
        let mut check = TcpHealthCheck::new();
        check.peer_template.options.connection_timeout = Some(health.timeout);
        return check;
    };
    let mut check = HttpHealthCheck::new(&server.name, false);
    check.peer_template.options.connection_timeout = Some(health.timeout);
    check.peer_template.options.read_timeout = Some(health.timeout);
    check
        .req
        .set_raw_path(path.as_bytes())
        .expect("a checked configuration's health path is a valid request target");
    // Without a validator pingora takes 200 alone for health.
    check.validator = Some(Box::new(|response| {
        if response.status.is_success() {
            return Ok(());
        }
        Err(Error::explain(
            ErrorType::HTTPStatus(response.status.as_u16()),
            "the health path did not answer 2xx",
        ))
    }));
    Box::new(check)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OriginPool;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    #[test]
    fn a_failed_check_says_what_the_health_path_answered() {
        let status = || Error::explain(ErrorType::HTTPStatus(503), "BasicPeer { options }");
        let said = "the health path answered 503 instead of 2xx";
        assert_eq!(Failed(&status()).to_string(), said);
        let above = Error::because(ErrorType::InternalError, "", status());
        assert_eq!(Failed(&above).to_string(), said);
        let closed = Error::explain(ErrorType::ConnectionClosed, "while reading");
        assert_eq!(Failed(&closed).to_string(), "while reading");
    }

    fn ring(address: SocketAddr, path: Option<&str>) -> Arc<OriginRing> {
        let pool = OriginPool {
            name: "store".to_owned(),
            servers: vec![address.to_string()],
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            health: Health {
                interval: Duration::from_millis(1),
                timeout: Duration::from_secs(5),
                path: path.map(str::to_owned),
                healthy_after: 1,
                unhealthy_after: 1,
            },
            signing: None,
        };
        Arc::new(OriginRing::new(&pool).unwrap())
    }

    /// Answers every connection with the latest status; sends each request head it read, after
    /// the answer to the one before it was taken in by the checker.
    fn scripted(
        listener: TcpListener,
        status: watch::Receiver<u16>,
    ) -> mpsc::UnboundedReceiver<String> {
        let (sender, heads) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let byte = stream.read_u8().await.unwrap();
                    head.push(byte);
                }
                sender.send(String::from_utf8(head).unwrap()).ok();
                let status = *status.borrow();
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        heads
    }

    #[tokio::test]
    async fn http_check_takes_a_server_out_by_status_and_brings_it_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (status, answers) = watch::channel(204);
        let mut heads = scripted(listener, answers);
        let ring = ring(address, Some("/health?deep=1"));
        let (stop, stopped) = watch::channel(false);
        let checks = tokio::spawn(Arc::clone(&ring).run_health_checks(stopped));

        let head = heads.recv().await.unwrap();
        assert!(
            head.starts_with("GET /health?deep=1 HTTP/1.1\r\n"),
            "{head}"
        );
        let host = format!("host: {address}\r\n");
        assert!(head.to_ascii_lowercase().contains(&host), "{head}");
        for (code, healthy) in [(503, false), (200, true), (301, false), (299, true)] {
            status.send_replace(code);
            // The check whose head arrives first may have been answered before; the one after
            // it was answered with `code`, and the third proves that its result was taken in.
            for _ in 0..3 {
                heads.recv().await.unwrap();
            }
            assert_eq!(ring.servers()[0].is_healthy(), healthy, "after {code}");
        }
        stop.send_replace(true);
        checks.await.unwrap();
    }

    #[tokio::test]
    async fn tcp_check_is_passed_by_a_listener_and_brings_a_server_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ring = ring(listener.local_addr().unwrap(), None);
        ring.report(&ring.servers()[0], super::super::Attempt::Failed);
        assert!(!ring.servers()[0].is_healthy());
        let (stop, stopped) = watch::channel(false);
        let checks = tokio::spawn(Arc::clone(&ring).run_health_checks(stopped));
        // The third connect begins after the first check has been taken in.
        for _ in 0..3 {
            listener.accept().await.unwrap();
        }
        assert!(ring.servers()[0].is_healthy());
        drop(stop);
        checks.await.unwrap();
    }

    #[tokio::test]
    async fn silent_server_fails_the_check_when_its_time_is_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Health {
            interval: Duration::from_millis(1),
            timeout: Duration::from_millis(1),
            path: Some("/".to_owned()),
            healthy_after: 1,
            unhealthy_after: 1,
        };
        let ring = ring(address, Some("/"));
        let (stop, stopped) = watch::channel(false);
        let observer = Arc::clone(&ring);
        let checks = tokio::spawn(async move { run(&observer, &health, stopped).await });
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(listener.accept().await.unwrap());
        }
        assert!(!ring.servers()[0].is_healthy());
        stop.send_replace(true);
        checks.await.unwrap();
    }
}
