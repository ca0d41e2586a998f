//! Telling somebody's server of an event, in S3's form (S3, "Event message structure").

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use url::Url;

use super::Event;
use crate::origin::meta::BucketRow;
use crate::origin::operations::event_time;

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

/// A record of an event. `{version}` is filled in when the version is known.
pub(super) fn record(region: &str, bucket: &BucketRow, event: &Event<'_>, id: &str) -> Value {
    let key = url::form_urlencoded::byte_serialize(event.key.as_str().as_bytes());
    json!({
        "eventVersion": "2.1",
        "eventSource": "tidegate:s3",
        "awsRegion": region,
        "eventTime": event_time(event.now_ms),
        "eventName": event.name,
        "userIdentity": { "principalId": event.who },
        "responseElements": { "x-amz-request-id": event.request_id },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": id,
            "bucket": {
                "name": bucket.name,
                "ownerIdentity": { "principalId": bucket.owner },
                "arn": format!("arn:aws:s3:::{}", bucket.name),
            },
            "object": {
                "key": key.collect::<String>(),
                "size": event.size_bytes,
                "eTag": event.etag,
                "versionId": "{version}",
                // Events of one object are told apart and put in order by it, as a number in hexadecimal.
                "sequencer": format!("{:016X}", event.now_ms),
            },
        },
    })
}

#[derive(Deserialize)]
struct Payload {
    url: String,
    body: Value,
}

/// Tells the server.
pub(super) async fn handle(payload: &str) -> Delivery {
    let Ok(payload) = serde_json::from_str::<Payload>(payload) else {
        return Delivery::Hopeless("not a message of ours".to_owned());
    };
    let Ok(url) = Url::parse(&payload.url) else {
        return Delivery::Hopeless(format!("{} is no URL", payload.url));
    };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Delivery::Hopeless(format!("{url} names no server"));
    };
    if url.scheme() != "http" {
        return Delivery::Hopeless(format!("{url} is not http"));
    }
    let authority = format!("{host}:{port}");
    let address = match tokio::net::lookup_host(&authority).await {
        Ok(mut addresses) => addresses.next(),
        Err(error) => return Delivery::Failed(format!("{authority}: {error}")),
    };
    let Some(address) = address else {
        return Delivery::Failed(format!("{authority} has no address"));
    };
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    post(&authority, address, &path, payload.body.to_string()).await
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
