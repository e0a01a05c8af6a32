//! What a rotation publishes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use crate::name::KeyName;
use crate::secret::Secret;

/// The mode of a file where nothing else is asked for: Kubernetes' own default.
const DEFAULT_MODE: u32 = 0o644;
/// The highest mode that Kubernetes lets a volume ask for.
const MAX_MODE: u32 = 0o777;

/// The keys, values and file modes of one version of a simulated volume.
///
/// A key may lie in a directory (`db/password`), as with `items`. Names and modes are checked by
/// [`AtomicWriter::rotation`](super::AtomicWriter::rotation), not here, so that payloads can be
/// written down without a `?` for each key.
///
/// `Debug` shows names and no value.
#[derive(Default)]
pub struct Payload(BTreeMap<Box<str>, File>);

pub(super) struct File {
    pub(super) value: Secret,
    pub(super) mode: u32,
}

impl Payload {
    /// A payload without any key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`, with mode 0644.
    #[must_use]
    pub fn with(self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.with_mode(key, value, DEFAULT_MODE)
    }

    /// Sets `key` to `value`, with a mode from 0 to 0777.
    #[must_use]
    pub fn with_mode(
        mut self,
        key: impl Into<String>,
        value: impl Into<Vec<u8>>,
        mode: u32,
    ) -> Self {
        self.0.insert(key.into().into(), File { value: Secret::new(value.into()), mode });
        self
    }

    /// Takes `key` out, if it is there.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.0.remove(key);
        self
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Secret> {
        self.0.get(key).map(|file| &file.value)
    }

    /// The names of all keys, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.keys().map(AsRef::as_ref)
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.0.iter().map(|(key, file)| (key.as_ref(), file))
    }

    /// The names that stand in the volume itself: `db` for `db/password`.
    pub(super) fn top_level(&self) -> BTreeSet<&str> {
        self.keys().map(|key| key.split_once('/').map_or(key, |(top, _)| top)).collect()
    }

    /// Refuses what no volume could hold.
    pub(super) fn check(&self) -> io::Result<()> {
        for (key, file) in self.files() {
            key.parse::<KeyName>().map_err(|e| invalid(format!("key {key:?}: {e}")))?;
            if file.mode > MAX_MODE {
                let message = format!("mode {:o} of key `{key}` is not in 0..=777", file.mode);
                return Err(invalid(message));
            }
            let is_file = |parent: &&str| self.0.contains_key(*parent);
            if let Some(parent) = parents(key).find(is_file) {
                return Err(invalid(format!("key `{parent}` is also a directory of `{key}`")));
            }
        }
        Ok(())
    }
}

/// The directories that a key lies in, outermost first: `a` and `a/b` for `a/b/c`.
pub(super) fn parents(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/').map(|(at, _)| &key[..at])
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

impl<K: Into<String>, V: Into<Vec<u8>>> FromIterator<(K, V)> for Payload {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        pairs.into_iter().fold(Self::new(), |payload, (key, value)| payload.with(key, value))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Payload")?;
        f.debug_set().entries(self.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_names_and_no_value() {
        let payload: Payload = [("user", "canary-value")].into_iter().collect();
        assert_eq!(format!("{payload:?}"), r#"Payload{"user"}"#);
    }

    #[test]
    fn payload_that_no_volume_could_hold_is_refused_by_name() {
        let refused = |payload: Payload| {
            let error = payload.check().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            error.to_string()
        };
        let text = refused(Payload::new().with("..data", "canary"));
        assert_eq!(
            text,
            r#"key "..data": names that begin with `..` are reserved for the writer of the volume"#
        );
        refused(Payload::new().with("", "canary"));
        refused(Payload::new().with("/etc/passwd", "canary"));
        refused(Payload::new().with("a/../../b", "canary"));
        let text = refused(Payload::new().with("a", "canary").with("a/b/c", "canary"));
        assert_eq!(text, "key `a` is also a directory of `a/b/c`");
        let text = refused(Payload::new().with_mode("a", "canary", 0o4755));
        assert_eq!(text, "mode 4755 of key `a` is not in 0..=777");
    }

    #[test]
    fn nested_keys_share_one_name_in_the_volume() {
        let payload: Payload = [("db/user", "x"), ("db/a/b", "y"), ("z", "")].into_iter().collect();
        assert_eq!(payload.top_level(), BTreeSet::from(["db", "z"]));
    }
}
