//! Which parameters of a query make a difference: those are keyed, and those are forwarded.

use std::borrow::Cow;

use crate::config::CacheRules;

/// The raw query as it is keyed and forwarded under `rules`: its parameters byte for byte, without
/// those that the operator has ruled out, sorted if so ruled. `None` when nothing is left of one
/// that had parameters.
pub fn ruled<'q>(query: &'q str, rules: &CacheRules) -> Option<Cow<'q, str>> {
    if rules.keep_queries_as_sent() {
        return Some(Cow::Borrowed(query));
    }
    let mut items: Vec<&str> = query
        .split('&')
        .filter(|item| {
            let name = item.split('=').next().unwrap_or_default();
            rules.query.keeps(name.as_bytes())
        })
        .collect();
    if items.is_empty() {
        return None;
    }
    if rules.sort_query {
        items.sort_unstable();
    }
    Some(Cow::Owned(items.join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::QueryRule;

    #[test]
    fn parameters_are_kept_byte_for_byte_or_not_at_all() {
        let names = || vec!["a".to_owned(), "b".to_owned()];
        for (rule, sort_query, query, expected) in [
            (QueryRule::All, false, "b=2&a=%31&&", Some("b=2&a=%31&&")),
            (QueryRule::All, true, "b=2&a=%31&a=0", Some("a=%31&a=0&b=2")),
            (QueryRule::None, false, "b=2&a=1", None),
            (
                QueryRule::Allow(names()),
                false,
                "c=3&b=2&a=1",
                Some("b=2&a=1"),
            ),
            (QueryRule::Allow(names()), true, "c=3&b=2&a", Some("a&b=2")),
            (QueryRule::Allow(names()), false, "%61=1", None),
            (QueryRule::Deny(names()), false, "c=3&b=2&a=1", Some("c=3")),
            (QueryRule::Deny(names()), false, "a=1", None),
        ] {
            let rules = CacheRules {
                query: rule,
                sort_query,
                ..CacheRules::default()
            };
            assert_eq!(ruled(query, &rules).as_deref(), expected, "{query}");
        }
    }
}
