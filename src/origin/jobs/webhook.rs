//! Telling somebody's server of an event, in S3's form (S3, "Event message structure").

use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::Event;
use super::delivery::{Delivery, Receiver, Trust, post};
use crate::origin::meta::BucketRow;
use crate::origin::operations::event_time;

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
pub(super) async fn handle(payload: &str, trust: &Trust) -> Delivery {
    let Ok(payload) = serde_json::from_str::<Payload>(payload) else {
        return Delivery::Hopeless("not a message of ours".to_owned());
    };
    let Ok(url) = Url::parse(&payload.url) else {
        return Delivery::Hopeless(format!("{} is no URL", payload.url));
    };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Delivery::Hopeless(format!("{url} names no server"));
    };
    // In an URL the address of IPv6 stands in brackets, in a certificate without.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let tls = match url.scheme() {
        "http" => None,
        "https" => Some((name, trust)),
        _ => return Delivery::Hopeless(format!("{url} is neither http nor https")),
    };
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
    let receiver = Receiver {
        authority: &authority,
        address,
        tls,
    };
    post(receiver, &path, payload.body.to_string()).await
}
