//! Where two texts to be signed part ways: ours and the one that a client has made.

use crate::signing::Explanation;

/// Says where `theirs` differs first from what we hash. It may be a canonical request or a string to sign,
/// as a client logs it.
pub(super) fn compared(ours: &Explanation, theirs: &str) -> String {
    let theirs = theirs.replace("\r\n", "\n");
    let theirs = theirs.trim_end_matches('\n');
    let is_string_to_sign = ours.canonical_request.is_empty() || theirs.starts_with("AWS4-");
    let (what, ours) = if is_string_to_sign {
        ("string to sign", &ours.string_to_sign)
    } else {
        ("canonical request", &ours.canonical_request)
    };
    compared_texts(what, ours, theirs)
}

/// Says where the texts of another request differ first from ours.
pub(super) fn compared_explanations(ours: &Explanation, theirs: &Explanation) -> String {
    if ours.canonical_request == theirs.canonical_request {
        // The string to sign has the date and the scope besides.
        return compared_texts(
            "string to sign",
            &ours.string_to_sign,
            &theirs.string_to_sign,
        );
    }
    let (ours, theirs) = (&ours.canonical_request, &theirs.canonical_request);
    compared_texts("canonical request", ours, theirs)
}

fn compared_texts(what: &str, ours: &str, theirs: &str) -> String {
    match first_difference(ours, theirs) {
        None => format!("\nno difference: the {what} is the same\n"),
        Some(difference) => format!("\nthe {what} differs {difference}\n"),
    }
}

/// The first difference of two texts, with a caret under it; `None` when there is none.
fn first_difference(ours: &str, theirs: &str) -> Option<String> {
    let (mut our_lines, mut their_lines) = (ours.split('\n'), theirs.split('\n'));
    let mut number = 0;
    loop {
        number += 1;
        let (our_line, their_line) = match (our_lines.next(), their_lines.next()) {
            (None, None) => return None,
            (Some(ours), Some(theirs)) if ours == theirs => continue,
            (ours, theirs) => (ours, theirs),
        };
        let (Some(ours), Some(theirs)) = (our_line, their_line) else {
            let shown =
                |line: Option<&str>| line.map_or("(no such line)".to_owned(), str::to_owned);
            let (ours, theirs) = (shown(our_line), shown(their_line));
            return Some(format!(
                "in line {number}\nours:   {ours}\ntheirs: {theirs}"
            ));
        };
        let same = ours
            .chars()
            .zip(theirs.chars())
            .take_while(|(ours, theirs)| ours == theirs)
            .count();
        let caret = format!("{}^", " ".repeat("theirs: ".len() + same));
        let character = same + 1;
        return Some(format!(
            "in line {number} at character {character}\nours:   {ours}\ntheirs: {theirs}\n{caret}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explanation(canonical_request: &str, string_to_sign: &str) -> Explanation {
        Explanation {
            canonical_request: canonical_request.to_owned(),
            string_to_sign: string_to_sign.to_owned(),
        }
    }

    #[test]
    fn the_caret_stands_under_the_first_difference() {
        for (theirs, expected) in [
            ("GET\n/ä b", None),
            (
                "GET\n/ä c",
                Some("in line 2 at character 4\nours:   /ä b\ntheirs: /ä c\n           ^"),
            ),
            (
                "GET\n/ä",
                Some("in line 2 at character 3\nours:   /ä b\ntheirs: /ä\n          ^"),
            ),
            (
                "PET\n/ä b",
                Some("in line 1 at character 1\nours:   GET\ntheirs: PET\n        ^"),
            ),
            (
                "GET",
                Some("in line 2\nours:   /ä b\ntheirs: (no such line)"),
            ),
            (
                "GET\n/ä b\n",
                Some("in line 3\nours:   (no such line)\ntheirs: "),
            ),
        ] {
            assert_eq!(first_difference("GET\n/ä b", theirs).as_deref(), expected);
        }
    }

    #[test]
    fn a_text_is_compared_with_the_one_of_its_kind() {
        let ours = explanation("GET\n/a", "AWS4-HMAC-SHA256\nd");
        let same = "\nno difference: the canonical request is the same\n";
        assert_eq!(compared(&ours, "GET\r\n/a\n"), same);
        let same = "\nno difference: the string to sign is the same\n";
        assert_eq!(compared(&ours, "AWS4-HMAC-SHA256\nd\n"), same);
        assert_eq!(compared(&explanation("", "GET\n/a"), "GET\n/a"), same);
        let other = explanation("GET\n/b", "AWS4-HMAC-SHA256\ne");
        let text = compared_explanations(&ours, &other);
        assert!(
            text.starts_with("\nthe canonical request differs in line 2 at character 2\n"),
            "{text}"
        );
        let other = explanation("GET\n/a", "AWS4-HMAC-SHA256\ne");
        let text = compared_explanations(&ours, &other);
        assert!(
            text.starts_with("\nthe string to sign differs in line 2 at character 1\n"),
            "{text}"
        );
    }
}
