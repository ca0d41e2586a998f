//! The purge log's file: one JSON object per line, in the order of its sequences.
//!
//! ```text
//! {"at":"2026-11-22T18:42:51Z","rules":[{"tag":"news"}],"sequence":12,"severity":"hard"}
//! ```
//!
//! A last line that cannot be read was torn by a crash before anybody heard of its sequence, and is
//! dropped. Any other line that cannot be read stops the start: what follows it was promised.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::log::Sequence;
use super::order::OrderFault;
use super::rule::{Rule, Severity};

/// The file's name in the folder of the disk tier.
pub(super) const FILE_NAME: &str = "purges.jsonl";

/// Rules that were given together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) sequence: Sequence,
    /// When they were given, in RFC 3339; for people, nothing is decided by it.
    pub(super) at: String,
    pub(super) severity: Severity,
    pub(super) rules: Vec<Rule>,
}

/// Why the purge log does not open; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system does not let us read it.
    #[error("cannot read {}: {error}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The system does not let us write it.
    #[error("cannot write {}: {error}", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A line that others follow cannot be read, so which purges are in force is not known.
    #[error(
        "{} line {line}: {fault}\nnext: repair the line; or stop the node, empty its disk tier, and remove the file with it", .file.display()
    )]
    Line {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
    },
}

/// Why a line of the purge log cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// It is not a JSON object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A key is missing, or its value is none that is written there.
    #[error("{0:?} is missing or malformed")]
    Key(&'static str),
    /// A key that is never written.
    #[error("unknown key {0:?}")]
    UnknownKey(String),
    /// A rule that is none.
    #[error("not a rule: {0}")]
    Rule(#[from] OrderFault),
    /// It comes after a later one.
    #[error("sequence {found} stands after {previous}")]
    OutOfOrder {
        /// Its sequence.
        found: u64,
        /// That of the line before.
        previous: u64,
    },
}

/// What a file held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) entries: Vec<Entry>,
    /// Bytes of a torn last line.
    pub(super) torn_bytes: usize,
}

/// Reads a file; a missing one is empty.
///
/// # Errors
/// When it cannot be read, or holds a line that others follow and nobody can read.
pub(super) fn read(file: &Path) -> Result<Contents, OpenError> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contents::default()),
        Err(error) => {
            let file = file.to_owned();
            return Err(OpenError::Read { file, error });
        }
    };
    parse(&bytes).map_err(|(line, fault)| OpenError::Line {
        file: file.to_owned(),
        line,
        fault,
    })
}

/// Reads a file's bytes; an error comes with its line, counted from 1.
fn parse(bytes: &[u8]) -> Result<Contents, (usize, LineFault)> {
    let mut contents = Contents::default();
    let mut previous = Sequence::START;
    let mut end = 0;
    for (place, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        end += line.len();
        match read_line(line, previous) {
            Ok(entry) => {
                previous = entry.sequence;
                contents.entries.push(entry);
            }
            Err(_) if end == bytes.len() => contents.torn_bytes = line.len(),
            Err(fault) => return Err((place + 1, fault)),
        }
    }
    Ok(contents)
}

fn read_line(line: &[u8], previous: Sequence) -> Result<Entry, LineFault> {
    let Ok(Value::Object(object)) = serde_json::from_slice(line) else {
        return Err(LineFault::NotAnObject);
    };
    let known = ["at", "rules", "sequence", "severity"];
    if let Some(unknown) = object.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(LineFault::UnknownKey(unknown.clone()));
    }
    let sequence = object.get("sequence").and_then(Value::as_u64);
    let sequence = sequence.ok_or(LineFault::Key("sequence"))?;
    if sequence < previous.number() || sequence == 0 {
        return Err(LineFault::OutOfOrder {
            found: sequence,
            previous: previous.number(),
        });
    }
    let at = object.get("at").and_then(Value::as_str);
    let at = at.filter(|at| OffsetDateTime::parse(at, &Rfc3339).is_ok());
    let severity = object.get("severity").and_then(Value::as_str);
    let severity = Severity::ALL
        .into_iter()
        .find(|known| severity == Some(known.as_str()));
    let rules = object.get("rules").and_then(Value::as_array);
    let rules = rules.filter(|rules| !rules.is_empty());
    Ok(Entry {
        sequence: Sequence::new(sequence),
        at: at.ok_or(LineFault::Key("at"))?.to_owned(),
        severity: severity.ok_or(LineFault::Key("severity"))?,
        rules: (rules.ok_or(LineFault::Key("rules"))?.iter())
            .map(|rule| match rule {
                Value::Object(rule) => Ok(Rule::from_json(rule)?),
                _ => Err(LineFault::Key("rules")),
            })
            .collect::<Result<_, _>>()?,
    })
}

impl Entry {
    /// The entry's line, with its end.
    pub(super) fn line(&self) -> String {
        let rules = self.rules.iter().map(|rule| Value::Object(rule.to_json()));
        let object = Map::from_iter([
            ("sequence".to_owned(), self.sequence.number().into()),
            ("at".to_owned(), self.at.as_str().into()),
            ("severity".to_owned(), self.severity.as_str().into()),
            ("rules".to_owned(), rules.collect()),
        ]);
        format!("{}\n", Value::Object(object))
    }
}

/// Makes `file` hold `entries` and nothing else, on disk when it returns; gives it back for
/// appending. A crash leaves the old file or the new one.
///
/// # Errors
/// When the system fails; the old file is still there.
pub(super) fn rewrite(file: &Path, entries: &[Entry]) -> io::Result<File> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let new = file.with_extension("jsonl.new");
    let mut text = String::new();
    for entry in entries {
        text.push_str(&entry.line());
    }
    let mut handle = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    handle.write_all(text.as_bytes())?;
    handle.sync_all()?;
    fs::rename(&new, file)?;
    // Without this a crash could bring the old file back, and with it forget what is appended next.
    File::open(folder)?.sync_all()?;
    Ok(handle)
}

/// Leaves out what no judgement can depend on any more: of each subject, all but the newest hard
/// purge and the newest soft one after it. When more than `keep` rules would still be left, the
/// oldest are folded into one that purges everything as it was before them: what has not been
/// looked up since then is fetched again.
pub(super) fn compact(entries: &[Entry], keep: usize) -> Vec<Entry> {
    // The newest severities seen of each rule, from the end.
    let mut seen: HashMap<&Rule, Severity> = HashMap::new();
    let everything = Rule::everything();
    let mut kept_rules = 0;
    let mut kept = Vec::new();
    for entry in entries.iter().rev() {
        if seen.get(&everything) == Some(&Severity::Hard) {
            break;
        }
        let mut rules = Vec::new();
        for rule in &entry.rules {
            if seen.get(rule) >= Some(&entry.severity) {
                continue;
            }
            seen.insert(rule, entry.severity);
            rules.push(rule.clone());
        }
        if rules.is_empty() {
            continue;
        }
        kept_rules += rules.len();
        if kept_rules > keep && !kept.is_empty() {
            kept.push(Entry {
                severity: Severity::Hard,
                rules: vec![everything],
                ..entry.clone()
            });
            break;
        }
        let rules_only = Entry {
            rules,
            ..entry.clone()
        };
        kept.push(rules_only);
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sequence: u64, severity: Severity, tags: &[&str]) -> Entry {
        let rules = tags.iter().map(|tag| Rule::Tag((*tag).to_owned()));
        Entry {
            sequence: Sequence::new(sequence),
            at: "2026-11-22T18:42:51Z".to_owned(),
            severity,
            rules: rules.collect(),
        }
    }

    fn text(entries: &[Entry]) -> String {
        entries.iter().map(Entry::line).collect()
    }

    use Severity::{Hard, Soft};

    #[test]
    fn what_is_written_is_read_again() {
        let entries = [entry(3, Hard, &["a", "b \"\\ü"]), entry(4, Soft, &["a"])];
        let contents = parse(text(&entries).as_bytes()).unwrap();
        assert_eq!(contents.entries, entries);
        assert_eq!(contents.torn_bytes, 0);
    }

    #[test]
    fn a_last_line_that_was_cut_anywhere_is_dropped_and_nothing_else() {
        let whole = text(&[entry(1, Hard, &["a"])]);
        let both = text(&[entry(1, Hard, &["a"]), entry(2, Soft, &["b"])]);
        for end in whole.len()..both.len() {
            let contents = parse(&both.as_bytes()[..end]).unwrap();
            // Without its line end the last line is whole all the same.
            let expected = if end + 1 == both.len() { 2 } else { 1 };
            assert_eq!(contents.entries.len(), expected, "{end}");
            let torn = if expected == 2 { 0 } else { end - whole.len() };
            assert_eq!(contents.torn_bytes, torn, "{end}");
        }
        let zeros = [whole.as_bytes(), &[0; 9]].concat();
        assert_eq!(parse(&zeros).unwrap().torn_bytes, 9);
    }

    #[test]
    fn a_line_that_others_follow_and_nobody_can_read_is_named() {
        let good = |sequence| entry(sequence, Hard, &["a"]).line();
        let line = good(2);
        for (bad, fault) in [
            ("\n".to_owned(), LineFault::NotAnObject),
            (line[..9].to_owned() + "\n", LineFault::NotAnObject),
            (line.replace("hard", "Hard"), LineFault::Key("severity")),
            (line.replace("2026-", "26-"), LineFault::Key("at")),
            (line.replace(":2,", ":-2,"), LineFault::Key("sequence")),
            (line.replace("[{", "[1,{"), LineFault::Key("rules")),
            (
                line.replace("\"at\"", "\"x\":1,\"at\""),
                LineFault::UnknownKey("x".to_owned()),
            ),
            (
                line.replace("\"tag\"", "\"tags\""),
                LineFault::Rule(OrderFault::UnknownKey("tags".to_owned())),
            ),
            (
                line.replace(":2,", ":0,"),
                LineFault::OutOfOrder {
                    found: 0,
                    previous: 1,
                },
            ),
        ] {
            let file = [good(1), bad.clone(), good(3)].concat();
            assert_eq!(parse(file.as_bytes()), Err((2, fault)), "{bad}");
        }
    }

    #[test]
    fn compaction_keeps_the_newest_hard_purge_and_the_soft_one_after_it() {
        let entries = [
            entry(1, Hard, &["a", "b"]),
            entry(2, Soft, &["a"]),
            entry(3, Hard, &["a"]),
            entry(4, Soft, &["a", "c", "c"]),
            entry(5, Soft, &["a"]),
        ];
        let expected = [
            entry(1, Hard, &["b"]),
            entry(3, Hard, &["a"]),
            entry(4, Soft, &["c"]),
            entry(5, Soft, &["a"]),
        ];
        assert_eq!(compact(&entries, 100), expected);
        assert_eq!(compact(&expected, 4), expected);
    }

    #[test]
    fn rules_beyond_the_limit_are_folded_into_one_that_purges_all_before_them() {
        let tags = ["a", "b", "c", "d"];
        let entries: Vec<Entry> = (tags.iter().zip(1..))
            .map(|(tag, sequence)| entry(sequence, Soft, &[tag]))
            .collect();
        let folded = compact(&entries, 2);
        let fold = Entry {
            severity: Hard,
            rules: vec![Rule::everything()],
            ..entry(2, Hard, &[])
        };
        assert_eq!(folded[0], fold);
        assert_eq!(folded[1..], entries[2..]);
        // What an earlier fold covers is left out, the fold itself stays.
        let again = [&entries[..1], &folded].concat();
        assert_eq!(compact(&again, 3), folded);
    }
}
