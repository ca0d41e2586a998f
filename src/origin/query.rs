//! The query of a request, decoded once.

use super::names::{NameError, decode_once};

/// The parameters of a request in the order they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// A parameter that appears twice, where either could be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the query names a parameter twice")]
pub struct Repeated;

impl Query {
    /// Decodes a raw query. A `+` is a space, as it is to the signature check in [`crate::signing`]: if the two
    /// disagreed, one signature could stand for two requests.
    ///
    /// # Errors
    /// Encoding that cannot be undone.
    pub fn parse(raw: &str) -> Result<Self, NameError> {
        raw.split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decode(name)?, decode(value)?))
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Query)
    }

    /// The value of a parameter; `Some("")` when it has none.
    ///
    /// # Errors
    /// [`Repeated`] when there is more than one.
    pub fn get(&self, name: &str) -> Result<Option<&str>, Repeated> {
        let mut values = self.0.iter().filter(|(n, _)| n == name);
        let first = values.next().map(|(_, value)| value.as_str());
        match values.next() {
            Some(_) => Err(Repeated),
            None => Ok(first),
        }
    }

    /// Whether the parameter is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// Every parameter.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }
}

fn decode(raw: &str) -> Result<String, NameError> {
    if !raw.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(raw.to_owned());
    }
    // Before percent-decoding, so that `%2B` stays a plus sign.
    decode_once(&raw.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_once_and_a_plus_is_a_space() {
        let query =
            Query::parse("list-type=2&prefix=a%2520+b%2B&&delimiter=%2F&empty=&flag").unwrap();
        assert_eq!(query.get("prefix"), Ok(Some("a%20 b+")));
        assert_eq!(query.get("delimiter"), Ok(Some("/")));
        assert_eq!(query.get("empty"), Ok(Some("")));
        assert_eq!(query.get("flag"), Ok(Some("")));
        assert_eq!(query.get("absent"), Ok(None));
        assert_eq!(query.iter().count(), 5);
    }

    #[test]
    fn a_repeated_parameter_is_refused_where_it_is_read() {
        let query = Query::parse("prefix=a&prefix=b").unwrap();
        assert_eq!(query.get("prefix"), Err(Repeated));
        assert!(query.has("prefix"));
    }
}
