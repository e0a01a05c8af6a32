//! The JSON forms of snapshots. Values are written once, straight into memory that is wiped.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use zeroize::Zeroizing;

use super::query::Format;
use crate::certificate::Certificate;
use crate::name::{KeyName, VolumeName};
use crate::reload::Board;
use crate::secrets::Volume;
use crate::snapshot::{KeyChanges, Snapshot};

mod adoption;

use adoption::Counts;
pub(super) use adoption::{adoption, adoptions};

/// The first second that RFC 3339 cannot express: the year 10000.
const YEAR_10000: u64 = 253_402_300_800;

/// What identifies a snapshot.
#[derive(Serialize)]
struct Head<'a> {
    name: &'a str,
    revision: &'a str,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed_at: Option<String>,
}

impl<'a> Head<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let is_ready = snapshot.generation() > 0;
        Self {
            name: snapshot.volume().as_str(),
            revision: snapshot.revision(),
            generation: snapshot.generation(),
            version: snapshot.version(),
            published_at: snapshot.published_at().and_then(rfc3339),
            // The stand-in for a first snapshot was not observed.
            observed_at: rfc3339(snapshot.observed_at()).filter(|_| is_ready),
        }
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    keys: Vec<&'a str>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    watch: &'static str,
    path: String,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    skipped: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    adoption: Option<Counts>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<Expiry<'a>>,
}

/// A key whose value has a certificate.
#[derive(Serialize)]
struct Expiry<'a> {
    key: &'a str,
    not_after: String,
}

impl<'a> Expiry<'a> {
    fn new(certificate: &'a Certificate) -> Option<Self> {
        let not_after = rfc3339(certificate.not_after)?;
        Some(Self { key: certificate.key.as_str(), not_after })
    }
}

/// One volume of the list: how it is doing, and no value.
pub(super) fn entry(volume: &Volume) -> Result<String, serde_json::Error> {
    let (snapshot, status) = (volume.current(), volume.status());
    serde_json::to_string(&Entry {
        head: Head::new(&snapshot),
        keys: names(snapshot.keys()),
        state: status.state.as_str(),
        since: status.since.and_then(rfc3339),
        reason: status.trouble.as_ref().map(|trouble| trouble.reason.as_str()),
        detail: status.trouble.as_ref().map(|trouble| trouble.detail.as_str()),
        watch: status.watch.as_str(),
        path: volume.path().display().to_string(),
        skipped: &status.skipped,
        adoption: Counts::new(&volume.adoptions()),
        certificates: snapshot.certificates().iter().filter_map(Expiry::new).collect(),
    })
}

#[derive(Serialize)]
struct Target<'a> {
    name: &'a str,
    kind: &'static str,
    volumes: Vec<&'a str>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    attempts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// One target of the list: whether it has been told.
pub(super) fn target(board: &Board) -> Result<String, serde_json::Error> {
    let standing = board.standing();
    serde_json::to_string(&Target {
        name: &board.name,
        kind: board.kind,
        volumes: board.volumes.iter().map(VolumeName::as_str).collect(),
        state: standing.state.as_str(),
        since: standing.since.and_then(rfc3339),
        attempts: standing.attempts,
        revision: standing.revision.as_deref(),
        last_success: standing.last_success.and_then(rfc3339),
        detail: standing.detail.as_deref(),
    })
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    state: &'static str,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum What<'a> {
    Initial { initial: bool, keys: Vec<&'a str> },
    Change { added: Vec<&'a str>, removed: Vec<&'a str>, modified: Vec<&'a str> },
}

/// The event for a snapshot; `changes` is `None` for the first one of a stream.
pub(super) fn event(
    snapshot: &Snapshot,
    state: &'static str,
    changes: Option<&KeyChanges>,
) -> Result<String, serde_json::Error> {
    let what = match changes {
        None => What::Initial { initial: true, keys: names(snapshot.keys()) },
        Some(changes) => What::Change {
            added: names(&changes.added),
            removed: names(&changes.removed),
            modified: names(&changes.modified),
        },
    };
    serde_json::to_string(&Event { head: Head::new(snapshot), state, what })
}

fn names<'a>(keys: impl IntoIterator<Item = &'a KeyName>) -> Vec<&'a str> {
    keys.into_iter().map(KeyName::as_str).collect()
}

/// A snapshot with its values. The document is measured first and then written into memory of
/// exactly that size, so that nothing is ever moved and left behind unwiped.
pub(super) fn document(snapshot: &Snapshot, format: Format) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut size = Size(0);
    write(snapshot, format, &mut size)?;
    let mut document = Zeroizing::new(Vec::with_capacity(size.0));
    write(snapshot, format, &mut *document)?;
    debug_assert_eq!(document.len(), size.0);
    Ok(document)
}

/// Where a document goes: it is counted, or written.
trait Sink: Write {
    /// Takes bytes in base64.
    fn base64(&mut self, bytes: &[u8]) -> io::Result<()>;
}

struct Size(usize);

impl Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Size {
    fn base64(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0 += base64::encoded_len(bytes.len(), true).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(())
    }
}

impl Sink for Vec<u8> {
    fn base64(&mut self, bytes: &[u8]) -> io::Result<()> {
        let start = self.len();
        let length = base64::encoded_len(bytes.len(), true).ok_or(io::ErrorKind::OutOfMemory)?;
        self.resize(start + length, 0);
        BASE64.encode_slice(bytes, &mut self[start..]).map_err(io::Error::other)?;
        Ok(())
    }
}

fn write(snapshot: &Snapshot, format: Format, out: &mut impl Sink) -> io::Result<()> {
    let head = serde_json::to_string(&Head::new(snapshot))?;
    // The members go on after those of the head, before its closing brace.
    out.write_all(head.strip_suffix('}').unwrap_or(&head).as_bytes())?;
    if format == Format::Text {
        out.write_all(br#","stringData":{"#)?;
        let mut comma = Comma::default();
        for (key, value) in snapshot.iter() {
            if let Ok(text) = value.expose_str() {
                comma.key(key, out)?;
                serde_json::to_writer(&mut *out, text)?;
            }
        }
        out.write_all(b"}")?;
    }
    out.write_all(br#","data":{"#)?;
    let mut comma = Comma::default();
    for (key, value) in snapshot.iter() {
        if format == Format::Base64 || value.expose_str().is_err() {
            comma.key(key, out)?;
            out.write_all(b"\"")?;
            out.base64(value.expose())?;
            out.write_all(b"\"")?;
        }
    }
    out.write_all(b"}}")
}

/// Puts commas between the members of an object.
#[derive(Default)]
struct Comma(bool);

impl Comma {
    fn key(&mut self, key: &KeyName, out: &mut impl Sink) -> io::Result<()> {
        if std::mem::replace(&mut self.0, true) {
            out.write_all(b",")?;
        }
        serde_json::to_writer(&mut *out, key.as_str())?;
        out.write_all(b":")
    }
}

/// The time in UTC with milliseconds; `None` where the calendar has no words for it, which a
/// directory's time may well be.
pub(super) fn rfc3339(time: SystemTime) -> Option<String> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    (since.as_secs() < YEAR_10000).then(|| humantime::format_rfc3339_millis(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::snapshot::tests::snapshot;
    use crate::snapshot::{Contents, Label};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    type Values = BTreeMap<String, Vec<u8>>;

    fn of(values: &Values) -> Snapshot {
        let mut contents = Contents::default();
        for (key, value) in values {
            contents.insert(key.parse().unwrap(), Secret::new(value.clone()));
        }
        let label = Label {
            volume: "db".parse().unwrap(),
            boot: "boot".into(),
            generation: 1,
            published_at: None,
            observed_at: UNIX_EPOCH,
        };
        Snapshot::new(label, contents)
    }

    fn read_back(document: &[u8]) -> Values {
        let json: serde_json::Value = serde_json::from_slice(document).unwrap();
        let mut values = Values::new();
        for (key, value) in json["data"].as_object().unwrap() {
            values.insert(key.clone(), BASE64.decode(value.as_str().unwrap()).unwrap());
        }
        for (key, value) in json["stringData"].as_object().into_iter().flatten() {
            values.insert(key.clone(), value.as_str().unwrap().as_bytes().to_vec());
        }
        values
    }

    proptest! {
        #[test]
        fn any_document_reads_back_and_has_the_measured_size(
            values in proptest::collection::btree_map(
                "[a-z\"ü]{1,4}", prop_oneof![any::<Vec<u8>>(), any::<String>().prop_map(String::into_bytes)], 0..5),
            is_text in any::<bool>(),
        ) {
            let format = if is_text { Format::Text } else { Format::Base64 };
            let document = document(&of(&values), format).unwrap();
            prop_assert_eq!(document.len(), document.capacity());
            prop_assert_eq!(read_back(&document), values);
        }
    }

    #[test]
    fn document_begins_with_what_identifies_it() {
        let document = document(&snapshot(3, [("b", "2"), ("a", "1")]), Format::Base64).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&document),
            r#"{"name":"db","revision":"boot.3","generation":3,"observed_at":"1970-01-01T00:00:00.000Z","data":{"a":"MQ==","b":"Mg=="}}"#
        );
    }

    #[test]
    fn text_format_keeps_base64_for_what_is_not_text() {
        let values = Values::from([("t".into(), b"a\"b".to_vec()), ("x".into(), vec![0xff])]);
        let document = document(&of(&values), Format::Text).unwrap();
        let text = String::from_utf8_lossy(&document);
        assert!(text.ends_with(r#""stringData":{"t":"a\"b"},"data":{"x":"/w=="}}"#), "{text}");
    }

    #[test]
    fn time_outside_the_calendar_is_left_out() {
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), None);
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(YEAR_10000)), None);
        assert!(rfc3339(UNIX_EPOCH + Duration::from_secs(YEAR_10000 - 1)).is_some());
    }
}
