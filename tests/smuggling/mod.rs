//! Requests that two parsers might read in two ways, and what must become of each.

mod connections;
mod framing;
mod h2;
mod heads;

pub use h2::{H2Case, H2Verdict, h2_table};

use Verdict::{Closed, Refused, Served};
use connections::{connection_and_expect, pipelines, upgrades};
use framing::{chunks, codings, lengths};
use heads::{heads, targets_and_hosts};

/// What must become of the bytes of a case, and of the request that is pipelined behind them.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// A 4xx or a close. Nothing reaches the origin, nor does what follows.
    Refused,
    /// The origin sees exactly these, whole: method, target and body. So is what follows served.
    Served(Vec<(&'static str, String, String)>),
    /// The same, and then the connection is closed: what follows is not read, or refused.
    Closed(Vec<(&'static str, String, String)>),
    /// What follows belongs to the body, which has no end: the origin sees one request, never whole.
    Cut(&'static str),
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is about.
    pub claim: String,
    /// What the client sends.
    pub bytes: Vec<u8>,
    /// What must become of it.
    pub verdict: Verdict,
    /// A request without `Host`, or one that the origin answers with 101: not for a server that knows better.
    pub scripted_origin_only: bool,
}

/// Stands in the table for the path of the case, which no other has.
const PATH: &str = "/@";

/// What would be smuggled: 47 bytes.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: media.example\r\n\r\n";

struct Table(Vec<Case>);

impl Table {
    fn add(&mut self, claim: &str, bytes: impl Into<Vec<u8>>, verdict: Verdict) {
        let path = format!("/c{}", self.0.len());
        let bytes = bytes.into();
        let mut own = Vec::with_capacity(bytes.len());
        let mut rest = &bytes[..];
        while let Some(at) = rest.windows(2).position(|two| two == PATH.as_bytes()) {
            own.extend(&rest[..at]);
            own.extend(path.as_bytes());
            rest = &rest[at + 2..];
        }
        own.extend(rest);
        let name = |seen: Vec<(&'static str, String, String)>| {
            seen.into_iter()
                .map(|(method, target, body)| (method, target.replace(PATH, &path), body))
                .collect()
        };
        let verdict = match verdict {
            Served(seen) => Served(name(seen)),
            Closed(seen) => Closed(name(seen)),
            other => other,
        };
        self.0.push(Case {
            claim: claim.to_owned(),
            bytes: own,
            verdict,
            scripted_origin_only: false,
        });
    }

    fn scripted_origin_only(&mut self) {
        self.0.last_mut().unwrap().scripted_origin_only = true;
    }

    /// With GET, which the cache's lane answers when it has no body, and with POST, which passes through.
    fn both(
        &mut self,
        claim: &str,
        fields: &[u8],
        body: &str,
        verdict: impl Fn(&'static str) -> Verdict,
    ) {
        for method in ["GET", "POST"] {
            let mut bytes =
                format!("{method} {PATH} HTTP/1.1\r\nHost: media.example\r\n").into_bytes();
            bytes.extend(fields);
            bytes.extend(b"\r\n");
            bytes.extend(body.as_bytes());
            self.add(&format!("{method}: {claim}"), bytes, verdict(method));
        }
    }

    fn both_refused(&mut self, claim: &str, fields: &[u8], body: &str) {
        self.both(claim, fields, body, |_| Refused);
    }

    fn both_served(&mut self, claim: &str, fields: &str, body: &str, seen: &str) {
        self.both(claim, fields.as_bytes(), body, |method| one(method, seen));
    }
}

fn one(method: &'static str, body: &str) -> Verdict {
    Served(vec![(method, PATH.to_owned(), body.to_owned())])
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: media.example\r\n\r\n").into_bytes()
}

/// All cases.
pub fn table() -> Vec<Case> {
    let mut table = Table(Vec::new());
    lengths(&mut table);
    codings(&mut table);
    chunks(&mut table);
    heads(&mut table);
    targets_and_hosts(&mut table);
    connection_and_expect(&mut table);
    upgrades(&mut table);
    pipelines(&mut table);
    table.0
}
