//! When the kubelet wrote a volume, from the name and the time of its timestamped directory.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

use nix::sys::stat::FileStat;

/// How far the directory's own time may be from its name and still be the time of the same write.
/// A write takes less than a millisecond; this leaves room for a slow node.
const SAME_WRITE: Duration = Duration::from_secs(10);

/// The finest time that can be trusted. The name is the kubelet's word, in whole seconds; the
/// modification time is finer, and is only believed where it agrees with the name or there is none.
pub(super) fn published_at(name: &OsStr, stat: &FileStat) -> Option<SystemTime> {
    let modified = modified_at(stat);
    let Some(named) = name.to_str().and_then(parse) else {
        return modified;
    };
    let agrees = |modified: &SystemTime| {
        modified.duration_since(named).is_ok_and(|after| after <= SAME_WRITE)
    };
    modified.filter(agrees).or(Some(named))
}

/// The modification time, where it can be expressed.
pub(super) fn modified_at(stat: &FileStat) -> Option<SystemTime> {
    let seconds = u64::try_from(stat.st_mtime).ok()?;
    let nanos = u32::try_from(stat.st_mtime_nsec).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

/// Reads `..2026_11_22_10_00_00.123456789`; what follows the dot is a random number.
fn parse(name: &str) -> Option<SystemTime> {
    let (stamp, _) = name.strip_prefix("..")?.split_once('.')?;
    let mut parts = stamp.split('_');
    let mut part = || parts.next();
    let text = format!("{}-{}-{}T{}:{}:{}Z", part()?, part()?, part()?, part()?, part()?, part()?);
    if part().is_some() {
        return None;
    }
    humantime::parse_rfc3339(&text).ok()
}

/// The same for a name that need not be UTF-8.
#[cfg(feature = "cli")]
pub(crate) fn parse_os(name: &OsStr) -> Option<SystemTime> {
    parse(name.to_str()?)
}

/// When a version was written, to the second; by its name, or else by its own time.
#[cfg(feature = "cli")]
pub(crate) fn written_at(name: &OsStr, metadata: &std::fs::Metadata) -> Option<SystemTime> {
    parse_os(name).or_else(|| metadata.modified().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stat_of(path: &std::path::Path) -> FileStat {
        nix::sys::stat::stat(path).unwrap()
    }

    #[test]
    fn name_of_a_timestamped_directory_is_read_as_utc() {
        let time = parse("..2026_11_22_10_00_01.123456789").unwrap();
        assert_eq!(humantime::format_rfc3339(time).to_string(), "2026-11-22T10:00:01Z");
    }

    #[test]
    fn other_names_have_no_time() {
        for name in
            ["..data", "v2", "..2026_11_22.1", "..2026_13_22_10_00_00.1", "..1_2_3_4_5_6_7.1"]
        {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn modification_time_is_used_where_it_agrees_with_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let stat = stat_of(directory.path());
        let modified = modified_at(&stat).unwrap();
        let second = humantime::format_rfc3339_seconds(modified).to_string();
        let name = format!("..{}.1", second.trim_end_matches('Z').replace(['-', ':', 'T'], "_"));
        assert_eq!(published_at(OsStr::new(&name), &stat), Some(modified));
        assert_eq!(published_at(OsStr::new("v2"), &stat), Some(modified));
    }

    #[test]
    fn name_is_used_where_the_modification_time_contradicts_it() {
        let directory = tempfile::tempdir().unwrap();
        let stat = stat_of(directory.path());
        let name = "..2020_01_01_00_00_00.1";
        assert_eq!(published_at(OsStr::new(name), &stat), parse(name));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(name in r"(\.\.)?[0-9_.]{0,30}.{0,5}") {
            let _ = parse(&name);
        }
    }
}
