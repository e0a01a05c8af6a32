//! How a volume is doing, and the words for what can be wrong with it.

use std::fmt;
use std::time::SystemTime;

/// Whether a volume serves what is in its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Nothing has been accepted yet.
    #[default]
    Waiting,
    /// What is served is what the directory holds.
    Current,
    /// The directory holds something that was not accepted, or is gone: the last good snapshot
    /// stays.
    Holding,
}

impl State {
    /// The word used in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Current => "current",
            Self::Holding => "holding",
        }
    }
}

/// Why the contents of a directory were not accepted: the `reason` label of
/// `secretwatch_snapshots_rejected_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The directory is not there.
    Absent,
    /// The directory is there, and nothing has been published in it yet.
    Unpublished,
    /// It kept changing while it was read.
    Unstable,
    /// A directory or file may not be read by this user.
    Unreadable,
    /// A key is a symbolic link that leaves the volume.
    LinkOutside,
    /// A key is a symbolic link to nothing, or in a circle.
    LinkBroken,
    /// A key is a symbolic link to something that is not a regular file.
    LinkToOther,
    /// `..data`, or the volume itself, is not what a volume has there.
    NotAVolume,
    /// A value, or all of them together, has too many bytes.
    TooLarge,
    /// There are too many keys.
    TooManyKeys,
    /// Keys lie too many directories deep.
    TooDeep,
    /// A required key is not there.
    MissingKey,
    /// There is no key at all.
    Empty,
    /// The operating system failed in another way.
    Io,
}

impl Reason {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [Self; 14] = [
        Self::Absent,
        Self::Unpublished,
        Self::Unstable,
        Self::Unreadable,
        Self::LinkOutside,
        Self::LinkBroken,
        Self::LinkToOther,
        Self::NotAVolume,
        Self::TooLarge,
        Self::TooManyKeys,
        Self::TooDeep,
        Self::MissingKey,
        Self::Empty,
        Self::Io,
    ];

    /// The word used in metrics, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Unpublished => "unpublished",
            Self::Unstable => "unstable",
            Self::Unreadable => "unreadable",
            Self::LinkOutside => "link_outside",
            Self::LinkBroken => "link_broken",
            Self::LinkToOther => "link_to_other",
            Self::NotAVolume => "not_a_volume",
            Self::TooLarge => "too_large",
            Self::TooManyKeys => "too_many_keys",
            Self::TooDeep => "too_deep",
            Self::MissingKey => "missing_key",
            Self::Empty => "empty",
            Self::Io => "io",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A reason and what exactly it was: names and numbers, never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The kind of trouble.
    pub reason: Reason,
    /// Which key or path, and what is allowed.
    pub detail: String,
}

impl Trouble {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

/// Which detector a volume relies on at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Watch {
    /// inotify, audited by the poll.
    Inotify,
    /// The poll alone: inotify is not wanted, not to be had, or proven deaf.
    #[default]
    Poll,
}

impl Watch {
    /// The word used in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inotify => "inotify",
            Self::Poll => "poll",
        }
    }
}

/// How a volume is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether what is served is what the directory holds.
    pub state: State,
    /// What is wrong, where the state is not [`State::Current`].
    pub trouble: Option<Trouble>,
    /// Since when the state and the trouble are these.
    pub since: Option<SystemTime>,
    /// Which detector the volume relies on.
    pub watch: Watch,
    /// Directory entries that cannot be keys (FIFOs, sockets, devices, hostile names), and are
    /// left out: the first few, escaped.
    pub skipped: Vec<String>,
}
