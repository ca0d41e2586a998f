//! The `Vary` field and the secondary key it makes (RFC 9111 §4.1).

use http::HeaderMap;
use http::header::{HeaderName, VARY};

use super::cache_control::list_items;

/// What a response's `Vary` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vary {
    /// No selecting fields.
    Nothing,
    /// The request fields that selected this response; sorted, each once.
    Fields(Vec<HeaderName>),
    /// `*`, or something that is not a field name: no later request can be matched.
    Anything,
}

impl Vary {
    /// Reads every `Vary` line.
    pub fn of(fields: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for item in fields
            .get_all(VARY)
            .iter()
            .flat_map(|value| list_items(value.as_bytes()))
        {
            match HeaderName::from_bytes(item) {
                Ok(name) if item != b"*" => names.push(name),
                _ => return Vary::Anything,
            }
        }
        if names.is_empty() {
            return Vary::Nothing;
        }
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        Vary::Fields(names)
    }
}

/// Appends the secondary key of `request` under `names` to `key`: for each name its normalised
/// value, length-prefixed, so that two requests share an encoding exactly when RFC 9111 §4.1 lets
/// them share a response. An absent field differs from an empty one.
pub fn secondary_key(names: &[HeaderName], request: &HeaderMap, key: &mut Vec<u8>) {
    let mut value = Vec::new();
    for name in names {
        value.clear();
        let mut present = false;
        for line in request.get_all(name) {
            present = true;
            for item in list_items(line.as_bytes()) {
                if !value.is_empty() {
                    value.push(b',');
                }
                value.extend_from_slice(item);
            }
        }
        key.push(u8::from(present));
        // A request head is bounded far below 4 GiB.
        key.extend_from_slice(&(value.len() as u32).to_be_bytes());
        key.extend_from_slice(&value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        map
    }

    #[test]
    fn vary_is_read_in_its_odd_spellings() {
        let names = |list: &[&'static str]| {
            Vary::Fields(list.iter().map(|n| HeaderName::from_static(n)).collect())
        };
        for (lines, expected) in [
            (vec![], Vary::Nothing),
            (vec![("vary", "")], Vary::Nothing),
            (vec![("vary", " , ")], Vary::Nothing),
            (vec![("vary", "Foo, bar,FOO")], names(&["bar", "foo"])),
            (
                vec![("vary", "foo"), ("vary", "bar")],
                names(&["bar", "foo"]),
            ),
            (vec![("vary", "*")], Vary::Anything),
            (vec![("vary", "foo, *")], Vary::Anything),
            (vec![("vary", "foo"), ("vary", "*")], Vary::Anything),
            (vec![("vary", "foo bar")], Vary::Anything),
        ] {
            assert_eq!(Vary::of(&fields(&lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn requests_share_a_secondary_key_exactly_when_the_selecting_fields_agree() {
        let names = [HeaderName::from_static("a"), HeaderName::from_static("b")];
        let key = |lines: &[(&str, &str)]| {
            let mut key = Vec::new();
            secondary_key(&names, &fields(lines), &mut key);
            key
        };
        assert_eq!(key(&[("a", "1, 2")]), key(&[("a", "1"), ("a", "2")]));
        assert_eq!(key(&[("a", "1,2"), ("c", "9")]), key(&[("a", " 1 , 2 ")]));
        assert_ne!(key(&[("a", "1, 2")]), key(&[("a", "2, 1")]));
        assert_ne!(key(&[("a", "")]), key(&[]));
        assert_ne!(key(&[("a", "1")]), key(&[("b", "1")]));
        assert_ne!(
            key(&[("a", "x"), ("b", "y")]),
            key(&[("a", "xy"), ("b", "")])
        );
    }
}
