//! `POST /purge` on the admin address.
//!
//! | answer | when |
//! |---|---|
//! | 200 `{"sequence": 12, "rules": 1}` | in force, and on disk when there is a disk tier |
//! | 400 | the body is no purge; `error` says why |
//! | 403 | `Host` is a name that could be anybody's |
//! | 405 | not a POST |
//! | 415 | not `application/json` |
//! | 500 | the purge log cannot be written; nothing is purged |
//!
//! Why 403 and 415 are refused: [`crate::observe::admin_json`].

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tokio::task::spawn_blocking;
use tracing::{error, info};

use crate::cache::purge::{AppendError, Order, OrderFault, PurgeLog, Rule, Sequence};
use crate::cache::url::Url;
use crate::clock::SharedClock;
use crate::observe::PurgeMetrics;
use crate::observe::admin::{Endpoint, Question};
use crate::observe::admin_json::{is_json, names_this_machine, reply};

/// The path on the admin address.
pub const PATH: &str = "/purge";

/// Answers [`PATH`].
pub(super) struct PurgeEndpoint {
    pub(super) log: Arc<PurgeLog>,
    pub(super) metrics: PurgeMetrics,
    pub(super) clock: SharedClock,
    /// What of a URL's query is keyed, by the rules of its route.
    pub(super) keyed_query: KeyedQuery,
}

/// Gives the part of a URL's query that belongs to the cache key.
pub(super) type KeyedQuery = Box<dyn Fn(&Url) -> Option<String> + Send + Sync>;

/// Why nothing is purged.
#[derive(Debug, thiserror::Error)]
enum PurgeRefusal {
    #[error("use POST")]
    Method,
    #[error("Host must be localhost, a loopback address or the address of this listener")]
    Host,
    #[error("send Content-Type: application/json")]
    ContentType,
    #[error(transparent)]
    Order(#[from] OrderFault),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the task that writes the purge log ended early")]
    Abandoned,
}

impl PurgeRefusal {
    fn status(&self) -> StatusCode {
        match self {
            PurgeRefusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            PurgeRefusal::Host => StatusCode::FORBIDDEN,
            PurgeRefusal::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            PurgeRefusal::Order(_) => StatusCode::BAD_REQUEST,
            PurgeRefusal::Append(_) | PurgeRefusal::Abandoned => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[async_trait]
impl Endpoint for PurgeEndpoint {
    fn path(&self) -> &'static str {
        PATH
    }

    fn summary(&self) -> &'static str {
        "POST {\"url\"|\"tag\"|\"tags\"|\"prefix\"|\"host\": …, \"soft\": false} as JSON"
    }

    async fn answer(&self, question: Question) -> Response<Full<Bytes>> {
        match self.purge(&question).await {
            Ok((sequence, rules)) => {
                let body = json!({ "sequence": sequence.number(), "rules": rules });
                reply(StatusCode::OK, &body)
            }
            Err(refusal) => {
                if refusal.status().is_server_error() {
                    error!(error = %refusal, "nothing was purged");
                }
                let mut response =
                    reply(refusal.status(), &json!({ "error": refusal.to_string() }));
                if matches!(refusal, PurgeRefusal::Method) {
                    let allow = HeaderValue::from_static("POST");
                    response.headers_mut().insert(ALLOW, allow);
                }
                response
            }
        }
    }
}

impl PurgeEndpoint {
    async fn purge(&self, question: &Question) -> Result<(Sequence, usize), PurgeRefusal> {
        let order = read(question, &self.keyed_query)?;
        let (log, at, given) = (Arc::clone(&self.log), self.clock.wall(), order.clone());
        // Blocks until the disk has it.
        let sequence = spawn_blocking(move || log.append(&given, at))
            .await
            .map_err(|_| PurgeRefusal::Abandoned)??;
        for rule in &order.rules {
            self.metrics.record(rule.kind(), order.severity.as_str());
        }
        info!(
            sequence = sequence.number(),
            severity = order.severity.as_str(),
            rules = order.rules.len(),
            first = order.rules.first().map(tracing::field::display),
            "purged"
        );
        Ok((sequence, order.rules.len()))
    }
}

/// Reads a question as an order whose URLs are those of cache keys.
fn read(question: &Question, keyed_query: &KeyedQuery) -> Result<Order, PurgeRefusal> {
    let request = &question.request;
    if request.method() != Method::POST {
        return Err(PurgeRefusal::Method);
    }
    if !names_this_machine(request, question.reached) {
        return Err(PurgeRefusal::Host);
    }
    if !is_json(request.headers()) {
        return Err(PurgeRefusal::ContentType);
    }
    let mut order = Order::parse(request.body())?;
    for rule in &mut order.rules {
        if let Rule::Url(url) = rule {
            url.query = keyed_query(url);
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::policy::tags::Tags;
    use crate::cache::purge::{Severity, Subject};
    use crate::cache::{CacheKey, Scheme};
    use crate::clock::SystemClock;
    use crate::config::CacheRules;
    use crate::edge::request::{AwsParameters, keyed_query};
    use crate::observe::Metrics;
    use http::Request;
    use http::header::CONTENT_TYPE;
    use http_body_util::BodyExt;

    fn endpoint() -> PurgeEndpoint {
        PurgeEndpoint {
            log: Arc::new(PurgeLog::in_memory()),
            metrics: Metrics::new().purges(),
            clock: SystemClock::shared(),
            keyed_query: Box::new(|url| {
                keyed_query(
                    url.query.as_deref(),
                    &CacheRules::default(),
                    AwsParameters::Verified,
                )
            }),
        }
    }

    async fn ask(
        endpoint: &PurgeEndpoint,
        method: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(PATH);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let question = Question {
            request: request
                .body(Bytes::copy_from_slice(body.as_bytes()))
                .unwrap(),
            reached: [10, 0, 0, 1].into(),
        };
        let response = endpoint.answer(question).await;
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    const JSON: (&str, &str) = ("content-type", "application/json");
    const LOCAL: (&str, &str) = ("host", "localhost:9900");

    #[tokio::test]
    async fn a_purge_answers_with_its_sequence_and_the_number_of_rules() {
        let endpoint = endpoint();
        for (body, expected) in [
            (r#"{"tags": ["a", "b"]}"#, "{\"rules\":2,\"sequence\":1}\n"),
            (r#"{"host": "h"}"#, "{\"rules\":1,\"sequence\":2}\n"),
        ] {
            let answer = ask(&endpoint, "POST", &[JSON, LOCAL], body).await;
            assert_eq!(answer, (200, expected.to_owned()));
        }
        assert_eq!(endpoint.log.rules(), 3);
    }

    #[tokio::test]
    async fn what_a_page_of_another_site_can_send_is_refused() {
        let endpoint = endpoint();
        let json = |host| vec![JSON, ("host", host)];
        let media = |value| vec![("content-type", value), LOCAL];
        for (fields, expected) in [
            (json("localhost"), 200),
            (json("LOCALHOST:1"), 200),
            (json("127.0.0.1:9900"), 200),
            (json("127.9.9.9"), 200),
            (json("[::1]:9900"), 200),
            (json("10.0.0.1:9900"), 200),
            (json("[::ffff:10.0.0.1]:9900"), 200),
            (json("10.0.0.2:9900"), 403),
            (json("rebound.example:9900"), 403),
            (json("localhost.rebound.example"), 403),
            (json("127.0.0.1.rebound.example"), 403),
            (json(""), 403),
            (vec![JSON], 403),
            (vec![JSON, LOCAL, LOCAL], 403),
            (media("application/json; charset=utf-8"), 200),
            (media("Application/JSON"), 200),
            (media("text/plain"), 415),
            (media("application/x-www-form-urlencoded"), 415),
            (media("application/jsonp"), 415),
            (vec![LOCAL], 415),
            (vec![JSON, JSON, LOCAL], 415),
        ] {
            let (status, body) = ask(&endpoint, "POST", &fields, r#"{"tag": "x"}"#).await;
            assert_eq!(status, expected, "{fields:?} {body}");
            assert_eq!(body.contains("error"), status != 200, "{body}");
        }
    }

    #[tokio::test]
    async fn other_methods_and_orders_that_name_nothing_are_refused_with_the_reason() {
        let endpoint = endpoint();
        for method in ["GET", "PUT", "OPTIONS", "PURGE"] {
            let (status, body) = ask(&endpoint, method, &[JSON, LOCAL], "").await;
            assert_eq!((status, body.as_str()), (405, "{\"error\":\"use POST\"}\n"));
        }
        let (status, body) = ask(&endpoint, "POST", &[JSON, LOCAL], r#"{"tagg": "x"}"#).await;
        assert_eq!(status, 400);
        assert!(body.contains(r#"unknown key \"tagg\""#), "{body}");
        assert_eq!(endpoint.log.latest(), Sequence::START);
    }

    #[tokio::test]
    async fn a_url_names_what_its_requests_are_keyed_by() {
        let endpoint = endpoint();
        let url = "https://H:443/b/k?v=1&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00";
        let body = format!(r#"{{"url": "{url}"}}"#);
        assert_eq!(ask(&endpoint, "POST", &[JSON, LOCAL], &body).await.0, 200);
        let key = CacheKey::new(Scheme::Https, "h", "/b/k", Some("v=1"));
        let subject = Subject {
            key: &key,
            tags: &Tags::unknown(),
        };
        let found = endpoint.log.judge(&subject, Sequence::START);
        assert_eq!(found, Some(Severity::Hard));
    }
}
