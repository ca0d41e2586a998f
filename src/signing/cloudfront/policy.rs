//! What a policy says: a resource, an end, perhaps a start and perhaps addresses.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::signing::{CredentialRefusal, cidr, glob};

/// A policy: one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    /// A URL with wildcards; `None` when it does not matter: a custom policy may leave it out, and the
    /// signature of a canned one covers the URL itself.
    pub(super) resource: Option<String>,
    /// The first second at which it does not count.
    pub(super) expires: u64,
    /// It counts after this second.
    pub(super) not_before: Option<u64>,
    /// A block of addresses.
    pub(super) source_ip: Option<String>,
}

impl Policy {
    /// A canned policy whose URL has been verified.
    pub(super) fn until(expires: u64) -> Self {
        Policy {
            resource: None,
            expires,
            not_before: None,
            source_ip: None,
        }
    }

    /// Reads a custom policy. Whatever is not known might be a condition, so nothing else may be in it.
    ///
    /// # Errors
    /// [`CredentialRefusal::MalformedPolicy`] and [`CredentialRefusal::UnknownPart`].
    pub(super) fn parse(json: &[u8]) -> Result<Self, CredentialRefusal> {
        let value: Value = serde_json::from_slice(json).map_err(|_| MALFORMED)?;
        let mut policy = Members::of(value)?;
        let statements = policy.take("Statement").ok_or(MALFORMED)?;
        policy.end()?;
        let Value::Array(mut statements) = statements else {
            return Err(MALFORMED);
        };
        let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
            return Err(MALFORMED);
        };
        let mut statement = Members::of(statement)?;
        let resource = statement.take("Resource").map(text).transpose()?;
        let condition = statement.take("Condition").ok_or(MALFORMED)?;
        statement.end()?;
        let mut condition = Members::of(condition)?;
        let mut of = |operator, key| condition.only(operator, key);
        let expires = of("DateLessThan", "AWS:EpochTime")?.ok_or(MALFORMED)?;
        let not_before = of("DateGreaterThan", "AWS:EpochTime")?;
        let source_ip = of("IpAddress", "AWS:SourceIp")?.map(text).transpose()?;
        condition.end()?;
        Ok(Policy {
            resource,
            expires: seconds(&expires)?,
            not_before: not_before.as_ref().map(seconds).transpose()?,
            source_ip,
        })
    }

    /// # Errors
    /// [`CredentialRefusal::WrongClient`], and [`CredentialRefusal::MalformedPolicy`] when the address
    /// is none.
    pub(super) fn check_client(&self, client: IpAddr) -> Result<(), CredentialRefusal> {
        match &self.source_ip {
            None => Ok(()),
            Some(block) => match cidr::contains(block, client) {
                Some(true) => Ok(()),
                Some(false) => Err(CredentialRefusal::WrongClient),
                None => Err(MALFORMED),
            },
        }
    }

    /// # Errors
    /// [`CredentialRefusal::WrongResource`].
    pub(super) fn check_url(&self, url: &str) -> Result<(), CredentialRefusal> {
        match &self.resource {
            Some(resource) if !glob::matches(resource, url) => {
                Err(CredentialRefusal::WrongResource)
            }
            _ => Ok(()),
        }
    }
}

const MALFORMED: CredentialRefusal = CredentialRefusal::MalformedPolicy;

fn text(value: Value) -> Result<String, CredentialRefusal> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(MALFORMED),
    }
}

fn seconds(value: &Value) -> Result<u64, CredentialRefusal> {
    value.as_u64().ok_or(MALFORMED)
}

/// The members of an object, taken out one by one.
struct Members(Map<String, Value>);

impl Members {
    fn of(value: Value) -> Result<Self, CredentialRefusal> {
        match value {
            Value::Object(members) => Ok(Members(members)),
            _ => Err(MALFORMED),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// The value of `{operator: {key: value}}`, if there is one.
    fn only(&mut self, operator: &str, key: &str) -> Result<Option<Value>, CredentialRefusal> {
        let Some(value) = self.take(operator) else {
            return Ok(None);
        };
        let mut operands = Members::of(value)?;
        let value = operands.take(key).ok_or(CredentialRefusal::UnknownPart)?;
        operands.end()?;
        Ok(Some(value))
    }

    fn end(self) -> Result<(), CredentialRefusal> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(CredentialRefusal::UnknownPart)
        }
    }
}
