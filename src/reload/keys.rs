//! Which keys a target is told of: patterns on their names.

use std::fmt;

use crate::name::KeyName;
use crate::snapshot::KeyChanges;

/// The longest pattern: that of the longest path that a key is likely to have.
const MAX_PATTERN_BYTES: usize = 1024;

/// A pattern: `*` stands for any characters but `/`, `**` for any characters, `?` for one character
/// but `/`; everything else stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyPattern(Box<str>);

impl KeyPattern {
    /// # Errors
    /// Where the pattern is empty or too long.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_PATTERN_BYTES {
            return Err(format!(
                "expected a pattern of 1 to {MAX_PATTERN_BYTES} bytes, such as `tls.*`"
            ));
        }
        Ok(Self(text.into()))
    }

    pub(crate) fn matches(&self, key: &str) -> bool {
        matches(self.0.as_bytes(), key)
    }
}

impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keeps the set of all places in the pattern where the key so far may have led, so that no pattern
/// takes longer than its length for each character.
fn matches(pattern: &[u8], key: &str) -> bool {
    let mut places = vec![false; pattern.len() + 1];
    places[0] = true;
    pass_stars(pattern, &mut places);
    for c in key.bytes() {
        let mut next = vec![false; pattern.len() + 1];
        for (at, _) in places.iter().enumerate().filter(|(_, is_here)| **is_here) {
            match pattern.get(at) {
                // The second star of two stays, so that both together take a slash.
                Some(b'*') if c != b'/' || is_double(pattern, at) => next[at] = true,
                // One character may have several bytes; those after its first come for free.
                Some(b'?') if is_continuation(c) => next[at] = true,
                Some(b'?') if c != b'/' => next[at + 1] = true,
                Some(literal) if *literal == c && c != b'*' && c != b'?' => next[at + 1] = true,
                _ => {}
            }
            // The rest of a character that a `?` has taken.
            if is_continuation(c) && at > 0 && pattern.get(at - 1) == Some(&b'?') {
                next[at] = true;
            }
        }
        places = next;
        pass_stars(pattern, &mut places);
    }
    places[pattern.len()]
}

fn is_double(pattern: &[u8], at: usize) -> bool {
    pattern.get(at + 1) == Some(&b'*') || (at > 0 && pattern.get(at - 1) == Some(&b'*'))
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// A star may stand for nothing.
fn pass_stars(pattern: &[u8], places: &mut [bool]) {
    for (at, byte) in pattern.iter().enumerate() {
        if places[at] && *byte == b'*' {
            places[at + 1] = true;
        }
    }
}

/// Those of the changes that match one of the patterns; all of them where there is no pattern.
pub(super) fn filter(changes: KeyChanges, patterns: &[KeyPattern]) -> KeyChanges {
    let matching = |keys: Vec<KeyName>| -> Vec<KeyName> {
        let is_meant = |key: &KeyName| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(key.as_str()))
        };
        keys.into_iter().filter(is_meant).collect()
    };
    KeyChanges {
        added: matching(changes.added),
        removed: matching(changes.removed),
        modified: matching(changes.modified),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, key: &str) -> bool {
        KeyPattern::parse(pattern).unwrap().matches(key)
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, key, expected) in [
            ("tls.*", "tls.crt", true),
            ("tls.*", "tls.", true),
            ("tls.*", "xtls.crt", false),
            ("*", "password", true),
            ("*", "db/password", false),
            ("**", "db/password", true),
            ("db/*", "db/password", true),
            ("db/*", "db/a/b", false),
            ("db/**", "db/a/b", true),
            ("**/password", "a/b/password", true),
            ("p?ssword", "password", true),
            ("p?ssword", "pässword", true),
            ("p?ssword", "p/ssword", false),
            ("??", "ä", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("a", "a", true),
            ("a", "ab", false),
        ] {
            assert_eq!(is_match(pattern, key), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn pattern_made_to_be_slow_is_not() {
        let pattern = "a*".repeat(300) + "b";
        assert!(!is_match(&pattern, &"a".repeat(2000)));
    }

    #[test]
    fn only_matching_changes_are_left() {
        let keys = |names: &[&str]| names.iter().map(|n| n.parse().unwrap()).collect::<Vec<_>>();
        let changes = KeyChanges {
            added: keys(&["a.x", "b.x"]),
            removed: keys(&["a.y"]),
            modified: keys(&["b.y"]),
        };
        let filtered = filter(changes.clone(), &[KeyPattern::parse("a.*").unwrap()]);
        assert_eq!((filtered.added, filtered.removed), (keys(&["a.x"]), keys(&["a.y"])));
        assert!(filtered.modified.is_empty());
        assert_eq!(filter(changes.clone(), &[]), changes);
    }
}
