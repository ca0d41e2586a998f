//! The log of purges that are in force.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::{info, warn};

use super::Subject;
use super::index::Index;
use super::journal::{self, Entry, FILE_NAME, OpenError};
use super::order::Order;
use super::rule::Severity;

/// The most rules in force. A rule by URL costs about half a kilobyte of memory, so this is
/// a quarter of a gigabyte.
const MAX_RULES: usize = 500_000;

/// The place of a purge in the log; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Sequence(u64);

impl Sequence {
    /// Before every purge.
    pub const START: Sequence = Sequence(0);

    /// The sequence with this number, as it was stored.
    pub fn new(number: u64) -> Self {
        Sequence(number)
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Why a purge is not in force.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// It could not be made durable; the next one tries again with a new file.
    #[error("cannot write {}: {error}", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The wall clock shows a time that RFC 3339 cannot write.
    #[error("the wall clock is not between the years 1970 and 9999")]
    ClockOutOfRange,
}

/// All purges in force, in memory, and on disk when the node has a disk tier.
///
/// Looking up a stored response costs one atomic load, [`PurgeLog::latest`]; only when the response
/// is behind it, [`PurgeLog::judge`] is asked, under a lock that is held for writing no longer than
/// an insert takes.
#[derive(Debug)]
pub struct PurgeLog {
    latest: AtomicU64,
    index: RwLock<Index>,
    writer: Mutex<Writer>,
    max_rules: usize,
}

#[derive(Debug)]
struct Writer {
    entries: Vec<Entry>,
    /// Rules of all entries together.
    rules: usize,
    journal: Option<Journal>,
}

#[derive(Debug)]
struct Journal {
    path: PathBuf,
    /// `None` after a failed write: what the file holds is not known then, and it is replaced
    /// before the next append.
    file: Option<File>,
}

impl PurgeLog {
    /// An empty log that a restart forgets, for a cache that a restart forgets too.
    pub fn in_memory() -> Self {
        PurgeLog::of(Vec::new(), None, MAX_RULES)
    }

    /// The log of the disk tier in `folder`, in the file `purges.jsonl`, compacted; a missing file
    /// is made. A torn last line is dropped and reported in the log.
    ///
    /// A disk tier that finds a stored response with a sequence beyond [`PurgeLog::latest`] must
    /// not use it: the file was lost, and with it the purges that would have touched it.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read, understood or written.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        PurgeLog::open_with(folder, MAX_RULES)
    }

    fn open_with(folder: &Path, max_rules: usize) -> Result<Self, OpenError> {
        let log = PurgeLog::of(Vec::new(), None, max_rules);
        log.attach(folder)?;
        Ok(log)
    }

    /// Makes the log that of the disk tier in `folder` from now on. Purges that were given before keep
    /// their order, and come after those that the folder knows; a response in memory may be touched
    /// by one that it had outlived (`over-never-under`). Of a folder that has taken another's place,
    /// what it knows is dropped: nothing that was stored under those purges is of use.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read, understood or written; nothing has changed then.
    pub fn attach(&self, folder: &Path) -> Result<(), OpenError> {
        let path = folder.join(FILE_NAME);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = match writer.journal {
            Some(_) => Vec::new(),
            None => read(&path)?,
        };
        let mut latest = entries.last().map_or(0, |entry| entry.sequence.0);
        let is_new = writer.journal.is_none();
        for entry in &writer.entries {
            let mut entry = entry.clone();
            if is_new {
                latest += 1;
                entry.sequence = Sequence(latest);
            }
            entries.push(entry);
        }
        let entries = journal::compact(&entries, self.max_rules);
        let file = journal::rewrite(&path, &entries).map_err(|error| OpenError::Write {
            file: path.clone(),
            error,
        })?;
        let mut index = index_of(&entries);
        mem::swap(
            &mut *self.index.write().unwrap_or_else(PoisonError::into_inner),
            &mut index,
        );
        writer.rules = entries.iter().map(|entry| entry.rules.len()).sum();
        latest = entries.last().map_or(0, |entry| entry.sequence.0);
        writer.entries = entries;
        writer.journal = Some(Journal {
            path,
            file: Some(file),
        });
        self.latest.fetch_max(latest, Ordering::AcqRel);
        Ok(())
    }

    fn of(entries: Vec<Entry>, journal: Option<Journal>, max_rules: usize) -> Self {
        let latest = entries.last().map_or(0, |entry| entry.sequence.0);
        PurgeLog {
            latest: AtomicU64::new(latest),
            index: RwLock::new(index_of(&entries)),
            writer: Mutex::new(Writer {
                rules: entries.iter().map(|entry| entry.rules.len()).sum(),
                entries,
                journal,
            }),
            max_rules,
        }
    }

    /// The sequence of the newest purge; [`Sequence::START`] when there was none.
    pub fn latest(&self) -> Sequence {
        // Pairs with the store in `append`: whoever sees a sequence finds its rules in the index.
        Sequence(self.latest.load(Ordering::Acquire))
    }

    /// Puts a purge in force and gives its sequence, which all its rules share; `at` is now.
    ///
    /// Blocks until the purge is on disk.
    ///
    /// # Errors
    /// [`AppendError`]; the purge is not in force then.
    pub fn append(&self, order: &Order, at: SystemTime) -> Result<Sequence, AppendError> {
        let at = rfc_3339(at).ok_or(AppendError::ClockOutOfRange)?;
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.rules + order.rules.len() > self.max_rules {
            self.fold(&mut writer);
        }
        let sequence = Sequence(self.latest().0 + 1);
        let entry = Entry {
            sequence,
            at,
            severity: order.severity,
            rules: order.rules.clone(),
        };
        writer.write(&entry)?;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for rule in &entry.rules {
            index.insert(rule, entry.severity, sequence);
        }
        drop(index);
        writer.rules += entry.rules.len();
        writer.entries.push(entry);
        self.latest.store(sequence.0, Ordering::Release);
        Ok(sequence)
    }

    /// Makes room: half of the rules stay at most.
    fn fold(&self, writer: &mut Writer) {
        let entries = journal::compact(&writer.entries, self.max_rules / 2);
        // Made before the lock is taken, and the old one dropped after it is given back.
        let mut index = index_of(&entries);
        mem::swap(
            &mut *self.index.write().unwrap_or_else(PoisonError::into_inner),
            &mut index,
        );
        writer.rules = entries.iter().map(|entry| entry.rules.len()).sum();
        writer.entries = entries;
        if let Some(journal) = &mut writer.journal {
            journal.file = None;
        }
        info!(rules = writer.rules, "compacted the purge log");
    }

    /// The severest of the purges newer than `since` that touch `subject`.
    ///
    /// When this is `None`, the response is untouched up to the [`PurgeLog::latest`] that was read
    /// before, and may remember that sequence. After a soft purge it must not, or it would forget.
    pub fn judge(&self, subject: &Subject<'_>, since: Sequence) -> Option<Severity> {
        self.index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .judge(subject, since)
    }

    /// How many subjects (URLs, tags, prefixes, hosts) have a purge in force.
    pub fn rules(&self) -> usize {
        self.index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

impl Writer {
    /// Makes `entry` durable.
    fn write(&mut self, entry: &Entry) -> Result<(), AppendError> {
        let Some(journal) = &mut self.journal else {
            return Ok(());
        };
        let written = match journal.file.take() {
            Some(file) => Ok(file),
            None => journal::rewrite(&journal.path, &self.entries),
        };
        let written = written.and_then(|mut file| {
            file.write_all(entry.line().as_bytes())?;
            file.sync_data()?;
            Ok(file)
        });
        match written {
            Ok(file) => {
                journal.file = Some(file);
                Ok(())
            }
            Err(error) => Err(AppendError::Write {
                file: journal.path.clone(),
                error,
            }),
        }
    }
}

fn rfc_3339(at: SystemTime) -> Option<String> {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let seconds = i64::try_from(seconds).ok()?;
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    time.format(&Rfc3339).ok()
}

fn index_of(entries: &[Entry]) -> Index {
    let mut index = Index::default();
    for entry in entries {
        for rule in &entry.rules {
            index.insert(rule, entry.severity, entry.sequence);
        }
    }
    index
}

/// What the file knows.
fn read(path: &Path) -> Result<Vec<Entry>, OpenError> {
    let contents = journal::read(path)?;
    if contents.torn_bytes > 0 {
        warn!(
            file = %path.display(),
            bytes = contents.torn_bytes,
            "dropped the torn last line of the purge log: that purge was never confirmed"
        );
    }
    Ok(contents.entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::CacheKey;
    use crate::cache::policy::tags::{Tags, tags_of};
    use crate::cache::url::Url;
    use http::{HeaderMap, HeaderValue};
    use std::fs;
    use std::time::Duration;

    const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

    fn order(text: &str) -> Order {
        Order::parse(text.as_bytes()).unwrap()
    }

    fn append(log: &PurgeLog, text: &str) -> u64 {
        log.append(&order(text), EPOCH).unwrap().number()
    }

    fn key(url: &str) -> CacheKey {
        Url::parse(url).unwrap().key()
    }

    fn tags(list: &str) -> Tags {
        let mut fields = HeaderMap::new();
        fields.insert("cache-tag", HeaderValue::from_str(list).unwrap());
        tags_of(&fields)
    }

    fn judge(log: &PurgeLog, url: &str, list: &str, since: u64) -> Option<Severity> {
        let (key, tags) = (key(url), tags(list));
        let subject = Subject {
            key: &key,
            tags: &tags,
        };
        log.judge(&subject, Sequence::new(since))
    }

    #[test]
    fn sequences_count_from_one_and_are_shared_by_the_rules_of_one_purge() {
        let log = PurgeLog::in_memory();
        assert_eq!(log.latest(), Sequence::START);
        assert_eq!(append(&log, r#"{"tags": ["a", "b"]}"#), 1);
        assert_eq!(append(&log, r#"{"host": "h", "soft": true}"#), 2);
        assert_eq!(log.latest().number(), 2);
        assert_eq!(log.rules(), 3);
        assert_eq!(judge(&log, "http://h/", "b", 0), Some(Severity::Hard));
        assert_eq!(judge(&log, "http://h/", "b", 1), Some(Severity::Soft));
        assert_eq!(judge(&log, "http://g/", "b", 1), None);
    }

    #[test]
    fn a_restart_forgets_nothing_and_goes_on_counting() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("cache");
        for round in 0..3 {
            let log = PurgeLog::open(&place).unwrap();
            assert_eq!(log.latest().number(), round * 3);
            append(&log, r#"{"tag": "a"}"#);
            append(&log, r#"{"tag": "a", "soft": true}"#);
            append(&log, &format!(r#"{{"url": "http://h/{round}?q"}}"#));
            let sequence = round * 3;
            for log in [log, PurgeLog::open(&place).unwrap()] {
                let hard = Some(Severity::Hard);
                assert_eq!(judge(&log, "http://g/", "a", sequence), hard);
                let soft = Some(Severity::Soft);
                assert_eq!(judge(&log, "http://g/", "a", sequence + 1), soft);
                assert_eq!(judge(&log, "http://g/", "a", sequence + 2), None);
                assert_eq!(judge(&log, "http://h/0?q", "", 2), hard);
            }
        }
        let file = fs::read_to_string(place.join(FILE_NAME)).unwrap();
        // The tag's newest pair and three URLs.
        assert_eq!(file.lines().count(), 5, "{file}");
    }

    #[test]
    fn appending_goes_on_behind_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE_NAME);
        append(&PurgeLog::open(folder.path()).unwrap(), r#"{"tag": "a"}"#);
        let mut text = fs::read_to_string(&file).unwrap();
        text.push_str(r#"{"sequence":2,"at":"#);
        fs::write(&file, text).unwrap();
        let log = PurgeLog::open(folder.path()).unwrap();
        assert_eq!(append(&log, r#"{"tag": "b"}"#), 2);
        let log = PurgeLog::open(folder.path()).unwrap();
        assert_eq!(log.latest().number(), 2);
        assert_eq!(judge(&log, "http://h/", "b", 1), Some(Severity::Hard));
    }

    #[test]
    fn a_broken_line_stops_the_start_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE_NAME);
        let log = PurgeLog::open(folder.path()).unwrap();
        append(&log, r#"{"tag": "a"}"#);
        append(&log, r#"{"tag": "b"}"#);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replacen("rules", "rulez", 1)).unwrap();
        let error = PurgeLog::open(folder.path()).unwrap_err().to_string();
        let expected = format!("{} line 1: unknown key \"rulez\"\nnext: ", file.display());
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn a_purge_that_is_not_durable_is_not_in_force_and_the_next_one_starts_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("cache");
        let log = PurgeLog::open(&place).unwrap();
        append(&log, r#"{"tag": "a"}"#);
        // What a failed write leaves behind; and nothing can be created in a file.
        log.writer.lock().unwrap().journal.as_mut().unwrap().file = None;
        fs::remove_dir_all(&place).unwrap();
        fs::write(&place, "").unwrap();
        let failed = log.append(&order(r#"{"tag": "b"}"#), EPOCH);
        assert!(
            matches!(failed, Err(AppendError::Write { .. })),
            "{failed:?}"
        );
        assert_eq!(log.latest().number(), 1);
        assert_eq!(judge(&log, "http://h/", "b", 0), None);
        fs::remove_file(&place).unwrap();
        assert_eq!(append(&log, r#"{"tag": "c"}"#), 2);
        let log = PurgeLog::open(&place).unwrap();
        assert_eq!(judge(&log, "http://h/", "a", 0), Some(Severity::Hard));
        assert_eq!(judge(&log, "http://h/", "c", 1), Some(Severity::Hard));
    }

    #[test]
    fn more_rules_than_may_be_kept_purge_what_is_older_than_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let log = PurgeLog::open_with(folder.path(), 10).unwrap();
        for number in 1..=11 {
            append(&log, &format!(r#"{{"tag": "{number}", "soft": true}}"#));
        }
        for log in [log, PurgeLog::open(folder.path()).unwrap()] {
            // The fold, rules 6 to 10, and the eleventh.
            assert_eq!(log.rules(), 7);
            assert_eq!(judge(&log, "http://h/", "", 4), Some(Severity::Hard));
            assert_eq!(judge(&log, "http://h/", "", 5), None);
            assert_eq!(judge(&log, "http://h/", "6", 5), Some(Severity::Soft));
            assert_eq!(judge(&log, "http://h/", "11", 10), Some(Severity::Soft));
        }
    }

    #[test]
    fn whoever_sees_a_sequence_finds_its_rules() {
        let log = PurgeLog::in_memory();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let seen = log.latest().number();
                        for number in 1..=seen {
                            let list = number.to_string();
                            let found = judge(&log, "http://h/", &list, number - 1);
                            assert_eq!(found, Some(Severity::Hard), "{number} of {seen}");
                        }
                        if seen == 50 {
                            return;
                        }
                    }
                });
            }
            for number in 1..=50 {
                append(&log, &format!(r#"{{"tag": "{number}"}}"#));
            }
        });
    }

    #[test]
    fn a_clock_that_nobody_can_write_down_is_an_error() {
        let log = PurgeLog::in_memory();
        let year_10_000 = EPOCH + Duration::from_secs(253_402_300_800);
        let second = Duration::from_secs(1);
        for at in [year_10_000, EPOCH - second] {
            let failed = log.append(&order(r#"{"tag": "a"}"#), at);
            assert!(matches!(failed, Err(AppendError::ClockOutOfRange)));
        }
        let last = log.append(&order(r#"{"tag": "a"}"#), year_10_000 - second);
        assert_eq!(last.unwrap().number(), 1);
    }
}
