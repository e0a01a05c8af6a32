//! What a target still has to be told of one volume.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::{Changed, KeyPattern, keys};
use crate::changes::Changes;
use crate::name::KeyName;
use crate::secrets::Volume;
use crate::snapshot::{KeyChanges, Snapshot};

/// One volume that a target follows.
pub(super) struct Followed {
    pub(super) volume: Volume,
    pub(super) changes: Changes,
    /// The newest snapshot that was looked at. It is the one that is served, so nothing old is
    /// kept in memory for this.
    seen: Arc<Snapshot>,
    pub(super) pending: Option<Pending>,
    /// When the target was last told of it.
    pub(super) told: Option<Instant>,
}

/// A change that the target does not know of yet.
pub(super) struct Pending {
    keys: BTreeMap<KeyName, How>,
    pub(super) due: Instant,
    /// When the oldest change that the target does not know was accepted.
    pub(super) since: SystemTime,
}

/// How a key differs from what the target knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Added,
    Removed,
    Modified,
}

/// What a new snapshot means for a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The first one of the volume.
    First,
    /// A rotation.
    Rotated,
    /// Nothing that the target asked for.
    Nothing,
}

impl Followed {
    pub(super) fn new(volume: Volume) -> Self {
        // Whatever is there already is taken as the first change, so that all starts are alike.
        let changes = volume.changes_and_current();
        let seen = stand_in(&volume);
        Self { volume, changes, seen, pending: None, told: None }
    }

    /// Notes a snapshot, and joins what has changed to what is pending.
    pub(super) fn note(
        &mut self,
        snapshot: Arc<Snapshot>,
        patterns: &[KeyPattern],
        wants_first: bool,
    ) -> News {
        // Where the first one was overtaken by the second, there has been a rotation.
        let is_first = self.seen.generation() == 0 && snapshot.generation() == 1;
        let changes = keys::filter(snapshot.changes_since(&self.seen), patterns);
        let since = snapshot.observed_at();
        self.seen = snapshot;
        // Without a pattern also where nothing differs: A → B → A, of which the app may have
        // seen B in the mount.
        let is_meant = patterns.is_empty() || !changes.is_empty();
        if !is_meant || (is_first && !wants_first) {
            return News::Nothing;
        }
        let pending = self.pending.get_or_insert_with(|| Pending {
            keys: BTreeMap::new(),
            due: Instant::now(),
            since,
        });
        pending.join(changes);
        if is_first { News::First } else { News::Rotated }
    }

    /// What the target is to be told; `None` where it knows all.
    pub(super) fn changed(&self) -> Option<Changed> {
        let pending = self.pending.as_ref()?;
        Some(Changed {
            name: self.volume.name().clone(),
            path: self.volume.path().to_owned(),
            revision: self.seen.revision().to_owned(),
            generation: self.seen.generation(),
            keys: pending.changes(),
        })
    }
}

/// The empty snapshot before the first one.
fn stand_in(volume: &Volume) -> Arc<Snapshot> {
    use crate::snapshot::{Contents, Label};
    Arc::new(Snapshot::new(
        Label {
            volume: volume.name().clone(),
            boot: "".into(),
            generation: 0,
            published_at: None,
            observed_at: SystemTime::UNIX_EPOCH,
        },
        Contents::default(),
    ))
}

impl Pending {
    fn join(&mut self, changes: KeyChanges) {
        let each = |keys: Vec<KeyName>, how| keys.into_iter().map(move |key| (key, how));
        let all = each(changes.added, How::Added)
            .chain(each(changes.removed, How::Removed))
            .chain(each(changes.modified, How::Modified));
        for (key, new) in all {
            let how = match (self.keys.get(&key), new) {
                // New to the target, however often it has changed since.
                (Some(How::Added), How::Modified | How::Added) => How::Added,
                (Some(How::Removed | How::Modified), How::Added) => How::Modified,
                // What came and went is still named: the app may have seen it.
                (_, new) => new,
            };
            self.keys.insert(key, how);
        }
    }

    fn changes(&self) -> KeyChanges {
        let of = |wanted| {
            let keys = self.keys.iter().filter(move |(_, how)| **how == wanted);
            keys.map(|(key, _)| key.clone()).collect()
        };
        KeyChanges { added: of(How::Added), removed: of(How::Removed), modified: of(How::Modified) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(steps: &[(&str, &str)]) -> String {
        let (keys, due, since) = (BTreeMap::new(), Instant::now(), SystemTime::UNIX_EPOCH);
        let mut pending = Pending { keys, due, since };
        for (how, key) in steps {
            let key = vec![key.parse().unwrap()];
            let mut changes = KeyChanges::default();
            match *how {
                "added" => changes.added = key,
                "removed" => changes.removed = key,
                _ => changes.modified = key,
            }
            pending.join(changes);
        }
        let changes = pending.changes();
        let text = |keys: &[KeyName]| keys.iter().map(KeyName::as_str).collect::<String>();
        format!("+{}-{}~{}", text(&changes.added), text(&changes.removed), text(&changes.modified))
    }

    #[test]
    fn changes_since_the_last_success_are_joined() {
        for (steps, expected) in [
            (&[("added", "a"), ("modified", "b")][..], "+a-~b"),
            (&[("added", "a"), ("modified", "a")], "+a-~"),
            (&[("removed", "a"), ("added", "a")], "+-~a"),
            (&[("modified", "a"), ("removed", "a")], "+-a~"),
            (&[("added", "a"), ("removed", "a")], "+-a~"),
            (&[("modified", "a"), ("modified", "a")], "+-~a"),
        ] {
            assert_eq!(joined(steps), expected, "{steps:?}");
        }
    }
}
