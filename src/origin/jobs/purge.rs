//! Telling an edge to forget an object: `POST /purge` on its admin address, by tag.

use std::net::SocketAddr;

use aws_lc_rs::digest;
use serde::Deserialize;

use super::delivery::{Delivery, Receiver, post};

/// The tag of an object in `Cache-Tag`, by which an edge forgets it, whatever URL it is stored under: the bucket, and a
/// digest of the key, because a key may hold what a tag may not.
pub fn cache_tag(bucket: &str, key: &str) -> String {
    let hash = digest::digest(&digest::SHA256, key.as_bytes());
    format!("s3/{bucket}/{}", hex::encode(&hash.as_ref()[..12]))
}

#[derive(Deserialize)]
struct Payload {
    edge: SocketAddr,
    tag: String,
}

/// Tells the edge.
pub(super) async fn handle(payload: &str) -> Delivery {
    let Ok(payload) = serde_json::from_str::<Payload>(payload) else {
        return Delivery::Hopeless("not a message of ours".to_owned());
    };
    let body = serde_json::json!({ "tag": payload.tag }).to_string();
    let host = payload.edge.to_string();
    let edge = Receiver {
        authority: &host,
        address: payload.edge,
        tls: None,
    };
    post(edge, "/purge", body).await
}
