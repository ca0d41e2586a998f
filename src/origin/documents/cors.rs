//! `CORSConfiguration`: which pages of other sites may use a bucket (S3 user guide, "Elements of a CORS
//! configuration"; the fields are those of the Fetch standard).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::DocumentError;
use super::element::{Element, Limits};
use crate::origin::xml::Document;

/// The longest document that is read, in bytes (S3 user guide: 64 KB).
pub const CORS_MAX_BYTES: usize = 64 * 1024;

const RULES_MAX: usize = 100;
const ID_MAX_CHARACTERS: usize = 255;
const LIMITS: Limits = Limits {
    bytes: CORS_MAX_BYTES,
    elements: 4000,
};
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "HEAD"];

/// The rules of a bucket, 1 to 100; the first that matches counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsRules(Vec<CorsRule>);

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsRule {
    /// `ID`, at most 255 characters.
    pub id: Option<String>,
    /// `AllowedOrigin`: with at most one `*` each; at least one.
    pub origins: Vec<String>,
    /// `AllowedMethod`: GET, PUT, POST, DELETE or HEAD; at least one.
    pub methods: Vec<String>,
    /// `AllowedHeader`: with at most one `*` each.
    pub headers: Vec<String>,
    /// `ExposeHeader`.
    pub expose: Vec<String>,
    /// `MaxAgeSeconds`: how long a browser may remember a preflight.
    pub max_age_seconds: Option<u32>,
}

/// What a page of another site is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsAnswer {
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl CorsRules {
    /// Reads a `CORSConfiguration`.
    ///
    /// # Errors
    /// [`DocumentError::CorsMethod`], [`DocumentError::CorsWildcards`], or a document that is malformed or has no or
    /// too many rules.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        let root = Element::parse(document, "CORSConfiguration", LIMITS)?;
        root.only(&["CORSRule"])?;
        let rules = root.all("CORSRule").map(read_rule);
        let rules: Vec<_> = rules.collect::<Result<_, _>>()?;
        match rules.len() {
            0 => Err(DocumentError::Missing {
                element: "CORSRule",
            }),
            1..=RULES_MAX => Ok(CorsRules(rules)),
            _ => Err(DocumentError::TooMany {
                element: "CORSRule",
                max: RULES_MAX,
            }),
        }
    }

    /// The rules.
    pub fn iter(&self) -> impl Iterator<Item = &CorsRule> {
        self.0.iter()
    }

    /// Writes them into a `CORSConfiguration`.
    pub fn write(&self, document: &mut Document) {
        for rule in &self.0 {
            document.element("CORSRule", |document| rule.write(document));
        }
    }

    /// What a page of `origin` is told about a request with `method`.
    ///
    /// `request_headers` is the value of `Access-Control-Request-Headers` when a preflight asks, where `method` is
    /// that of `Access-Control-Request-Method`; an actual request has none, and is answered by its own method. `None`
    /// when no rule matches: a preflight is then refused with 403 `AccessForbidden`, and an actual request done
    /// without any of these fields.
    pub fn answer(
        &self,
        origin: &str,
        method: &str,
        request_headers: Option<&str>,
    ) -> Option<CorsAnswer> {
        let asked: Vec<String> = (request_headers.unwrap_or_default().split(','))
            .map(|name| name.trim_ascii().to_ascii_lowercase())
            .filter(|name| !name.is_empty())
            .collect();
        self.0.iter().find_map(|rule| {
            let allowed = rule.origins.iter().find(|own| matches(own, origin))?;
            let has_method = rule.methods.iter().any(|own| own == method);
            let is_allowed = |name: &String| {
                let mut own = rule.headers.iter().map(|own| own.to_ascii_lowercase());
                own.any(|own| matches(&own, name))
            };
            if !has_method || !asked.iter().all(is_allowed) {
                return None;
            }
            // S3 names the origin unless the rule is for everyone, and only then lets credentials through.
            let (named, is_named) = match allowed.as_str() {
                "*" => ("*", false),
                _ => (origin, true),
            };
            let mut fields = vec![(ACCESS_CONTROL_ALLOW_ORIGIN, named.to_owned())];
            if is_named {
                fields.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, "true".to_owned()));
            }
            fields.push((ACCESS_CONTROL_ALLOW_METHODS, rule.methods.join(", ")));
            if !asked.is_empty() {
                fields.push((ACCESS_CONTROL_ALLOW_HEADERS, asked.join(", ")));
            }
            if !rule.expose.is_empty() {
                fields.push((ACCESS_CONTROL_EXPOSE_HEADERS, rule.expose.join(", ")));
            }
            if let Some(seconds) = rule.max_age_seconds {
                fields.push((ACCESS_CONTROL_MAX_AGE, seconds.to_string()));
            }
            let fields = fields.into_iter().map(|(name, value)| {
                // What came in a field can go out in one.
                Some((name, HeaderValue::from_str(&value).ok()?))
            });
            Some(CorsAnswer {
                fields: fields.collect::<Option<_>>()?,
            })
        })
    }

    /// The fields of a request by which answers differ, whether a rule matches or not.
    pub const VARY: &'static str =
        "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";
}

impl CorsAnswer {
    /// Puts the fields into a response, `Vary` among them.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.fields {
            headers.insert(name, value.clone());
        }
        headers.append(VARY, HeaderValue::from_static(CorsRules::VARY));
    }
}

impl CorsRule {
    fn write(&self, document: &mut Document) {
        if let Some(id) = &self.id {
            document.text("ID", id);
        }
        for (name, values) in [
            ("AllowedOrigin", &self.origins),
            ("AllowedMethod", &self.methods),
            ("AllowedHeader", &self.headers),
            ("ExposeHeader", &self.expose),
        ] {
            for value in values {
                document.text(name, value);
            }
        }
        if let Some(seconds) = self.max_age_seconds {
            document.text("MaxAgeSeconds", &seconds.to_string());
        }
    }
}

fn read_rule(rule: &Element) -> Result<CorsRule, DocumentError> {
    rule.only(&[
        "ID",
        "AllowedOrigin",
        "AllowedMethod",
        "AllowedHeader",
        "ExposeHeader",
        "MaxAgeSeconds",
    ])?;
    let id = match rule.one("ID")? {
        Some(id) if id.text()?.chars().count() > ID_MAX_CHARACTERS => return Err(id.bad_value()),
        Some(id) => Some(id.text()?.to_owned()),
        None => None,
    };
    let origins = with_one_star(rule, "AllowedOrigin")?;
    let methods = rule.all("AllowedMethod").map(|method| {
        let word = method.word()?;
        match METHODS.contains(&word) {
            true => Ok(word.to_owned()),
            false => Err(DocumentError::CorsMethod {
                method: word.chars().take(100).collect(),
            }),
        }
    });
    let methods: Vec<_> = methods.collect::<Result<_, _>>()?;
    for (element, is_missing) in [
        ("AllowedOrigin", origins.is_empty()),
        ("AllowedMethod", methods.is_empty()),
    ] {
        if is_missing {
            return Err(DocumentError::Missing { element });
        }
    }
    let headers = with_one_star(rule, "AllowedHeader")?;
    let expose = rule.all("ExposeHeader").map(|name| {
        let word = name.word()?;
        match HeaderName::from_bytes(word.as_bytes()) {
            Ok(_) if !word.contains('*') => Ok(word.to_owned()),
            _ => Err(DocumentError::Contradiction {
                what: "An ExposeHeader names one header; wildcards are not supported there.",
            }),
        }
    });
    let max_age_seconds = match rule.one("MaxAgeSeconds")? {
        Some(seconds) => {
            let number = u32::try_from(seconds.number()?);
            Some(number.map_err(|_| seconds.bad_value())?)
        }
        None => None,
    };
    Ok(CorsRule {
        id,
        origins,
        methods,
        headers,
        expose: expose.collect::<Result<_, _>>()?,
        max_age_seconds,
    })
}

fn with_one_star(rule: &Element, element: &'static str) -> Result<Vec<String>, DocumentError> {
    let values = rule.all(element).map(|value| {
        let word = value.word()?;
        if word.is_empty() {
            return Err(value.bad_value());
        }
        match word.matches('*').count() {
            0 | 1 => Ok(word.to_owned()),
            _ => Err(DocumentError::CorsWildcards {
                element,
                value: word.chars().take(100).collect(),
            }),
        }
    });
    values.collect()
}

/// Whether a pattern with at most one `*` stands for a text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::origin::xml::NAMESPACE;

    fn document(rules: &str) -> String {
        format!("<CORSConfiguration xmlns=\"{NAMESPACE}\">{rules}</CORSConfiguration>")
    }

    fn parse(rules: &str) -> Result<CorsRules, DocumentError> {
        CorsRules::parse(document(rules).as_bytes())
    }

    fn rule(inner: &str) -> String {
        format!("<CORSRule>{inner}</CORSRule>")
    }

    const PLAIN: &str = "<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>";

    #[test]
    fn rules_that_break_a_rule_are_refused() {
        let with = |extra: &str| rule(&format!("{PLAIN}{extra}"));
        let id = |length: usize| with(&format!("<ID>{}</ID>", "i".repeat(length)));
        for (rules, expected) in [
            (with(""), None),
            (with("").repeat(100), None),
            (with("").repeat(101), Some("MalformedXML")),
            (String::new(), Some("MalformedXML")),
            (id(255), None),
            (id(256), Some("MalformedXML")),
            (with("<AllowedMethod>HEAD</AllowedMethod>"), None),
            (
                with("<AllowedMethod>PATCH</AllowedMethod>"),
                Some("InvalidRequest"),
            ),
            (
                with("<AllowedMethod>get</AllowedMethod>"),
                Some("InvalidRequest"),
            ),
            (
                with("<AllowedMethod>*</AllowedMethod>"),
                Some("InvalidRequest"),
            ),
            (with("<AllowedOrigin>https://*.a</AllowedOrigin>"), None),
            (
                with("<AllowedOrigin>*://*.a</AllowedOrigin>"),
                Some("InvalidRequest"),
            ),
            (with("<AllowedOrigin/>"), Some("MalformedXML")),
            (with("<AllowedHeader>x-*</AllowedHeader>"), None),
            (
                with("<AllowedHeader>*-*</AllowedHeader>"),
                Some("InvalidRequest"),
            ),
            (with("<ExposeHeader>ETag</ExposeHeader>"), None),
            (
                with("<ExposeHeader>*</ExposeHeader>"),
                Some("InvalidRequest"),
            ),
            (
                with("<ExposeHeader>a b</ExposeHeader>"),
                Some("InvalidRequest"),
            ),
            (with("<MaxAgeSeconds>0</MaxAgeSeconds>"), None),
            (
                with("<MaxAgeSeconds>-1</MaxAgeSeconds>"),
                Some("MalformedXML"),
            ),
            (
                with("<MaxAgeSeconds>4294967296</MaxAgeSeconds>"),
                Some("MalformedXML"),
            ),
            (with("<Other/>"), Some("MalformedXML")),
            (
                rule("<AllowedMethod>GET</AllowedMethod>"),
                Some("MalformedXML"),
            ),
            (
                rule("<AllowedOrigin>*</AllowedOrigin>"),
                Some("MalformedXML"),
            ),
        ] {
            let code = parse(&rules).err().map(|error| error.code());
            assert_eq!(code, expected, "{rules:.200}");
        }
    }

    fn site() -> CorsRules {
        let first = "<AllowedOrigin>https://site.example</AllowedOrigin>\
             <AllowedOrigin>https://*.site.example</AllowedOrigin>\
             <AllowedMethod>PUT</AllowedMethod><AllowedMethod>POST</AllowedMethod>\
             <AllowedHeader>X-Amz-*</AllowedHeader><AllowedHeader>Content-Type</AllowedHeader>\
             <ExposeHeader>ETag</ExposeHeader><ExposeHeader>x-amz-version-id</ExposeHeader>\
             <MaxAgeSeconds>300</MaxAgeSeconds>";
        parse(&(rule(first) + &rule(PLAIN))).unwrap()
    }

    fn told(answer: &CorsAnswer) -> Vec<String> {
        let mut headers = HeaderMap::new();
        answer.apply(&mut headers);
        let lines = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        lines.collect()
    }

    #[test]
    fn the_first_rule_that_matches_in_all_is_told() {
        let vary = format!("vary: {}", CorsRules::VARY);
        let answer = site().answer(
            "https://a.site.example",
            "PUT",
            Some("X-Amz-Date, content-type"),
        );
        assert_eq!(
            told(&answer.unwrap()),
            [
                "access-control-allow-origin: https://a.site.example",
                "access-control-allow-credentials: true",
                "access-control-allow-methods: PUT, POST",
                "access-control-allow-headers: x-amz-date, content-type",
                "access-control-expose-headers: ETag, x-amz-version-id",
                "access-control-max-age: 300",
                &vary,
            ]
        );
        let answer = site().answer("https://site.example", "GET", None).unwrap();
        let expected = [
            "access-control-allow-origin: *",
            "access-control-allow-methods: GET",
            &vary,
        ];
        assert_eq!(told(&answer), expected);
    }

    #[test]
    fn a_rule_matches_on_one_side_of_each_boundary() {
        for (origin, method, headers, expected) in [
            ("https://site.example", "PUT", None, true),
            ("https://site.example", "PUT", Some(""), true),
            ("https://site.example", "PUT", Some("x-amz-acl"), true),
            ("https://site.example", "PUT", Some("x-amz"), false),
            (
                "https://site.example",
                "PUT",
                Some("x-amz-acl,x-other"),
                false,
            ),
            ("https://Site.example", "PUT", None, false),
            ("https://site.example:8443", "PUT", None, false),
            ("https://.site.example", "PUT", None, true),
            ("http://a.site.example", "PUT", None, false),
            ("https://site.example.evil", "PUT", None, false),
            ("https://site.example", "DELETE", None, false),
            ("https://elsewhere.example", "GET", None, true),
            ("https://elsewhere.example", "GET", Some("x-amz-acl"), false),
            ("null", "GET", None, true),
        ] {
            let answer = site().answer(origin, method, headers);
            assert_eq!(answer.is_some(), expected, "{origin} {method} {headers:?}");
        }
        // A star takes no part of what stands around it twice.
        let tight = parse(&rule(
            "<AllowedOrigin>aXa*aXa</AllowedOrigin><AllowedMethod>GET</AllowedMethod>",
        ));
        let tight = tight.unwrap();
        assert!(tight.answer("aXaXa", "GET", None).is_none());
        assert!(tight.answer("aXaaXa", "GET", None).is_some());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            id in proptest::option::of("[a-z <&]{1,20}"),
            origins in proptest::collection::vec("[a-z:/.]{1,10}\\*?[a-z.]{0,5}", 1..4),
            methods in proptest::collection::vec(0..5_usize, 1..4),
            headers in proptest::collection::vec("[a-zA-Z-]{1,10}\\*?", 0..4),
            expose in proptest::collection::vec("[a-zA-Z-]{1,10}", 0..4),
            max_age_seconds in proptest::option::of(any::<u32>()),
        ) {
            let rules = CorsRules(vec![CorsRule {
                id,
                origins,
                methods: methods.into_iter().map(|index| METHODS[index].to_owned()).collect(),
                headers,
                expose,
                max_age_seconds,
            }]);
            let mut document = Document::new("CORSConfiguration", Some(NAMESPACE));
            rules.write(&mut document);
            prop_assert_eq!(CorsRules::parse(&document.finish()), Ok(rules));
        }
    }
}
