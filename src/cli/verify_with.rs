//! `tidegate verify --config FILE URL`: judges a URL as the edge with that configuration would, by every
//! scheme that its route takes.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use http::HeaderMap;

use super::verify::{Target, UrlError, Verdict, VerifyArgs, advice, compared, explained, until};
use crate::config::{self, Access, Edge};
use crate::routing::RouteTable;
use crate::signing::{
    CredentialRefusal, Explained, Granted, RequestView, Rules, Scheme, SignedRequest, Verifier,
    carries_presignature,
};

impl VerifyArgs {
    /// The verdict of the edge that a configuration describes.
    ///
    /// # Errors
    /// A text that says why the URL cannot be judged.
    pub(super) fn verdict_by_config(
        &self,
        file: &Path,
        now: SystemTime,
    ) -> Result<Verdict, String> {
        let checked = config::load(file).map_err(|problems| {
            format!(
                "the configuration {} is not sound:\n{problems}",
                file.display()
            )
        })?;
        let edge = checked.config.edge;
        let edge = edge.ok_or_else(|| format!("{} holds no edge section", file.display()))?;
        self.verdict_of(&edge, now).map_err(|error: UrlError| {
            format!("{error}\nnext: paste the whole URL, in single quotes")
        })
    }

    fn verdict_of(&self, edge: &Edge, now: SystemTime) -> Result<Verdict, UrlError> {
        let target = Target::parse(&self.url)?;
        let table = RouteTable::new(&edge.routes);
        let Some(number) = table.find(target.host, target.path) else {
            return Ok(refused("no route of the configuration takes this URL\n"));
        };
        let route = &edge.routes[number];
        if route.access == Access::Public {
            let text = format!("valid: the route {} is public\n", route.name);
            return Ok(Verdict { valid: true, text });
        }
        let headers = HeaderMap::from_iter(self.headers.iter().cloned());
        let view = RequestView {
            request: SignedRequest {
                method: &self.method,
                path: target.path,
                query: target.query,
                host: target.host,
                headers: &headers,
            },
            scheme: if self.url.starts_with("https") {
                "https"
            } else {
                "http"
            },
            client: self.client.unwrap_or(IpAddr::from([127, 0, 0, 1])),
            prefix_length: route.path.len(),
        };
        let rules = Rules {
            region: edge.signing.region.as_deref(),
            clock_leeway: edge.signing.clock_leeway,
            domain: edge.signing.domain.as_deref(),
        };
        let verifier = Verifier::new(&edge.signing.keys, &route.signing);
        let outcome = verifier.verify(&view, &rules, now);
        let mut text = match &outcome {
            Ok(granted) => valid(granted, &route.name, now),
            Err(refusal) => format!(
                "refused: {}: {refusal}\nroute: {}\nnext: {}\n",
                refusal.reason(),
                route.name,
                advice(refusal)
            ),
        };
        if self.explain {
            if carries_presignature(target.query) {
                text.push_str(&explained(&view.request, rules.domain));
            }
            for explanation in verifier.explain(&view) {
                text.push_str(&told(&explanation));
            }
        }
        if let Some(other) = &self.compare {
            text.push_str(&compared(&view.request, rules.domain, other)?);
        }
        Ok(Verdict {
            valid: outcome.is_ok(),
            text,
        })
    }
}

fn refused(text: &str) -> Verdict {
    Verdict {
        valid: false,
        text: format!("refused: {text}"),
    }
}

fn valid(granted: &Granted, route: &str, now: SystemTime) -> String {
    let mut text = format!("valid: signed by {} ({})", granted.key_id, granted.scheme);
    if let Some(expires) = granted.expires {
        let left = expires.duration_since(now).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            ", good for {} s more{}",
            left.as_secs(),
            until(expires)
        );
    }
    let _ = writeln!(text, "\nroute: {route}");
    if granted.client_bound {
        text.push_str("it is bound to the client's address: give --client to try another\n");
    }
    if granted.covers_fields {
        text.push_str("it covers header fields, so the cache does not answer it\n");
    }
    text
}

fn told(explanation: &Result<Explained, CredentialRefusal>) -> String {
    let explained = match explanation {
        Ok(explained) => explained,
        Err(refusal) => return format!("\nit cannot be read: {refusal}\n"),
    };
    let mut text = format!("\n{}, signed:\n{}\n\n", explained.scheme, explained.signed);
    for (name, value) in &explained.notes {
        let _ = writeln!(text, "{name}: {value}");
    }
    text.push_str(&first_difference(explained));
    text
}

/// Where a hash that was sent first differs from the one that is expected.
fn first_difference(explained: &Explained) -> String {
    let note = |end: &str| {
        let mut notes = explained.notes.iter();
        notes.find(|(name, _)| name.ends_with(end))
    };
    let (Some((name, sent)), Some((_, expected))) = (note(" sent"), note(" expected")) else {
        return String::new();
    };
    if sent == expected {
        return String::new();
    }
    let same = sent
        .bytes()
        .zip(expected.bytes())
        .take_while(|(one, other)| one == other)
        .count();
    let margin = " ".repeat(name.len() + 2 + same);
    let why = match explained.scheme {
        Scheme::Token => "another key, or something else was hashed: compare the text above",
        _ => "another secret, expression or address: compare the text above",
    };
    format!("first difference:\n{name}: {sent}\n{margin}^ {why}\n")
}

/// What to do about a refused credential.
pub(super) fn advice_on_credential(refusal: &CredentialRefusal) -> &'static str {
    match refusal {
        CredentialRefusal::MissingPart { .. } => {
            "check that the URL was copied whole; a shell cuts it at & unless it is quoted"
        }
        CredentialRefusal::DuplicatePart { .. } | CredentialRefusal::ExclusiveParts { .. } => {
            "sign the URL again, from one without a signature"
        }
        CredentialRefusal::MalformedPart { .. } | CredentialRefusal::MalformedToken => {
            "check that the URL was copied whole and unchanged, then sign it again"
        }
        CredentialRefusal::UnknownPart => {
            "leave out what docs/SIGNING.md does not name; it might restrict what is granted"
        }
        CredentialRefusal::MalformedPolicy => {
            "write one statement with a Resource and a Condition, as docs/SIGNING.md shows"
        }
        CredentialRefusal::UnknownKey => {
            "compare the key id in the URL with edge.signing.keys and with what the route takes"
        }
        CredentialRefusal::WrongAlgorithm => "sign with the algorithm that the key is for",
        CredentialRefusal::CriticalHeader => "sign without the header parameter crit",
        CredentialRefusal::SignatureMismatch => {
            "compare the text that --explain prints with what the signer has signed: scheme, host, \
             path and query must be those of the request"
        }
        CredentialRefusal::NotYetValid { .. } => "compare the signer's clock with this machine's",
        CredentialRefusal::Expired { .. } => "sign again, with a longer life if need be",
        CredentialRefusal::WrongClient => {
            "sign for the address from which the edge sees the client; here, give it with --client"
        }
        CredentialRefusal::WrongResource => {
            "sign for a pattern that matches this URL; --explain shows both"
        }
        CredentialRefusal::WrongIssuer | CredentialRefusal::WrongAudience => {
            "compare iss and aud of the token with issuer and audience of the key"
        }
        CredentialRefusal::MissingClaim { .. }
        | CredentialRefusal::MalformedClaim { .. }
        | CredentialRefusal::UnsupportedClaim { .. } => {
            "let the issuer put in the claims that docs/SIGNING.md asks for"
        }
        CredentialRefusal::WrongMethod => "list the method in the key's methods",
    }
}
