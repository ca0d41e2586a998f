//! A cache before an origin that gives what a script says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::mpsc;

use super::super::fetch::{
    FetchError, Framing, InterimSink, Origin, OriginBody, OriginRequest, OriginResponse,
};
use super::super::policy::cache_control::RequestDirectives;
use super::super::purge::PurgeLog;
use super::super::read::Refetch;
use super::super::*;
use crate::byte_range::RangeRequest;
use crate::clock::{Clock, ManualClock};
use crate::observe::Metrics;

/// A response that the script gives to the next request.
struct Scripted {
    status: u16,
    fields: Vec<(&'static str, String)>,
    framing: Framing,
    /// What the body yields; the channel may be fed later.
    body: mpsc::UnboundedReceiver<Result<Bytes, FetchError>>,
}

#[derive(Default)]
pub(super) struct ScriptedOrigin {
    script: Mutex<VecDeque<Scripted>>,
    seen: Mutex<Vec<HeaderMap>>,
}

struct ScriptedBody {
    script: mpsc::UnboundedReceiver<Result<Bytes, FetchError>>,
    /// What was given last.
    given: Bytes,
}

#[async_trait]
impl OriginBody for ScriptedBody {
    async fn next(&mut self) -> Result<Option<&[u8]>, FetchError> {
        match self.script.recv().await.transpose()? {
            Some(bytes) => self.given = bytes,
            None => return Ok(None),
        }
        Ok(Some(&self.given))
    }

    async fn release(self: Box<Self>) {}
}

#[async_trait]
impl Origin for ScriptedOrigin {
    async fn fetch(
        &self,
        request: &OriginRequest,
        _: &InterimSink<'_>,
    ) -> Result<OriginResponse, FetchError> {
        self.seen.lock().unwrap().push(request.fields.clone());
        let scripted = self.script.lock().unwrap().pop_front();
        let scripted = scripted.expect("the script expected no further request");
        let at = Moment {
            wall: SystemTime::UNIX_EPOCH,
            monotonic: Duration::ZERO,
        };
        Ok(OriginResponse {
            status: StatusCode::from_u16(scripted.status).unwrap(),
            fields: fields(&scripted.fields),
            framing: scripted.framing,
            body: Box::new(ScriptedBody {
                script: scripted.body,
                given: Bytes::new(),
            }),
            server: Arc::from("scripted"),
            requested: at,
            received: at,
        })
    }
}

fn fields(lines: &[(&'static str, String)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect()
}

pub(super) type Feed = mpsc::UnboundedSender<Result<Bytes, FetchError>>;

impl ScriptedOrigin {
    /// Adds a response to the script; its body is what is sent into the feed until it is dropped.
    pub(super) fn respond(
        &self,
        status: u16,
        framing: Framing,
        fields: &[(&'static str, &str)],
    ) -> Feed {
        let (feed, body) = mpsc::unbounded_channel();
        let fields = fields
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        self.script.lock().unwrap().push_back(Scripted {
            status,
            fields: fields.collect(),
            framing,
            body,
        });
        feed
    }

    /// A complete 206 for `span` of `body`.
    pub(super) fn respond_part(&self, body: &[u8], span: std::ops::Range<usize>, etag: &str) {
        let range = format!("bytes {}-{}/{}", span.start, span.end - 1, body.len());
        let framing = Framing::Length(span.len() as u64);
        let fields = [
            ("etag", etag),
            ("cache-control", "max-age=60"),
            ("content-range", &range),
        ];
        let feed = self.respond(206, framing, &fields);
        feed.send(Ok(Bytes::copy_from_slice(&body[span]))).unwrap();
    }

    pub(super) fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(super) fn sent(&self, request: usize, name: &str) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        let value = seen[request].get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }
}

pub(super) struct World {
    pub(super) cache: Arc<Cache>,
    pub(super) origin: Arc<ScriptedOrigin>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) key: CacheKey,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(
            ManualClock::at(SystemTime::UNIX_EPOCH),
            Box::new(tasks::OnTokio),
        )
    }

    pub(super) fn with(clock: Arc<ManualClock>, tasks: Box<dyn tasks::Tasks>) -> Self {
        Self::before(None, clock, tasks)
    }

    pub(super) fn before(
        disk: Option<Arc<disk::DiskTier>>,
        clock: Arc<ManualClock>,
        tasks: Box<dyn tasks::Tasks>,
    ) -> Self {
        let config = config::Cache {
            memory_bytes: 64 << 20,
            disk: None,
            default_ttl: Duration::from_secs(60),
        };
        World {
            cache: Cache::with(
                &config,
                clock.clone(),
                Arc::new(PurgeLog::in_memory()),
                Metrics::new().purges(),
                Places {
                    disk,
                    files: memory::block::MemoryFiles::at_most(64),
                },
                sizes::Sizes::STANDARD,
                tasks,
            ),
            origin: Arc::default(),
            clock,
            key: CacheKey::new(Scheme::Http, "h", "/x", None),
        }
    }

    pub(super) fn request(&self, selecting: &[(&'static str, &str)]) -> OriginRequest {
        let selecting: Vec<_> = selecting
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        OriginRequest {
            target: "/x".to_owned(),
            fields: HeaderMap::new(),
            selecting: fields(&selecting),
            ring_key: self.key.as_bytes().into(),
        }
    }

    pub(super) fn ask(&self, selecting: &[(&'static str, &str)], range: RangeRequest) -> Ask {
        Ask {
            key: self.key.clone(),
            request: Arc::new(self.request(selecting)),
            range,
            if_range: None,
            stale: None,
            if_error: false,
            directives: RequestDirectives::default(),
            rules: Arc::default(),
            interim: None,
            alone: false,
            origin: self.origin.clone(),
        }
    }

    /// Has the whole fetched as a first client would.
    pub(super) async fn fetch_whole(&self) -> Answer {
        let ask = self.ask(&[], RangeRequest::Whole);
        self.cache.fetch(ask).await.unwrap()
    }

    pub(super) fn lookup(&self, selecting: &[(&'static str, &str)]) -> Lookup {
        let request = self.request(selecting);
        let directives = RequestDirectives::default();
        let now = self.clock.now();
        self.cache
            .lookup(&self.key, &request.selecting, &directives, now)
    }

    pub(super) fn hit(&self) -> Arc<StoredResponse> {
        match self.lookup(&[]) {
            Lookup::Hit(response) => response.into(),
            Lookup::Stale { .. } | Lookup::StaleHit(..) | Lookup::WhileRevalidating(_) => {
                panic!("stale")
            }
            Lookup::Miss(miss) => panic!("{miss:?}"),
        }
    }

    pub(super) fn reader<'a>(
        &'a self,
        answer: &'a mut Answer,
        span: std::ops::Range<u64>,
    ) -> BodyReader<'a> {
        self.read(&answer.response, answer.reader.take(), span)
    }

    pub(super) fn read<'a>(
        &'a self,
        response: &'a Arc<StoredResponse>,
        reader: Option<fill::FillReader>,
        span: std::ops::Range<u64>,
    ) -> BodyReader<'a> {
        BodyReader::new(
            &self.cache,
            response,
            span.start,
            Some(span.end),
            reader,
            Some(self),
        )
    }

    /// Waits until the fetch tasks have nothing left to do but wait for events.
    pub(super) async fn settle(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

impl Refetch for World {
    fn key(&self) -> &CacheKey {
        &self.key
    }

    fn request(&self) -> OriginRequest {
        World::request(self, &[])
    }

    fn origin(&self) -> Arc<dyn Origin> {
        self.origin.clone()
    }
}

pub(super) async fn drain(reader: &mut BodyReader<'_>) -> Result<Vec<u8>, BodyError> {
    let mut all = Vec::new();
    while let Some(bytes) = reader.next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

pub(super) const FRESH: (&str, &str) = ("cache-control", "max-age=60");
