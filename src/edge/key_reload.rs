//! Reading the signing keys again while the edge runs: on SIGHUP, and by `POST /signing/reload` on the
//! admin address.
//!
//! | answer | when |
//! |---|---|
//! | 200 `{"keys": 3}` | all keys have been read and are in force |
//! | 403 | `Host` is a name that could be anybody's (see [`super::purge`]) |
//! | 405 | not a POST |
//! | 422 | the configuration is not sound; the keys in force stay, and `problems` says why |
//!
//! `all-or-nothing`: the configuration is read and checked as at a start, and its `edge.signing` is put
//! into force as a whole or not at all. Nothing else in it is looked at before the next start.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::Node;
use crate::config;
use crate::observe::admin::{Endpoint, Question};
use crate::observe::admin_json::names_this_machine;

/// The path on the admin address.
pub const PATH: &str = "/signing/reload";

/// Reads the keys of one configuration again.
pub struct KeyReload {
    node: Arc<Node>,
    file: PathBuf,
}

/// Why the keys in force stay.
#[derive(Debug, thiserror::Error)]
enum KeyReloadFault {
    #[error("the configuration is not sound:\n{0}")]
    Config(config::Problems),
    #[error("the configuration holds no edge section")]
    NoEdge,
    #[error("the task that reads the configuration ended early")]
    Abandoned,
}

impl KeyReload {
    pub(super) fn new(node: Arc<Node>, file: PathBuf) -> Self {
        KeyReload { node, file }
    }

    /// Reads the keys and puts them into force; says in the log what came of it.
    pub async fn run(&self) -> StatusCode {
        self.reload().await.0
    }

    async fn reload(&self) -> (StatusCode, Value) {
        match self.exchange().await {
            Ok(keys) => {
                info!(keys, "the signing keys have been read again");
                (StatusCode::OK, json!({ "keys": keys }))
            }
            Err(fault) => {
                error!(%fault, "the signing keys in force stay");
                let problems: Vec<String> = match &fault {
                    KeyReloadFault::Config(problems) => {
                        problems.iter().map(ToString::to_string).collect()
                    }
                    other => vec![other.to_string()],
                };
                let problems = json!({ "problems": problems });
                (StatusCode::UNPROCESSABLE_ENTITY, problems)
            }
        }
    }

    async fn exchange(&self) -> Result<usize, KeyReloadFault> {
        let file = self.file.clone();
        let read = spawn_blocking(move || config::load(&file)).await;
        let checked = read.map_err(|_| KeyReloadFault::Abandoned)?;
        let checked = checked.map_err(KeyReloadFault::Config)?;
        let edge = checked.config.edge.ok_or(KeyReloadFault::NoEdge)?;
        self.node.authorizer.exchange_keys(&edge.signing);
        Ok(edge.signing.keys.len())
    }
}

#[async_trait]
impl Endpoint for KeyReload {
    fn path(&self) -> &'static str {
        PATH
    }

    fn summary(&self) -> &'static str {
        "POST: read the signing keys again"
    }

    async fn answer(&self, question: Question) -> Response<Full<Bytes>> {
        let request = &question.request;
        if request.method() != Method::POST {
            let error = json!({ "error": "use POST" });
            let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, &error);
            let allow = HeaderValue::from_static("POST");
            response.headers_mut().insert(ALLOW, allow);
            return response;
        }
        if !names_this_machine(request, question.reached) {
            let error =
                "Host must be localhost, a loopback address or the address of this listener";
            return reply(StatusCode::FORBIDDEN, &json!({ "error": error }));
        }
        let (status, body) = self.reload().await;
        reply(status, &body)
    }
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
