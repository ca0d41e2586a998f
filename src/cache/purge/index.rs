//! Which rules touch a stored response. Pure, and the same cost however many rules there are: one
//! probe for the URL, one for each tag, and for the prefixes one for each length they come in.

use std::collections::{BTreeSet, HashMap};

use super::Subject;
use super::log::Sequence;
use super::rule::{Rule, Severity, Site, split_authority};
use crate::cache::key::{CacheKey, KeyParts, Scheme};

/// The newest purges of each subject.
#[derive(Debug, Default)]
pub(super) struct Index {
    urls: HashMap<CacheKey, Touch>,
    tags: HashMap<Box<str>, Touch>,
    /// The newest of all tags, for a response that may carry any.
    any_tag: Touch,
    everywhere: Prefixes,
    hosts: HashMap<Box<str>, Vec<HostRules>>,
}

/// The newest hard and the newest soft purge of one subject.
#[derive(Debug, Default, Clone, Copy)]
struct Touch {
    hard: Sequence,
    soft: Sequence,
}

/// The rules of one host for one port and scheme; `None` is any.
#[derive(Debug)]
struct HostRules {
    port: Option<u16>,
    scheme: Option<Scheme>,
    prefixes: Prefixes,
}

/// Path prefixes; a whole host is the empty one.
#[derive(Debug, Default)]
struct Prefixes {
    paths: HashMap<Box<str>, Touch>,
    lengths: BTreeSet<usize>,
}

impl Touch {
    fn note(&mut self, severity: Severity, sequence: Sequence) {
        let newest = match severity {
            Severity::Hard => &mut self.hard,
            Severity::Soft => &mut self.soft,
        };
        *newest = sequence.max(*newest);
    }

    fn since(self, since: Sequence) -> Option<Severity> {
        if self.hard > since {
            Some(Severity::Hard)
        } else if self.soft > since {
            Some(Severity::Soft)
        } else {
            None
        }
    }
}

impl Prefixes {
    fn note(&mut self, path: &str, severity: Severity, sequence: Sequence) {
        self.lengths.insert(path.len());
        let touch = self.paths.entry(path.into()).or_default();
        touch.note(severity, sequence);
    }

    fn since<'i>(
        &'i self,
        path: &'i str,
        since: Sequence,
    ) -> impl Iterator<Item = Severity> + use<'i> {
        let lengths = self.lengths.range(..=path.len());
        lengths.filter_map(move |length| {
            let touch = self.paths.get(path.get(..*length)?)?;
            touch.since(since)
        })
    }
}

impl HostRules {
    fn cover(&self, parts: KeyParts<'_>, port: Option<u16>) -> bool {
        self.scheme.is_none_or(|scheme| scheme == parts.scheme)
            && (self.port.is_none() || self.port == port)
    }
}

impl Index {
    pub(super) fn insert(&mut self, rule: &Rule, severity: Severity, sequence: Sequence) {
        match rule {
            Rule::Url(url) => {
                let touch = self.urls.entry(url.key()).or_default();
                touch.note(severity, sequence);
            }
            Rule::Tag(tag) => {
                let touch = self.tags.entry(tag.as_str().into()).or_default();
                touch.note(severity, sequence);
                self.any_tag.note(severity, sequence);
            }
            Rule::Host { name, port } => {
                let prefixes = self.host(name, *port, None);
                prefixes.note("", severity, sequence);
            }
            Rule::Prefix { site, path } => {
                let prefixes = match site {
                    Site::Every => &mut self.everywhere,
                    Site::Host { name, port, scheme } => self.host(name, *port, *scheme),
                };
                prefixes.note(path, severity, sequence);
            }
        }
    }

    fn host(&mut self, name: &str, port: Option<u16>, scheme: Option<Scheme>) -> &mut Prefixes {
        let rules = self.hosts.entry(name.into()).or_default();
        let known = rules
            .iter()
            .position(|rules| rules.port == port && rules.scheme == scheme);
        let place = known.unwrap_or_else(|| {
            rules.push(HostRules {
                port,
                scheme,
                prefixes: Prefixes::default(),
            });
            rules.len() - 1
        });
        &mut rules[place].prefixes
    }

    /// The severest purge newer than `since` that touches `subject`.
    pub(super) fn judge(&self, subject: &Subject<'_>, since: Sequence) -> Option<Severity> {
        let parts = subject.key.parts();
        let url = self.urls.get(subject.key);
        let any_tag = (!subject.tags.is_complete()).then_some(&self.any_tag);
        let tags = subject.tags.names().iter();
        let tags = tags.filter_map(|tag| self.tags.get(tag));
        let touches = url.into_iter().chain(any_tag).chain(tags);
        let (name, port) = split_authority(parts.authority);
        let port = match port {
            Some(digits) => digits.parse().ok(),
            None => Some(parts.scheme.default_port_number()),
        };
        let host = self.hosts.get(name).into_iter().flatten();
        let host = host.filter(|rules| rules.cover(parts, port));
        let prefixes = std::iter::once(&self.everywhere).chain(host.map(|rules| &rules.prefixes));
        touches
            .filter_map(|touch| touch.since(since))
            .chain(prefixes.flat_map(|prefixes| prefixes.since(parts.path, since)))
            .max()
    }

    /// Subjects with at least one rule.
    pub(super) fn len(&self) -> usize {
        let hosts = self.hosts.values().flatten();
        let prefixes = hosts.map(|rules| rules.prefixes.paths.len());
        self.urls.len() + self.tags.len() + self.everywhere.paths.len() + prefixes.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::policy::tags::{Tags, tags_of};
    use crate::cache::purge::order::Order;
    use crate::cache::url::Url;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    fn rule(text: &str) -> Rule {
        Order::parse(text.as_bytes()).unwrap().rules.remove(0)
    }

    fn tags(list: &str) -> Tags {
        let mut fields = HeaderMap::new();
        fields.insert("cache-tag", HeaderValue::from_str(list).unwrap());
        tags_of(&fields)
    }

    fn judge(index: &Index, url: &str, tags: &Tags, since: u64) -> Option<Severity> {
        let key = Url::parse(url).unwrap().key();
        let subject = Subject { key: &key, tags };
        index.judge(&subject, Sequence::new(since))
    }

    #[test]
    fn each_rule_touches_what_it_names_and_nothing_else() {
        for (text, touched, spared) in [
            (
                r#"{"url": "http://h/a?b"}"#,
                &["http://H:80/a?b"][..],
                &[
                    "https://h/a?b",
                    "http://h/a",
                    "http://h/a?b&c",
                    "http://h:81/a?b",
                ][..],
            ),
            (
                r#"{"prefix": "/d/"}"#,
                &["http://h/d/", "https://g:1/d/e?f"],
                &["http://h/d", "http://h/D/", "http://h/e/d/"],
            ),
            (
                r#"{"prefix": "https://h/d"}"#,
                &["https://h/d", "https://h/de"],
                &[
                    "http://h/d",
                    "http://h:443/d",
                    "https://h:444/d",
                    "https://g/d",
                ],
            ),
            (
                r#"{"host": "h", "prefix": "/d"}"#,
                &["http://h/d", "https://h:8443/d/e"],
                &["http://g/d", "http://h/e", "http://h.g/d"],
            ),
            (
                r#"{"host": "h"}"#,
                &["http://h/", "https://h/a", "http://h:81/a?b"],
                &["http://g/", "http://a.h/"],
            ),
            (
                r#"{"host": "h:443"}"#,
                &["https://h/a", "http://h:443/a"],
                &["http://h/a", "https://h:444/a"],
            ),
            (
                r#"{"host": "[::1]:80"}"#,
                &["http://[::1]/a"],
                &["https://[::1]/a"],
            ),
            (r#"{"tag": "t"}"#, &[], &["http://h/t"]),
        ] {
            let mut index = Index::default();
            index.insert(&rule(text), Severity::Soft, Sequence::new(5));
            let judge = |url, since| judge(&index, url, &tags("x"), since);
            for url in touched {
                assert_eq!(judge(url, 4), Some(Severity::Soft), "{text} {url}");
                assert_eq!(judge(url, 5), None, "{text} {url}");
            }
            for url in spared {
                assert_eq!(judge(url, 0), None, "{text} {url}");
            }
            assert_eq!(index.len(), 1);
        }
    }

    #[test]
    fn a_tag_touches_what_carries_it_and_what_may() {
        let mut index = Index::default();
        index.insert(&Rule::Tag("a".into()), Severity::Hard, Sequence::new(1));
        index.insert(&Rule::Tag("b".into()), Severity::Soft, Sequence::new(2));
        let (hard, soft) = (Some(Severity::Hard), Some(Severity::Soft));
        for (tags, since, expected) in [
            (tags("a"), 0, hard),
            (tags("a"), 1, None),
            (tags("x, b"), 1, soft),
            (tags("a, b"), 0, hard),
            (tags("a, b"), 1, soft),
            (tags("A"), 0, None),
            (tags(""), 0, None),
            (Tags::unknown(), 0, hard),
            (Tags::unknown(), 1, soft),
            (Tags::unknown(), 2, None),
        ] {
            assert_eq!(
                judge(&index, "http://h/", &tags, since),
                expected,
                "{tags:?}"
            );
        }
    }

    #[test]
    fn a_later_soft_purge_does_not_soften_a_hard_one() {
        let mut index = Index::default();
        let host = rule(r#"{"host": "h"}"#);
        index.insert(&host, Severity::Hard, Sequence::new(1));
        index.insert(&host, Severity::Soft, Sequence::new(2));
        let judge = |since| judge(&index, "http://h/", &tags(""), since);
        assert_eq!(judge(0), Some(Severity::Hard));
        assert_eq!(judge(1), Some(Severity::Soft));
        assert_eq!(judge(2), None);
    }

    proptest! {
        /// The index against the obvious way: try every rule in turn.
        #[test]
        fn the_index_finds_what_trying_every_rule_would(
            prefixes in proptest::collection::vec(("/[ab/]{0,3}", any::<bool>(), any::<bool>()), 0..8),
            path in "/[ab/]{0,4}",
            since in 0_u64..9,
        ) {
            let mut index = Index::default();
            let mut expected = None;
            for (place, (prefix, hard, ours)) in prefixes.iter().enumerate() {
                let sequence = place as u64 + 1;
                let severity = if *hard { Severity::Hard } else { Severity::Soft };
                let host = if *ours { "h" } else { "g" };
                let site = Site::Host { name: host.into(), port: None, scheme: None };
                let rule = Rule::Prefix { site, path: prefix.clone() };
                index.insert(&rule, severity, Sequence::new(sequence));
                if *ours && sequence > since && path.starts_with(prefix.as_str()) {
                    expected = expected.max(Some(severity));
                }
            }
            let url = format!("http://h{path}");
            prop_assert_eq!(judge(&index, &url, &tags(""), since), expected);
        }
    }
}
