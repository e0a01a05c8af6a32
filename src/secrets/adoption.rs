//! What a volume's handle knows of adoption: the ledger, with the clock and the expiry of the watch.

use std::time::Instant;

use super::Volume;
use crate::adoption::{AdoptError, Adoption, Adoptions, Now};
use crate::name::ConsumerName;
use crate::snapshot::Snapshot;

impl Volume {
    /// Says that `consumer` uses `snapshot` now. Say it when the new values are in use and the old
    /// ones no longer: after the pool is swapped, not before. To say it again changes nothing, and
    /// keeps the consumer from being forgotten.
    ///
    /// # Errors
    /// Where the snapshot is of another volume, is older than the last
    /// [`MAX_KNOWN_REVISIONS`](crate::MAX_KNOWN_REVISIONS), or there are too many consumers.
    pub fn adopt(
        &self,
        consumer: &ConsumerName,
        snapshot: &Snapshot,
    ) -> Result<Adoption, AdoptError> {
        // The revisions of all volumes look alike, so one could be taken for that of another.
        if snapshot.volume() != self.name() {
            let (volume, found) = (self.name().clone(), snapshot.volume().clone());
            return Err(AdoptError::OtherVolume { volume, found });
        }
        self.adopt_revision(consumer, snapshot.revision())
    }

    /// Does what [`adopt`](Self::adopt) does, for one who knows only the revision.
    ///
    /// # Errors
    /// Where the revision is not one of the last
    /// [`MAX_KNOWN_REVISIONS`](crate::MAX_KNOWN_REVISIONS), or there are too many consumers.
    pub fn adopt_revision(
        &self,
        consumer: &ConsumerName,
        revision: &str,
    ) -> Result<Adoption, AdoptError> {
        let expiry = self.core.adoption_expiry;
        self.entry.reader.ledger().adopt(consumer, revision, Now::read(), expiry)
    }

    /// Forgets a consumer, which nobody then waits for; `false` where it is not known.
    pub fn leave(&self, consumer: &ConsumerName) -> bool {
        self.entry.reader.ledger().leave(consumer, Instant::now(), self.core.adoption_expiry)
    }

    /// Who uses what of this volume now.
    pub fn adoptions(&self) -> Adoptions {
        self.entry.reader.ledger().look(Instant::now(), self.core.adoption_expiry)
    }
}
