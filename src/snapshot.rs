//! Snapshots: all keys of a volume at one moment, proven whole.
//!
//! A [`Contents`] is what was read; a [`Snapshot`] is contents that were accepted and published,
//! with the revision and the times that go with them. Nothing here does I/O or reads a clock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::certificate::{self, Certificate};
use crate::error::MissingKey;
use crate::name::{KeyName, VolumeName};
use crate::secret::Secret;

/// The key under which an operator may put a label that says which version of the secret this is.
/// It is not secret: it appears in metrics and listings.
pub const VERSION_KEY: &str = "secretwatch.version";

/// The longest version label: it becomes the value of a metric label.
const MAX_VERSION_BYTES: usize = 64;

/// The keys and values of one read of a volume.
#[derive(Debug, Default)]
pub(crate) struct Contents(BTreeMap<KeyName, Secret>);

impl Contents {
    pub(crate) fn insert(&mut self, key: KeyName, value: Secret) {
        self.0.insert(key, value);
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Secret> {
        self.0.get(key)
    }

    #[cfg(test)]
    pub(crate) fn keys(&self) -> impl Iterator<Item = &KeyName> {
        self.0.keys()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of all values together.
    pub(crate) fn total_bytes(&self) -> usize {
        self.0.values().map(Secret::len).sum()
    }

    /// Whether both hold the same keys with the same values.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|((k1, v1), (k2, v2))| k1 == k2 && v1.is_same(v2))
    }

    fn version(&self) -> Option<Box<str>> {
        let text = self.get(VERSION_KEY)?.expose_str().ok()?.trim();
        let is_label = !text.is_empty()
            && text.len() <= MAX_VERSION_BYTES
            && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        is_label.then(|| text.into())
    }
}

/// What is said of a snapshot when it is published.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    pub(crate) volume: VolumeName,
    pub(crate) boot: Arc<str>,
    pub(crate) generation: u64,
    pub(crate) published_at: Option<SystemTime>,
    pub(crate) observed_at: SystemTime,
}

/// An accepted set of values of one volume. It never changes; a rotation makes a new one.
///
/// A copy is cheap and shares the values. Take one snapshot per unit of work, so that all values
/// of that work are of one generation.
///
/// `Debug` shows the names of the keys and no value.
// Aligned, so that the counters of two `Arc<Snapshot>`s are never in one cache line, or in two that
// are fetched together: threads would slow each other down although each has a counter of its own.
#[derive(Clone)]
#[repr(align(128))]
pub struct Snapshot(Arc<Published>);

struct Published {
    label: Label,
    revision: Box<str>,
    version: Option<Box<str>>,
    certificates: Vec<Certificate>,
    contents: Contents,
}

impl Snapshot {
    pub(crate) fn new(label: Label, contents: Contents) -> Self {
        let revision = revision(&label);
        let version = contents.version();
        let certificates = certificate::find(&label.volume, &contents.0);
        Self(Arc::new(Published { label, revision, version, certificates, contents }))
    }

    /// The name of the volume.
    pub fn volume(&self) -> &VolumeName {
        &self.0.label.volume
    }

    /// Counts the accepted snapshots of this volume in this process, from 1. It is 0 only for the
    /// empty snapshot that stands in until the first one is accepted.
    pub fn generation(&self) -> u64 {
        self.0.label.generation
    }

    /// Identifies this snapshot across restarts. Compare it for equality only.
    pub fn revision(&self) -> &str {
        &self.0.revision
    }

    /// The label under [`VERSION_KEY`]: printable ASCII of at most 64 bytes, otherwise `None`.
    pub fn version(&self) -> Option<&str> {
        self.0.version.as_deref()
    }

    /// When the kubelet wrote these values, as far as the directory tells.
    pub fn published_at(&self) -> Option<SystemTime> {
        self.0.label.published_at
    }

    /// When these values were accepted.
    pub fn observed_at(&self) -> SystemTime {
        self.0.label.observed_at
    }

    /// The keys whose values have a certificate in PEM, in order, and when it expires; where there
    /// are several in one value, the first. Of a volume with more of such keys than
    /// [`MAX_CERTIFICATES`](crate::MAX_CERTIFICATES), the first ones.
    pub fn certificates(&self) -> &[Certificate] {
        &self.0.certificates
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`MissingKey`], which names the key and the volume, where there is none.
    #[inline]
    pub fn get(&self, key: &str) -> Result<&Secret, MissingKey> {
        self.0.contents.get(key).ok_or_else(|| self.missing(key))
    }

    #[cold]
    fn missing(&self, key: &str) -> MissingKey {
        MissingKey::new(self.volume().clone(), key, self.generation() == 0)
    }

    /// The names of all keys, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &KeyName> {
        self.0.contents.0.keys()
    }

    /// All keys with their values, in the order of the names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&KeyName, &Secret)> {
        self.0.contents.0.iter()
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.0.contents.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.contents.is_empty()
    }

    /// Which keys differ from `older`, by name.
    pub fn changes_since(&self, older: &Self) -> KeyChanges {
        let (new, old) = (&self.0.contents, &older.0.contents);
        let mut changes = KeyChanges::default();
        for (key, value) in &new.0 {
            match old.0.get(key) {
                None => changes.added.push(key.clone()),
                Some(before) if !before.is_same(value) => changes.modified.push(key.clone()),
                Some(_) => {}
            }
        }
        changes.removed = old.0.keys().filter(|key| !new.0.contains_key(*key)).cloned().collect();
        changes
    }

    pub(crate) fn contents(&self) -> &Contents {
        &self.0.contents
    }
}

fn revision(label: &Label) -> Box<str> {
    // Without the machinery of formatting, which is on the way of every rotation.
    [&*label.boot, ".", &label.generation.to_string()].concat().into()
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("volume", &self.volume().as_str())
            .field("revision", &self.revision())
            .field("keys", &self.keys().map(KeyName::as_str).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The names of the keys in which two snapshots differ. Never values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyChanges {
    /// Keys that only the newer one has.
    pub added: Vec<KeyName>,
    /// Keys that only the older one has.
    pub removed: Vec<KeyName>,
    /// Keys that both have, with different values.
    pub modified: Vec<KeyName>,
}

impl KeyChanges {
    /// Whether the snapshots hold the same keys and values.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.modified.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    pub(crate) fn contents<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Contents {
        let mut contents = Contents::default();
        for (key, value) in pairs {
            contents.insert(key.parse().unwrap(), Secret::new(value.as_bytes().to_vec()));
        }
        contents
    }

    pub(crate) fn snapshot<'a>(
        generation: u64,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Snapshot {
        let label = Label {
            volume: "db".parse().unwrap(),
            boot: "boot".into(),
            generation,
            published_at: None,
            observed_at: SystemTime::UNIX_EPOCH,
        };
        Snapshot::new(label, contents(pairs))
    }

    #[test]
    fn debug_shows_names_and_no_value() {
        let shown = format!("{:?}", snapshot(1, [("user", "canary-value")]));
        assert!(shown.contains("user") && !shown.contains("canary-value"), "{shown}");
    }

    #[test]
    fn missing_key_error_names_key_and_volume() {
        let error = snapshot(1, [("user", "x")]).get("password").unwrap_err();
        assert_eq!(error.to_string(), "volume `db` has no key `password`");
        let error = snapshot(0, []).get("password").unwrap_err();
        assert!(error.to_string().contains("nothing has been accepted yet"), "{error}");
    }

    #[test]
    fn version_is_taken_from_its_key_only_where_it_is_a_label() {
        let version = |text| snapshot(1, [(VERSION_KEY, text)]).version().map(str::to_owned);
        assert_eq!(version("2026-11\n").as_deref(), Some("2026-11"));
        assert_eq!(version("a\nb"), None);
        assert_eq!(version(""), None);
        assert_eq!(version(&"x".repeat(65)), None);
    }

    type Pairs = BTreeMap<String, String>;

    fn of(pairs: &Pairs) -> Snapshot {
        snapshot(1, pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())))
    }

    fn names(keys: &[KeyName]) -> BTreeSet<&str> {
        keys.iter().map(KeyName::as_str).collect()
    }

    proptest! {
        #[test]
        fn differences_are_exactly_those_of_the_maps(
            old in proptest::collection::btree_map("[a-d]{1,2}", "[xy]?", 0..6),
            new in proptest::collection::btree_map("[a-d]{1,2}", "[xy]?", 0..6),
        ) {
            let changes = of(&new).changes_since(&of(&old));
            let added: BTreeSet<_> = new.keys().filter(|k| !old.contains_key(*k)).map(String::as_str).collect();
            let removed: BTreeSet<_> = old.keys().filter(|k| !new.contains_key(*k)).map(String::as_str).collect();
            let modified: BTreeSet<_> = new.iter()
                .filter(|(k, v)| old.get(*k).is_some_and(|before| before != *v))
                .map(|(k, _)| k.as_str()).collect();
            prop_assert_eq!(names(&changes.added), added);
            prop_assert_eq!(names(&changes.removed), removed);
            prop_assert_eq!(names(&changes.modified), modified);
            prop_assert_eq!(changes.is_empty(), old == new);
            prop_assert_eq!(of(&new).contents().is_same(of(&old).contents()), old == new);
        }
    }
}
