//! How much of the limits of inotify is used up, as far as that can be seen from here.
//!
//! The kernel counts for each user over the whole node and shows the sum nowhere. What can be
//! counted are the processes of this user that this one may look into: no other pods.

use std::fs;
use std::path::Path;

use nix::unistd::getuid;

use super::code::Code;
use super::finding::Finding;

/// What the kernel shows in place of a file.
const INOTIFY: &str = "anon_inode:inotify";
/// How the line of one watch begins in `fdinfo`.
const WATCH: &str = "inotify wd:";

/// What processes hold.
#[derive(Debug, Default, PartialEq, Eq)]
struct Use {
    instances: u64,
    watches: u64,
    /// Processes of this user that were looked into, and those that could not be.
    seen: u64,
    hidden: u64,
}

/// Compares what is seen to be held with what there may be.
pub(super) fn examine() -> Vec<Finding> {
    let usage = count(getuid().as_raw());
    let limits = [
        (Code::InotifyInstances, "instances", usage.instances),
        (Code::InotifyWatches, "watches", usage.watches),
    ];
    let findings = limits.into_iter().filter_map(|(code, what, used)| {
        let limit = limit(what).filter(|limit| is_nearly_used_up(used, *limit))?;
        Some(Finding::new(code, usage.message(what, used, limit)))
    });
    findings.collect()
}

impl Use {
    fn message(&self, what: &str, used: u64, limit: u64) -> String {
        let Self { seen, hidden, .. } = self;
        let uid = getuid();
        format!(
            "{used} of at most {limit} inotify {what} of uid {uid} are used by the {seen} processes \
             of it that can be seen ({hidden} more cannot be looked into, and other pods not seen)."
        )
    }
}

/// A tenth is left, or less.
fn is_nearly_used_up(used: u64, limit: u64) -> bool {
    used > 0 && used.saturating_mul(10) >= limit.saturating_mul(9)
}

/// A user namespace may have a limit of its own, below the one of the node.
fn limit(what: &str) -> Option<u64> {
    let node = number(format!("/proc/sys/fs/inotify/max_user_{what}"));
    let namespace = number(format!("/proc/sys/user/max_inotify_{what}"));
    node.into_iter().chain(namespace).min()
}

fn number(path: String) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn count(uid: u32) -> Use {
    let mut usage = Use::default();
    let Ok(processes) = fs::read_dir("/proc") else { return usage };
    for process in processes.flatten() {
        let path = process.path();
        // What is no process, or has just ended, has no status.
        if real_uid(&path) != Some(uid) {
            continue;
        }
        match held(&path) {
            Some((instances, watches)) => {
                usage.instances += instances;
                usage.watches += watches;
                usage.seen += 1;
            }
            None => usage.hidden += 1,
        }
    }
    usage
}

/// The user whom the kernel counts for.
fn real_uid(process: &Path) -> Option<u32> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Instances and watches of one process; `None` where it may not be looked into.
fn held(process: &Path) -> Option<(u64, u64)> {
    let (mut instances, mut watches) = (0, 0);
    for descriptor in fs::read_dir(process.join("fd")).ok()?.flatten() {
        let is_inotify = fs::read_link(descriptor.path()).is_ok_and(|to| to == Path::new(INOTIFY));
        if is_inotify {
            instances += 1;
            let info = process.join("fdinfo").join(descriptor.file_name());
            watches += fs::read_to_string(info).map_or(0, |info| count_watches(&info));
        }
    }
    Some((instances, watches))
}

fn count_watches(info: &str) -> u64 {
    info.lines().map(|line| u64::from(line.starts_with(WATCH))).sum()
}

#[cfg(test)]
mod tests {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

    use super::*;

    #[test]
    fn tenth_that_is_left_is_little() {
        assert!(is_nearly_used_up(116, 128) && is_nearly_used_up(128, 128));
        assert!(!is_nearly_used_up(115, 128) && !is_nearly_used_up(0, 0));
        assert!(is_nearly_used_up(1, 0) && !is_nearly_used_up(u64::MAX / 10, u64::MAX));
    }

    #[test]
    fn instances_and_watches_of_a_process_are_counted() {
        let own = Path::new("/proc/self");
        let directory = tempfile::tempdir().unwrap();
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
        inotify.add_watch(directory.path(), AddWatchFlags::IN_CREATE).unwrap();
        // Other tests of this process have some, too.
        let (instances, watches) = held(own).unwrap();
        assert!(instances >= 1 && watches >= 1, "{instances} {watches}");
        let uid = real_uid(own).unwrap();
        assert_eq!(uid, getuid().as_raw());
        let usage = count(uid);
        assert!(usage.instances >= 1 && usage.seen >= 1, "{usage:?}");
    }

    #[test]
    fn watches_are_the_lines_that_say_so() {
        let info = "pos:\t0\nflags:\t02004000\ninotify wd:2 ino:1 mask:100\ninotify wd:1 ino:2\n";
        assert_eq!(count_watches(info), 2);
    }

    #[test]
    fn message_says_who_was_counted() {
        let usage = Use { instances: 9, watches: 9, seen: 2, hidden: 1 };
        let message = usage.message("instances", 9, 10);
        assert!(message.starts_with("9 of at most 10 inotify instances"), "{message}");
        assert!(message.contains("the 2 processes") && message.contains("1 more"), "{message}");
    }

    #[test]
    fn limits_of_this_machine_are_read() {
        assert!(limit("instances").is_some() && limit("watches").is_some());
    }
}
