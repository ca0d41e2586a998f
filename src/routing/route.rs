//! Which route a request takes: the first that matches, by host and path prefix.

use std::net::Ipv6Addr;
use std::sync::Arc;

use crate::config::Route;

/// The routes of one configuration, in their order.
#[derive(Debug, Clone)]
pub struct RouteTable {
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
struct Row {
    host: HostRule,
    path_prefix: String,
}

/// What a route asks of the host.
#[derive(Debug, Clone)]
enum HostRule {
    Any,
    Named(String),
    /// An IPv6 literal has many spellings, so it is compared as an address.
    V6(Ipv6Addr),
}

impl RouteTable {
    /// A table of `routes`; the first that matches a request wins.
    pub fn new(routes: &[Arc<Route>]) -> Self {
        let rows = routes
            .iter()
            .map(|route| Row {
                host: match route.host.as_deref() {
                    None => HostRule::Any,
                    Some(host) => match ipv6_literal(host) {
                        Some(address) => HostRule::V6(address),
                        None => HostRule::Named(host.to_ascii_lowercase()),
                    },
                },
                path_prefix: route.path.clone(),
            })
            .collect();
        RouteTable { rows }
    }

    /// The index of the route for `host` and `path`, or `None` when no route matches.
    ///
    /// `host` is the authority as the client sent it (RFC 9110 §7.2): a port is left out of the
    /// comparison, letters compare without case, an IPv6 literal may be spelled in any way.
    /// `path` is the raw path, never decoded: `/a` is a prefix of `/ab`, so a route that means
    /// a folder ends in `/`. Allocates nothing.
    pub fn find(&self, host: &str, path: &str) -> Option<usize> {
        let name = without_port(host);
        // Parsed once per request and only for a literal, so the table stays a plain scan.
        let address = if host.starts_with('[') {
            ipv6_literal(name)
        } else {
            None
        };
        self.rows.iter().position(|row| {
            let host_matches = match &row.host {
                HostRule::Any => true,
                HostRule::Named(rule) => rule.eq_ignore_ascii_case(name),
                HostRule::V6(rule) => Some(*rule) == address,
            };
            host_matches && path.as_bytes().starts_with(row.path_prefix.as_bytes())
        })
    }
}

/// The host of an authority: `example.com:80` → `example.com`, `[::1]:80` → `[::1]`.
///
/// Text that is neither form (several colons, no brackets) is returned whole and so matches no
/// named route; refusing it is the gate's work.
fn without_port(authority: &str) -> &str {
    if authority.starts_with('[') {
        return match authority.find(']') {
            Some(end) => &authority[..=end],
            None => authority,
        };
    }
    match authority.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => authority,
    }
}

/// The address of an IPv6 literal, with or without its brackets.
fn ipv6_literal(host: &str) -> Option<Ipv6Addr> {
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    inner.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Access;

    fn table(rules: &[(Option<&str>, &str)]) -> RouteTable {
        let routes: Vec<_> = rules
            .iter()
            .map(|(host, path)| {
                Arc::new(Route {
                    name: String::new(),
                    host: host.map(str::to_owned),
                    path: (*path).to_owned(),
                    origin: 0,
                    access: Access::Public,
                    addresses: Default::default(),
                    limits: Default::default(),
                    signing: Default::default(),
                    cors: None,
                    response_headers: Default::default(),
                    request_headers: Default::default(),
                    upload_forms: false,
                    cache: Arc::default(),
                })
            })
            .collect();
        RouteTable::new(&routes)
    }

    #[test]
    fn first_route_that_matches_host_and_path_wins() {
        let table = table(&[
            (Some("media.example"), "/public/"),
            (Some("media.example"), "/"),
            (Some("::1"), "/"),
            (Some("[2001:db8::2]"), "/"),
            (Some("127.0.0.1"), "/"),
            (None, "/any/"),
        ]);
        let cases: &[(&str, &str, Option<usize>)] = &[
            ("media.example", "/public/a", Some(0)),
            ("media.example", "/public", Some(1)),
            ("media.example", "/Public/a", Some(1)),
            ("media.example", "/any/a", Some(1)),
            ("MEDIA.Example", "/public/", Some(0)),
            ("media.example:8080", "/x", Some(1)),
            ("media.example:", "/x", Some(1)),
            ("media.example:80:80", "/x", None),
            ("media.example.org", "/x", None),
            ("xmedia.example", "/x", None),
            ("media.exampl", "/x", None),
            ("media.example.", "/x", None),
            ("[::1]", "/x", Some(2)),
            ("[::1]:8443", "/x", Some(2)),
            ("[0:0:0:0:0:0:0:1]:8443", "/x", Some(2)),
            ("[2001:DB8:0::2]", "/x", Some(3)),
            ("[2001:db8::3]", "/x", None),
            ("::1", "/x", None),
            ("[::1", "/x", None),
            ("[", "/x", None),
            ("127.0.0.1:80", "/x", Some(4)),
            ("", "/any/x", Some(5)),
            ("a:b:c", "/any/x", Some(5)),
            ("other.example", "/any", None),
            ("other.example", "/any/", Some(5)),
            ("other.example", "", None),
        ];
        for (host, path, expected) in cases {
            assert_eq!(table.find(host, path), *expected, "{host} {path}");
        }
    }

    #[test]
    fn path_prefix_is_compared_on_raw_bytes() {
        let table = table(&[(None, "/a%2Fb/"), (None, "/ä/")]);
        assert_eq!(table.find("h", "/a%2Fb/c"), Some(0));
        assert_eq!(table.find("h", "/a%2fb/c"), None);
        assert_eq!(table.find("h", "/a/b/c"), None);
        assert_eq!(table.find("h", "/ä/c"), Some(1));
        assert_eq!(table.find("h", "/%C3%A4/c"), None);
    }

    #[test]
    fn empty_table_matches_nothing() {
        assert_eq!(table(&[]).find("h", "/"), None);
    }
}
