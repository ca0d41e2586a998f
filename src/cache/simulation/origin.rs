//! An origin that changes, fails and lies as a seed will have it, but never gives two bodies one
//! strong entity tag.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{
    AGE, CACHE_CONTROL, CONTENT_RANGE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::executor::pause;
use super::ledger::{Exchange, Ledger, RESPONSE, VALIDATION};
use crate::byte_range::{RangeRequest, parse, resolve};
use crate::cache::dice::Dice;
use crate::cache::fetch::{
    FetchError, Framing, InterimSink, Origin, OriginBody, OriginRequest, OriginResponse, Phase,
};
use crate::cache::sizes::Sizes;
use crate::clock::{Clock, Moment};

/// The request field by which variants differ.
pub(super) const SELECTING: HeaderName = HeaderName::from_static("a");
/// Its values; `None` = absent.
pub(super) const VARIANTS: [Option<&str>; 3] = [None, Some("1"), Some("2")];

/// Which bytes: a version of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edition {
    pub(super) version: usize,
    /// `None`: the same for all variants.
    pub(super) variant: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Strong,
    Weak,
    /// Weak and the same for all versions: the origin says that they are as good as one another.
    WeakForever,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    MaxAge(u64),
    NoCache,
    NoStore,
    Private,
    Cookie,
    VaryStar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Length,
    LastChunk,
    Close,
}

/// One version of a resource.
#[derive(Debug, Clone, Copy)]
struct Version {
    length: usize,
    tag: Tag,
    sharing: Sharing,
    varies: bool,
    ending: Ending,
    knows_ranges: bool,
    status: u16,
    age_seconds: u64,
}

impl Version {
    fn draw(dice: &mut Dice) -> Self {
        let status = if dice.chance(10) { 404 } else { 200 };
        Version {
            length: draw_length(dice, status),
            tag: dice.pick(&[
                Tag::Strong,
                Tag::Strong,
                Tag::Strong,
                Tag::Weak,
                Tag::WeakForever,
                Tag::None,
            ]),
            sharing: match dice.below(12) {
                0..7 => Sharing::MaxAge(dice.pick(&[1, 5, 60, 60])),
                7 => Sharing::NoCache,
                8 => Sharing::NoStore,
                9 => Sharing::Private,
                10 => Sharing::Cookie,
                _ => Sharing::VaryStar,
            },
            varies: dice.chance(25),
            ending: match dice.below(6) {
                0 => Ending::LastChunk,
                1 => Ending::Close,
                _ => Ending::Length,
            },
            knows_ranges: dice.chance(80),
            status,
            age_seconds: if dice.chance(15) { dice.below(4) } else { 0 },
        }
    }

    /// The next version is mostly of the same kind.
    fn succeeded(self, dice: &mut Dice) -> Self {
        if dice.chance(15) {
            return Version::draw(dice);
        }
        Version {
            length: if dice.chance(50) {
                self.length
            } else {
                draw_length(dice, self.status)
            },
            ..self
        }
    }

    fn is_shareable(&self) -> bool {
        matches!(self.sharing, Sharing::MaxAge(_) | Sharing::NoCache)
    }

    /// Nothing about it lets more than one head be asked for at a time.
    fn is_steady(&self) -> bool {
        matches!(self.sharing, Sharing::MaxAge(seconds) if seconds > self.age_seconds)
            && self.tag == Tag::Strong
            && self.ending != Ending::Close
            && !self.varies
    }
}

fn draw_length(dice: &mut Dice, status: u16) -> usize {
    let length = match dice.below(8) {
        0 => dice.below(2),
        1..3 => dice.below(64),
        3 => dice.pick(&[63, 64, 65, 127, 128, 129, 256, 512]),
        4..6 => 64 + dice.below(300),
        _ => 64 + dice.below(1000),
    };
    // No range can be had of an error document, so one in blocks cannot be completed: a client that
    // was reading it when a block was lost is cut off, and rightly.
    let limit = if status == 200 { u64::MAX } else { 64 };
    length.min(limit) as usize
}

/// Bytes in which no stretch is like another.
fn pool() -> &'static [u8] {
    static POOL: OnceLock<Vec<u8>> = OnceLock::new();
    POOL.get_or_init(|| {
        let mut dice = Dice::new(1);
        (0..1 << 16).map(|_| dice.next() as u8).collect()
    })
}

fn body_of(url: usize, edition: Edition, length: usize) -> Bytes {
    let name = (url as u64) << 32 | (edition.version as u64) << 8;
    let variant = edition.variant.map_or(0, |variant| variant as u64 + 1);
    let start = Dice::new(name | variant).below((pool().len() - length) as u64) as usize;
    Bytes::from_static(&pool()[start..start + length])
}

/// What goes wrong with one response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Connect,
    SilentHead,
    Status(u16),
    /// The connection breaks, or is silent, after so many bytes.
    BreaksAt(u64),
    StallsAt(u64),
    /// The body ends after so many bytes as if that were all.
    EndsAt(u64),
    /// That many bytes of rubbish follow.
    GoesOn(u64),
    IgnoresRange,
    RangeOfUnknown,
    ShorterRange,
}

struct Resource {
    versions: Vec<Version>,
}

struct Script {
    resources: Vec<Resource>,
    dice: Dice,
    /// How many of a hundred responses have a fault.
    fault_percent: u64,
}

/// The scripted origin.
pub(super) struct SeededOrigin {
    script: Mutex<Script>,
    ledger: Arc<Ledger>,
    sizes: Sizes,
}

impl SeededOrigin {
    pub(super) fn new(
        mut dice: Dice,
        fault_percent: u64,
        ledger: Arc<Ledger>,
        sizes: Sizes,
    ) -> Self {
        let resources: Vec<_> = (0..1 + dice.below(3))
            .map(|_| Resource {
                versions: vec![Version::draw(&mut dice)],
            })
            .collect();
        for (url, resource) in resources.iter().enumerate() {
            ledger.trace(|| format!("/{url}: {:?}", resource.versions[0]));
            if !resource.versions[0].is_steady() {
                ledger.lock().unsteady.insert(url);
            }
        }
        SeededOrigin {
            script: Mutex::new(Script {
                resources,
                dice,
                fault_percent,
            }),
            ledger,
            sizes,
        }
    }

    pub(super) fn resources(&self) -> usize {
        self.script.lock().unwrap().resources.len()
    }

    pub(super) fn stop_faults(&self) {
        self.script.lock().unwrap().fault_percent = 0;
    }

    /// The number of the current version.
    pub(super) fn version(&self, url: usize) -> usize {
        self.script.lock().unwrap().resources[url].versions.len() - 1
    }

    pub(super) fn longest(&self, url: usize) -> u64 {
        let script = self.script.lock().unwrap();
        script.resources[url].versions[0].length as u64
    }

    /// A new version replaces the current one.
    pub(super) fn change(&self, url: usize) {
        let mut script = self.script.lock().unwrap();
        let Script {
            resources, dice, ..
        } = &mut *script;
        let versions = &mut resources[url].versions;
        let next = versions[versions.len() - 1].succeeded(dice);
        let number = versions.len();
        versions.push(next);
        self.ledger
            .trace(|| format!("/{url} becomes version {number}: {next:?}"));
        if !next.is_steady() {
            self.ledger.lock().unsteady.insert(url);
        }
    }

    fn draw_fault(script: &mut Script, length: usize) -> Fault {
        let dice = &mut script.dice;
        if !dice.chance(script.fault_percent) {
            return Fault::None;
        }
        let at = dice.below(length as u64 + 1);
        match dice.below(12) {
            0 => Fault::Connect,
            1 => Fault::SilentHead,
            2 => Fault::Status(dice.pick(&[500, 503, 403])),
            3 | 4 => Fault::BreaksAt(at),
            5 => Fault::StallsAt(at),
            6 => Fault::EndsAt(at),
            7 => Fault::GoesOn(1 + dice.below(80)),
            8 => Fault::IgnoresRange,
            9 => Fault::RangeOfUnknown,
            _ => Fault::ShorterRange,
        }
    }

    fn moment(&self) -> Moment {
        self.ledger.clock.now()
    }

    fn respond(
        &self,
        url: usize,
        variant: usize,
        request: &HeaderMap,
        requested: Moment,
    ) -> Result<OriginResponse, FetchError> {
        let mut script = self.script.lock().unwrap();
        let number = script.resources[url].versions.len() - 1;
        let version = script.resources[url].versions[number];
        let fault = Self::draw_fault(&mut script, version.length);
        // A chunk on top of the lead fits the window, as it does with the sizes an edge runs with:
        // otherwise the fastest reader would fall out of it.
        let chunks = script.dice.pick(&[4, 16, 64, 100, 200]);
        let chunk_dice = script.dice.fork();
        drop(script);
        if fault != Fault::None {
            self.ledger.trace(|| format!("origin: /{url}: {fault:?}"));
            self.ledger.count("faults");
            self.ledger.lock().faults += 1;
        }
        match fault {
            Fault::Connect => {
                return Err(FetchError::Connect {
                    server: Arc::from("seeded"),
                    reason: "refused".to_owned(),
                });
            }
            Fault::SilentHead => return Err(silence(Phase::AwaitingHead)),
            _ => {}
        }
        let edition = Edition {
            version: number,
            variant: version.varies.then_some(variant),
        };
        let whole = body_of(url, edition, version.length);
        let (status, span, complete) = choose(&version, edition, fault, request);
        let is_edition =
            [200, 206, 304, 404].contains(&status) && !matches!(fault, Fault::Status(_));
        // Of nothing there is nothing to wait for.
        let in_one_go = !whole.is_empty() && status != 206 && status != 304;
        let exchange = Exchange {
            url,
            edition: is_edition.then_some(edition),
            body: if is_edition {
                whole.clone()
            } else {
                Bytes::from_static(b"sorry")
            },
            shareable: is_edition && version.is_shareable() && version.ending != Ending::Close,
            lifetime: match version.sharing {
                Sharing::MaxAge(seconds) => Duration::from_secs(seconds),
                _ => Duration::ZERO,
            },
            age: Duration::from_secs(version.age_seconds),
            requested: requested.monotonic,
            cut_is_invisible: version.ending == Ending::Close,
            stored_when_ended: in_one_go
                && (version.tag != Tag::Strong || whole.len() as u64 <= self.sizes.blocks.bytes()),
            whole_when_ended: in_one_go && version.tag != Tag::Strong,
            ended: false,
        };
        let mut state = self.ledger.lock();
        let response = state.exchanges.len();
        if !exchange.shareable {
            state.unsteady.insert(url);
        }
        state.exchanges.push(exchange);
        drop(state);
        self.ledger.trace(|| {
            format!("origin: /{url}: response {response} is {status} {edition:?} {span:?}")
        });
        let mut fields = HeaderMap::new();
        if is_edition {
            describe(&version, edition, &mut fields);
        }
        let name = if status == 304 { VALIDATION } else { RESPONSE };
        fields.insert(name, HeaderValue::from(response));
        if status == 206 {
            let complete = complete.map_or("*".to_owned(), |length| length.to_string());
            let text = format!("bytes {}-{}/{complete}", span.start, span.end - 1);
            fields.insert(CONTENT_RANGE, HeaderValue::try_from(text).unwrap());
        }
        let bytes = match status {
            304 => Bytes::new(),
            200 | 404 | 206 if is_edition => whole.slice(span.start as usize..span.end as usize),
            _ => Bytes::from_static(b"sorry"),
        };
        let framing = match version.ending {
            Ending::Close if status != 304 => Framing::UntilClose,
            Ending::LastChunk if status != 304 => Framing::Chunked,
            _ => Framing::Length(bytes.len() as u64),
        };
        let start = if status == 206 { span.start } else { 0 };
        Ok(OriginResponse {
            status: StatusCode::from_u16(status).unwrap(),
            fields,
            framing,
            body: Box::new(SeededBody {
                ledger: self.ledger.clone(),
                sizes: self.sizes,
                response,
                url,
                span: start..start + bytes.len() as u64,
                bytes,
                given: Bytes::new(),
                sent: 0,
                chunk_limit: chunks,
                longest_chunk: 0,
                fault,
                has_gone_on: false,
                framing,
                dice: chunk_dice,
            }),
            server: Arc::from("seeded"),
            requested,
            received: self.moment(),
        })
    }
}

fn tag_of(version: &Version, edition: Edition) -> Option<String> {
    let name = format!("{}.{:?}", edition.version, edition.variant);
    match version.tag {
        Tag::Strong => Some(format!("\"{name}\"")),
        Tag::Weak => Some(format!("W/\"{name}\"")),
        Tag::WeakForever => Some(format!("W/\"forever{:?}\"", edition.variant)),
        Tag::None => None,
    }
}

fn describe(version: &Version, edition: Edition, fields: &mut HeaderMap) {
    if let Some(tag) = tag_of(version, edition) {
        fields.insert(ETAG, HeaderValue::try_from(tag).unwrap());
    }
    let control = match version.sharing {
        Sharing::MaxAge(seconds) => format!("max-age={seconds}"),
        Sharing::NoCache => "no-cache".to_owned(),
        Sharing::NoStore => "no-store".to_owned(),
        Sharing::Private => "private, max-age=60".to_owned(),
        Sharing::Cookie | Sharing::VaryStar => "max-age=60".to_owned(),
    };
    fields.insert(CACHE_CONTROL, HeaderValue::try_from(control).unwrap());
    if version.sharing == Sharing::Cookie {
        fields.insert(SET_COOKIE, HeaderValue::from_static("x=y"));
    }
    if version.sharing == Sharing::VaryStar {
        fields.insert(VARY, HeaderValue::from_static("*"));
    } else if version.varies {
        fields.insert(VARY, HeaderValue::from_name(SELECTING));
    }
    if version.age_seconds > 0 {
        fields.insert(AGE, HeaderValue::from(version.age_seconds));
    }
}

/// Status, bytes and complete length to send.
fn choose(
    version: &Version,
    edition: Edition,
    fault: Fault,
    request: &HeaderMap,
) -> (u16, std::ops::Range<u64>, Option<u64>) {
    let length = version.length as u64;
    if let Fault::Status(status) = fault {
        return (status, 0..5, None);
    }
    let tag = tag_of(version, edition);
    let same = |name| {
        let value = request.get(name).map(HeaderValue::as_bytes);
        value.is_some() && value == tag.as_deref().map(str::as_bytes)
    };
    // An origin that makes a resource private sends it anew.
    if same(IF_NONE_MATCH) && version.is_shareable() {
        return (304, 0..0, None);
    }
    let wanted = request.get(RANGE).map(|range| parse(range.as_bytes()));
    let (Some(RangeRequest::Single(spec)), true, 200) =
        (wanted, version.knows_ranges, version.status)
    else {
        return (version.status, 0..length, Some(length));
    };
    if fault == Fault::IgnoresRange
        || request.contains_key(IF_RANGE) && !(same(IF_RANGE) && version.tag == Tag::Strong)
    {
        return (version.status, 0..length, Some(length));
    }
    match resolve(spec, length) {
        Err(_) => (416, 0..5, None),
        Ok(span) => match fault {
            Fault::RangeOfUnknown => (206, span, None),
            Fault::ShorterRange => (
                206,
                span.start..span.start + (span.end - span.start).div_ceil(2),
                Some(length),
            ),
            _ => (206, span, Some(length)),
        },
    }
}

fn silence(phase: Phase) -> FetchError {
    FetchError::Timeout {
        server: Arc::from("seeded"),
        after: Duration::from_secs(9),
        phase,
    }
}

#[async_trait]
impl Origin for SeededOrigin {
    async fn fetch(
        &self,
        request: &OriginRequest,
        _interim: &InterimSink<'_>,
    ) -> Result<OriginResponse, FetchError> {
        let url = request.target.trim_start_matches('/').parse().unwrap();
        let value = request.selecting.get(SELECTING);
        let variant = VARIANTS
            .iter()
            .position(|variant| variant.map(str::as_bytes) == value.map(HeaderValue::as_bytes))
            .unwrap();
        let requested = self.moment();
        let (before, after) = {
            let dice = &mut self.script.lock().unwrap().dice;
            (dice.below(5), dice.below(5))
        };
        // Missing blocks are asked for with If-Range; clients of the simulation never send it.
        let seat = (!request.fields.contains_key(IF_RANGE)).then(|| {
            self.ledger.count("head requests");
            self.ledger.ask_head(url, variant)
        });
        pause(before).await;
        let response = self.respond(url, variant, &request.fields, requested);
        pause(after).await;
        drop(seat);
        response.map(|response| OriginResponse {
            received: self.moment(),
            ..response
        })
    }
}

struct SeededBody {
    ledger: Arc<Ledger>,
    sizes: Sizes,
    response: usize,
    url: usize,
    span: std::ops::Range<u64>,
    bytes: Bytes,
    /// What was given last.
    given: Bytes,
    sent: u64,
    chunk_limit: u64,
    longest_chunk: u64,
    fault: Fault,
    has_gone_on: bool,
    framing: Framing,
    dice: Dice,
}

impl SeededBody {
    /// The end of a chunk that starts at `sent` and may not pass `limit`.
    fn chunk(&mut self, limit: u64) -> Bytes {
        let room = limit - self.sent;
        let length = (1 + self.dice.below(self.chunk_limit)).min(room);
        let start = self.sent as usize;
        self.sent += length;
        self.longest_chunk = self.longest_chunk.max(length);
        self.bytes.slice(start..start + length as usize)
    }
}

#[async_trait]
impl OriginBody for SeededBody {
    async fn next(&mut self) -> Result<Option<&[u8]>, FetchError> {
        match self.following().await? {
            Some(chunk) => self.given = chunk,
            None => return Ok(None),
        }
        Ok(Some(&self.given))
    }

    async fn release(self: Box<Self>) {}
}

impl SeededBody {
    async fn following(&mut self) -> Result<Option<Bytes>, FetchError> {
        let offset = self.span.start + self.sent;
        self.ledger.judge_lead(
            self.url,
            self.span.clone(),
            offset,
            self.longest_chunk,
            self.sizes,
        );
        pause(self.dice.below(3)).await;
        let length = self.bytes.len() as u64;
        let limit = match self.fault {
            Fault::BreaksAt(at) | Fault::StallsAt(at) | Fault::EndsAt(at) => at.min(length),
            _ => length,
        };
        if self.sent < limit {
            let chunk = self.chunk(limit);
            if let (true, Fault::GoesOn(excess)) = (self.sent == length, self.fault)
                && self.dice.chance(50)
                && matches!(self.framing, Framing::Length(_))
            {
                // Glued to the last chunk.
                self.fault = Fault::None;
                self.has_gone_on = true;
                let rubbish = vec![b'?'; excess as usize];
                return Ok(Some([&chunk[..], &rubbish].concat().into()));
            }
            return Ok(Some(chunk));
        }
        match (self.fault, self.framing) {
            (Fault::BreaksAt(_), Framing::UntilClose) => Ok(None),
            // A chunked body that ends early, and a known length that does not come about, are
            // told from the end.
            (Fault::BreaksAt(_), _) | (Fault::EndsAt(_), Framing::Chunked) => {
                Err(FetchError::Broken {
                    server: Arc::from("seeded"),
                    phase: Phase::ReadingBody,
                    reason: "reset".to_owned(),
                })
            }
            (Fault::StallsAt(_), _) => Err(silence(Phase::ReadingBody)),
            (Fault::GoesOn(excess), Framing::Length(_)) => {
                self.fault = Fault::None;
                self.has_gone_on = true;
                Ok(Some(vec![b'?'; excess as usize].into()))
            }
            _ => {
                if self.sent == length && !self.has_gone_on {
                    self.ledger.lock().exchanges[self.response].ended = true;
                }
                Ok(None)
            }
        }
    }
}
