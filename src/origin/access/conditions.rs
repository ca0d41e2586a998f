//! The conditions of a statement (IAM user guide, "Policy elements: Condition operators"). All must hold.
//!
//! What the request says nothing about fails a condition, unless that is negated or ends in `IfExists`.

use std::net::{IpAddr, Ipv4Addr};

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime};

use super::context::{Context, Key};
use super::json::Json;
use super::pattern::{Pattern, Reading};
use crate::signing::cidr;

/// One operator applied to one key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    test: Test,
    is_negated: bool,
    set: Set,
    if_exists: bool,
    key: Key,
    values: Vec<Value>,
}

/// What is compared, and how. The negated operators are these and a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Text,
    TextIgnoringCase,
    TextLike,
    Arn,
    Bytes,
    Number(Order),
    Instant(Order),
    Flag,
    Block,
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How the values of a request count when there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    None,
    Any,
    All,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Pattern(Pattern),
    Number(f64),
    /// Nanoseconds since 1970.
    Instant(i128),
    Flag(bool),
    /// A CIDR block that was tried once.
    Block(String),
}

/// Every operator but `Null`, with its test and whether it is negated.
const OPERATORS: [(&str, Test, bool); 27] = [
    ("StringEquals", Test::Text, false),
    ("StringNotEquals", Test::Text, true),
    ("StringEqualsIgnoreCase", Test::TextIgnoringCase, false),
    ("StringNotEqualsIgnoreCase", Test::TextIgnoringCase, true),
    ("StringLike", Test::TextLike, false),
    ("StringNotLike", Test::TextLike, true),
    ("NumericEquals", Test::Number(Order::Equal), false),
    ("NumericNotEquals", Test::Number(Order::Equal), true),
    ("NumericLessThan", Test::Number(Order::Less), false),
    (
        "NumericLessThanEquals",
        Test::Number(Order::LessOrEqual),
        false,
    ),
    ("NumericGreaterThan", Test::Number(Order::Greater), false),
    (
        "NumericGreaterThanEquals",
        Test::Number(Order::GreaterOrEqual),
        false,
    ),
    ("DateEquals", Test::Instant(Order::Equal), false),
    ("DateNotEquals", Test::Instant(Order::Equal), true),
    ("DateLessThan", Test::Instant(Order::Less), false),
    (
        "DateLessThanEquals",
        Test::Instant(Order::LessOrEqual),
        false,
    ),
    ("DateGreaterThan", Test::Instant(Order::Greater), false),
    (
        "DateGreaterThanEquals",
        Test::Instant(Order::GreaterOrEqual),
        false,
    ),
    ("Bool", Test::Flag, false),
    ("BinaryEquals", Test::Bytes, false),
    ("IpAddress", Test::Block, false),
    ("NotIpAddress", Test::Block, true),
    // ArnEquals and ArnLike behave the same, by the guide.
    ("ArnEquals", Test::Arn, false),
    ("ArnLike", Test::Arn, false),
    ("ArnNotEquals", Test::Arn, true),
    ("ArnNotLike", Test::Arn, true),
    ("Null", Test::Absent, false),
];

impl Condition {
    /// Reads one member of one operator: `{"StringEquals": {"s3:prefix": "a/"}}` is `operator`, `key` and
    /// `values`. `has_variables` says whether the policy's version knows them.
    ///
    /// # Errors
    /// What is wrong, in words for the policy's author.
    pub(super) fn parse(
        operator: &str,
        key: &str,
        values: &Json,
        has_variables: bool,
    ) -> Result<Self, &'static str> {
        let (set, rest) = match operator.split_once(':') {
            Some((set, rest)) if set.eq_ignore_ascii_case("ForAnyValue") => (Set::Any, rest),
            Some((set, rest)) if set.eq_ignore_ascii_case("ForAllValues") => (Set::All, rest),
            Some(_) => return Err("a condition operator of an unknown kind"),
            None => (Set::None, operator),
        };
        let suffix = "IfExists";
        let cut = rest.len().checked_sub(suffix.len());
        let cut = cut.filter(|at| {
            (rest.split_at_checked(*at)).is_some_and(|(_, end)| end.eq_ignore_ascii_case(suffix))
        });
        let (name, if_exists) = cut.map_or((rest, false), |at| (&rest[..at], true));
        let found = OPERATORS
            .iter()
            .find(|(known, _, _)| known.eq_ignore_ascii_case(name));
        let (_, test, is_negated) = *found.ok_or("a condition operator of an unknown kind")?;
        if test == Test::Absent && (if_exists || set != Set::None) {
            return Err("Null takes neither IfExists nor a set operator");
        }
        let key = Key::parse(key).ok_or("a condition on an unknown key")?;
        let values = match values {
            Json::List(list) if list.is_empty() => return Err("a condition without a value"),
            Json::List(list) => list.iter().collect(),
            one => vec![one],
        };
        let values = values.into_iter().map(|value| {
            let text = match value {
                Json::Text(text) => text.clone(),
                Json::Number(text) => text.clone(),
                Json::Flag(flag) => flag.to_string(),
                Json::Null | Json::List(_) | Json::Object(_) => {
                    return Err("a condition's value is no text, number or flag");
                }
            };
            test.value(&text, has_variables)
        });
        Ok(Condition {
            test,
            is_negated,
            set,
            if_exists,
            key,
            values: values.collect::<Result<_, _>>()?,
        })
    }

    /// Whether it holds for a request.
    pub(super) fn holds(&self, context: &Context) -> bool {
        let given = context.values(&self.key);
        if self.test == Test::Absent {
            let is_absent = given.is_empty();
            return self.values.contains(&Value::Flag(is_absent));
        }
        let fits = |given: &String| {
            let one = |value: &Value| self.test.holds(value, given, context);
            self.values.iter().any(one) != self.is_negated
        };
        match (self.set, given.is_empty()) {
            (_, true) if self.if_exists => true,
            (Set::None, true) => self.is_negated,
            (Set::Any, true) => false,
            (Set::All, true) => true,
            (Set::Any, false) => given.iter().any(fits),
            (Set::All, false) => given.iter().all(fits),
            // A request with two values where one is meant: either could be acted upon.
            (Set::None, false) => given.iter().all(fits),
        }
    }

    /// Whether it asks for the tags of the object as it is stored.
    pub(super) fn asks_for_existing_tags(&self) -> bool {
        let in_value = |value: &Value| match value {
            Value::Pattern(pattern) => pattern.asks_for_existing_tags(),
            Value::Number(_) | Value::Instant(_) | Value::Flag(_) | Value::Block(_) => false,
        };
        self.key.is_existing_tag() || self.values.iter().any(in_value)
    }

    /// Whether it leaves a statement for everyone to a fixed and narrow set of callers (S3, "The meaning of
    /// public"). What clients can make up, such as a referrer, does not.
    pub(super) fn narrows(&self) -> bool {
        if self.is_negated || self.if_exists || self.set == Set::All {
            return false;
        }
        let is_fixed = |value: &Value| match value {
            Value::Pattern(pattern) => pattern.is_fixed(),
            Value::Block(block) => is_narrow(block),
            Value::Number(_) | Value::Instant(_) | Value::Flag(_) => false,
        };
        let by_caller = [
            "aws:SourceIp",
            "aws:userid",
            "aws:username",
            "aws:PrincipalArn",
        ];
        let is_of_caller = by_caller.into_iter().any(|key| self.key == Key::Known(key));
        is_of_caller && !self.values.is_empty() && self.values.iter().all(is_fixed)
    }
}

impl Test {
    fn value(self, text: &str, has_variables: bool) -> Result<Value, &'static str> {
        let pattern = |wildcards| {
            let reading = Reading {
                wildcards,
                variables: has_variables,
            };
            Pattern::parse(text, reading).map(Value::Pattern)
        };
        match self {
            Test::Text | Test::TextIgnoringCase => pattern(false),
            Test::TextLike => pattern(true),
            Test::Bytes => Pattern::parse(
                text,
                Reading {
                    wildcards: false,
                    variables: false,
                },
            )
            .map(Value::Pattern),
            Test::Arn if text.matches(':').count() < 5 && text != "*" => {
                Err("an ARN has six parts")
            }
            Test::Arn => pattern(true),
            Test::Number(_) => number(text)
                .map(Value::Number)
                .ok_or("a number that is none"),
            Test::Instant(_) => (instant(text).map(Value::Instant))
                .ok_or("a date that is none; write 2030-01-01T00:00:00Z"),
            Test::Flag | Test::Absent => match text {
                _ if text.eq_ignore_ascii_case("true") => Ok(Value::Flag(true)),
                _ if text.eq_ignore_ascii_case("false") => Ok(Value::Flag(false)),
                _ => Err("a flag that is neither true nor false"),
            },
            Test::Block => match cidr::contains(text, IpAddr::V4(Ipv4Addr::UNSPECIFIED)) {
                Some(_) => Ok(Value::Block(text.to_owned())),
                None => Err("an address that is none; write 192.0.2.0/24"),
            },
        }
    }

    fn holds(self, value: &Value, given: &str, context: &Context) -> bool {
        match (self, value) {
            (Test::TextIgnoringCase, Value::Pattern(pattern)) => {
                pattern.matches_ignoring_case(given, context)
            }
            (Test::Text | Test::TextLike | Test::Arn | Test::Bytes, Value::Pattern(pattern)) => {
                pattern.matches(given, context)
            }
            (Test::Number(order), Value::Number(own)) => {
                number(given).is_some_and(|given| order.holds(&given, own))
            }
            (Test::Instant(order), Value::Instant(own)) => {
                instant(given).is_some_and(|given| order.holds(&given, own))
            }
            (Test::Flag, Value::Flag(own)) => given.eq_ignore_ascii_case(&own.to_string()),
            (Test::Block, Value::Block(block)) => {
                let address = given.parse().ok();
                address.and_then(|address| cidr::contains(block, address)) == Some(true)
            }
            // A value is made by the test that it stands beside.
            _ => false,
        }
    }
}

impl Order {
    fn holds<T: PartialOrd>(self, given: &T, own: &T) -> bool {
        match self {
            Order::Equal => given == own,
            Order::Less => given < own,
            Order::LessOrEqual => given <= own,
            Order::Greater => given > own,
            Order::GreaterOrEqual => given >= own,
        }
    }
}

fn number(text: &str) -> Option<f64> {
    // Not what else a float may be called: `inf`, `NaN`.
    let plain = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    let number: f64 = text.parse().ok()?;
    (text.bytes().all(plain) && number.is_finite()).then_some(number)
}

/// A time as the policy language writes it (W3C, "Date and Time Formats"), or seconds since 1970; the answer in
/// nanoseconds since 1970.
fn instant(text: &str) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Four digits could be a year as well.
    if is_number && digits.len() != 4 {
        let seconds: i64 = text.parse().ok()?;
        return Some(i128::from(seconds) * 1_000_000_000);
    }
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(moment.unix_timestamp_nanos());
    }
    let minutes = format_description!("[year]-[month]-[day]T[hour]:[minute]Z");
    if let Ok(moment) = PrimitiveDateTime::parse(text, &minutes) {
        return Some(moment.assume_utc().unix_timestamp_nanos());
    }
    let day = format_description!("[year]-[month]-[day]");
    let day = Date::parse(text, &day).ok()?;
    Some(day.midnight().assume_utc().unix_timestamp_nanos())
}

/// S3 calls a block public that is broader than /8 of IPv4 or /32 of IPv6.
fn is_narrow(block: &str) -> bool {
    let Some((address, length)) = block.split_once('/') else {
        return true;
    };
    let least = if address.contains(':') { 32 } else { 8 };
    length.parse::<u32>().is_ok_and(|length| length >= least)
}

#[cfg(test)]
#[path = "conditions_tests.rs"]
mod tests;
