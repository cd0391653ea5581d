//! Patterns in which `*` stands for any run of bytes or characters.

/// Whether all of `text` matches a pattern in which `star` stands for any run.
/// `match_one` returns how much of the front of a pattern stands for one element.
/// Takes at most `pattern.len() * text.len()` steps: only the last `star` is ever tried
/// again.
pub(crate) fn matches_with<P: PartialEq, T>(
    pattern: &[P],
    star: &P,
    text: &[T],
    match_one: impl Fn(&[P], &T) -> Option<usize>,
) -> bool {
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and where the text that it stands for ends.
    let mut retry = None;
    while t < text.len() {
        if pattern.get(p) == Some(star) {
            p += 1;
            retry = Some((p, t));
        } else if let Some(used) = match_one(&pattern[p..], &text[t]) {
            p += used;
            t += 1;
        } else if let Some((behind, end)) = &mut retry {
            *end += 1;
            (p, t) = (*behind, *end);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|element| element == star)
}

/// Whether all of `text` matches a pattern in which `*` stands for any run of bytes
/// and `?` for any one.
pub(crate) fn wildcard_match(pattern: &[u8], text: &[u8]) -> bool {
    matches_with(pattern, &b'*', text, |pattern, byte| {
        let is_match = matches!(pattern.first(), Some(one) if *one == b'?' || one == byte);
        is_match.then_some(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Random;

    /// The definition, by recursion.
    fn obviously(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                obviously(rest, text) || (!text.is_empty() && obviously(pattern, &text[1..]))
            }
            (Some((b'?', rest)), Some((_, behind))) => obviously(rest, behind),
            (Some((byte, rest)), Some((same, behind))) => byte == same && obviously(rest, behind),
            _ => false,
        }
    }

    #[test]
    fn wildcards_agree_with_their_definition() {
        let mut random = Random::seeded("wildcards");
        for _ in 0..50_000 {
            let mut word = |letters: &[u8], most| -> Vec<u8> {
                (0..random.below(most))
                    .map(|_| letters[random.below(letters.len() as u64) as usize])
                    .collect()
            };
            let (pattern, text) = (word(b"ab*?", 8), word(b"ab", 10));
            assert_eq!(
                wildcard_match(&pattern, &text),
                obviously(&pattern, &text),
                "{} on {}",
                pattern.escape_ascii(),
                text.escape_ascii()
            );
        }
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_lengths_multiplied() {
        let pattern = [b"*a".repeat(2000), b"b".to_vec()].concat();
        assert!(!wildcard_match(&pattern, &vec![b'a'; 8000]));
    }
}
