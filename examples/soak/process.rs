//! Processes below this one.

use std::fs;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The pids whose parent is `parent`, and whether each is a zombie.
pub fn children(parent: u32) -> Vec<(i32, bool)> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let with_stat = pids.filter_map(|pid| Some((pid, stat(pid)?)));
    let children = with_stat.filter(|(_, (_, of))| u32::try_from(*of) == Ok(parent));
    children.map(|(pid, (state, _))| (pid, state == 'Z')).collect()
}

/// The state and the parent of a process, if there is one.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may hold anything.
    let mut fields = text.rsplit(')').next()?.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Kills a child of another process, and nobody else who has got its pid. `false` where it has ended.
pub fn kill_child(pid: i32, parent: u32) -> bool {
    let open = |pid| pidfd_open(rustix::process::Pid::from_raw(pid)?, PidfdFlags::empty()).ok();
    let Some(fd): Option<OwnedFd> = open(pid) else { return false };
    let is_child = stat(pid).is_some_and(|(_, of)| u32::try_from(of) == Ok(parent));
    is_child && pidfd_send_signal(&fd, Signal::KILL).is_ok()
}

/// Kills and reaps the children of this process that are not among `known`: orphans of a process
/// that was killed, as the end of a container ends all that is in it.
pub fn end_orphans(known: &[u32]) {
    let is_known = |pid: i32| known.iter().any(|known| i64::from(*known) == i64::from(pid));
    for (pid, _) in children(std::process::id()).into_iter().filter(|(pid, _)| !is_known(*pid)) {
        // Its pid is its own until it has been waited for here.
        let pid = Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        while waitpid(pid, None) == Err(Errno::EINTR) {}
    }
}
