//! What goes to the disk tier, and what comes back.
//!
//! Invariants:
//! - `disk-fault-is-a-miss`: whatever the disk tier does, a request is answered; at worst the origin is
//!   asked again.
//! - `recalled-is-not-revived`: what was invalidated, forgotten or purged while it was being read from
//!   disk does not come back to memory.

use std::cmp::Reverse;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::Cache;
use super::disk::format::Kind;
use super::disk::shelf::Found;
use super::disk::{Bodies, DiskTier, Mark, Recalled, RecalledBody, Response};
use super::file_span::FileSpan;
use super::key::CacheKey;
use super::memory::{Entry, Leaving};
use super::purge::PurgeLog;
use super::stored::{Body, Generation, StoredResponse};
use super::stored_form::{self, BodyFacts, Decoded};
use crate::clock::{Moment, SharedClock};

/// The disk tier, and what it takes to write a head for it.
pub(super) struct Persistence {
    pub(super) disk: Arc<DiskTier>,
    clock: SharedClock,
}

impl Persistence {
    pub(super) fn new(disk: Arc<DiskTier>, clock: SharedClock) -> Arc<Self> {
        Arc::new(Persistence { disk, clock })
    }

    /// Writes a response that has just been stored, if it is worth it.
    pub(super) fn keep_new(&self, key: &CacheKey, response: &StoredResponse, block_bytes: u64) {
        if response.body.generation.epoch() == 0 {
            self.erase_earlier(key);
        }
        if cannot_be_read_back(response, block_bytes) {
            return;
        }
        // Always asked: the policy counts who is.
        let is_admitted = self.disk.admits(key.as_bytes(), 0, weight(response));
        // What lies there is out of date from now on, and would come back when memory forgets.
        let is_replaced = self.disk.has_responses(key.as_bytes());
        let has_early_blocks = response.body.set_committed();
        if is_admitted || is_replaced || has_early_blocks {
            self.write(key, response);
        }
    }

    /// What lies on disk must not come back when memory has forgotten a response that cannot be
    /// written, because it was fetched before the tier was open.
    fn erase_earlier(&self, key: &CacheKey) {
        if !self.disk.is_open() || self.disk.has_responses(key.as_bytes()) {
            let everything = Generation::latest().number();
            self.disk.erase(key.as_bytes(), everything);
        }
    }

    /// The same for one that was asked for again.
    pub(super) fn keep_used(&self, key: &CacheKey, response: &StoredResponse, block_bytes: u64) {
        if response.body.written_revision().is_some()
            || response.head.not_stored.is_some()
            || cannot_be_read_back(response, block_bytes)
        {
            return;
        }
        if self.disk.admits_again(key.as_bytes(), 0, weight(response)) {
            self.write(key, response);
        }
    }

    /// Writes a block that a fill has brought, if it is worth it, and the head with it.
    pub(super) fn keep_block(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        number: u64,
        bytes: &Bytes,
        is_new: bool,
    ) {
        let generation = response.body.generation.number();
        if response.head.not_stored.is_some()
            || response.body.generation.epoch() == 0
            || self.disk.has_block(generation, number)
        {
            return;
        }
        let length = bytes.len() as u64;
        let is_admitted = match is_new {
            true => self.disk.admits(key.as_bytes(), number, length),
            false => self.disk.admits_again(key.as_bytes(), number, length),
        };
        if !is_admitted {
            return;
        }
        // A head that is found on disk must have been committed: it may have been invalidated else.
        let committed = response.body.note_written_block();
        if committed && response.body.written_revision().is_none() {
            self.write(key, response);
        }
        self.disk
            .put_block(key.as_bytes(), generation, number, bytes.clone());
    }

    fn write(&self, key: &CacheKey, response: &StoredResponse) {
        let kind = match response.head.selecting.is_empty() {
            true => Kind::Response,
            false => Kind::Variant,
        };
        let body = response.body.whole();
        let body = body.map_or_else(Bytes::new, |whole| whole.bytes());
        if !self.put(key, response, kind, body) {
            // It could not take the place of what lies there.
            let before = response.body.generation.number().saturating_sub(1);
            self.disk.erase(key.as_bytes(), before);
        }
    }

    /// Writes a head that was brought up to date since it was written.
    fn write_update(&self, key: &CacheKey, response: &StoredResponse) {
        let written = response.body.written_revision();
        if written.is_some_and(|revision| revision < response.head.revision) {
            self.put(key, response, Kind::Update, Bytes::new());
        }
    }

    /// Hands a record over and says whether it was taken.
    fn put(&self, key: &CacheKey, response: &StoredResponse, kind: Kind, body: Bytes) -> bool {
        let facts = BodyFacts {
            generation: response.body.generation,
            length: response.body.length(),
        };
        let head = &response.head;
        let form = match stored_form::encode(key, head, facts, head.revision, self.clock.now()) {
            Ok(form) => form,
            Err(error) => {
                tracing::debug!(%error, "a response is kept in memory only");
                return false;
            }
        };
        let taken = self.disk.put_response(
            key.as_bytes(),
            Response {
                generation: facts.generation.number(),
                revision: head.revision,
                kind,
                head: form.into(),
                body,
            },
        );
        if taken {
            response.body.set_written(head.revision);
        }
        taken
    }

    /// The responses under `key` that the disk tier holds and no purge log has lost, the newest first, and when they had
    /// been read; `None` when it knows of none.
    async fn recall(
        &self,
        key: &CacheKey,
        bodies: Bodies,
        purges: &PurgeLog,
    ) -> Option<(Vec<(Arc<StoredResponse>, Mark)>, Moment)> {
        let found = self.disk.responses(key.as_bytes(), bodies).await?;
        let now = self.clock.now();
        // Hardly ever more than one: a map would cost more than it saves.
        let mut groups: Vec<Group> = Vec::new();
        for recalled in found {
            let Some(decoded) = decode(key, &recalled, now, purges) else {
                continue;
            };
            match groups
                .iter_mut()
                .find(|group| group.generation() == decoded.generation)
            {
                Some(group) => group.add(decoded, recalled),
                None => groups.push(Group::of(decoded, recalled)),
            }
        }
        groups.sort_by_key(|group| Reverse(group.generation()));
        let responses = groups.into_iter().filter_map(Group::into_response);
        Some((responses.collect(), now))
    }
}

/// The records of one generation.
struct Group {
    newest: Decoded,
    mark: Mark,
    body: Option<RecalledBody>,
}

impl Group {
    fn of(decoded: Decoded, recalled: Recalled) -> Self {
        let Recalled { found, mark } = recalled;
        Group {
            body: whole_body(&decoded, found),
            newest: decoded,
            mark,
        }
    }

    fn generation(&self) -> u64 {
        self.newest.generation
    }

    fn add(&mut self, decoded: Decoded, recalled: Recalled) {
        let Recalled { found, mark } = recalled;
        self.body = whole_body(&decoded, found).or(self.body.take());
        if self.newest.revision < decoded.revision {
            (self.newest, self.mark) = (decoded, mark);
        }
    }

    fn into_response(self) -> Option<(Arc<StoredResponse>, Mark)> {
        let decoded = self.newest;
        let generation = Generation::from_number(decoded.generation);
        let body = match self.body {
            Some(RecalledBody::InFile(span)) => Body::left_in_file(generation, span),
            Some(RecalledBody::Read(bytes)) => {
                Body::recalled(generation, decoded.length, Some(bytes.into())).ok()?
            }
            None => Body::recalled(generation, decoded.length, None).ok()?,
        };
        body.set_written(decoded.revision);
        body.set_committed();
        let mut head = decoded.head;
        head.revision = decoded.revision;
        Some((Arc::new(StoredResponse { head, body }), self.mark))
    }
}

/// The body that lies with a head, when it is all there.
fn whole_body(decoded: &Decoded, found: Found<RecalledBody>) -> Option<RecalledBody> {
    let is_whole = found.kind != Kind::Update && decoded.length == Some(found.body.bytes());
    is_whole.then_some(found.body)
}

/// Reads the head of a record; `None` when it is another key's or cannot be trusted.
fn decode(key: &CacheKey, recalled: &Recalled, now: Moment, purges: &PurgeLog) -> Option<Decoded> {
    let found = &recalled.found;
    if !matches!(found.kind, Kind::Response | Kind::Variant | Kind::Update) {
        return None;
    }
    let decoded = match stored_form::decode(&found.head, now) {
        Ok(decoded) => decoded,
        Err(error) => {
            tracing::warn!(%error, "a stored head on disk cannot be read");
            return None;
        }
    };
    // The purges that it has outlived are lost: it may have been purged since.
    let is_beyond_log = decoded.head.untouched_up_to() > purges.latest();
    (decoded.key == *key && decoded.generation == found.generation && !is_beyond_log)
        .then_some(decoded)
}

/// A small body that is not whole cannot be read back: its only block is kept with the head. Nor can
/// one that was fetched before the tier was opened for the first time: its generation is named as in
/// every earlier process.
fn cannot_be_read_back(response: &StoredResponse, block_bytes: u64) -> bool {
    let body = &response.body;
    let is_piecemeal =
        body.whole().is_none() && body.length().is_none_or(|length| length <= block_bytes);
    is_piecemeal || body.generation.epoch() == 0
}

/// Bytes that a response takes on disk, its blocks aside.
fn weight(response: &StoredResponse) -> u64 {
    let whole = response.body.whole().map_or(0, |whole| whole.len() as u64);
    whole + response.head.wire.len() as u64
}

/// Brings what leaves memory up to date on disk.
impl Leaving for Persistence {
    fn entry(&self, key: &CacheKey, entry: &Entry) {
        for response in &entry.variants {
            self.write_update(key, response);
            if response.body.was_used() {
                self.disk.note_use(key.as_bytes());
            }
        }
    }
}

/// What both tiers hold under one key: what memory knew, and what was read from disk.
pub struct Recollection {
    entry: Arc<Entry>,
    recalled: Vec<(Arc<StoredResponse>, Mark)>,
    at: Moment,
}

impl Recollection {
    /// All of it, as one entry.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// When the disk had been read.
    pub fn at(&self) -> Moment {
        self.at
    }

    /// Whether a body of it was left in its file.
    pub fn leaves_bodies_in_files(&self) -> bool {
        let mut responses = self.recalled.iter().map(|(response, _)| response);
        responses.any(|response| response.body.was_left_in_file())
    }
}

impl Cache {
    /// What the disk tier holds under `key` besides what memory knows, merged with that; `None` when
    /// memory knows all there is. Memory stays as it is: see [`Cache::take_in`]; what has bodies left in files
    /// is not for it.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn recollect(&self, key: &CacheKey, bodies: Bodies) -> Option<Recollection> {
        let persistence = self.persistence.as_ref()?;
        let known = self.memory.peek(key);
        if known.is_some_and(|entry| entry.is_recalled) {
            return None;
        }
        let (recalled, at) = persistence.recall(key, bodies, &self.purges).await?;
        // Again: an answer may have been stored, or all forgotten, while the disk was read.
        let mut entry = self
            .memory
            .peek(key)
            .map_or_else(Entry::default, |known| Entry::clone(&known));
        for (response, mark) in &recalled {
            if persistence.disk.is_unerased(key.as_bytes(), *mark) {
                entry.merge(response.clone());
            }
        }
        let entry = Arc::new(entry);
        Some(Recollection {
            entry,
            recalled,
            at,
        })
    }

    /// Takes into memory what was read from disk, unless it was taken back since, and gives what memory
    /// then knows.
    pub fn take_in(&self, key: &CacheKey, recollection: Recollection) -> Arc<Entry> {
        let Recollection {
            mut entry,
            recalled,
            at: _,
        } = recollection;
        let Some(persistence) = &self.persistence else {
            return entry;
        };
        self.memory.update(key, |known| {
            for (response, mark) in recalled {
                // Inside the update: an erasure is made before the entry is removed.
                if persistence.disk.is_unerased(key.as_bytes(), mark) {
                    known.merge(response);
                }
            }
            known.is_recalled = true;
            entry = Arc::new(known.clone());
        });
        entry
    }

    /// Whether `response`, which was read from disk under `key`, belongs in memory: there is room, or it was there,
    /// or was read before, lately. Takes note of this time. What is in both tiers takes room in both, and
    /// the system keeps what was read from disk as well.
    pub fn wants_in_memory(&self, key: &CacheKey, response: &StoredResponse) -> bool {
        self.memory.wants(key, response.memory_bytes())
    }

    /// Both of [`Cache::recollect`] and [`Cache::take_in`].
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn recall(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        let recollection = self.recollect(key, Bodies::Read).await?;
        Some(self.take_in(key, recollection))
    }

    /// The block, from the disk tier; in memory then too if it comes back soon.
    pub(super) async fn recall_block(&self, generation: Generation, number: u64) -> Option<Bytes> {
        let persistence = self.persistence.as_ref()?;
        let bytes = persistence.disk.block(generation.number(), number).await?;
        let length = bytes.len() as u64;
        if self.memory.wants_block(generation, number, length) {
            let block = bytes.clone().into();
            self.memory.insert_block(generation, number, block);
        }
        Some(bytes)
    }

    /// The block, to be sent from its file on the disk tier; `None` when it must be read.
    pub(super) fn block_in_file(&self, generation: Generation, number: u64) -> Option<FileSpan> {
        let persistence = self.persistence.as_ref()?;
        persistence.disk.block_in_file(generation.number(), number)
    }

    /// Whether a block is in memory or on disk.
    pub(super) fn has_block(&self, generation: Generation, number: u64) -> bool {
        self.memory.has_block(generation, number) || self.has_block_on_disk(generation, number)
    }

    pub(super) fn has_block_on_disk(&self, generation: Generation, number: u64) -> bool {
        let persistence = self.persistence.as_ref();
        persistence.is_some_and(|own| own.disk.has_block(generation.number(), number))
    }

    /// Takes a generation, and all before it, back from the disk tier.
    pub(super) fn erase_on_disk(&self, key: &CacheKey, up_to: Generation) {
        if let Some(persistence) = &self.persistence {
            persistence.disk.erase(key.as_bytes(), up_to.number());
        }
    }

    /// The disk tier, when there is one.
    pub fn disk(&self) -> Option<&Arc<DiskTier>> {
        self.persistence.as_ref().map(|own| &own.disk)
    }

    /// Forgets all that is stored, in memory and on disk. What is under way meanwhile is stored as
    /// always: [`Cache::purge_sequence`] is for what must not be used any more.
    ///
    /// # Errors
    /// What the disk said; nothing that was stored is found all the same, until a restart.
    pub async fn clear(&self) -> Result<(), String> {
        // The disk first: what it still gave comes to memory before that is cleared.
        let outcome = match self.disk() {
            Some(disk) => disk.clear().await,
            None => Ok(()),
        };
        self.memory.clear();
        outcome
    }

    /// Reads what the memory tier held at the last clean stop back into it, as far as there is room.
    pub async fn warm_up(self: Arc<Self>) {
        let cache = Arc::downgrade(&self);
        drop(self);
        let hot = |cache: &Weak<Cache>| cache.upgrade()?.disk()?.take_hot();
        let Some(list) = hot(&cache) else { return };
        let mut rest = &list[..];
        let mut recalled = 0_u64;
        while let Some((key, following)) = next_key(rest) {
            rest = following;
            let Some(cache) = cache.upgrade() else { return };
            if cache.memory.is_full() {
                break;
            }
            if let Ok(key) = CacheKey::from_bytes(key) {
                recalled += u64::from(cache.recall(&key).await.is_some());
            }
        }
        tracing::info!(
            responses = recalled,
            "brought back to memory what was there before"
        );
    }

    /// Leaves the disk tier so that the next start is quick. What is stored later is not written.
    pub async fn close(&self) {
        let Some(persistence) = &self.persistence else {
            return;
        };
        let mut hot = Vec::new();
        self.memory.for_each_entry(|key, entry| {
            for response in &entry.variants {
                persistence.write_update(key, response);
            }
            if entry
                .variants
                .iter()
                .any(|response| response.body.written_revision().is_some())
            {
                push_key(&mut hot, key);
            }
        });
        persistence.disk.close(hot).await;
    }
}

/// The list of hot keys: each with its length in four bytes, little-endian, before it.
fn push_key(list: &mut Vec<u8>, key: &CacheKey) {
    // A request head is bounded far below 4 GiB.
    list.extend_from_slice(&(key.as_bytes().len() as u32).to_le_bytes());
    list.extend_from_slice(key.as_bytes());
}

fn next_key(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = list.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}
