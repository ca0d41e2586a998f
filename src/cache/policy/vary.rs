//! The `Vary` field and which requests share a response (RFC 9111 §4.1).
//!
//! `Accept-Encoding` and `Accept-Language` are compared by what they ask for, not by how they spell
//! it, and a response in a known language answers everyone who prefers that language.

use http::header::{
    ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LANGUAGE, HeaderName, IF_RANGE, RANGE, VARY,
};
use http::{HeaderMap, HeaderValue};

use super::cache_control::list_items;
use crate::config::{CacheRules, VaryRule};

/// What a response's `Vary` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vary {
    /// No selecting fields.
    Nothing,
    /// The request fields that selected this response; sorted, each once.
    Fields(Vec<HeaderName>),
    /// `*`, or something that is not a field name: no later request can be matched.
    Anything,
}

impl Vary {
    /// Reads every `Vary` line.
    pub fn of(fields: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for item in fields
            .get_all(VARY)
            .iter()
            .flat_map(|value| list_items(value.as_bytes()))
        {
            match HeaderName::from_bytes(item) {
                Ok(name) if item != b"*" => names.push(name),
                _ => return Vary::Anything,
            }
        }
        if names.is_empty() {
            return Vary::Nothing;
        }
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        Vary::Fields(names)
    }
}

/// The request fields that selected a response, with the values that they had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selecting {
    /// Sorted by their names, each once.
    pub(in crate::cache) fields: Vec<Selected>,
    /// The language of the response, in lower case, when it has just one.
    pub(in crate::cache) language: Option<Box<str>>,
    /// It is a 206 that is kept as it came and answers just this `Range`.
    pub(in crate::cache) range: Option<HeaderValue>,
}

/// A selecting field whose value in a request is not that of the stored response. The values are in
/// their normal forms: of `Accept-Encoding` and `Accept-Language`, each preference after the sign
/// that ties it to the one before (`>` less liked, `=` liked as much, `!` refused).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The field.
    pub name: HeaderName,
    /// Its value in the request that brought the response; `None` when it was absent.
    pub stored: Option<String>,
    /// Its value in this request; `None` when it is absent.
    pub asked: Option<String>,
    /// The values are preferences in their normal form.
    pub is_normalised: bool,
}

/// One selecting field and what it was. Its parts are open to [`stored_form`](crate::cache::stored_form).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cache) struct Selected {
    pub(in crate::cache) name: HeaderName,
    pub(in crate::cache) rule: VaryRule,
    /// The value as it came, when it came on one line: most later requests spell it the same.
    pub(in crate::cache) verbatim: Option<Box<[u8]>>,
    /// The value in its normal form; `None` when the field was absent.
    pub(in crate::cache) value: Option<Box<[u8]>>,
}

impl Selecting {
    /// What selected `response` out of all that `request` might have got.
    pub fn of(request: &HeaderMap, response: &HeaderMap, rules: &CacheRules) -> Self {
        let Vary::Fields(names) = Vary::of(response) else {
            return Selecting::default();
        };
        let fields = names.into_iter().map(|name| {
            let rule = rules.vary.of(&name);
            let mut lines = request.get_all(&name).iter();
            let verbatim = match (lines.next(), lines.next()) {
                (Some(line), None) => Some(line.as_bytes().into()),
                _ => None,
            };
            Selected {
                value: normal_form(&name, rule, request).map(Vec::into_boxed_slice),
                verbatim,
                rule,
                name,
            }
        });
        Selecting {
            fields: fields.collect(),
            language: language_of(response),
            range: None,
        }
    }

    /// Ties the response to the `Range` that it answers.
    pub fn for_range(mut self, range: &HeaderValue) -> Self {
        self.range = Some(range.clone());
        self
    }

    /// Whether the response answers every request.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.range.is_none()
    }

    /// The names of the selecting fields.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.fields.iter().map(|field| &field.name)
    }

    /// The first selecting field whose value differs in `request`; `None` when the response may
    /// answer it.
    pub fn mismatch(&self, request: &HeaderMap) -> Option<&HeaderName> {
        if let Some(range) = &self.range {
            if request.contains_key(IF_RANGE) {
                return Some(&IF_RANGE);
            }
            let mut asked = request.get_all(RANGE).iter();
            if asked.next() != Some(range) || asked.next().is_some() {
                return Some(&RANGE);
            }
        }
        let differs = |field: &&Selected| !field.matches(request, self.language.as_deref());
        self.fields.iter().find(differs).map(|field| &field.name)
    }

    /// What [`Selecting::mismatch`] is about: both values as they were compared.
    pub fn difference(&self, request: &HeaderMap) -> Option<Difference> {
        let name = self.mismatch(request)?;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let selected = self.fields.iter().find(|field| field.name == *name);
        let Some(selected) = selected else {
            let asked = request.get(name).map(|value| lossy(value.as_bytes()));
            let stored = (self.range.as_ref())
                .filter(|_| *name == RANGE)
                .map(|range| lossy(range.as_bytes()));
            let name = name.clone();
            return Some(Difference {
                name,
                stored,
                asked,
                is_normalised: false,
            });
        };
        Some(Difference {
            name: name.clone(),
            stored: selected.value.as_deref().map(lossy),
            asked: normal_form(name, selected.rule, request).map(|value| lossy(&value)),
            is_normalised: is_preference(name, selected.rule),
        })
    }

    /// Whether the response may answer `request`.
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.mismatch(request).is_none()
    }

    /// Appends what `request` selects by to `key`, so that two requests append the same bytes
    /// exactly when their values agree.
    pub fn append_key(&self, request: &HeaderMap, key: &mut Vec<u8>) {
        for field in &self.fields {
            let value = normal_form(&field.name, field.rule, request);
            key.push(u8::from(value.is_some()));
            let value = value.unwrap_or_default();
            // A request head is bounded far below 4 GiB.
            key.extend_from_slice(&(value.len() as u32).to_be_bytes());
            key.extend_from_slice(&value);
        }
    }
}

impl Selected {
    fn matches(&self, request: &HeaderMap, language: Option<&str>) -> bool {
        let mut lines = request.get_all(&self.name).iter();
        let (first, second) = (lines.next(), lines.next());
        if let (Some(line), None, Some(verbatim)) = (first, second, &self.verbatim)
            && line.as_bytes() == &**verbatim
        {
            return true;
        }
        if first.is_none() {
            return self.value.is_none();
        }
        if self.rule == VaryRule::Normalise
            && self.name == ACCEPT_LANGUAGE
            && language.is_some()
            && preferred_language(request).as_deref() == language
        {
            return true;
        }
        normal_form(&self.name, self.rule, request).as_deref() == self.value.as_deref()
    }
}

/// Whether a field is compared by what it asks for.
fn is_preference(name: &HeaderName, rule: VaryRule) -> bool {
    rule == VaryRule::Normalise && (*name == ACCEPT_ENCODING || *name == ACCEPT_LANGUAGE)
}

/// The value of a field as it is compared; `None` when it is absent, which differs from empty.
fn normal_form(name: &HeaderName, rule: VaryRule, request: &HeaderMap) -> Option<Vec<u8>> {
    let mut lines = request.get_all(name).iter().peekable();
    lines.peek()?;
    let items = lines.flat_map(|line| list_items(line.as_bytes()));
    if is_preference(name, rule) {
        let mut weighed = weighed(items);
        if *name == ACCEPT_ENCODING {
            // Which codings the client can read counts; an origin picks by its own taste. What it
            // refuses it need not have listed, except that identity and `*` are on the list without
            // being named.
            weighed.retain(|(item, weight)| *weight > 0 || item == b"identity" || item == b"*");
            for (_, weight) in &mut weighed {
                *weight = (*weight).min(1);
            }
        }
        weighed.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        weighed.dedup();
        let mut last = None;
        let mut normal = Vec::new();
        for (item, weight) in weighed {
            // The order of preference counts, not the numbers that express it.
            let separator = match last {
                Some(previous) if previous == weight => b'=',
                _ if weight == 0 => b'!',
                _ => b'>',
            };
            normal.push(separator);
            normal.extend_from_slice(&item);
            last = Some(weight);
        }
        return Some(normal);
    }
    let mut value = Vec::new();
    for item in items {
        if !value.is_empty() {
            value.push(b',');
        }
        value.extend_from_slice(item);
    }
    Some(value)
}

/// The items of an `Accept-…` field in lower case with their weights in thousandths
/// (RFC 9110 §12.4.2).
fn weighed<'a>(items: impl Iterator<Item = &'a [u8]>) -> Vec<(Vec<u8>, u16)> {
    items
        .map(|item| {
            let mut parts = item.split(|b| *b == b';');
            let mut name = parts.next().unwrap_or_default().trim_ascii().to_vec();
            name.make_ascii_lowercase();
            let weight = parts
                .map(<[u8]>::trim_ascii)
                .find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")))
                .map_or(1000, thousandths);
            (name, weight)
        })
        .collect()
}

/// A weight; what is none counts as full, so that it only ever splits variants.
fn thousandths(text: &[u8]) -> u16 {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.trim().parse::<f32>().ok())
        .filter(|weight| (0.0..=1.0).contains(weight))
        // Between 0 and 1000 by the line before.
        .map_or(1000, |weight| (weight * 1000.0).round() as u16)
}

/// The language that a request prefers to every other, in lower case.
fn preferred_language(request: &HeaderMap) -> Option<Box<str>> {
    let lines = request.get_all(ACCEPT_LANGUAGE).iter();
    let mut weighed = weighed(lines.flat_map(|line| list_items(line.as_bytes())));
    weighed.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    let (first, weight) = weighed.first()?;
    let alone = weighed.get(1).is_none_or(|(_, next)| next < weight);
    (alone && *weight > 0)
        .then(|| std::str::from_utf8(first).ok().map(Box::from))
        .flatten()
}

fn language_of(response: &HeaderMap) -> Option<Box<str>> {
    let lines = response.get_all(CONTENT_LANGUAGE).iter();
    let mut languages = lines.flat_map(|line| list_items(line.as_bytes()));
    match (languages.next(), languages.next()) {
        (Some(language), None) => {
            let language = std::str::from_utf8(language).ok()?;
            Some(language.to_ascii_lowercase().into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_fields::fields;
    use http::HeaderValue;

    #[test]
    fn vary_is_read_in_its_odd_spellings() {
        let names = |list: &[&'static str]| {
            Vary::Fields(list.iter().map(|n| HeaderName::from_static(n)).collect())
        };
        for (lines, expected) in [
            (vec![], Vary::Nothing),
            (vec![("vary", "")], Vary::Nothing),
            (vec![("vary", " , ")], Vary::Nothing),
            (vec![("vary", "Foo, bar,FOO")], names(&["bar", "foo"])),
            (
                vec![("vary", "foo"), ("vary", "bar")],
                names(&["bar", "foo"]),
            ),
            (vec![("vary", "*")], Vary::Anything),
            (vec![("vary", "foo, *")], Vary::Anything),
            (vec![("vary", "foo"), ("vary", "*")], Vary::Anything),
            (vec![("vary", "foo bar")], Vary::Anything),
        ] {
            assert_eq!(Vary::of(&fields(&lines)), expected, "{lines:?}");
        }
    }

    fn shares(vary: &str, one: &[(&str, &str)], other: &[(&str, &str)]) -> bool {
        let rules = CacheRules::default();
        let response = fields(&[("vary", vary)]);
        let (one, other) = (fields(one), fields(other));
        let selecting = Selecting::of(&one, &response, &rules);
        assert!(selecting.matches(&one));
        let key = |request| {
            let mut key = Vec::new();
            selecting.append_key(request, &mut key);
            key
        };
        let matches = selecting.matches(&other);
        assert_eq!(key(&one) == key(&other), matches);
        matches
    }

    #[test]
    fn requests_share_a_response_exactly_when_the_selecting_fields_agree() {
        let a = |value| [("a", value)];
        assert!(shares("a", &a("1, 2"), &[("a", "1"), ("a", "2")]));
        assert!(shares("a", &[("a", "1,2"), ("c", "9")], &a(" 1 , 2 ")));
        assert!(!shares("a", &a("1, 2"), &a("2, 1")));
        assert!(!shares("a", &a("1"), &a("2")));
        assert!(!shares("a", &a(""), &[]));
        assert!(!shares("a", &[], &a("")));
        assert!(!shares("a, b", &a("1"), &[("b", "1")]));
        assert!(!shares(
            "a, b",
            &[("a", "x"), ("b", "y")],
            &[("a", "xy"), ("b", "")]
        ));
        assert!(shares("", &a("1"), &a("2")));
    }

    #[test]
    fn encodings_and_languages_are_compared_by_what_they_ask_for() {
        for (name, one, other, agree) in [
            ("accept-encoding", "gzip, br", "br,gzip", true),
            ("accept-encoding", "gzip, br", "BR;q=0.5, gzip;q=1.0", true),
            ("accept-encoding", "gzip, br;q=0", "gzip", true),
            ("accept-encoding", "gzip, identity;q=0", "gzip", false),
            ("accept-encoding", "gzip, *;q=0", "gzip", false),
            ("accept-encoding", "gzip", "br", false),
            ("accept-encoding", "gzip", "gzip, br", false),
            ("accept-language", "en, de", "de, en", true),
            ("accept-language", "en, de", "eN, De", true),
            (
                "accept-language",
                "en, de;q=0.5",
                "en;q=0.9, de;q=0.8",
                true,
            ),
            ("accept-language", "en, de;q=0.5", "de, en;q=0.5", false),
            ("accept-language", "en, de;q=0", "en, de;q=0.1", false),
            ("accept-language", "en", "en-gb", false),
            ("user-agent", "A, b", "a, B", false),
        ] {
            assert_eq!(
                shares(name, &[(name, one)], &[(name, other)]),
                agree,
                "{one} | {other}"
            );
        }
    }

    #[test]
    fn a_difference_tells_the_first_field_and_both_values_as_compared() {
        let rules = CacheRules::default();
        let response = fields(&[("vary", "accept-encoding, x-a")]);
        let request = fields(&[("accept-encoding", "br, GZIP;q=0.5"), ("x-a", "1")]);
        let selecting = Selecting::of(&request, &response, &rules);
        assert_eq!(selecting.difference(&request), None);
        for (lines, name, stored, asked) in [
            (
                vec![("accept-encoding", "gzip"), ("x-a", "2")],
                "accept-encoding",
                ">br=gzip",
                Some(">gzip"),
            ),
            (vec![("x-a", "1")], "accept-encoding", ">br=gzip", None),
            (
                vec![("accept-encoding", "gzip, br"), ("x-a", "2, 3")],
                "x-a",
                "1",
                Some("2,3"),
            ),
        ] {
            let difference = selecting.difference(&fields(&lines)).unwrap();
            assert_eq!(difference.name, name, "{lines:?}");
            assert_eq!(difference.stored.as_deref(), Some(stored), "{lines:?}");
            assert_eq!(difference.asked.as_deref(), asked, "{lines:?}");
        }
        let part = Selecting::default().for_range(&HeaderValue::from_static("bytes=-5"));
        let difference = part.difference(&HeaderMap::new()).unwrap();
        assert_eq!(difference.stored.as_deref(), Some("bytes=-5"));
        assert_eq!((difference.name, difference.asked), (RANGE, None));
    }

    #[test]
    fn a_part_kept_as_it_came_answers_just_its_range() {
        let selecting = Selecting::default().for_range(&HeaderValue::from_static("bytes=-5"));
        assert!(!selecting.is_empty());
        for (lines, answers) in [
            (&[("range", "bytes=-5")][..], true),
            (&[("range", "bytes=-5"), ("x-a", "1")], true),
            (&[("range", "bytes=-6")], false),
            (&[("range", "bytes=-5"), ("range", "bytes=-5")], false),
            (&[("range", "bytes=-5"), ("if-range", "\"a\"")], false),
            (&[], false),
        ] {
            assert_eq!(selecting.matches(&fields(lines)), answers, "{lines:?}");
        }
    }

    #[test]
    fn a_response_in_the_preferred_language_answers() {
        let request = |value| fields(&[("accept-language", value)]);
        let response = fields(&[("vary", "accept-language"), ("content-language", "de")]);
        let rules = CacheRules::default();
        let selecting = Selecting::of(&request("en, de"), &response, &rules);
        for (value, answers) in [
            ("fr;q=0.5, de;q=1.0", true),
            ("DE", true),
            ("de, fr", false),
            ("fr, de;q=0.9", false),
            ("de;q=0", false),
            ("fr", false),
        ] {
            assert_eq!(selecting.matches(&request(value)), answers, "{value}");
        }
        assert!(!selecting.matches(&HeaderMap::new()));
    }
}
