//! What browsers ask before they let scripts of other origins read (Fetch standard, "CORS protocol"). Pure.
//!
//! The edge answers for the origin: a preflight carries no credentials and no signature, so that nobody
//! behind a signed route could tell who asks, and answers that differ by `Origin` would each be stored.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN,
    VARY,
};
use http::{HeaderMap, Method};

use super::PolicyRefusal;
use crate::cache::policy::cache_control::list_items;
use crate::config::{Cors, Listed};

/// Fields of the origin's that are not passed on.
pub(super) const OWNED: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// Fields that any script may send (Fetch, "CORS-safelisted request-header"); browsers announce them in a
/// preflight when their value is unusual.
const SAFE_FIELDS: [&str; 4] = [
    "accept",
    "accept-language",
    "content-language",
    "content-type",
];

/// Fields to be added to a response.
type Fields = Vec<(HeaderName, HeaderValue)>;

/// The rules of one route, ready to be sent.
#[derive(Debug)]
pub(super) struct CorsPolicy {
    rules: Cors,
    /// The one value of `Access-Control-Allow-Origin` that everybody gets; `None` when it depends.
    for_all: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    methods: HeaderValue,
    headers: Option<HeaderValue>,
}

impl CorsPolicy {
    pub(super) fn new(rules: &Cors) -> Self {
        let text = |value: String| HeaderValue::try_from(value).ok();
        let names = |names: &[HeaderName]| {
            let names: Vec<_> = names.iter().map(HeaderName::as_str).collect();
            (!names.is_empty())
                .then(|| text(names.join(", ")))
                .flatten()
        };
        let methods: Vec<_> = rules.methods.iter().map(Method::as_str).collect();
        CorsPolicy {
            for_all: match &rules.origins {
                Listed::All => Some(HeaderValue::from_static("*")),
                Listed::These(origins) => match &origins[..] {
                    // Said to everybody, it needs no Vary, and means the same.
                    [one] => one.only().and_then(|origin| text(origin.to_owned())),
                    _ => None,
                },
            },
            expose: names(&rules.expose),
            methods: text(methods.join(", ")).unwrap_or(HeaderValue::from_static("GET")),
            headers: match &rules.headers {
                Listed::All => None,
                Listed::These(fields) => names(fields),
            },
            rules: rules.clone(),
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        match &self.rules.origins {
            Listed::All => true,
            Listed::These(origins) => {
                (origins.iter()).any(|known| known.matches(origin.as_bytes()))
            }
        }
    }

    /// Adds what goes on a response to a request with this `origin`.
    pub(super) fn add_to(&self, origin: Option<&HeaderValue>, fields: &mut Fields) {
        let allowed = match (&self.for_all, origin) {
            (Some(all), _) => Some(all),
            (None, origin) => {
                // Also without an Origin: whoever stores this must not give it to one who has one.
                fields.push((VARY, HeaderValue::from_name(ORIGIN)));
                origin.filter(|origin| self.allows(origin))
            }
        };
        let Some(allowed) = allowed else { return };
        fields.push((ACCESS_CONTROL_ALLOW_ORIGIN, allowed.clone()));
        if self.rules.credentials {
            let yes = HeaderValue::from_static("true");
            fields.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, yes));
        }
        if let Some(expose) = &self.expose {
            fields.push((ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone()));
        }
    }

    /// The answer to a preflight.
    ///
    /// # Errors
    /// [`PolicyRefusal`]; a browser would not send the request that is asked about after any answer that
    /// does not allow it, but this one says to the operator why.
    pub(super) fn preflight(&self, request: &HeaderMap) -> Result<Fields, PolicyRefusal> {
        let origin = request.get(ORIGIN).ok_or(PolicyRefusal::CorsOrigin)?;
        if !self.allows(origin) {
            return Err(PolicyRefusal::CorsOrigin);
        }
        let method = request.get(ACCESS_CONTROL_REQUEST_METHOD);
        let method = method.map_or(&b""[..], HeaderValue::as_bytes);
        let methods = &self.rules.methods;
        if !methods
            .iter()
            .any(|known| known.as_str().as_bytes() == method)
        {
            return Err(PolicyRefusal::CorsMethod);
        }
        let headers = self.allowed_headers(request)?;
        let mut fields = Fields::new();
        self.add_to(Some(origin), &mut fields);
        fields.retain(|(name, _)| name != ACCESS_CONTROL_EXPOSE_HEADERS);
        fields.push((ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone()));
        if let Some(headers) = headers {
            fields.push((ACCESS_CONTROL_ALLOW_HEADERS, headers));
        }
        let seconds = HeaderValue::from(self.rules.max_age.as_secs());
        fields.push((ACCESS_CONTROL_MAX_AGE, seconds));
        Ok(fields)
    }

    fn allowed_headers(&self, request: &HeaderMap) -> Result<Option<HeaderValue>, PolicyRefusal> {
        let lines = request.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
        let asked = lines.flat_map(|line| list_items(line.as_bytes()));
        let asked: Result<Vec<HeaderName>, _> = asked.map(HeaderName::from_bytes).collect();
        let asked = asked.map_err(|_| PolicyRefusal::CorsField)?;
        match &self.rules.headers {
            Listed::All => {
                // Named one by one: a star would not stand for Authorization, nor for anything when there
                // are credentials.
                let names: Vec<_> = asked.iter().map(HeaderName::as_str).collect();
                Ok((!names.is_empty())
                    .then(|| HeaderValue::try_from(names.join(", ")).ok())
                    .flatten())
            }
            Listed::These(known) => {
                let is_allowed = |name: &HeaderName| {
                    known.contains(name) || SAFE_FIELDS.contains(&name.as_str())
                };
                match asked.iter().all(is_allowed) {
                    true => Ok(self.headers.clone()),
                    false => Err(PolicyRefusal::CorsField),
                }
            }
        }
    }
}

/// Whether a request asks for permission and nothing else (Fetch, "CORS-preflight request").
pub(super) fn is_preflight(method: &Method, fields: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && fields.contains_key(ORIGIN)
        && fields.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn rules(yaml: &str) -> CorsPolicy {
        let text = format!(
            "edge:\n  listeners: [{{ address: 127.0.0.1:0 }}]\n  origins: {{ store: {{ servers: [127.0.0.1:1] }} }}\n  routes: [{{ origin: store, access: public, cors: {{ {yaml} }} }}]\n"
        );
        let checked = crate::config::parse(&text, std::path::Path::new("/")).unwrap();
        let edge = checked.config.edge.unwrap();
        CorsPolicy::new(edge.routes[0].cors.as_ref().unwrap())
    }

    fn shown(fields: Fields) -> Vec<String> {
        let fields = fields.into_iter();
        fields
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect()
    }

    fn request(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn said_to(policy: &CorsPolicy, origin: Option<&'static str>) -> Vec<String> {
        let mut fields = Fields::new();
        policy.add_to(origin.map(HeaderValue::from_static).as_ref(), &mut fields);
        shown(fields)
    }

    #[test]
    fn vary_is_said_only_where_the_answer_depends_on_who_asks() {
        let all = rules("origins: '*', expose: [etag, content-range]");
        for origin in [None, Some("https://a.example"), Some("null")] {
            assert_eq!(
                said_to(&all, origin),
                [
                    "access-control-allow-origin: *",
                    "access-control-expose-headers: etag, content-range"
                ]
            );
        }
        let one = rules("origins: [https://a.example], credentials: true");
        for origin in [
            None,
            Some("https://a.example"),
            Some("https://evil.example"),
        ] {
            assert_eq!(
                said_to(&one, origin),
                [
                    "access-control-allow-origin: https://a.example",
                    "access-control-allow-credentials: true"
                ]
            );
        }
        let two = rules("origins: [https://a.example, 'https://*.b.example']");
        assert_eq!(said_to(&two, None), ["vary: origin"]);
        assert_eq!(
            said_to(&two, Some("https://evil.example")),
            ["vary: origin"]
        );
        assert_eq!(
            said_to(&two, Some("https://x.b.example")),
            [
                "vary: origin",
                "access-control-allow-origin: https://x.b.example"
            ]
        );
    }

    #[test]
    fn a_preflight_is_allowed_by_origin_method_and_fields() {
        let two = rules(
            "origins: [https://a.example, https://b.example], methods: [GET, PUT], headers: [range, x-a], max_age: 1h",
        );
        let ask = |origin, method, headers| {
            let mut fields = vec![(ORIGIN, origin), (ACCESS_CONTROL_REQUEST_METHOD, method)];
            if !str::is_empty(headers) {
                fields.push((ACCESS_CONTROL_REQUEST_HEADERS, headers));
            }
            two.preflight(&request(&fields)).map(shown)
        };
        let allowed = [
            "vary: origin",
            "access-control-allow-origin: https://b.example",
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-headers: range, x-a",
            "access-control-max-age: 3600",
        ];
        for headers in ["", "range", "Range,X-A", "content-type, range", ","] {
            let found = ask("https://b.example", "PUT", headers);
            assert_eq!(found.unwrap(), allowed, "{headers}");
        }
        for (origin, method, headers, refusal) in [
            ("https://c.example", "GET", "", PolicyRefusal::CorsOrigin),
            ("null", "GET", "", PolicyRefusal::CorsOrigin),
            ("https://a.example", "DELETE", "", PolicyRefusal::CorsMethod),
            ("https://a.example", "put", "", PolicyRefusal::CorsMethod),
            ("https://a.example", "GET", "x-b", PolicyRefusal::CorsField),
            (
                "https://a.example",
                "GET",
                "range, x b",
                PolicyRefusal::CorsField,
            ),
        ] {
            assert_eq!(ask(origin, method, headers), Err(refusal));
        }
    }

    #[test]
    fn all_fields_are_named_back() {
        let all = rules("origins: '*', headers: '*', max_age: 0s");
        let asked = request(&[
            (ORIGIN, "https://a.example"),
            (ACCESS_CONTROL_REQUEST_METHOD, "GET"),
            (ACCESS_CONTROL_REQUEST_HEADERS, "authorization,x-a"),
        ]);
        assert_eq!(
            shown(all.preflight(&asked).unwrap()),
            [
                "access-control-allow-origin: *",
                "access-control-allow-methods: GET, HEAD",
                "access-control-allow-headers: authorization, x-a",
                "access-control-max-age: 0",
            ]
        );
        assert_eq!(all.rules.max_age, Duration::ZERO);
    }

    #[test]
    fn only_options_with_both_fields_is_a_preflight() {
        let both = request(&[
            (ORIGIN, "https://a.example"),
            (ACCESS_CONTROL_REQUEST_METHOD, "GET"),
        ]);
        assert!(is_preflight(&Method::OPTIONS, &both));
        assert!(!is_preflight(&Method::GET, &both));
        let one = request(&[(ORIGIN, "https://a.example")]);
        assert!(!is_preflight(&Method::OPTIONS, &one));
    }
}
