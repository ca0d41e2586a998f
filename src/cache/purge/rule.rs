//! What a purge names, and how it is written. Pure.

use std::fmt;

use serde_json::{Map, Value};

use super::order::{OrderFault, text_of};
use crate::cache::key::Scheme;
use crate::cache::policy::tags::check_tag;
use crate::cache::url::Url;
use crate::request_target::{check_target, is_authority};

/// What happens to the responses that a purge touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// They are stale from now on: validated before they are used, or served while that is tried
    /// where `stale-while-revalidate` and `stale-if-error` allow it (RFC 5861).
    Soft,
    /// They are gone.
    Hard,
}

impl Severity {
    /// Both.
    pub const ALL: [Severity; 2] = [Severity::Soft, Severity::Hard];

    /// The label in log, metrics and the purge log's file.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Soft => "soft",
            Severity::Hard => "hard",
        }
    }
}

/// Which stored responses a purge touches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Rule {
    /// All variants of one URL.
    Url(Url),
    /// Everything that carries a tag.
    Tag(String),
    /// Every URL of a site whose path begins with `path`, byte for byte: `/a` touches `/ab` too.
    Prefix {
        /// Where.
        site: Site,
        /// Begins with `/`; without query.
        path: String,
    },
    /// Everything of a host, with either scheme.
    Host {
        /// The name or address, in lower case.
        name: String,
        /// `None` = every port.
        port: Option<u16>,
    },
}

/// Where a path prefix counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Site {
    /// On every host.
    Every,
    /// On one host.
    Host {
        /// The name or address, in lower case.
        name: String,
        /// `None` = every port.
        port: Option<u16>,
        /// `None` = both.
        scheme: Option<Scheme>,
    },
}

impl Rule {
    /// The hard rule that touches everything there is.
    pub(super) fn everything() -> Self {
        Rule::Prefix {
            site: Site::Every,
            path: "/".to_owned(),
        }
    }

    /// The kind of rule, as metrics label it.
    pub fn kind(&self) -> &'static str {
        match self {
            Rule::Url(_) => "url",
            Rule::Tag(_) => "tag",
            Rule::Prefix { .. } => "prefix",
            Rule::Host { .. } => "host",
        }
    }

    /// Every value of [`Rule::kind`].
    pub const KINDS: [&'static str; 4] = ["url", "tag", "prefix", "host"];

    /// Reads `{"url": …}`, `{"tag": …}`, `{"prefix": …}`, `{"host": …}` or `{"host": …, "prefix": …}`.
    ///
    /// # Errors
    /// [`OrderFault`] for anything else.
    pub fn from_json(object: &Map<String, Value>) -> Result<Self, OrderFault> {
        let known = ["url", "tag", "prefix", "host"];
        if let Some(unknown) = object.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(OrderFault::UnknownKey(unknown.clone()));
        }
        let text = |key| text_of(object, key);
        let (url, tag, prefix, host) = (text("url")?, text("tag")?, text("prefix")?, text("host")?);
        match (url, tag, prefix, host) {
            (Some(url), None, None, None) => match Url::parse(url) {
                Ok(url) => Ok(Rule::Url(url)),
                Err(fault) => Err(OrderFault::Url { key: "url", fault }),
            },
            (None, Some(tag), None, None) => {
                check_tag(tag)?;
                Ok(Rule::Tag(tag.to_owned()))
            }
            (None, None, Some(prefix), host) => read_prefix(prefix, host),
            (None, None, None, Some(host)) => {
                let (name, port) = read_host(host)?;
                Ok(Rule::Host { name, port })
            }
            (None, None, None, None) => Err(OrderFault::NoSubject),
            _ => Err(OrderFault::SeveralSubjects),
        }
    }

    /// The object that [`Rule::from_json`] reads back as this rule.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        let mut put = |key: &str, value: String| object.insert(key.to_owned(), value.into());
        match self {
            Rule::Url(url) => put("url", url.to_string()),
            Rule::Tag(tag) => put("tag", tag.clone()),
            Rule::Host { name, port } => put("host", host_text(name, *port)),
            Rule::Prefix { site, path } => match site {
                Site::Every => put("prefix", path.clone()),
                Site::Host { name, port, scheme } => {
                    let host = host_text(name, *port);
                    match scheme {
                        Some(scheme) => {
                            put("prefix", format!("{}://{host}{path}", scheme.as_str()))
                        }
                        None => {
                            put("host", host);
                            put("prefix", path.clone())
                        }
                    }
                }
            },
        };
        object
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Url(url) => write!(f, "URL {url}"),
            Rule::Tag(tag) => write!(f, "tag {tag:?}"),
            Rule::Host { name, port } => write!(f, "host {}", host_text(name, *port)),
            Rule::Prefix { site, path } => match site {
                Site::Every => write!(f, "prefix {path} of every host"),
                Site::Host { name, port, scheme } => {
                    f.write_str("prefix ")?;
                    if let Some(scheme) = scheme {
                        write!(f, "{}://", scheme.as_str())?;
                    }
                    write!(f, "{}{path}", host_text(name, *port))
                }
            },
        }
    }
}

fn host_text(name: &str, port: Option<u16>) -> String {
    match port {
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    }
}

fn read_prefix(prefix: &str, host: Option<&str>) -> Result<Rule, OrderFault> {
    let site = match host {
        None => Site::Every,
        Some(host) => {
            let (name, port) = read_host(host)?;
            let scheme = None;
            Site::Host { name, port, scheme }
        }
    };
    if prefix.starts_with('/') {
        check_target(prefix.as_bytes()).map_err(OrderFault::Prefix)?;
        if prefix.contains('?') {
            return Err(OrderFault::PrefixWithQuery);
        }
        let path = prefix.to_owned();
        return Ok(Rule::Prefix { site, path });
    }
    if host.is_some() {
        return Err(OrderFault::PrefixNamesHost);
    }
    let url = Url::parse(prefix).map_err(|fault| OrderFault::Url {
        key: "prefix",
        fault,
    })?;
    if url.query.is_some() {
        return Err(OrderFault::PrefixWithQuery);
    }
    let (name, port) = read_host(&url.authority)?;
    let site = Site::Host {
        name,
        port: port.or(Some(url.scheme.default_port_number())),
        scheme: Some(url.scheme),
    };
    let path = url.path;
    Ok(Rule::Prefix { site, path })
}

fn read_host(text: &str) -> Result<(String, Option<u16>), OrderFault> {
    let fault = || OrderFault::Host(text.to_owned());
    if !is_authority(text.as_bytes()) {
        return Err(fault());
    }
    let (name, port) = split_authority(text);
    let port = match port {
        Some(digits) => Some(digits.parse().map_err(|_| fault())?),
        None => None,
    };
    Ok((name.to_ascii_lowercase(), port))
}

/// Host and port of an authority that the gate let in.
pub(super) fn split_authority(authority: &str) -> (&str, Option<&str>) {
    // The colons of an IPv6 address stand before its closing bracket.
    let address_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    match authority[address_end..].rsplit_once(':') {
        Some((rest, port)) => (&authority[..address_end + rest.len()], Some(port)),
        None => (authority, None),
    }
}
