//! Patterns of the policy language: `*` for any characters, `?` for one, and variables such as
//! `${aws:username}` (IAM user guide, "Policy elements: Variables and tags").

use super::context::{Context, Key};

/// How a text of a policy is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// Whether `*` and `?` stand for more than themselves.
    pub wildcards: bool,
    /// Whether `${…}` is a variable; policies of version 2008-10-17 know none.
    pub variables: bool,
}

/// A text that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Character(char),
    One,
    Any,
    Variable {
        key: Key,
        /// Taken when the request says nothing.
        default: Option<String>,
    },
}

impl Pattern {
    /// Reads a text. What is wrong with it is said in words for the policy's author.
    pub(super) fn parse(text: &str, reading: Reading) -> Result<Self, &'static str> {
        let mut tokens = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            if reading.variables
                && let Some(inner) = rest.strip_prefix("${")
            {
                let (name, behind) = inner.split_once('}').ok_or("a variable has no end")?;
                tokens.push(variable(name)?);
                rest = behind;
                continue;
            }
            tokens.push(match character {
                '*' if reading.wildcards => Token::Any,
                '?' if reading.wildcards => Token::One,
                other => Token::Character(other),
            });
            rest = &rest[character.len_utf8()..];
        }
        Ok(Pattern { tokens })
    }

    /// Whether it stands for all of `text`. A variable without a value stands for nothing at all.
    pub(super) fn matches(&self, text: &str, context: &Context) -> bool {
        let text: Vec<char> = text.chars().collect();
        (self.resolved(context)).is_some_and(|tokens| matches(&tokens, &text))
    }

    /// The same, whatever the case of letters.
    pub(super) fn matches_ignoring_case(&self, text: &str, context: &Context) -> bool {
        let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
        let Some(tokens) = self.resolved(context) else {
            return false;
        };
        let mut lower = Vec::with_capacity(tokens.len());
        for token in tokens {
            match token {
                Plain::Character(character) => {
                    lower.extend(character.to_lowercase().map(Plain::Character));
                }
                wildcard => lower.push(wildcard),
            }
        }
        matches(&lower, &text)
    }

    /// Whether it could stand for a text that begins with `prefix`.
    pub(super) fn may_begin_with(&self, prefix: &str) -> bool {
        // What could follow can always be chosen to fit, so it is enough that the prefix can be taken.
        let mut reached = self.closure(vec![0]);
        for character in prefix.chars() {
            let mut next = Vec::new();
            for at in reached {
                match self.tokens.get(at) {
                    Some(Token::Character(own)) if *own == character => next.push(at + 1),
                    Some(Token::One) => next.push(at + 1),
                    Some(Token::Any | Token::Variable { .. }) => next.push(at),
                    Some(Token::Character(_)) | None => {}
                }
            }
            reached = self.closure(next);
            if reached.is_empty() {
                return false;
            }
        }
        true
    }

    /// Whether it could stand for `text`, whatever its variables stand for.
    pub(super) fn may_be(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let tokens: Vec<Plain> = (self.tokens.iter())
            .map(|token| match token {
                Token::Character(character) => Plain::Character(*character),
                Token::One => Plain::One,
                Token::Any | Token::Variable { .. } => Plain::Any,
            })
            .collect();
        matches(&tokens, &text)
    }

    /// Whether it stands for one text only, in every request.
    pub(super) fn is_fixed(&self) -> bool {
        (self.tokens.iter()).all(|token| matches!(token, Token::Character(_)))
    }

    /// Whether it stands for other texts in other requests.
    pub(super) fn has_variables(&self) -> bool {
        (self.tokens.iter()).any(|token| matches!(token, Token::Variable { .. }))
    }

    /// Whether a variable asks for the tags of the object as it is stored.
    pub(super) fn asks_for_existing_tags(&self) -> bool {
        self.tokens.iter().any(|token| match token {
            Token::Variable { key, .. } => key.is_existing_tag(),
            Token::Character(_) | Token::One | Token::Any => false,
        })
    }

    /// The places from which reading may go on without taking a character, in order and each once.
    fn closure(&self, from: Vec<usize>) -> Vec<usize> {
        let mut all = Vec::new();
        for mut at in from {
            loop {
                all.push(at);
                match self.tokens.get(at) {
                    Some(Token::Any | Token::Variable { .. }) => at += 1,
                    Some(Token::Character(_) | Token::One) | None => break,
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    fn resolved(&self, context: &Context) -> Option<Vec<Plain>> {
        let mut plain = Vec::with_capacity(self.tokens.len());
        for token in &self.tokens {
            match token {
                Token::Character(character) => plain.push(Plain::Character(*character)),
                Token::One => plain.push(Plain::One),
                Token::Any => plain.push(Plain::Any),
                Token::Variable { key, default } => {
                    // What a client says stands for itself: a star in it must not widen the policy.
                    let value = match context.values(key) {
                        [value] => Some(value),
                        [] => default.as_ref(),
                        _ => None,
                    };
                    plain.extend(value?.chars().map(Plain::Character));
                }
            }
        }
        Some(plain)
    }
}

fn variable(name: &str) -> Result<Token, &'static str> {
    // The spellings of the characters that would mean something else.
    match name {
        "*" => return Ok(Token::Character('*')),
        "?" => return Ok(Token::Character('?')),
        "$" => return Ok(Token::Character('$')),
        _ => {}
    }
    let (key, default) = match name.split_once(',') {
        None => (name, None),
        Some((key, default)) => {
            let quoted = default.trim();
            let inner = quoted
                .strip_prefix('\'')
                .and_then(|text| text.strip_suffix('\''));
            (key, Some(inner.ok_or("a default is not in quotes")?))
        }
    };
    Ok(Token::Variable {
        key: Key::parse(key.trim()).ok_or("a variable of an unknown name")?,
        default: default.map(str::to_owned),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    Character(char),
    One,
    Any,
}

/// Takes at most as many steps as the product of both lengths.
fn matches(pattern: &[Plain], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and where the text went on when it was met. Earlier stars need no other try.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Plain::Any) => {
                p += 1;
                retry = Some((p, t));
            }
            Some(Plain::One) => {
                p += 1;
                t += 1;
            }
            Some(Plain::Character(character)) if *character == text[t] => {
                p += 1;
                t += 1;
            }
            Some(Plain::Character(_)) | None => {
                let Some((after_star, taken)) = retry else {
                    return false;
                };
                p = after_star;
                t = taken + 1;
                retry = Some((after_star, t));
            }
        }
    }
    pattern[p..].iter().all(|token| *token == Plain::Any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Reading = Reading {
        wildcards: true,
        variables: true,
    };

    fn user(name: &str) -> Context {
        let mut context = Context::default();
        context.set("aws:username", name);
        context
    }

    #[test]
    fn stars_question_marks_and_variables_stand_for_what_they_say() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "a/b", true),
            ("a?", "aé", true),
            ("a?", "a", false),
            ("a?", "abc", false),
            ("a*c", "ac", true),
            ("a*c", "acb", false),
            ("*ab*ab", "abxab", true),
            ("*ab*ab", "ab", false),
            ("home/${aws:username}/*", "home/ann/x", true),
            ("home/${aws:username}/*", "home/bob/x", false),
            ("home/${AWS:UserName}/*", "home/ann/x", true),
            ("${*}${?}${$}", "*?$", true),
            ("${*}", "a", false),
            ("${aws:Referer, 'none'}", "none", true),
            ("${aws:Referer}", "", false),
            ("${aws:Referer}*", "anything", false),
        ] {
            let read = Pattern::parse(pattern, ALL).unwrap();
            assert_eq!(
                read.matches(text, &user("ann")),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn what_a_client_says_is_no_pattern() {
        let read = Pattern::parse("home/${aws:username}/*", ALL).unwrap();
        assert!(!read.matches("home/ann/x", &user("*")));
        assert!(read.matches("home/*/x", &user("*")));
    }

    #[test]
    fn wildcards_and_variables_can_be_left_out() {
        let plain = Reading {
            wildcards: false,
            variables: false,
        };
        let read = Pattern::parse("${aws:username}*?", plain).unwrap();
        assert!(read.matches("${aws:username}*?", &user("ann")));
        assert!(!read.matches("ann*?", &user("ann")));
        assert!(read.is_fixed());
    }

    #[test]
    fn variables_that_cannot_be_read_are_refused() {
        for text in [
            "${aws:username",
            "${}",
            "${aws:nobody}",
            "${aws:username, x}",
        ] {
            assert!(Pattern::parse(text, ALL).is_err(), "{text}");
        }
    }

    #[test]
    fn case_is_left_out_of_account_on_demand() {
        let read = Pattern::parse("ÄB*${aws:username}", ALL).unwrap();
        assert!(read.matches_ignoring_case("äbxANN", &user("ann")));
        assert!(!read.matches("äbxANN", &user("ann")));
    }

    #[test]
    fn a_pattern_may_begin_as_some_text_does_that_it_stands_for() {
        for (pattern, prefix, expected) in [
            ("films/*", "films/", true),
            ("films", "films/", false),
            ("films*", "films/", true),
            ("*x", "films/", true),
            ("f?lms/a", "films/", true),
            ("other/*", "films/", false),
            ("${aws:username}", "films/", true),
            ("films/", "films/", true),
            ("film", "films/", false),
        ] {
            let read = Pattern::parse(pattern, ALL).unwrap();
            assert_eq!(read.may_begin_with(prefix), expected, "{pattern}");
        }
    }

    /// The same by the definition, word for word.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
            Some((own, rest)) => text
                .split_first()
                .is_some_and(|(first, more)| (*own == '?' || own == first) && naive(rest, more)),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_its_definition_says(
            pattern in "[abé*?]{0,8}", text in "[abé?*]{0,8}",
        ) {
            let read = Pattern::parse(&pattern, ALL).unwrap();
            let of = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = naive(&of(&pattern), &of(&text));
            prop_assert_eq!(read.matches(&text, &Context::default()), expected);
            prop_assert_eq!(read.may_be(&text), expected);
            if expected {
                for (cut, _) in text.char_indices() {
                    prop_assert!(read.may_begin_with(&text[..cut]));
                }
            }
        }
    }
}
