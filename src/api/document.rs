//! Documents that are being sent, shared by all clients that are sent the same one.
//!
//! A client that reads slowly holds on to what it is sent. Without sharing, every connection could
//! hold a document of its own; so there is at most one for each revision and format, however many
//! clients there are. Nothing is kept: the last client that is done takes the document with it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use zeroize::Zeroizing;

use super::json;
use super::query::Format;
use crate::snapshot::Snapshot;

/// The documents of one volume: the latest in each format, as long as somebody is sent it.
#[derive(Default)]
pub(super) struct Documents {
    base64: Mutex<Weak<Document>>,
    text: Mutex<Weak<Document>>,
}

/// A snapshot with its values as JSON, wiped when the last client has it.
pub(super) struct Document {
    generation: u64,
    bytes: Zeroizing<Vec<u8>>,
}

impl Documents {
    /// The document of a snapshot, made unless it is on its way to somebody already.
    pub(super) fn of(&self, snapshot: &Snapshot, format: Format) -> io::Result<Arc<Document>> {
        let slot = match format {
            Format::Base64 => &self.base64,
            Format::Text => &self.text,
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = snapshot.generation();
        if let Some(found) = slot.upgrade().filter(|found| found.generation == generation) {
            return Ok(found);
        }
        let bytes = json::document(snapshot, format)?;
        let made = Arc::new(Document { generation, bytes });
        *slot = Arc::downgrade(&made);
        Ok(made)
    }
}

/// A client's share of a document.
pub(super) struct Share(pub(super) Arc<Document>);

impl AsRef<[u8]> for Share {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::snapshot;

    #[test]
    fn document_is_shared_while_it_is_sent_and_then_gone() {
        let documents = Documents::default();
        let (old, new) = (snapshot(1, [("a", "1")]), snapshot(2, [("a", "2")]));
        let first = documents.of(&old, Format::Base64).unwrap();
        assert!(Arc::ptr_eq(&first, &documents.of(&old, Format::Base64).unwrap()));
        assert!(!Arc::ptr_eq(&first, &documents.of(&old, Format::Text).unwrap()));
        assert!(!Arc::ptr_eq(&first, &documents.of(&new, Format::Base64).unwrap()));
        let weak = Arc::downgrade(&first);
        drop(first);
        assert!(weak.upgrade().is_none());
    }
}
