//! What an operator asks for: the JSON object that `POST /purge` takes. Pure.

use serde_json::{Map, Value};

use super::rule::{Rule, Severity};
use crate::cache::policy::tags::{MAX_TAGS, TagFault};
use crate::cache::url::UrlFault;
use crate::request_target::TargetFault;

/// A purge: what it touches, and how hard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// At least one; several only when they are tags.
    pub rules: Vec<Rule>,
    /// For all of them.
    pub severity: Severity,
}

/// Why a text is no purge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderFault {
    /// It is not JSON (RFC 8259).
    #[error("not JSON at line {line}, column {column}")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// It is JSON of another kind.
    #[error("not a JSON object")]
    NotAnObject,
    /// A key that nothing reads.
    #[error("unknown key {0:?}; known are url, tag, tags, prefix, host and soft")]
    UnknownKey(String),
    /// A value of the wrong type.
    #[error("{key} must be {expected}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// Nothing is named.
    #[error("nothing to purge: give url, tag, tags, prefix or host")]
    NoSubject,
    /// More than one thing is named.
    #[error("give one of url, tag, tags, prefix and host; only prefix and host go together")]
    SeveralSubjects,
    /// `tags` is too long.
    #[error("{0} tags in one purge are more than {MAX_TAGS}")]
    TooManyTags(usize),
    /// A URL that no request can carry.
    #[error("{key} is not a URL that can be stored: {fault}")]
    Url {
        /// `url` or `prefix`.
        key: &'static str,
        /// What is wrong with it.
        fault: UrlFault,
    },
    /// A prefix that no path begins with.
    #[error("prefix must be a path that begins with / or a URL; this one holds {0}")]
    Prefix(TargetFault),
    /// A prefix that reaches into the query.
    #[error("prefix must end before the query")]
    PrefixWithQuery,
    /// `host` beside a prefix that is a URL.
    #[error("with host, prefix must be a path that begins with /")]
    PrefixNamesHost,
    /// A host that is none.
    #[error("host {0:?} is not a name or an address, with or without port")]
    Host(String),
    /// A tag that no response can carry.
    #[error(transparent)]
    Tag(#[from] TagFault),
}

impl Order {
    /// Reads what `POST /purge` takes: the keys of [`Rule::from_json`], or `{"tags": [..]}`, and
    /// `"soft": true` to spare what may be served stale; `false` when absent.
    ///
    /// # Errors
    /// [`OrderFault`] for unknown keys, missing ones and values that can name no stored response.
    pub fn parse(text: &[u8]) -> Result<Self, OrderFault> {
        let value = serde_json::from_slice(text).map_err(|error| OrderFault::NotJson {
            line: error.line(),
            column: error.column(),
        })?;
        let Value::Object(mut object) = value else {
            return Err(OrderFault::NotAnObject);
        };
        let severity = match object.remove("soft") {
            None | Some(Value::Bool(false)) => Severity::Hard,
            Some(Value::Bool(true)) => Severity::Soft,
            Some(_) => return Err(wrong_type("soft", "true or false")),
        };
        let rules = match object.remove("tags") {
            None => vec![Rule::from_json(&object)?],
            Some(_) if object.keys().any(|key| Rule::KINDS.contains(&key.as_str())) => {
                return Err(OrderFault::SeveralSubjects);
            }
            Some(tags) => match object.keys().next() {
                Some(unknown) => return Err(OrderFault::UnknownKey(unknown.clone())),
                None => read_tags(&tags)?,
            },
        };
        Ok(Order { rules, severity })
    }

    /// The text that [`Order::parse`] reads back as this order.
    pub fn to_json(&self) -> String {
        let mut object = match self.rules.as_slice() {
            [rule] => rule.to_json(),
            rules => {
                let tags = rules.iter().filter_map(|rule| match rule {
                    Rule::Tag(tag) => Some(Value::from(tag.as_str())),
                    Rule::Url(_) | Rule::Prefix { .. } | Rule::Host { .. } => None,
                });
                Map::from_iter([("tags".to_owned(), tags.collect())])
            }
        };
        if self.severity == Severity::Soft {
            object.insert("soft".to_owned(), Value::Bool(true));
        }
        Value::Object(object).to_string()
    }
}

fn read_tags(tags: &Value) -> Result<Vec<Rule>, OrderFault> {
    let fault = || wrong_type("tags", "a list of texts");
    let tags = tags.as_array().ok_or_else(fault)?;
    match tags.len() {
        0 => return Err(OrderFault::NoSubject),
        1..=MAX_TAGS => {}
        count => return Err(OrderFault::TooManyTags(count)),
    }
    let mut rules = Vec::with_capacity(tags.len());
    for tag in tags {
        let object = Map::from_iter([("tag".to_owned(), tag.clone())]);
        if !tag.is_string() {
            return Err(fault());
        }
        rules.push(Rule::from_json(&object)?);
    }
    Ok(rules)
}

/// The text under `key`, if there is one.
pub(super) fn text_of<'o>(
    object: &'o Map<String, Value>,
    key: &'static str,
) -> Result<Option<&'o str>, OrderFault> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_type(key, "a text")),
    }
}

fn wrong_type(key: &'static str, expected: &'static str) -> OrderFault {
    OrderFault::WrongType { key, expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::Scheme;
    use crate::cache::purge::rule::Site;
    use crate::cache::url::Url;

    fn tag(name: &str) -> Rule {
        Rule::Tag(name.to_owned())
    }

    fn prefix(name: &str, port: Option<u16>, scheme: Option<Scheme>, path: &str) -> Rule {
        let name = name.to_owned();
        Rule::Prefix {
            site: Site::Host { name, port, scheme },
            path: path.to_owned(),
        }
    }

    fn host(name: &str, port: Option<u16>) -> Rule {
        let name = name.to_owned();
        Rule::Host { name, port }
    }

    #[test]
    fn each_form_of_a_purge_is_read_and_written_back() {
        let url = Rule::Url(Url::parse("https://h/a?b=c").unwrap());
        let everywhere = Rule::Prefix {
            site: Site::Every,
            path: "/d".to_owned(),
        };
        let https = Some(Scheme::Https);
        for (text, rules) in [
            (r#"{"url": "HTTPS://H:443/a?b=c"}"#, vec![url]),
            (r#"{"tag": "x y,z"}"#, vec![tag("x y,z")]),
            (r#"{"tags": ["x", "ü"]}"#, vec![tag("x"), tag("ü")]),
            (r#"{"prefix": "/d"}"#, vec![everywhere]),
            (
                r#"{"prefix": "https://H/d/"}"#,
                vec![prefix("h", Some(443), https, "/d/")],
            ),
            (
                r#"{"prefix": "https://[::1]:80"}"#,
                vec![prefix("[::1]", Some(80), https, "/")],
            ),
            (
                r#"{"host": "H", "prefix": "/d/"}"#,
                vec![prefix("h", None, None, "/d/")],
            ),
            (
                r#"{"host": "h:81", "prefix": "/"}"#,
                vec![prefix("h", Some(81), None, "/")],
            ),
            (r#"{"host": "[::1]"}"#, vec![host("[::1]", None)]),
            (r#"{"host": "H:8080"}"#, vec![host("h", Some(8080))]),
        ] {
            for (soft, severity) in [
                ("", Severity::Hard),
                (r#", "soft": false"#, Severity::Hard),
                (r#", "soft": true"#, Severity::Soft),
            ] {
                let text = text.replace('}', &format!("{soft}}}"));
                let order = Order::parse(text.as_bytes());
                let expected = Order {
                    rules: rules.clone(),
                    severity,
                };
                assert_eq!(order.as_ref(), Ok(&expected), "{text}");
                let written = expected.to_json();
                assert_eq!(Order::parse(written.as_bytes()), order, "{written}");
            }
        }
    }

    #[test]
    fn what_names_nothing_is_refused_with_a_reason() {
        let url = |key, fault| OrderFault::Url { key, fault };
        let text = |key| wrong_type(key, "a text");
        let unknown = |key: &str| OrderFault::UnknownKey(key.to_owned());
        let many = format!(r#"{{"tags": {:?}}}"#, vec!["t"; MAX_TAGS + 1]);
        for (given, expected) in [
            ("", OrderFault::NotJson { line: 1, column: 0 }),
            ("{\n,", OrderFault::NotJson { line: 2, column: 1 }),
            ("[]", OrderFault::NotAnObject),
            ("{}", OrderFault::NoSubject),
            (r#"{"soft": true}"#, OrderFault::NoSubject),
            (r#"{"tags": []}"#, OrderFault::NoSubject),
            (r#"{"uri": "http://h/"}"#, unknown("uri")),
            (r#"{"tag": "x", "Soft": true}"#, unknown("Soft")),
            (r#"{"tags": ["x"], "all": true}"#, unknown("all")),
            (r#"{"tag": 1}"#, text("tag")),
            (r#"{"url": null}"#, text("url")),
            (r#"{"tags": "x"}"#, wrong_type("tags", "a list of texts")),
            (r#"{"tags": [1]}"#, wrong_type("tags", "a list of texts")),
            (
                r#"{"tag": "x", "soft": 1}"#,
                wrong_type("soft", "true or false"),
            ),
            (r#"{"tag": "x", "host": "h"}"#, OrderFault::SeveralSubjects),
            (
                r#"{"tag": "x", "tags": ["y"]}"#,
                OrderFault::SeveralSubjects,
            ),
            (
                r#"{"url": "http://h/", "prefix": "/"}"#,
                OrderFault::SeveralSubjects,
            ),
            (r#"{"url": "/a"}"#, url("url", UrlFault::Scheme)),
            (
                r#"{"prefix": "http://h/.."}"#,
                url("prefix", TargetFault::DotSegment.into()),
            ),
            (r#"{"prefix": "a"}"#, url("prefix", UrlFault::Scheme)),
            (
                r#"{"prefix": "/a b"}"#,
                OrderFault::Prefix(TargetFault::Syntax),
            ),
            (r#"{"prefix": "/a?"}"#, OrderFault::PrefixWithQuery),
            (r#"{"prefix": "http://h/a?b"}"#, OrderFault::PrefixWithQuery),
            (
                r#"{"host": "h", "prefix": "http://h/"}"#,
                OrderFault::PrefixNamesHost,
            ),
            (r#"{"host": ""}"#, OrderFault::Host(String::new())),
            (r#"{"host": "h/a"}"#, OrderFault::Host("h/a".to_owned())),
            (
                r#"{"host": "h:65536"}"#,
                OrderFault::Host("h:65536".to_owned()),
            ),
            (r#"{"tag": ""}"#, OrderFault::Tag(TagFault::Empty)),
            (r#"{"tag": " x"}"#, OrderFault::Tag(TagFault::Padded)),
            (r#"{"tag": "x\u0000y"}"#, OrderFault::Tag(TagFault::Control)),
            (&many, OrderFault::TooManyTags(MAX_TAGS + 1)),
        ] {
            assert_eq!(Order::parse(given.as_bytes()), Err(expected), "{given}");
        }
    }
}
