//! The one file that calls the engine: what the edge does with it, in short.

use std::sync::Arc;
use std::time::Duration;

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::clients::{Directive, Wish};
use super::executor::pause;
use super::ledger::{Ledger, Seat, Source};
use super::origin::{SELECTING, SeededOrigin, VARIANTS};
use crate::byte_range::{RangeRequest, resolve};
use crate::cache::fetch::{Origin, OriginRequest};
use crate::cache::fill::{FillError, FillReader};
use crate::cache::policy::cache_control::RequestDirectives;
use crate::cache::purge::{Order, Rule, Severity, Site};
use crate::cache::read::Refetch;
use crate::cache::{
    Ask, BodyError, BodyReader, Cache, CacheKey, HeldResponse, Lookup, Miss, Piece, Scheme,
    StoredResponse,
};
use crate::clock::{Clock, Moment};
use crate::config::CacheRules;

/// How often a request starts over when the object changes before its first byte.
const ATTEMPTS: usize = 3;

/// The engine and what it stands between.
pub(super) struct Engine {
    pub(super) cache: Arc<Cache>,
    pub(super) origin: Arc<SeededOrigin>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) rules: Arc<CacheRules>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With all that was asked for.
    Whole,
    /// The client had enough.
    EnoughRead,
    /// It would have been passed on to the origin.
    Passed,
    /// With an error instead of a head.
    NoHead,
    /// After a head, with an error.
    BrokenOff,
    /// After a head, because the object has changed at the origin.
    Changed,
    /// The range lies outside.
    Unsatisfiable,
}

pub(super) fn key(url: usize) -> CacheKey {
    CacheKey::new(Scheme::Http, "h", &format!("/{url}"), None)
}

pub(super) fn selecting(variant: usize) -> HeaderMap {
    VARIANTS[variant]
        .map(|value| (SELECTING, HeaderValue::from_static(value)))
        .into_iter()
        .collect()
}

/// Asks for what is missing of a body.
struct OriginOfWish<'a> {
    engine: &'a Engine,
    wish: &'a Wish,
    key: CacheKey,
}

impl Refetch for OriginOfWish<'_> {
    fn key(&self) -> &CacheKey {
        &self.key
    }

    fn request(&self) -> OriginRequest {
        self.engine.request(self.wish)
    }

    fn origin(&self) -> Arc<dyn Origin> {
        self.engine.origin.clone()
    }
}

impl Engine {
    fn request(&self, wish: &Wish) -> OriginRequest {
        let mut selecting = selecting(wish.variant);
        match wish.directive {
            Directive::None => {}
            Directive::NoCache => {
                selecting.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            }
            Directive::MaxAgeZero => {
                selecting.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=0"));
            }
        }
        OriginRequest {
            target: format!("/{}", wish.url),
            fields: HeaderMap::new(),
            selecting,
            ring_key: key(wish.url).as_bytes().into(),
        }
    }

    fn ask(&self, wish: &Wish) -> Ask {
        let request = self.request(wish);
        Ask {
            key: key(wish.url),
            range: wish.range.clone(),
            if_range: None,
            stale: None,
            if_error: false,
            directives: RequestDirectives::of(&request.selecting),
            rules: self.rules.clone(),
            interim: None,
            alone: false,
            origin: self.origin.clone() as Arc<dyn Origin>,
            request: Arc::new(request),
        }
    }

    /// Takes one request from its look-up to its last byte.
    pub(super) async fn answer(&self, wish: &Wish) -> Ended {
        let oldest_age = (wish.directive == Directive::MaxAgeZero).then_some(Duration::ZERO);
        let seat = self.ledger.begin(wish.url, wish.variant, oldest_age);
        self.ledger
            .trace(|| format!("visit {}: {wish:?}", seat.visit));
        for _ in 0..ATTEMPTS {
            let now = self.ledger.clock.now();
            let mut ask = self.ask(wish);
            let fields = &ask.request.selecting;
            let found = self.cache.lookup(&ask.key, fields, &ask.directives, now);
            let usable = match found {
                Lookup::Hit(response) => Some((response, Source::Stored)),
                Lookup::StaleHit(response, _) => Some((response, Source::Stale)),
                Lookup::WhileRevalidating(response) => {
                    self.ledger.count("while revalidating");
                    ask.stale = Some(Arc::clone(&response));
                    self.cache.refresh(&ask);
                    Some((response, Source::Stale))
                }
                Lookup::Miss(Miss::Pass) => return Ended::Passed,
                Lookup::Miss(Miss::Key | Miss::Variant) => None,
                Lookup::Stale {
                    response, if_error, ..
                } => {
                    (ask.stale, ask.if_error) = (Some(response.into()), if_error);
                    None
                }
            };
            if let Some((response, source)) = usable {
                self.ledger.count("hits");
                if wish.directive == Directive::NoCache && self.ledger.lock().faults == 0 {
                    self.ledger
                        .violation("fresh: no-cache was answered unvalidated".to_owned());
                }
                match self.deliver(wish, &seat, response, None, source, now).await {
                    Some(ended) => return ended,
                    None => continue,
                }
            }
            let answer = match self.cache.fetch(ask).await {
                Ok(answer) => answer,
                Err(error) => {
                    self.ledger
                        .trace(|| format!("visit {}: no head: {error}", seat.visit));
                    return Ended::NoHead;
                }
            };
            if answer.collapsed {
                self.ledger.count("collapsed");
            }
            if answer.forward_status == Some(StatusCode::NOT_MODIFIED) {
                self.ledger.count("validated");
            }
            let source = match answer.failed {
                Some(_) => Source::Stale,
                None => Source::Fetched,
            };
            let delivered = self
                .deliver(
                    wish,
                    &seat,
                    answer.response.into(),
                    answer.reader,
                    source,
                    now,
                )
                .await;
            if let Some(ended) = delivered {
                return ended;
            }
        }
        Ended::Passed
    }

    /// Reads the body as the edge does; `None` to start over.
    async fn deliver(
        &self,
        wish: &Wish,
        seat: &Seat,
        response: HeldResponse,
        reader: Option<FillReader>,
        source: Source,
        looked: Moment,
    ) -> Option<Ended> {
        let length = response.body.length();
        let mut sight = seat.head(&response.head.fields, source, looked, length);
        let is_ok = response.head.status == StatusCode::OK;
        let span = match (&wish.range, length) {
            (RangeRequest::Single(spec), Some(length)) if is_ok => match resolve(*spec, length) {
                Ok(span) => Some(span),
                Err(_) => return Some(Ended::Unsatisfiable),
            },
            (_, Some(length)) => Some(0..length),
            (_, None) => None,
        };
        if let Some(span) = &span {
            seat.reads(&mut sight, span.clone());
        }
        let in_pieces = response.head.not_stored.is_none() && response.body.whole().is_none();
        let refetch = OriginOfWish {
            engine: self,
            wish,
            key: key(wish.url),
        };
        let arriving = reader.is_some();
        let mut body = BodyReader::new(
            &self.cache,
            &response,
            span.as_ref().map_or(0, |span| span.start),
            span.map(|span| span.end),
            reader,
            in_pieces.then_some(&refetch as &dyn Refetch),
        );
        let mut read = 0;
        loop {
            pause(wish.slowness).await;
            match body.next_piece(false).await {
                Ok(Some(Piece::File(_))) => unreachable!("no files were asked for"),
                Ok(Some(Piece::Bytes(bytes))) => {
                    seat.bytes(&mut sight, &bytes);
                    read += bytes.len() as u64;
                    if wish.enough.is_some_and(|enough| read >= enough) {
                        return Some(Ended::EnoughRead);
                    }
                }
                Ok(None) => {
                    seat.end(&sight);
                    return Some(Ended::Whole);
                }
                Err(BodyError::Fill(FillError::Changed)) if read == 0 && !arriving => {
                    return None;
                }
                Err(BodyError::Fill(FillError::Changed)) => return Some(Ended::Changed),
                Err(error) => {
                    self.ledger
                        .trace(|| format!("visit {}: broken off: {error}", seat.visit));
                    return Some(Ended::BrokenOff);
                }
            }
        }
    }

    pub(super) fn invalidate(&self, url: usize) {
        self.cache.invalidate(&key(url));
    }

    /// Purges a resource by the prefix of its path.
    pub(super) fn purge(&self, url: usize) {
        let order = Order {
            rules: vec![Rule::Prefix {
                site: Site::Every,
                path: format!("/{url}"),
            }],
            severity: Severity::Hard,
        };
        let at = self.ledger.clock.now().wall;
        self.cache
            .purges
            .append(&order, at)
            .expect("a log in memory takes every purge");
    }

    /// What is stored for a client of `variant`.
    pub(super) fn stored(&self, url: usize, variant: usize) -> Option<Arc<StoredResponse>> {
        let entry = self.cache.memory.peek(&key(url))?;
        entry.variant_for(&selecting(variant)).cloned()
    }

    /// The tier loses all that is remembered of a resource.
    pub(super) fn lose(&self, url: usize) {
        self.cache.memory.remove(&key(url));
    }

    /// The tier loses a block.
    pub(super) fn lose_block(&self, url: usize, variant: usize, number: u64) {
        if let Some(response) = self.stored(url, variant) {
            let generation = response.body.generation;
            self.cache.memory.remove_block(generation, number);
        }
    }

    /// Judges what is stored once everybody is done: whatever looks complete is, byte for byte, and
    /// nothing is left under way.
    pub(super) fn audit(&self, url: usize, variant: usize, killed: bool) {
        let under_way = self.cache.collapser.all_under_way();
        if under_way != 0 {
            self.ledger
                .violation(format!("no-flight-is-forgotten: {under_way} under way"));
        }
        let Some(response) = self.stored(url, variant) else {
            return;
        };
        let body = &response.body;
        let fills = body.with_fills(|fills| fills.len());
        if fills != 0 && !killed {
            self.ledger
                .violation(format!("no-fill-is-forgotten: /{url} has {fills}"));
        }
        let Some(expected) = self.ledger.body_of(&response.head.fields) else {
            self.ledger.violation(format!(
                "not-shared: an unshareable response of /{url} is stored"
            ));
            return;
        };
        if response.head.not_stored.is_some() {
            self.ledger.violation(format!(
                "not-shared: /{url} is stored though it says otherwise"
            ));
        }
        let wrong = |what: String| {
            self.ledger
                .violation(format!("visible-only-when-complete: /{url}: {what}"));
        };
        if body.length() != Some(expected.len() as u64) {
            wrong(format!("length {:?} of {}", body.length(), expected.len()));
        }
        if self.ledger.is_broken(&response.head.fields) {
            wrong("it never came to its end".to_owned());
        }
        if let Some(whole) = body.whole() {
            self.ledger.count("stored whole");
            if whole.bytes() != expected {
                wrong(format!("{} bytes whole of {}", whole.len(), expected.len()));
            }
            return;
        }
        let blocks = self.cache.sizes.blocks;
        let length = expected.len() as u64;
        let mut missing = 0;
        for number in 0..=blocks.block_of(length) + 1 {
            let span = blocks.start_of(number).min(length)..blocks.end_of(number, length);
            match self.cache.memory.block(body.generation, number) {
                Some(block) => {
                    self.ledger.count("stored blocks");
                    let bytes = block.bytes();
                    if bytes != expected.slice(span.start as usize..span.end as usize) {
                        wrong(format!("{} bytes in block {number} {span:?}", bytes.len()));
                    }
                }
                None => missing += u64::from(!span.is_empty()),
            }
        }
        if missing > 0 && response.head.part_validator().is_none() {
            self.ledger.count("stored, useless");
        }
    }
}
