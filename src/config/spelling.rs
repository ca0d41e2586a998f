//! What a misspelt key was probably meant to be.

/// The known key a misspelt one was probably meant to be: at most a third of its letters differ.
pub(super) fn closest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    (known.iter())
        .map(|candidate| (edit_distance(key, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements that turn one text into the other (Levenshtein).
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, from_char) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to_char) in to.iter().enumerate() {
            let replace = diagonal + usize::from(from_char != *to_char);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_single_letter_changes() {
        for (from, to, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("origin", "origin", 0),
            ("orgin", "origin", 1),
            ("origni", "origin", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edit_distance(from, to), distance, "{from} {to}");
        }
    }

    #[test]
    fn only_a_key_that_looks_alike_is_suggested() {
        let known = ["address", "tls", "workers"];
        assert_eq!(closest("adress", &known), Some("address"));
        assert_eq!(closest("worker", &known), Some("workers"));
        assert_eq!(closest("ssl", &known), None);
        assert_eq!(closest("tsl", &known), None);
        assert_eq!(closest("tl", &known), Some("tls"));
        assert_eq!(closest("compression", &known), None);
    }
}
