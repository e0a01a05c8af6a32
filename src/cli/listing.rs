//! What `/v1/secrets` answers, as far as the commands use it. It never holds a value.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::{Exit, Failure};
use crate::client::{Answer, Client, ClientError};
use crate::duration::largest_unit;
use crate::name::VolumeName;

/// The route of the listing.
pub(crate) const ROUTE: &str = "/v1/secrets";

/// All volumes of a sidecar.
#[derive(Debug, Deserialize)]
pub(crate) struct Listing {
    pub(crate) secrets: Vec<Entry>,
    /// Whom the sidecar tells of changes.
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
}

/// One target.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) since: Option<String>,
    #[serde(default)]
    pub(crate) attempts: u64,
    pub(crate) revision: Option<String>,
    pub(crate) last_success: Option<String>,
    pub(crate) detail: Option<String>,
}

/// One volume.
#[derive(Debug, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) revision: String,
    pub(crate) generation: u64,
    pub(crate) version: Option<String>,
    #[serde(default)]
    pub(crate) keys: Vec<String>,
    pub(crate) published_at: Option<String>,
    pub(crate) state: String,
    pub(crate) since: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) watch: String,
    pub(crate) adoption: Option<Counts>,
    /// The keys that have a certificate: `key` and `not_after` of each. As maps, which are read by
    /// code that is there anyway: a structure would take 2 KiB more of program.
    #[serde(default)]
    pub(crate) certificates: Vec<BTreeMap<String, String>>,
}

/// How many consumers use the current revision.
#[derive(Debug, Deserialize)]
pub(crate) struct Counts {
    pub(crate) adopted: usize,
    pub(crate) consumers: usize,
}

impl Listing {
    /// Asks the sidecar.
    pub(crate) async fn get(client: &Client) -> Result<Self, ClientError> {
        let body = json(client).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::strange(&error))
    }

    /// The volume of this name.
    pub(crate) fn volume(&self, name: &VolumeName) -> Result<&Entry, Failure> {
        self.secrets.iter().find(|entry| entry.name == name.as_str()).ok_or_else(|| {
            let known: Vec<_> = self.secrets.iter().map(|entry| entry.name.as_str()).collect();
            let known = known.join(", ");
            Failure::new(Exit::NotFound, format!("no volume is named `{name}`; there are: {known}"))
        })
    }
}

impl Entry {
    /// Whether something has been accepted.
    pub(crate) fn is_ready(&self) -> bool {
        self.generation > 0
    }
}

/// The listing as the sidecar writes it.
pub(crate) async fn json(client: &Client) -> Result<Vec<u8>, ClientError> {
    match client.get(ROUTE, Duration::ZERO).await? {
        Answer::Found { body, .. } => Ok(body.to_vec()),
        Answer::NotModified => Err(ClientError::Strange("304 without a question".to_owned())),
    }
}

/// A time as the sidecar writes it; `None` where it is none.
pub(crate) fn time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

/// How long ago a time was, in its largest unit.
pub(crate) fn age(text: Option<&str>, now: SystemTime) -> String {
    let Some(time) = text.and_then(time) else { return String::new() };
    // A clock that was set back makes the future "now".
    rough(now.duration_since(time).unwrap_or_default())
}

/// How long there is until a time, in the largest unit; or since when it has passed.
pub(crate) fn left(text: &str, now: SystemTime) -> String {
    let Some(time) = time(text) else { return String::new() };
    match time.duration_since(now) {
        Ok(left) if !left.is_zero() => rough(left),
        _ => format!("expired {} ago", rough(now.duration_since(time).unwrap_or_default())),
    }
}

fn rough(duration: Duration) -> String {
    let (count, unit) = largest_unit(duration);
    format!("{count}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_given_in_its_largest_unit() {
        let now = time("2026-11-22T10:00:00Z").unwrap();
        for (then, expected) in [
            ("2026-11-22T09:59:59.5Z", "0s"),
            ("2026-11-22T09:59:01Z", "59s"),
            ("2026-11-22T09:00:01Z", "59m"),
            ("2026-11-21T10:00:01Z", "23h"),
            ("2026-11-01T10:00:00Z", "21d"),
            ("2026-11-22T11:00:00Z", "0s"),
            ("yesterday", ""),
        ] {
            assert_eq!(age(Some(then), now), expected, "{then}");
        }
        assert_eq!(age(None, now), "");
    }

    #[test]
    fn what_is_left_ends_at_the_moment_of_expiry() {
        let now = time("2026-11-22T10:00:00Z").unwrap();
        for (then, expected) in [
            ("2027-02-21T03:31:50.000Z", "90d"),
            ("2026-11-22T10:00:01Z", "1s"),
            ("2026-11-22T10:00:00Z", "expired 0s ago"),
            ("2026-11-20T09:00:00Z", "expired 2d ago"),
            ("never", ""),
        ] {
            assert_eq!(left(then, now), expected, "{then}");
        }
    }
}
