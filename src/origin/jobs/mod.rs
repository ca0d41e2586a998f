//! What happens after a commit.
//!
//! Messages of the outbox ([`worker`]) were committed with the change that they tell of, and are handled at least once
//! each. Rounds ([`rounds`]) look after what is stored: lifecycle rules, garbage.

pub mod lifecycle;
mod purge;
mod rounds;
mod webhook;
mod worker;

use serde_json::json;
use tokio::sync::{Notify, watch};

use super::documents::Notifications;
use super::meta::{BucketRow, DocumentKind, Message};
use super::names::ObjectKey;
use super::store::Store;

/// The kind of messages that tell an edge to forget an object.
const PURGE: &str = "purge";
/// The kind of messages that tell somebody's server of an event.
const WEBHOOK: &str = "webhook";

/// Wakes the worker when there is something to do.
#[derive(Debug, Default)]
pub struct Bell(Notify);

impl Bell {
    /// Says that a message was committed.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Returns when somebody has rung since the last call.
    ///
    /// # Cancel safety
    /// A ring that was not returned for is returned for by the next call.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}

/// A change to an object, in the words of S3's event notifications.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// S3's name of it without `s3:`, such as `ObjectCreated:Put`.
    pub name: &'static str,
    /// Of which object.
    pub key: &'a ObjectKey,
    /// Its length.
    pub size_bytes: u64,
    /// Its entity tag.
    pub etag: &'a str,
    /// Who did it.
    pub who: &'a str,
    /// The id of the request.
    pub request_id: &'a str,
    /// When, in milliseconds since 1970.
    pub now_ms: i64,
}

/// The messages that a change sends: to every edge that is to forget the object, to everybody who asked to be told.
pub fn messages_about(store: &Store, bucket: &BucketRow, event: &Event<'_>) -> Vec<Message> {
    let mut messages = Vec::new();
    let message = |kind, payload: serde_json::Value| Message {
        kind,
        payload: payload.to_string(),
        run_at_ms: event.now_ms,
    };
    let tag = purge::tag(&bucket.name, event.key.as_str());
    for edge in store.edges() {
        messages.push(message(
            PURGE,
            json!({ "edge": edge.to_string(), "tag": tag }),
        ));
    }
    let Some(document) = bucket.document(DocumentKind::Notification) else {
        return messages;
    };
    // It was understood when it was put.
    let Ok(notifications) = Notifications::parse(document) else {
        return messages;
    };
    let name = format!("s3:{}", event.name);
    for target in notifications.told(&name, event.key.as_str()) {
        let record = webhook::record(&store.inner.region, bucket, event, &target.id);
        messages.push(message(
            WEBHOOK,
            json!({ "url": target.url(), "body": { "Records": [record] } }),
        ));
    }
    messages
}

/// The tag by which an edge forgets an object, whatever URL it is stored under.
pub fn cache_tag(bucket: &str, key: &str) -> String {
    purge::tag(bucket, key)
}

/// Handles messages and makes rounds until `shutdown` holds true or its sender is gone.
pub async fn run(store: Store, mut shutdown: watch::Receiver<bool>) {
    let work = async {
        tokio::join!(worker::run(&store), rounds::run(&store));
    };
    tokio::select! {
        () = work => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

/// One round of the lifecycle rules, now. Gives back how many versions and uploads it ended.
///
/// # Errors
/// Trouble with the metadata.
pub async fn apply_lifecycle(store: &Store) -> Result<u64, super::Fault> {
    lifecycle::apply(store).await
}
