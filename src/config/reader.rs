//! Walks a YAML tree key by key and notes every problem, where serde would stop at the first.
//!
//! Invariants:
//! - `no-key-unread`: leaving a [`Section`] reports every key in it that nobody asked for.
//! - `all-problems-at-once`: a failed read notes a problem and answers `None`; the walk goes on.
//! - `defaults-pass-their-own-check`: a default is text that goes through the same parser as the file.
//!
//! The reader also writes down each key it was asked for, with default and range, so that a test can
//! compare `conf/tidegate.yaml` with what is really read.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_yaml::{Mapping, Value};

use super::policies::Listed;
use super::problem::{Problem, Reason};
use super::spelling::closest;

/// Stands for the path of the whole file in a problem.
pub(super) const TOP: &str = "(top)";

/// What is noted during one walk.
#[derive(Debug, Default)]
pub(super) struct Reader {
    problems: RefCell<Vec<Problem>>,
    keys: RefCell<BTreeMap<String, String>>,
}

impl Reader {
    pub(super) fn problem(&self, key: impl Into<String>, reason: Reason) {
        self.problems.borrow_mut().push(Problem {
            key: key.into(),
            reason,
        });
    }

    /// Every problem so far, and every key that was asked for: its pattern (`edge.routes[].path`)
    /// and its description (`default /; a path prefix`).
    pub(super) fn finish(self) -> (Vec<Problem>, BTreeMap<String, String>) {
        (self.problems.into_inner(), self.keys.into_inner())
    }

    /// Reads the top of the file.
    pub(super) fn root<'r, T>(
        &'r self,
        mapping: &'r Mapping,
        read: impl FnOnce(&Section<'r>) -> Option<T>,
    ) -> Option<T> {
        Section::enter(self, String::new(), String::new(), Some(mapping), read)
    }
}

/// Turns a scalar of the file into a checked value.
type Check<'p, T> = Box<dyn Fn(&Value) -> Result<T, Reason> + 'p>;

/// How a scalar is read: what the operator may write, and the check.
pub(super) struct Parser<'p, T> {
    /// What may stand here, in words: a range, or a list.
    pub(super) values: String,
    /// The check itself.
    pub(super) parse: Check<'p, T>,
}

impl<'p, T: 'p> Parser<'p, T> {
    /// The same words, with another meaning.
    pub(super) fn map<U>(self, meaning: impl Fn(T) -> U + 'p) -> Parser<'p, U> {
        Parser {
            values: self.values,
            parse: Box::new(move |value| (self.parse)(value).map(&meaning)),
        }
    }
}

/// One mapping of the file, or the empty one that stands for an absent section whose keys all have defaults.
pub(super) struct Section<'r> {
    reader: &'r Reader,
    path: String,
    pattern: String,
    mapping: Option<&'r Mapping>,
    known: RefCell<Vec<&'static str>>,
}

impl<'r> Section<'r> {
    fn enter<T>(
        reader: &'r Reader,
        path: String,
        pattern: String,
        mapping: Option<&'r Mapping>,
        read: impl FnOnce(&Section<'r>) -> Option<T>,
    ) -> Option<T> {
        let section = Section {
            reader,
            path,
            pattern,
            mapping,
            known: RefCell::default(),
        };
        let value = read(&section);
        section.report_unknown_keys();
        value
    }

    fn report_unknown_keys(&self) {
        let known = self.known.borrow();
        for key in self.mapping.into_iter().flat_map(Mapping::keys) {
            match key {
                Value::String(key) if known.contains(&key.as_str()) => {}
                Value::String(key) => self.problem(
                    key,
                    Reason::UnknownKey {
                        suggestion: closest(key, &known),
                        known: known.clone(),
                    },
                ),
                other => self.problem_here(Reason::KeyNotText(kind_of(other))),
            }
        }
    }

    /// Notes a problem with one of this section's keys.
    pub(super) fn problem(&self, key: &str, reason: Reason) {
        self.reader.problem(self.path_of(key), reason);
    }

    /// The path of a key in this section.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Notes a problem with this section as a whole.
    pub(super) fn problem_here(&self, reason: Reason) {
        let path = if self.path.is_empty() {
            TOP
        } else {
            &self.path
        };
        self.reader.problem(path, reason);
    }

    /// Whether the file itself holds this key.
    pub(super) fn gives(&self, key: &str) -> bool {
        self.mapping
            .is_some_and(|mapping| mapping.contains_key(key))
    }

    /// This section's own path; empty at the top.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Finds a key and writes down that it exists; an explicit nothing is a problem, not an absence.
    fn find(&self, key: &'static str, description: String) -> Found<'r> {
        self.known.borrow_mut().push(key);
        self.reader
            .keys
            .borrow_mut()
            .insert(join(&self.pattern, key), description);
        match self.mapping.and_then(|mapping| mapping.get(key)) {
            None => Found::Absent,
            Some(Value::Null) => {
                self.problem(key, Reason::NoValue);
                Found::Refused
            }
            Some(value) => Found::Value(value),
        }
    }

    fn parsed<T>(&self, key: &str, value: &Value, parser: &Parser<'_, T>) -> Option<T> {
        (parser.parse)(value)
            .map_err(|reason| self.problem(key, reason))
            .ok()
    }

    /// A key that must be there.
    pub(super) fn required<T>(&self, key: &'static str, parser: Parser<'_, T>) -> Option<T> {
        match self.find(key, format!("required; {}", parser.values)) {
            Found::Value(value) => self.parsed(key, value, &parser),
            Found::Refused => None,
            Found::Absent => {
                self.problem(key, Reason::Missing);
                None
            }
        }
    }

    /// A key with a default, written as it would be written in the file.
    pub(super) fn or_default<T>(
        &self,
        key: &'static str,
        default: &'static str,
        parser: Parser<'_, T>,
    ) -> Option<T> {
        match self.find(key, format!("default {default}; {}", parser.values)) {
            Found::Value(value) => self.parsed(key, value, &parser),
            Found::Refused => None,
            Found::Absent => {
                let value = serde_yaml::from_str(default).expect("a default is a YAML scalar");
                let value = (parser.parse)(&value);
                Some(value.expect("defaults-pass-their-own-check"))
            }
        }
    }

    /// A key that may be absent; `absent` says what happens then.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        absent: &'static str,
        parser: Parser<'_, T>,
    ) -> Option<Option<T>> {
        match self.find(key, format!("absent = {absent}; {}", parser.values)) {
            Found::Value(value) => self.parsed(key, value, &parser).map(Some),
            Found::Refused => None,
            Found::Absent => Some(None),
        }
    }

    fn mapping_of(&self, key: &str, value: &'r Value) -> Option<&'r Mapping> {
        let mapping = value.as_mapping();
        if mapping.is_none() {
            self.problem(key, wrong_type("a mapping", value));
        }
        mapping
    }

    fn inner<T>(
        &self,
        key: &str,
        mapping: Option<&'r Mapping>,
        read: impl FnOnce(&Section<'r>) -> Option<T>,
    ) -> Option<T> {
        let (path, pattern) = (self.path_of(key), join(&self.pattern, key));
        Section::enter(self.reader, path, pattern, mapping, read)
    }

    /// A section whose keys all have defaults: absent means all of them.
    pub(super) fn section<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Section<'r>) -> Option<T>,
    ) -> Option<T> {
        let mapping = match self.find(key, "section".to_owned()) {
            Found::Value(value) => Some(self.mapping_of(key, value)?),
            Found::Refused => return None,
            Found::Absent => None,
        };
        self.inner(key, mapping, read)
    }

    /// A section that may be absent as a whole; `absent` says what happens then.
    pub(super) fn optional_section<T>(
        &self,
        key: &'static str,
        absent: &'static str,
        read: impl FnOnce(&Section<'r>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.find(key, format!("absent = {absent}; section")) {
            Found::Value(value) => {
                let mapping = self.mapping_of(key, value)?;
                self.inner(key, Some(mapping), read).map(Some)
            }
            Found::Refused => None,
            Found::Absent => Some(None),
        }
    }

    /// One of a few words or else a section; `absent` describes the key's absence.
    pub(super) fn word_or_section<T>(
        &self,
        key: &'static str,
        absent: &str,
        words: Parser<'_, T>,
        read: impl FnOnce(&Section<'r>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.find(key, format!("{absent}; {} or a section", words.values)) {
            Found::Value(Value::Mapping(mapping)) => self.inner(key, Some(mapping), read).map(Some),
            Found::Value(value) => self.parsed(key, value, &words).map(Some),
            Found::Refused => None,
            Found::Absent => Some(None),
        }
    }

    /// A mapping whose keys are values too, each once; nothing when absent, which `absent` describes.
    pub(super) fn mapped<K: PartialEq, V>(
        &self,
        key: &'static str,
        absent: &str,
        keys: &Parser<'_, K>,
        values: &Parser<'_, V>,
    ) -> Option<Vec<(K, V)>> {
        let description = format!("{absent}; {}: {}", keys.values, values.values);
        let mapping = match self.find(key, description) {
            Found::Value(value) => self.mapping_of(key, value)?,
            Found::Refused => return None,
            Found::Absent => return Some(Vec::new()),
        };
        let mut entries: Vec<(K, Option<V>, String)> = Vec::with_capacity(mapping.len());
        let mut refused = false;
        for (name, value) in mapping {
            let written = written(name);
            let place = format!("{key}.{written}");
            let value = if value.is_null() {
                self.problem(&place, Reason::NoValue);
                None
            } else {
                self.parsed(&place, value, values)
            };
            refused |= value.is_none();
            let Some(name) = self.parsed(&place, name, keys) else {
                refused = true;
                continue;
            };
            if let Some((_, _, first)) = entries.iter().find(|(known, _, _)| *known == name) {
                let first = self.path_of(first);
                self.problem(
                    &place,
                    Reason::Duplicate {
                        value: written,
                        first,
                    },
                );
                refused = true;
            }
            entries.push((name, value, place));
        }
        if refused {
            return None;
        }
        (entries.into_iter())
            .map(|(name, value, _)| Some((name, value?)))
            .collect()
    }

    /// A list of scalars without repetitions that may be absent; `absent` says when.
    pub(super) fn optional_scalars<T: PartialEq + ToString>(
        &self,
        key: &'static str,
        absent: &'static str,
        parser: Parser<'_, T>,
    ) -> Option<Option<Vec<T>>> {
        let description = format!("absent = {absent}; a list of at least one");
        match self.find(key, description) {
            Found::Value(Value::Sequence(list)) if list.is_empty() => {
                self.problem(key, Reason::NoEntries);
                None
            }
            Found::Value(Value::Sequence(list)) => self.distinct(key, list, &parser).map(Some),
            Found::Value(other) => {
                self.problem(key, wrong_type("a list", other));
                None
            }
            Found::Refused => None,
            Found::Absent => Some(None),
        }
    }

    /// A list of scalars without repetitions, or `'*'` for all there are; `absent` says what happens
    /// without, and nothing that it has to be there.
    pub(super) fn scalars_or_all<T: PartialEq + ToString>(
        &self,
        key: &'static str,
        absent: Option<&'static str>,
        parser: Parser<'_, T>,
    ) -> Option<Option<Listed<T>>> {
        let required = absent.map_or("required".to_owned(), |absent| format!("absent = {absent}"));
        match self.find(key, format!("{required}; '*' or a list of at least one")) {
            Found::Value(Value::String(word)) if word == "*" => Some(Some(Listed::All)),
            Found::Value(Value::Sequence(list)) if list.is_empty() => {
                self.problem(key, Reason::NoEntries);
                None
            }
            Found::Value(Value::Sequence(list)) => {
                let list = self.distinct(key, list, &parser)?;
                Some(Some(Listed::These(list)))
            }
            Found::Value(other) => {
                self.problem(key, wrong_type("'*' or a list", other));
                None
            }
            Found::Refused => None,
            Found::Absent if absent.is_none() => {
                self.problem(key, Reason::Missing);
                None
            }
            Found::Absent => Some(None),
        }
    }

    fn entries(&self, key: &'static str, entries: Entries) -> Option<&'r [Value]> {
        let description = match entries {
            Entries::AtLeastOne => "required; a list of at least one",
            Entries::Any => "default []; a list",
        };
        let list = match self.find(key, description.to_owned()) {
            Found::Value(Value::Sequence(list)) => list.as_slice(),
            Found::Value(other) => {
                self.problem(key, wrong_type("a list", other));
                return None;
            }
            Found::Refused => return None,
            Found::Absent if entries == Entries::AtLeastOne => {
                self.problem(key, Reason::Missing);
                return None;
            }
            Found::Absent => &[],
        };
        if list.is_empty() && entries == Entries::AtLeastOne {
            self.problem(key, Reason::NoEntries);
            return None;
        }
        Some(list)
    }

    /// A list of mappings.
    pub(super) fn list<T>(
        &self,
        key: &'static str,
        entries: Entries,
        mut read: impl FnMut(&Section<'r>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let list = self.entries(key, entries)?;
        let items: Vec<Option<T>> = (list.iter().enumerate())
            .map(|(index, value)| {
                let item = format!("{key}[{index}]");
                let mapping = self.mapping_of(&item, value)?;
                Section::enter(
                    self.reader,
                    self.path_of(&item),
                    format!("{}[]", join(&self.pattern, key)),
                    Some(mapping),
                    &mut read,
                )
            })
            .collect();
        items.into_iter().collect()
    }

    /// A list of scalars without repetitions.
    pub(super) fn scalars<T: PartialEq + ToString>(
        &self,
        key: &'static str,
        parser: Parser<'_, T>,
    ) -> Option<Vec<T>> {
        let list = self.entries(key, Entries::AtLeastOne)?;
        self.distinct(key, list, &parser)
    }

    fn distinct<T: PartialEq + ToString>(
        &self,
        key: &str,
        list: &[Value],
        parser: &Parser<'_, T>,
    ) -> Option<Vec<T>> {
        let mut items: Vec<Option<T>> = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            let name = format!("{key}[{index}]");
            let item = self.parsed(&name, value, parser);
            let first = items
                .iter()
                .position(|seen| seen.is_some() && *seen == item);
            if let (Some(first), Some(item)) = (first, &item) {
                let (value, first) = (item.to_string(), self.path_of(&format!("{key}[{first}]")));
                self.problem(&name, Reason::Duplicate { value, first });
            }
            items.push(item);
        }
        items.into_iter().collect()
    }

    /// A mapping of names to sections, in the order of the file, at least one. Names that are not
    /// text are problems; the others are all returned, also when what they hold is wrong.
    pub(super) fn named<T>(
        &self,
        key: &'static str,
        mut read: impl FnMut(&str, &Section<'r>) -> Option<T>,
    ) -> Option<Vec<(String, Option<T>)>> {
        let value = match self.find(key, "required; names, at least one".to_owned()) {
            Found::Value(value) => value,
            Found::Refused => return None,
            Found::Absent => {
                self.problem(key, Reason::Missing);
                return None;
            }
        };
        let mapping = self.mapping_of(key, value)?;
        if mapping.is_empty() {
            self.problem(key, Reason::NoEntries);
            return None;
        }
        let mut named = Vec::with_capacity(mapping.len());
        for (name, value) in mapping {
            let Value::String(name) = name else {
                self.problem(key, Reason::KeyNotText(kind_of(name)));
                continue;
            };
            let path = join(&self.path_of(key), name);
            let pattern = format!("{}.*", join(&self.pattern, key));
            let entry = self
                .mapping_of(&join(key, name), value)
                .and_then(|mapping| {
                    Section::enter(self.reader, path, pattern, Some(mapping), |section| {
                        read(name, section)
                    })
                });
            named.push((name.clone(), entry));
        }
        Some(named)
    }
}

/// How many entries a list needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entries {
    AtLeastOne,
    Any,
}

enum Found<'r> {
    Value(&'r Value),
    Absent,
    /// A problem was noted.
    Refused,
}

fn join(path: &str, key: &str) -> String {
    // A key that is empty is a key all the same, and a problem with it must have a place.
    let key = if key.is_empty() { "\"\"" } else { key };
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

pub(super) fn wrong_type(expected: &'static str, found: &Value) -> Reason {
    let found = kind_of(found);
    Reason::WrongType { expected, found }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a tagged value",
    }
}

/// A mapping's key in the path of a problem.
fn written(key: &Value) -> String {
    match key {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => kind_of(other).to_owned(),
    }
}
