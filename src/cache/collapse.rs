//! Request collapsing: concurrent requests for one key wait for one head (`one-fill-per-key`).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use tokio::sync::{mpsc, watch};

use super::fetch::{FetchError, InterimResponse, Origin, OriginRequest};
use super::fill::{Fill, FillReader};
use super::key::CacheKey;
use super::policy::cache_control::RequestDirectives;
use super::purge::Sequence;
use super::stored::StoredResponse;
use super::tasks::Task;
use super::{Cache, Lookup, produce};
use crate::byte_range::RangeRequest;
use crate::config::CacheRules;

/// How often a waiter goes on when the task that it waited for died.
const TAKE_OVERS: u32 = 3;

/// A request that the cache could not answer from what it holds.
pub struct Ask {
    /// The primary key.
    pub key: CacheKey,
    /// The request as it may be sent to the origin.
    pub request: Arc<OriginRequest>,
    /// What part the client wants.
    pub range: RangeRequest,
    /// The client's `If-Range`, which goes with its range.
    pub if_range: Option<HeaderValue>,
    /// The stored response to validate.
    pub stale: Option<Arc<StoredResponse>>,
    /// The stale response may answer when the origin fails.
    pub if_error: bool,
    /// What the client's own directives demand of a stored response.
    pub directives: RequestDirectives,
    /// The rules of the route.
    pub rules: Arc<CacheRules>,
    /// Where interim responses go while the answer is awaited.
    pub interim: Option<InterimSender>,
    /// Ask for this client alone, whatever others do.
    pub alone: bool,
    /// Where to ask.
    pub origin: Arc<dyn Origin>,
}

/// Carries interim responses to one waiting client.
pub type InterimSender = mpsc::UnboundedSender<Arc<InterimResponse>>;

/// The head that came of an [`Ask`], with a way to its body.
pub struct Answer {
    /// The response. Its body may still be arriving.
    pub response: Arc<StoredResponse>,
    /// A place at the fill that brings its body; `None` when it was stored already.
    pub reader: Option<FillReader>,
    /// Somebody else had asked.
    pub collapsed: bool,
    /// The origin's status (304 when it validated what was stored); `None` when the response was
    /// stored by somebody else while this request was on its way here.
    pub forward_status: Option<http::StatusCode>,
    /// The server that answered.
    pub server: Option<Arc<str>>,
    /// The origin failed, and this is what was stored.
    pub failed: Option<ValidationFailure>,
}

/// Why a stale response was served instead of a validated one.
#[derive(Debug, Clone)]
pub enum ValidationFailure {
    /// No response came.
    Fetch(FetchError),
    /// The origin answered with this status.
    Status(http::StatusCode),
}

/// What a head-producing fill has come to.
#[derive(Clone)]
pub(super) enum HeadState {
    Pending,
    Ready {
        response: Arc<StoredResponse>,
        forward_status: http::StatusCode,
        server: Arc<str>,
    },
    Failed(FetchError),
}

/// One head-producing fill and everyone who waits for it.
pub(super) struct Flight {
    pub(super) primary_key: CacheKey,
    /// Tells it from the other flights for its key.
    number: u64,
    /// What others who may share its response find it by; `None` when nobody may.
    shared_as: Option<CacheKey>,
    /// Set when the key was invalidated after the origin was asked: what arrives may be what was
    /// invalidated, so it is not stored.
    pub(super) invalidated: AtomicBool,
    /// It was taken off the list.
    landed: AtomicBool,
    pub(super) head: watch::Sender<HeadState>,
    pub(super) fill: Arc<Fill>,
    /// The request that is on its way. Its selecting fields tell whether its response may answer a waiter too.
    pub(super) request: Arc<OriginRequest>,
    /// The newest purge when the origin was asked.
    pub(super) asked: Sequence,
    /// Those who wait and want interim responses.
    interim: Mutex<Vec<InterimSender>>,
}

impl Flight {
    /// Passes an interim response on to whoever waits now.
    pub(super) fn announce(&self, interim: InterimResponse) {
        let interim = Arc::new(interim);
        let mut waiting = self.interim.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|waiter| waiter.send(interim.clone()).is_ok());
    }

    /// Whether others may join it.
    pub(super) fn is_shared(&self) -> bool {
        self.shared_as.is_some()
    }

    fn await_interim(&self, ask: &Ask) {
        if let Some(sender) = &ask.interim {
            let mut waiting = self.interim.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(sender.clone());
        }
    }
}

/// The flights under way.
#[derive(Default)]
pub(super) struct Collapser {
    flights: Mutex<Flights>,
}

#[derive(Default)]
struct Flights {
    /// Those that others may join, by [`Flight::shared_as`].
    shared: HashMap<CacheKey, Arc<Flight>>,
    /// All of them, by primary key and number: thousands may be under way, and each is taken off the list by itself.
    all: BTreeMap<(CacheKey, u64), Arc<Flight>>,
    next_number: u64,
}

impl Flights {
    fn add(&mut self, flight: &Arc<Flight>) {
        if let Some(key) = &flight.shared_as {
            self.shared.insert(key.clone(), flight.clone());
        }
        let key = (flight.primary_key.clone(), flight.number);
        self.all.insert(key, flight.clone());
    }

    /// Leaves what has taken the flight's place alone.
    fn stop_sharing(&mut self, flight: &Arc<Flight>) {
        if let Some(key) = &flight.shared_as
            && let Entry::Occupied(shared) = self.shared.entry(key.clone())
            && Arc::ptr_eq(shared.get(), flight)
        {
            shared.remove();
        }
    }

    fn of_key(&self, key: &CacheKey) -> impl Iterator<Item = &Arc<Flight>> {
        let range = (key.clone(), 0)..=(key.clone(), u64::MAX);
        self.all.range(range).map(|(_, flight)| flight)
    }
}

impl Collapser {
    fn with<T>(&self, look: impl FnOnce(&mut Flights) -> T) -> T {
        look(&mut self.flights.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Flights under way.
    #[cfg(test)]
    pub(super) fn all_under_way(&self) -> usize {
        self.with(|flights| flights.all.len().max(flights.shared.len()))
    }

    /// Ends a flight; whoever comes later finds its result in the tier or asks anew. For the flight's own
    /// task, any number of times.
    pub(super) fn land(&self, landed: &Arc<Flight>) {
        if landed.landed.swap(true, Ordering::Relaxed) {
            return;
        }
        self.with(|flights| {
            flights.stop_sharing(landed);
            let key = (landed.primary_key.clone(), landed.number);
            flights.all.remove(&key);
        });
    }

    /// How many flights for `key` are under way.
    pub(super) fn under_way(&self, key: &CacheKey) -> usize {
        self.with(|flights| flights.of_key(key).count())
    }

    /// Keeps every flight for `key` from being stored or joined.
    pub(super) fn invalidate(&self, key: &CacheKey) {
        self.with(|flights| {
            let of_key: Vec<Arc<Flight>> = flights.of_key(key).cloned().collect();
            for flight in of_key {
                flights.stop_sharing(&flight);
                flight.invalidated.store(true, Ordering::Release);
            }
        });
    }
}

enum Boarding {
    /// The tier has it after all.
    Landed(Arc<StoredResponse>),
    /// Wait for somebody else's flight.
    Join(Arc<Flight>, FillReader),
    /// Our own.
    Own(Arc<Flight>, FillReader),
}

impl Cache {
    /// Asks the origin, or joins a request for the same key that already does.
    ///
    /// The fetch runs in a task of its own: dropping this future does not end it.
    ///
    /// # Errors
    /// [`FetchError`] when the origin gives no response.
    pub async fn fetch(self: &Arc<Self>, mut ask: Ask) -> Result<Answer, FetchError> {
        let mut abandoned = 0;
        let mut apart: Option<CacheKey> = None;
        loop {
            let (flight, reader, collapsed) = match self.board(&ask, apart.as_ref()) {
                Boarding::Landed(response) => return Ok(Answer::stored(response, None)),
                Boarding::Own(flight, reader) => (flight, reader, false),
                Boarding::Join(flight, reader) => (flight, reader, true),
            };
            match wait(&flight, reader, collapsed).await {
                Ok(answer) => {
                    if let Some(instead) = instead_of_failure(&ask, &answer.response) {
                        return Ok(instead);
                    }
                    if !collapsed || may_share(&answer.response, &ask) {
                        return Ok(answer);
                    }
                    // The response was not for us. What it varies by tells whom to wait for, though
                    // the tier may not know it before the body is whole. Who is disappointed twice
                    // waits for nobody: flights that vary by turns would send us to and fro.
                    let head = &answer.response.head;
                    ask.alone = apart.is_some() || head.not_stored.is_some();
                    let fields = &ask.request.selecting;
                    apart = Some(
                        ask.key
                            .with_variant(|key| head.selecting.append_key(fields, key)),
                    );
                }
                // The task died without an answer: one of those who waited takes over.
                Err(FetchError::Abandoned) if collapsed && abandoned < TAKE_OVERS => abandoned += 1,
                Err(error) => {
                    return match &ask.stale {
                        Some(stale) if ask.if_error => {
                            let failed = ValidationFailure::Fetch(error);
                            Ok(Answer::stored(stale.clone(), Some(failed)))
                        }
                        _ => Err(error),
                    };
                }
            }
        }
    }

    /// Validates a stale response behind the back of the client that got it, unless somebody already
    /// does.
    pub fn refresh(self: &Arc<Self>, ask: &Ask) {
        // Dropping the reader leaves the task to itself: it ends with the head unless little is left.
        drop(self.board(ask, None));
    }

    /// `apart`: the key to wait under, when a response has shown it.
    fn board(self: &Arc<Self>, ask: &Ask, apart: Option<&CacheKey>) -> Boarding {
        let key = match apart {
            Some(apart) => apart.clone(),
            None => self.collapse_key(&ask.key, &ask.request.selecting),
        };
        let (boarding, task) = self.collapser.with(|flights| {
            if !ask.alone {
                // Who asks after a purge must not be given what the origin may have read before it.
                let joinable = |flight: &&Arc<Flight>| !self.may_be_purged(&ask.key, flight.asked);
                if let Some(flight) = flights.shared.get(&key).filter(joinable) {
                    flight.await_interim(ask);
                    let reader = flight.fill.reader();
                    return (Boarding::Join(flight.clone(), reader), None);
                }
                // A flight may have landed between our look-up and now.
                if let Some(response) = self.landed(ask) {
                    return (Boarding::Landed(response), None);
                }
            }
            flights.next_number += 1;
            let shared_as = (!ask.alone).then_some(key);
            let (flight, reader, task) = self.take_off(ask, flights.next_number, shared_as);
            flights.add(&flight);
            (Boarding::Own(flight, reader), Some(task))
        });
        // Outside of the lock: a task that cannot be run any more lands its flight at once.
        if let Some(task) = task {
            self.tasks.spawn(task);
        }
        boarding
    }

    /// A fresh response that was stored since this request looked.
    fn landed(&self, ask: &Ask) -> Option<Arc<StoredResponse>> {
        let now = self.clock.now();
        let selecting = &ask.request.selecting;
        let entry = self.memory.peek(&ask.key)?;
        let (lookup, _) = self.consult(&entry, &ask.key, selecting, &ask.directives, now);
        match lookup {
            Lookup::Hit(response) | Lookup::StaleHit(response, _) => Some(response.clone()),
            Lookup::WhileRevalidating(_) | Lookup::Stale { .. } | Lookup::Miss(_) => None,
        }
    }

    fn take_off(
        self: &Arc<Self>,
        ask: &Ask,
        number: u64,
        shared_as: Option<CacheKey>,
    ) -> (Arc<Flight>, FillReader, Task) {
        let (fill, writer) = Fill::new(self.sizes, &self.windows);
        let reader = fill.reader();
        let flight = Arc::new(Flight {
            primary_key: ask.key.clone(),
            number,
            shared_as,
            invalidated: AtomicBool::new(false),
            landed: AtomicBool::new(false),
            head: watch::Sender::new(HeadState::Pending),
            fill,
            request: ask.request.clone(),
            asked: self.purges.latest(),
            interim: Mutex::default(),
        });
        flight.await_interim(ask);
        let task = produce::Production {
            cache: self.clone(),
            flight: flight.clone(),
            range: ask.range.clone(),
            if_range: ask.if_range.clone(),
            stale: ask.stale.clone(),
            if_error: ask.if_error,
            rules: ask.rules.clone(),
            origin: ask.origin.clone(),
        };
        let landing = produce::Landing {
            cache: self.clone(),
            flight: flight.clone(),
        };
        (flight, reader, Box::pin(task.run(writer, landing)))
    }
}

async fn wait(
    flight: &Arc<Flight>,
    reader: FillReader,
    collapsed: bool,
) -> Result<Answer, FetchError> {
    let mut head = flight.head.subscribe();
    let state = head
        .wait_for(|state| !matches!(state, HeadState::Pending))
        .await
        .map(|state| state.clone());
    match state {
        Ok(HeadState::Ready {
            response,
            forward_status,
            server,
        }) => Ok(Answer {
            response,
            reader: Some(reader),
            collapsed,
            forward_status: Some(forward_status),
            server: Some(server),
            failed: None,
        }),
        Ok(HeadState::Failed(error)) => Err(error),
        Ok(HeadState::Pending) | Err(_) => Err(FetchError::Abandoned),
    }
}

/// Whether a response that was fetched for one request may answer another (RFC 9111 §4.1).
fn may_share(response: &StoredResponse, ask: &Ask) -> bool {
    response.head.not_stored.is_none() && response.head.selecting.matches(&ask.request.selecting)
}

/// A server error in place of a validation, when what is stored may be used instead.
fn instead_of_failure(ask: &Ask, response: &StoredResponse) -> Option<Answer> {
    let stale = ask.stale.as_ref().filter(|_| ask.if_error)?;
    let status = response.head.status;
    produce::is_origin_failure(status)
        .then(|| Answer::stored(stale.clone(), Some(ValidationFailure::Status(status))))
}

impl Answer {
    /// A stored response as the answer to a request that went forward.
    fn stored(response: Arc<StoredResponse>, failed: Option<ValidationFailure>) -> Self {
        Answer {
            collapsed: failed.is_none(),
            forward_status: match &failed {
                Some(ValidationFailure::Status(status)) => Some(*status),
                Some(ValidationFailure::Fetch(_)) | None => None,
            },
            reader: None,
            server: None,
            response,
            failed,
        }
    }
}
