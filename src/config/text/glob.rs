//! File name patterns of `!include`: `*`, `?` and `[...]` in any component.
//!
//! As glob(3) has it: results are sorted, a name that begins with a dot is matched
//! only by a pattern that begins with one, and a directory that cannot be listed
//! has no matches. It looks at names only and opens no file. The names it may look
//! at are counted: a pattern like `/*/*/*/*` does not walk the whole system.

use crate::store::wildcard::matches_with;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Whether `text` has a character that makes it a pattern.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// The existing paths that `pattern` (relative to `dir` unless absolute) means; none
/// when that would take a look at more than `names_left` names, from which those
/// that were looked at are taken.
pub(super) fn expand(dir: &Path, pattern: &str, names_left: &mut usize) -> Option<Vec<PathBuf>> {
    let mut found = vec![dir.to_path_buf()];
    for component in Path::new(pattern).components() {
        found = match component {
            Component::Normal(name) if is_pattern(&name.to_string_lossy()) => {
                let name: Vec<char> = name.to_string_lossy().chars().collect();
                let mut below = Vec::new();
                for dir in &found {
                    below.append(&mut matches_in(dir, &name, names_left)?);
                }
                below
            }
            other => found.into_iter().map(|dir| dir.join(other)).collect(),
        };
    }
    // Components after the last pattern were only appended.
    found.retain(|path| path.symlink_metadata().is_ok());
    Some(found)
}

/// The entries of `dir` whose names match `pattern`, sorted; none when there are more
/// than may be looked at.
fn matches_in(dir: &Path, pattern: &[char], names_left: &mut usize) -> Option<Vec<PathBuf>> {
    // An empty path is the current directory.
    let listed = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let Ok(entries) = fs::read_dir(listed) else {
        return Some(Vec::new());
    };
    let mut found: Vec<OsString> = Vec::new();
    for name in entries.filter_map(|entry| Some(entry.ok()?.file_name())) {
        *names_left = names_left.checked_sub(1)?;
        let chars: Vec<char> = name.to_string_lossy().chars().collect();
        if (chars[0] != '.' || pattern[0] == '.') && matches(pattern, &chars) {
            let at = found.partition_point(|known| *known < name);
            found.insert(at, name);
        }
    }
    Some(found.into_iter().map(|name| dir.join(name)).collect())
}

/// Whether `name` matches `pattern` as a whole.
fn matches(pattern: &[char], name: &[char]) -> bool {
    matches_with(pattern, &'*', name, |pattern, &c| matches_one(pattern, c))
}

/// How many characters of `pattern` match the one character `c`, if they do.
fn matches_one(pattern: &[char], c: char) -> Option<usize> {
    match *pattern.first()? {
        '?' => Some(1),
        '[' => match class(pattern, c) {
            Some((used, inside)) => inside.then_some(used),
            None => (c == '[').then_some(1),
        },
        literal => (literal == c).then_some(1),
    }
}

/// Length of the `[...]` that opens `pattern`, and whether it contains `c`; none
/// if it is not closed and `[` is an ordinary character.
fn class(pattern: &[char], c: char) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    // A `]` in first place is a member.
    let end = first + 1 + pattern.get(first + 1..)?.iter().position(|&c| c == ']')?;
    let mut inside = false;
    let mut rest = &pattern[first..end];
    while let Some((&low, after)) = rest.split_first() {
        rest = match after {
            ['-', high, tail @ ..] => {
                inside |= (low..=*high).contains(&c);
                tail
            }
            tail => {
                inside |= low == c;
                tail
            }
        };
    }
    Some((end + 1, inside != negated))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `matches` for strings.
    fn is(pattern: &str, name: &str) -> bool {
        let chars = |text: &str| text.chars().collect::<Vec<char>>();
        matches(&chars(pattern), &chars(name))
    }

    #[test]
    fn stars_and_question_marks() {
        assert!(is("*", "") && is("*", "abc") && is("**", "abc"));
        assert!(is("*.conf", "a.conf") && is("*.conf", ".conf"));
        assert!(!is("*.conf", "a.conf~") && !is("a*", "ba"));
        assert!(is("a*b*c", "a-b-b-c") && !is("a*b*c", "a-c-b"));
        assert!(is("?", "é") && !is("?", "") && !is("?", "ab"));
        let many_a = "a".repeat(5000);
        assert!(!is(&"a*".repeat(50), &format!("b{many_a}")));
        assert!(!is(&format!("{}b", "*a".repeat(50)), &many_a));
    }

    #[test]
    fn classes() {
        assert!(is("[0-9][a-z]", "7q") && !is("[0-9]", "x"));
        assert!(is("[!0-9]", "x") && is("[^0-9]", "x") && !is("[!x]", "x"));
        assert!(is("[]a]", "]") && is("[]a]", "a") && !is("[]a]", "b"));
        assert!(is("[a-]", "-") && is("[a-]", "a"));
        assert!(is("[", "[") && is("[a", "[a") && is("[]", "[]"));
        assert!(!is("[z-a]", "m"));
    }
}
