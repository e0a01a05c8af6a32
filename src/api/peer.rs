//! Who may connect: decided by the user and group that the kernel reports for the other end.
//!
//! In a pod where every container has the same user this separates nothing; the token and the
//! volume that holds the socket do. On a node and in pods with several users it does.

use nix::unistd::geteuid;

use super::SocketOptions;

/// The users and groups that are admitted.
#[derive(Debug)]
pub(super) struct Policy {
    own_uid: u32,
    uids: Vec<u32>,
    gids: Vec<u32>,
}

impl Policy {
    pub(super) fn new(options: &SocketOptions) -> Self {
        Self {
            own_uid: geteuid().as_raw(),
            uids: options.allow_uid.clone(),
            gids: options.allow_gid.clone(),
        }
    }

    /// Whether a process of this effective user and group may ask.
    pub(super) fn admits(&self, uid: u32, gid: u32) -> bool {
        uid == self.own_uid || self.uids.contains(&uid) || self.gids.contains(&gid)
    }

    /// A policy of a process that runs as somebody else.
    #[cfg(test)]
    pub(super) fn for_test(own_uid: u32, uids: Vec<u32>, gids: Vec<u32>) -> Self {
        Self { own_uid, uids, gids }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_user_and_the_listed_ones_are_admitted() {
        let policy = Policy::for_test(1000, vec![7], vec![8]);
        assert!(policy.admits(1000, 1));
        assert!(policy.admits(7, 1));
        assert!(policy.admits(1, 8));
        assert!(!policy.admits(8, 7));
        assert!(!policy.admits(0, 0), "root is a user like others");
    }
}
