//! The store on the admin address.
//!
//! | request | answer |
//! |---|---|
//! | `GET /origin` | 200: what there is, what each disk holds, where the scrub is |
//! | `GET /origin/jobs` | 200: messages that wait, and those that nobody could handle |
//! | `POST /origin/jobs` with `{"run": "lifecycle"}`, `"scrub"`, `"compact"` or `"garbage"` | 200 when it is done: what it did |
//! | `POST /origin/jobs` with `{"revive": 12}` | 200: the message waits again |
//!
//! | refusal | when |
//! |---|---|
//! | 400 | the body is none of these |
//! | 403 | `Host` is a name that could be anybody's (see [`crate::observe::admin_json`]) |
//! | 405 | another method |
//! | 409 | the job is under way already; no message of that number was given up |
//! | 415 | a POST that is not `application/json` |
//! | 500 | the job came to no end, or the metadata cannot be read |
//!
//! A job ends early when its client goes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tracing::{error, info};

use super::blobs::{Amount, DiskState, DiskUsage};
use super::jobs::{self, Job, JobError};
use super::meta::{MetaError, TaskRow};
use super::stats::{Care, Level, Stats};
use super::store::Store;
use crate::observe::admin::{Endpoint, Question};
use crate::observe::admin_json::{is_json, names_this_machine, reply};
use crate::observe::{Metrics, StoreCounts};

/// The path that tells what there is.
pub const STORE_PATH: &str = "/origin";
/// The path of messages and jobs.
pub const JOBS_PATH: &str = "/origin/jobs";

/// Messages that one answer tells of at most.
const MESSAGES_MAX: usize = 1000;

/// Both endpoints.
pub fn endpoints(store: &Store) -> Vec<Arc<dyn Endpoint>> {
    vec![
        Arc::new(StoreEndpoint(store.clone())),
        Arc::new(JobsEndpoint(store.clone())),
    ]
}

/// Tells Prometheus what the store has counted, at every scrape.
pub fn publish(store: &Store, metrics: &Arc<Metrics>) {
    let stats = Arc::clone(&store.inner.stats);
    // Weak, because the metrics own the callback.
    let of = Arc::downgrade(metrics);
    metrics.on_gather(Box::new(move || {
        if let Some(metrics) = of.upgrade() {
            metrics.store().publish(&counts(&stats));
            for answered in stats.requests() {
                let operation = answered.operation.name();
                let (status, count) = (answered.status, answered.count);
                metrics.store().publish_requests(operation, status, count);
            }
        }
    }));
}

fn counts(stats: &Stats) -> StoreCounts {
    StoreCounts {
        verified_blobs: stats.care(Care::VerifiedBlobs),
        verified_bytes: stats.care(Care::VerifiedBytes),
        damaged_blobs: stats.care(Care::DamagedBlobs),
        repaired_blobs: stats.care(Care::RepairedBlobs),
        lost_blobs: stats.care(Care::LostBlobs),
        collected_blobs: stats.care(Care::CollectedBlobs),
        collected_bytes: stats.care(Care::CollectedBytes),
        removed_packs: stats.care(Care::RemovedPacks),
        moved_bytes: stats.care(Care::MovedBytes),
        transitioned_bytes: stats.care(Care::TransitionedBytes),
        messages_handled: stats.care(Care::MessagesHandled),
        messages_put_off: stats.care(Care::MessagesPutOff),
        messages_given_up: stats.care(Care::MessagesGivenUp),
        received_bytes: stats.received_bytes(),
        sent_bytes: stats.sent_bytes(),
        followed_from_store: stats.care(Care::FollowedFromStore),
        followed_from_memory: stats.care(Care::FollowedFromMemory),
        pack_live_bytes: stats.level(Level::PackLiveBytes),
        pack_dead_bytes: stats.level(Level::PackDeadBytes),
        garbage_bytes: stats.level(Level::GarbageBytes),
        buckets: stats.level(Level::Buckets),
        versions: stats.level(Level::Versions),
        version_bytes: stats.level(Level::VersionBytes),
        cold_version_bytes: stats.level(Level::ColdVersionBytes),
        messages_waiting: stats.level(Level::MessagesWaiting),
        messages_dead: stats.level(Level::MessagesDead),
    }
}

struct StoreEndpoint(Store);

struct JobsEndpoint(Store);

/// Why nothing is told or done.
#[derive(Debug, thiserror::Error)]
enum StoreRefusal {
    #[error("use {0}")]
    Method(&'static str),
    #[error("Host must be localhost, a loopback address or the address of this listener")]
    Host,
    #[error("send Content-Type: application/json")]
    ContentType,
    #[error(
        "send {{\"run\": \"lifecycle\"}}, \"scrub\", \"compact\" or \"garbage\", or {{\"revive\": <number of a message>}}"
    )]
    Order,
    #[error("no message of number {0} was given up")]
    NoSuchMessage(i64),
    #[error(transparent)]
    Job(#[from] JobError),
}

impl From<MetaError> for StoreRefusal {
    fn from(error: MetaError) -> Self {
        StoreRefusal::Job(error.into())
    }
}

impl StoreRefusal {
    fn status(&self) -> StatusCode {
        match self {
            StoreRefusal::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            StoreRefusal::Host => StatusCode::FORBIDDEN,
            StoreRefusal::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            StoreRefusal::Order => StatusCode::BAD_REQUEST,
            StoreRefusal::NoSuchMessage(_) | StoreRefusal::Job(JobError::UnderWay) => {
                StatusCode::CONFLICT
            }
            StoreRefusal::Job(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[async_trait]
impl Endpoint for StoreEndpoint {
    fn path(&self) -> &'static str {
        STORE_PATH
    }

    fn summary(&self) -> &'static str {
        "GET what the store holds, and where its scrub is"
    }

    async fn answer(&self, question: Question) -> Response<Full<Bytes>> {
        let told = match check(&question, &["GET"]) {
            Ok(()) => state(&self.0).await,
            Err(refusal) => Err(refusal),
        };
        respond(told)
    }
}

#[async_trait]
impl Endpoint for JobsEndpoint {
    fn path(&self) -> &'static str {
        JOBS_PATH
    }

    fn summary(&self) -> &'static str {
        "GET messages; POST {\"run\": \"lifecycle\"|\"scrub\"|\"compact\"|\"garbage\"} or {\"revive\": …} as JSON"
    }

    async fn answer(&self, question: Question) -> Response<Full<Bytes>> {
        respond(self.act(&question).await)
    }
}

impl JobsEndpoint {
    async fn act(&self, question: &Question) -> Result<Value, StoreRefusal> {
        check(question, &["GET", "POST"])?;
        let store = &self.0;
        if question.request.method() != Method::POST {
            return messages(store).await;
        }
        match Order::read(&question.request)? {
            Order::Run(job) => {
                let done = jobs::run_now(store, job).await?.to_json();
                info!(job = job.name(), %done, "a job that was asked for is done");
                Ok(json!({ "run": job.name(), "done": done }))
            }
            Order::Revive(id) => {
                let now_ms = store.now_ms().map_err(JobError::from)?;
                if !store.inner.meta.revive(id, now_ms).await? {
                    return Err(StoreRefusal::NoSuchMessage(id));
                }
                store.inner.jobs.ring();
                info!(task = id, "a message waits again");
                Ok(json!({ "revived": id }))
            }
        }
    }
}

/// What can be asked of [`JOBS_PATH`].
#[derive(Debug, PartialEq, Eq)]
enum Order {
    Run(Job),
    Revive(i64),
}

impl Order {
    fn read(request: &Request<Bytes>) -> Result<Self, StoreRefusal> {
        if !is_json(request.headers()) {
            return Err(StoreRefusal::ContentType);
        }
        let body: Option<Value> = serde_json::from_slice(request.body()).ok();
        let order = body.as_ref().and_then(Value::as_object).and_then(|body| {
            // Nothing beside it: who asks for something else as well must not believe that it was done.
            match (body.len(), body.get("run"), body.get("revive")) {
                (1, Some(run), None) => run.as_str().and_then(Job::from_name).map(Order::Run),
                (1, None, Some(id)) => id.as_i64().map(Order::Revive),
                _ => None,
            }
        });
        order.ok_or(StoreRefusal::Order)
    }
}

fn check(question: &Question, methods: &'static [&'static str]) -> Result<(), StoreRefusal> {
    let method = question.request.method().as_str();
    // HEAD goes wherever GET does.
    if method != "HEAD" && !methods.contains(&method) {
        return Err(StoreRefusal::Method(match methods {
            ["GET"] => "GET",
            _ => "GET, POST",
        }));
    }
    match names_this_machine(&question.request, question.reached) {
        true => Ok(()),
        false => Err(StoreRefusal::Host),
    }
}

fn respond(told: Result<Value, StoreRefusal>) -> Response<Full<Bytes>> {
    let refusal = match told {
        Ok(told) => return reply(StatusCode::OK, &told),
        Err(refusal) => refusal,
    };
    if refusal.status().is_server_error() {
        error!(error = ?refusal, "the store could not answer the admin");
    }
    let mut response = reply(refusal.status(), &json!({ "error": refusal.to_string() }));
    if let StoreRefusal::Method(allowed) = refusal {
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

async fn state(store: &Store) -> Result<Value, StoreRefusal> {
    let inner = &store.inner;
    let census = inner.meta.census().await?;
    let (under_way, last) = jobs::scrub_progress(store).await?;
    let blobs = Arc::clone(&inner.disks);
    let usage = tokio::task::spawn_blocking(move || blobs.usage()).await;
    let usage = usage
        .map_err(|_| JobError::Died)?
        .map_err(JobError::Folder)?;
    let pass = |found: jobs::Scrubbed, started_ms: i64, finished_ms: Option<i64>| {
        json!({
            "started_ms": started_ms,
            "finished_ms": finished_ms,
            "found": found.to_json(),
        })
    };
    Ok(json!({
        "refuses_writes": store.refuses_writes(),
        "buckets": census.buckets,
        "versions": census.versions,
        "delete_markers": census.delete_markers,
        "version_bytes": census.version_bytes,
        "cold": { "versions": census.cold_versions, "bytes": census.cold_version_bytes },
        "blobs": census.blobs,
        "blob_bytes": census.blob_bytes,
        "garbage": { "blobs": census.garbage, "bytes": census.garbage_bytes },
        "uploads": census.uploads,
        "messages": { "waiting": census.tasks, "given_up": census.dead_letters },
        "disks": usage.iter().map(disk_json).collect::<Vec<_>>(),
        "scrub": {
            "bytes_per_second": inner.scrub.bytes_per_second,
            "under_way": under_way.map(|now| pass(now.found, now.started_ms, None)),
            "last": last.map(|last| pass(last.found, last.started_ms, Some(last.finished_ms))),
        },
    }))
}

fn disk_json(disk: &DiskUsage) -> Value {
    let amount = |amount: Amount| json!({ "files": amount.files, "bytes": amount.bytes });
    json!({
        "number": disk.number,
        "path": disk.path.display().to_string(),
        "state": match disk.state {
            DiskState::Ready => "ready",
            DiskState::Failed => "failed",
            DiskState::Absent => "absent",
        },
        "files": amount(disk.files),
        "packs": amount(disk.packs),
        "unfinished": amount(disk.unfinished),
        "foreign": amount(disk.foreign),
    })
}

async fn messages(store: &Store) -> Result<Value, StoreRefusal> {
    let meta = &store.inner.meta;
    let message = |task: &TaskRow| {
        json!({
            "id": task.id,
            "kind": task.kind,
            "attempts": task.attempts,
            "created_ms": task.created_ms,
            "last_error": task.last_error,
        })
    };
    let mut waiting = Vec::new();
    for task in meta.tasks(MESSAGES_MAX).await? {
        let mut told = message(&task);
        told["run_at_ms"] = task.run_at_ms.into();
        waiting.push(told);
    }
    let mut given_up = Vec::new();
    for letter in meta.dead_letters(MESSAGES_MAX).await? {
        let mut told = message(&letter.task);
        told["died_ms"] = letter.died_ms.into();
        given_up.push(told);
    }
    Ok(json!({ "waiting": waiting, "given_up": given_up, "at_most": MESSAGES_MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(media_type: &'static str, body: &'static str) -> Result<Order, StoreRefusal> {
        let request = Request::builder()
            .header("content-type", media_type)
            .body(Bytes::from_static(body.as_bytes()));
        Order::read(&request.unwrap())
    }

    #[test]
    fn an_order_is_one_thing_and_nothing_else() {
        for job in Job::ALL {
            let body = format!(r#"{{"run": "{}"}}"#, job.name());
            let request = Request::builder()
                .header("content-type", "application/json")
                .body(Bytes::from(body));
            assert_eq!(Order::read(&request.unwrap()).unwrap(), Order::Run(job));
        }
        let read = order("application/json", r#"{"revive": 12}"#);
        assert_eq!(read.unwrap(), Order::Revive(12));
        for body in [
            "",
            "{}",
            "[]",
            r#"{"run": "everything"}"#,
            r#"{"run": "scrub", "revive": 12}"#,
            r#"{"run": "scrub", "fast": true}"#,
            r#"{"revive": "12"}"#,
            r#"{"revive": 1.5}"#,
        ] {
            let refusal = order("application/json", body).unwrap_err();
            assert_eq!(refusal.status(), 400, "{body}");
        }
        let refusal = order("text/plain", r#"{"revive": 12}"#).unwrap_err();
        assert_eq!(refusal.status(), 415);
    }
}
