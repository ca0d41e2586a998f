//! Handing a message to a server: one POST of JSON, on a connection of its own.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long a server may take for all of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is read of an answer before the connection is closed.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It was taken.
    Done,
    /// Another try may help.
    Failed(String),
    /// No other try will help.
    Hopeless(String),
}

/// Posts JSON on a connection of its own. 2xx is success, another 4xx than 408 and 429 will not change.
pub(super) async fn post(host: &str, address: SocketAddr, path: &str, body: String) -> Delivery {
    match tokio::time::timeout(PATIENCE, exchange(host, address, path, body)).await {
        Err(_) => Delivery::Failed(format!("no answer for {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => Delivery::Failed(error.to_string()),
        Ok(Ok(status)) => match status {
            200..=299 => Delivery::Done,
            408 | 429 => Delivery::Failed(format!("status {status}")),
            400..=499 => Delivery::Hopeless(format!("status {status}")),
            _ => Delivery::Failed(format!("status {status}")),
        },
    }
}

/// Trouble on the way.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("the exchange broke off: {0}")]
    Exchange(hyper::Error),
    #[error("the request cannot be written: {0}")]
    Request(http::Error),
}

async fn exchange(
    host: &str,
    address: SocketAddr,
    path: &str,
    body: String,
) -> Result<u16, Trouble> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(Trouble::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Trouble::Exchange)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("Tidegate/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body)))
        .map_err(Trouble::Request)?;
    let talk = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        // Read so that the server is not cut off; what it says does not matter.
        let _ = Limited::new(response.into_body(), ANSWER_MAX_BYTES)
            .collect()
            .await;
        Ok(status)
    };
    let mut connection = std::pin::pin!(connection);
    let mut talk = std::pin::pin!(talk);
    let mut open = true;
    loop {
        tokio::select! {
            status = &mut talk => return status.map_err(Trouble::Exchange),
            ended = &mut connection, if open => {
                open = false;
                if let Err(error) = ended {
                    return Err(Trouble::Exchange(error));
                }
            }
        }
    }
}
