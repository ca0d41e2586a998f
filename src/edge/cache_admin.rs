//! `/cache/stats`, `/cache/clear` and `/cache/verify` on the admin address.
//!
//! | request | answer |
//! |---|---|
//! | `GET /cache/stats` | 200: what both tiers hold, as [`stats_json`] writes it |
//! | `POST /cache/clear` with `{}` | 200 `{"cleared": ["memory", "disk"]}` when nothing is stored any more |
//! | `POST /cache/verify` with `{}` | 200: what reading all of the disk tier has shown, as [`verified_json`] writes it |
//!
//! | refusal | when |
//! |---|---|
//! | 400 | the body is not `{}` |
//! | 403 | `Host` is a name that could be anybody's (see [`crate::observe::admin_json`]) |
//! | 405 | another method |
//! | 409 | there is no disk tier to verify, or it is being verified already |
//! | 415 | a POST that is not `application/json` |
//! | 500 | the disk could not be cleared; nothing is found all the same until a restart |
//! | 503 | the folder of the disk tier could not be opened yet |
//!
//! Verifying ends early, at the next segment, when its client has gone.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use crate::cache::Cache;
use crate::cache::disk::Stats;
use crate::cache::disk::verify::Verified;
use crate::observe::admin::{Endpoint, Question};
use crate::observe::admin_json::{is_json, names_this_machine, reply};

/// The path that tells what is held.
pub const STATS_PATH: &str = "/cache/stats";
/// The path that forgets everything.
pub const CLEAR_PATH: &str = "/cache/clear";
/// The path that reads everything on disk.
pub const VERIFY_PATH: &str = "/cache/verify";

/// How far the verification under way has come; `None` when there is none.
type UnderWay = Arc<Mutex<Option<Verified>>>;

/// Answers one of the three paths.
pub(super) struct CacheEndpoint {
    what: What,
    cache: Arc<Cache>,
    under_way: UnderWay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Stats,
    Clear,
    Verify,
}

/// Why nothing is done.
#[derive(Debug, thiserror::Error)]
enum CacheRefusal {
    #[error("use {0}")]
    Method(&'static str),
    #[error("Host must be localhost, a loopback address or the address of this listener")]
    Host,
    #[error("send Content-Type: application/json")]
    ContentType,
    #[error("send {{}} as the body: there is nothing to choose")]
    Body,
    #[error("there is no disk tier: edge.cache.disk is not configured")]
    NoDisk,
    #[error("it is being verified already; {STATS_PATH} tells how far")]
    Verifying,
    #[error("the folder of the disk tier could not be opened yet: {0}")]
    NotOpen(String),
    #[error("the disk could not be cleared: {0}")]
    Clear(String),
    #[error("the task that reads the disk ended early")]
    Abandoned,
}

impl CacheRefusal {
    fn status(&self) -> StatusCode {
        match self {
            CacheRefusal::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            CacheRefusal::Host => StatusCode::FORBIDDEN,
            CacheRefusal::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            CacheRefusal::Body => StatusCode::BAD_REQUEST,
            CacheRefusal::NoDisk | CacheRefusal::Verifying => StatusCode::CONFLICT,
            CacheRefusal::NotOpen(_) => StatusCode::SERVICE_UNAVAILABLE,
            CacheRefusal::Clear(_) | CacheRefusal::Abandoned => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl CacheEndpoint {
    /// One for each path.
    pub(super) fn all(cache: &Arc<Cache>) -> [Self; 3] {
        let under_way = UnderWay::default();
        [What::Stats, What::Clear, What::Verify].map(|what| CacheEndpoint {
            what,
            cache: cache.clone(),
            under_way: under_way.clone(),
        })
    }

    async fn act(&self, question: &Question) -> Result<Value, CacheRefusal> {
        self.check(&question.request)?;
        if !names_this_machine(&question.request, question.reached) {
            return Err(CacheRefusal::Host);
        }
        match self.what {
            What::Stats => Ok(self.stats()),
            What::Clear => self.clear().await,
            What::Verify => self.verify().await,
        }
    }

    /// A page of another site can send a POST here, but none that says that it is JSON.
    fn check(&self, request: &Request<Bytes>) -> Result<(), CacheRefusal> {
        if self.what == What::Stats {
            return match *request.method() {
                Method::GET | Method::HEAD => Ok(()),
                _ => Err(CacheRefusal::Method("GET")),
            };
        }
        if request.method() != Method::POST {
            return Err(CacheRefusal::Method("POST"));
        }
        if !is_json(request.headers()) {
            return Err(CacheRefusal::ContentType);
        }
        let body = serde_json::from_slice(request.body());
        match body.is_ok_and(|body: Value| body == json!({})) {
            true => Ok(()),
            false => Err(CacheRefusal::Body),
        }
    }

    fn stats(&self) -> Value {
        let memory = self.cache.memory();
        let memory = json!({
            "bytes": memory.bytes(),
            "limit_bytes": memory.limit_bytes(),
            "responses": memory.objects(),
        });
        let disk = self.cache.disk().map(|disk| disk.stats());
        stats_json(Some(memory), disk.as_ref(), lock(&self.under_way).as_ref())
    }

    async fn clear(&self) -> Result<Value, CacheRefusal> {
        self.cache.clear().await.map_err(CacheRefusal::Clear)?;
        let mut cleared = vec!["memory"];
        cleared.extend(self.cache.disk().map(|_| "disk"));
        info!(tiers = ?cleared, "cleared the cache");
        Ok(json!({ "cleared": cleared }))
    }

    async fn verify(&self) -> Result<Value, CacheRefusal> {
        let disk = self.cache.disk().ok_or(CacheRefusal::NoDisk)?.clone();
        let turn = Turn::take(&self.under_way).ok_or(CacheRefusal::Verifying)?;
        // When the client goes, this future is dropped, and that ends the reading.
        let waiting = StopOnDrop::default();
        let is_abandoned = waiting.0.clone();
        let task = spawn_blocking(move || {
            let outcome = disk.verify(|verified| {
                *lock(&turn.0) = Some(*verified);
                match is_abandoned.load(Ordering::Relaxed) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            drop(turn);
            (outcome, disk.stats())
        });
        let (verified, stats) = task.await.map_err(|_| CacheRefusal::Abandoned)?;
        let not_open = || CacheRefusal::NotOpen(stats.fault.unwrap_or_default());
        let verified = verified.ok_or_else(not_open)?;
        let (good, bad) = (verified.good_records, verified.bad_records);
        match verified.is_sound() {
            true => info!(records = good, "verified the disk tier"),
            false => {
                let footers = verified.bad_footers;
                warn!(
                    records = good,
                    bad_records = bad,
                    bad_footers = footers,
                    "the disk tier is damaged; what is bad is not used"
                );
            }
        }
        Ok(verified_json(&verified, stats.shown.is_recovering))
    }
}

/// The right to verify: one at a time, since each reads all of the disk.
struct Turn(UnderWay);

impl Turn {
    fn take(under_way: &UnderWay) -> Option<Self> {
        let mut taken = lock(under_way);
        if taken.is_some() {
            return None;
        }
        *taken = Some(Verified::default());
        Some(Turn(under_way.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *lock(&self.0) = None;
    }
}

fn lock(under_way: &UnderWay) -> MutexGuard<'_, Option<Verified>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Endpoint for CacheEndpoint {
    fn path(&self) -> &'static str {
        match self.what {
            What::Stats => STATS_PATH,
            What::Clear => CLEAR_PATH,
            What::Verify => VERIFY_PATH,
        }
    }

    fn summary(&self) -> &'static str {
        match self.what {
            What::Stats => "what memory and disk hold, as JSON",
            What::Clear => "POST {} as JSON: forgets everything that is stored",
            What::Verify => "POST {} as JSON: reads the whole disk tier and counts what is bad",
        }
    }

    async fn answer(&self, question: Question) -> Response<Full<Bytes>> {
        let refusal = match self.act(&question).await {
            Ok(answer) => return reply(StatusCode::OK, &answer),
            Err(refusal) => refusal,
        };
        if refusal.status().is_server_error() {
            error!(error = %refusal, path = self.path(), "an operator's command failed");
        }
        let mut response = reply(refusal.status(), &json!({ "error": refusal.to_string() }));
        if let CacheRefusal::Method(method) = refusal {
            let allow = match method {
                "GET" => "GET, HEAD",
                other => other,
            };
            let allow = HeaderValue::from_static(allow);
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    }
}

/// `{"memory", "disk", "verifying"}`, each `null` where there is none. Bytes are bytes; counts of what
/// was done are since the start.
pub fn stats_json(
    memory: Option<Value>,
    disk: Option<&Stats>,
    verifying: Option<&Verified>,
) -> Value {
    let disk = disk.map(|stats| {
        let shown = &stats.shown;
        json!({
            "fault": stats.fault,
            "recovering": shown.is_recovering,
            "bytes": shown.bytes,
            "limit_bytes": shown.limit_bytes,
            "segments": stats.segments,
            "records": shown.records,
            "index_bytes": shown.index_bytes,
            "queued_bytes": shown.queued_bytes,
            "written_bytes": shown.written_bytes,
            "reinserted_bytes": shown.reinserted_bytes,
            "read_records": shown.read_records,
            "read_bytes": shown.read_bytes,
            "sent_bytes": shown.sent_bytes,
            "read_errors": shown.read_errors,
            "bad_records": shown.bad_records,
            "slow_reads": shown.slow_reads,
            "evicted_records": shown.evicted_records,
            "dropped_records": shown.dropped_records,
            "refused_records": shown.refused_records,
            "write_faults": shown.write_faults,
        })
    });
    let verifying = verifying.map(|verified| {
        json!({ "segments": verified.segments, "segments_total": verified.segments_total })
    });
    json!({ "memory": memory, "disk": disk, "verifying": verifying })
}

/// `{"sound", "segments", …}`. `recovering` says that the tier did not know all of its records yet, so
/// that they were not read.
pub fn verified_json(verified: &Verified, is_recovering: bool) -> Value {
    json!({
        "sound": verified.is_sound(),
        "recovering": is_recovering,
        "segments": verified.segments,
        "segments_total": verified.segments_total,
        "segments_skipped": verified.segments_skipped,
        "bad_footers": verified.bad_footers,
        "good_records": verified.good_records,
        "bad_records": verified.bad_records,
        "bytes": verified.bytes,
    })
}
