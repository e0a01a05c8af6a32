//! File descriptors: how many there may be, and how many of them clients may take.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::builder::MAX_VOLUMES;

/// More descriptors than this are never needed: connections are limited to as many.
const MAX_DESCRIPTORS: u64 = 2 * 65_536;
/// What clients of the socket never get: a look opens a few for each directory level of a volume,
/// then there are inotify, the runtime, the token, connections of the TCP port, clients that are
/// being refused, and hooks. Without them a crowd of clients could hide a rotation.
const RESERVED: u64 = 160 + MAX_VOLUMES as u64;

/// Raises the soft limit as far as the hard one allows: many runtimes start with room for 1,024
/// descriptors and allow far more.
pub(super) fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(MAX_DESCRIPTORS);
        if wanted > soft { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Ok(()) }
    });
    if let Err(error) = raised.map_err(io::Error::from) {
        warn!(%error, "the limit of open files cannot be raised");
    }
}

/// As many connections as are wanted and the limit leaves room for; at least one.
pub(super) fn connections(wanted: usize) -> usize {
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return wanted };
    let room = usize::try_from(limit.saturating_sub(RESERVED)).unwrap_or(usize::MAX).max(1);
    if room < wanted {
        warn!(wanted, room, limit, "fewer connections than wanted: the limit of open files is low");
    }
    wanted.min(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_connections_as_wanted_where_there_is_room() {
        assert_eq!(connections(1), 1);
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let room = usize::try_from(limit.saturating_sub(RESERVED)).unwrap().max(1);
        assert_eq!(connections(usize::MAX), room);
    }
}
