//! Finding processes by name in `/proc`.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the kernel appends to the path of an executable that was replaced on disk.
const DELETED: &[u8] = b" (deleted)";
/// Where the start time stands in `/proc/<pid>/stat`, counted from the state, which is the first
/// field after the command's name in parentheses.
const START_TIME: usize = 19;

/// Which of several processes of one name is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that started first: the master of servers that fork workers.
    Oldest,
    /// Every one.
    All,
}

impl Which {
    /// The word in the file.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Oldest => "oldest",
            Self::All => "all",
        }
    }
}

/// The pids of the processes whose executable, or whose `comm`, has exactly this name. Never this
/// process itself, and none that has ended.
///
/// # Errors
/// Where `/proc` cannot be read.
pub(crate) fn find(name: &str, which: Which) -> io::Result<Vec<i32>> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // One that cannot be read is one that has just ended.
        let Ok(entry) = entry else { continue };
        let file = entry.file_name();
        let Some(text) = file.to_str().filter(|text| *text != own) else { continue };
        let Ok(pid) = text.parse::<i32>() else { continue };
        if is_named(&entry.path(), name)
            && let Some(started) = started(pid)
        {
            found.push((started, pid));
        }
    }
    found.sort_unstable();
    if which == Which::Oldest {
        found.truncate(1);
    }
    Ok(found.into_iter().map(|(_, pid)| pid).collect())
}

fn is_named(process: &Path, name: &str) -> bool {
    let comm = fs::read(process.join("comm")).unwrap_or_default();
    if comm.strip_suffix(b"\n").unwrap_or(&comm) == name.as_bytes() {
        return true;
    }
    let Ok(executable) = fs::read_link(process.join("exe")) else { return false };
    let file = executable.file_name().unwrap_or_default().as_bytes();
    file.strip_suffix(DELETED).unwrap_or(file) == name.as_bytes()
}

/// When a process started, in ticks since boot; `None` where it has ended.
pub(super) fn started(pid: i32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name may itself have parentheses and blanks; what follows the last one has not.
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let text = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(START_TIME - 1)?.parse().ok()
}
