//! Patterns with `*` and `?`, as CloudFront's policies and the access lists of tokens have them.

/// Whether `pattern` stands for all of `text`: `*` for any bytes, also none and also slashes, `?` for
/// exactly one byte, everything else for itself.
///
/// Takes at most as many steps as the product of both lengths, so a pattern must be signed before it
/// is tried.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and where the text went on when it was met: what fails later is tried
    // again with one more byte for that star. Earlier stars need no other try.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, t));
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after_star, taken)) = retry else {
                    return false;
                };
                p = after_star;
                t = taken + 1;
                retry = Some((after_star, t));
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_stand_for_any_bytes_and_question_marks_for_one() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "/a/b", true),
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a", "/A", false),
            ("/a/*", "/a/", true),
            ("/a/*", "/a", false),
            ("/a/*/c", "/a/x/y/c", true),
            ("/a/*/c", "/a/c", false),
            ("/a?", "/ab", true),
            ("/a?", "/a", false),
            ("/a?", "/abc", false),
            ("?*", "", false),
            ("**a**", "xax", true),
            ("*ab*ab", "abxab", true),
            ("*ab*ab", "ab", false),
            ("*aab", "aaab", true),
            ("http*://h/a?b=*", "https://h/a?b=1", true),
            ("http*://h/a?b=*", "https://h/axb=1", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    /// The same by the definition, word for word.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
            Some((byte, rest)) => text
                .split_first()
                .is_some_and(|(first, more)| (*byte == b'?' || byte == first) && naive(rest, more)),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_its_definition_says(
            pattern in "[ab*?]{0,8}", text in "[ab?*]{0,8}",
        ) {
            let expected = naive(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(&pattern, &text), expected);
        }
    }
}
