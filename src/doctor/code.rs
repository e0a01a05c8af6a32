//! What can be found: a code that never changes, why it matters, what to do.

use super::finding::Severity;

/// The kind of a finding. Its text is stable: scripts and documentation rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    SubPath,
    NotADirectory,
    MissingDirectory,
    InsideVolume,
    ParentDirectory,
    BrokenLink,
    Unreadable,
    MissingKey,
    Empty,
    TooManyEntries,
    DetachedMount,
    NotAMount,
    PlainDirectory,
    RemoteFileSystem,
    InterruptedWrite,
    ClockSkew,
    OldSecret,
    SameDirectory,
    SameName,
    EnvironmentOnly,
    EnvironmentStale,
    InotifyUnusable,
    InotifyUntested,
    InotifyInstances,
    InotifyWatches,
    SocketDirectory,
    SocketPath,
    SocketTaken,
    SocketNotShared,
    MountsUnknown,
}

/// What holds for every finding of a code.
struct Text {
    code: &'static str,
    severity: Severity,
    why: &'static str,
    advice: &'static str,
}

impl Code {
    pub(crate) fn as_str(self) -> &'static str {
        self.text().code
    }

    pub(crate) fn severity(self) -> Severity {
        self.text().severity
    }

    /// Why it matters, in one sentence.
    pub(crate) fn why(self) -> &'static str {
        self.text().why
    }

    /// What to do, in one sentence.
    pub(crate) fn advice(self) -> &'static str {
        self.text().advice
    }

    /// Whether it may be nothing but a rotation that is under way, and gone a moment later.
    pub(crate) fn is_passing(self) -> bool {
        matches!(self, Self::BrokenLink | Self::InterruptedWrite)
    }

    fn text(self) -> &'static Text {
        use Severity::{Error, Note, Warning};
        match self {
            Self::SubPath => &Text {
                code: "sub-path",
                severity: Error,
                why: "The kubelet replaces the whole directory of a volume; a subPath mount keeps \
                      the version it was made with until the container is started anew.",
                advice: "Mount the whole volume as a directory, without subPath, and let the app \
                         read the file in it.",
            },
            Self::NotADirectory => &Text {
                code: "not-a-directory",
                severity: Error,
                why: "A rotation replaces the directory's contents; a watch on one file sees one \
                      change at most, and serve refuses it.",
                advice: "Give the directory that the secret is mounted at.",
            },
            Self::MissingDirectory => &Text {
                code: "missing-directory",
                severity: Error,
                why: "A volume of a pod is there before its containers start, so this one hardly \
                      ever appears, and until then there is nothing to serve.",
                advice: "Compare the path with mountPath in volumeMounts of this very container.",
            },
            Self::InsideVolume => &Text {
                code: "inside-volume",
                severity: Error,
                why: "The path leads into one version of the volume, which the kubelet deletes at \
                      the next rotation.",
                advice: "Give the directory that the secret is mounted at, which holds `..data`.",
            },
            Self::ParentDirectory => &Text {
                code: "parent-directory",
                severity: Warning,
                why: "Only the directory that holds `..data` itself is followed as one volume; \
                      from above, its keys cannot be read as one version.",
                advice: "Give each mounted directory as a volume of its own.",
            },
            Self::BrokenLink => &Text {
                code: "broken-link",
                severity: Error,
                why: "What a link of the volume leads to is what the app would read; no new \
                      contents are accepted as long as it leads to nothing.",
                advice: "See whether the pod's events name a failed set-up of the volume, and \
                         start the pod anew.",
            },
            Self::Unreadable => &Text {
                code: "unreadable",
                severity: Error,
                why: "A set with a key that cannot be read is not whole and is never served; the \
                      app cannot read it either.",
                advice: "Set defaultMode: 0444 on the volume, or fsGroup in the pod's \
                         securityContext where the platform allows it, or run as the owner.",
            },
            Self::MissingKey => &Text {
                code: "missing-key",
                severity: Error,
                why: "Contents without a required key are not accepted: the last good ones stay, \
                      and at the start nothing becomes ready.",
                advice: "Compare the name with the keys of the Secret and with `items` of the \
                         volume; tools may have rewritten it.",
            },
            Self::Empty => &Text {
                code: "empty",
                severity: Warning,
                why: "A volume that is `optional` becomes empty where its Secret does not exist \
                      or was deleted; the last good contents stay, and a new start has none.",
                advice: "Create the Secret in the pod's namespace, or correct its name; where no \
                         keys are fine, say --allow-empty.",
            },
            Self::TooManyEntries => &Text {
                code: "too-many-entries",
                severity: Error,
                why: "More than 4096 entries, or more than 8 levels of them, are a directory that \
                      was given by mistake, and nothing of it is accepted.",
                advice: "Give the directory that the secret is mounted at, and nothing above it.",
            },
            Self::DetachedMount => &Text {
                code: "detached-mount",
                severity: Error,
                why: "What is mounted was deleted on the node, so whoever writes new versions \
                      writes them somewhere else.",
                advice: "Delete the pod, so that its volumes are set up anew.",
            },
            Self::NotAMount => &Text {
                code: "not-a-mount",
                severity: Warning,
                why: "It lies in the container's own file system, and nothing outside of the \
                      container can change what is there.",
                advice: "Add the volume to volumeMounts of this container, or correct the path.",
            },
            Self::PlainDirectory => &Text {
                code: "plain-directory",
                severity: Note,
                why: "There is no moment at which all files change at once, so it is waited until \
                      they are quiet, and compared, which takes a little longer.",
                advice: "Nothing, where no kubelet writes it (Compose, systemd, a folder); \
                         otherwise give the directory that holds `..data`.",
            },
            Self::RemoteFileSystem => &Text {
                code: "remote-file-system",
                severity: Note,
                why: "Changes from outside need not raise events here; the poll notices that and \
                      takes over, after one poll interval.",
                advice: "Set --poll-interval to the delay that you can bear, such as 1s.",
            },
            Self::InterruptedWrite => &Text {
                code: "interrupted-write",
                severity: Warning,
                why: "Whoever writes the volume was interrupted, and may fail at the next \
                      rotation for what it has left.",
                advice: "See whether the pod's events name a failed set-up of the volume; a new \
                         pod gets a clean one.",
            },
            Self::ClockSkew => &Text {
                code: "clock-skew",
                severity: Warning,
                why: "The clocks of the kubelet and of this process disagree, so ages, latencies \
                      and alerts on them are wrong.",
                advice: "Set the clock of the node, or of the sandbox that this process runs in.",
            },
            Self::OldSecret => &Text {
                code: "old-secret",
                severity: Warning,
                why: "Either nobody has rotated it, or the mount was cut off from the kubelet, \
                      which looks like that and nothing else.",
                advice: "Compare with the Secret itself; where that is newer, delete the pod, and \
                         otherwise rotate it.",
            },
            Self::SameDirectory => &Text {
                code: "same-directory",
                severity: Error,
                why: "One directory needs no two watches, and serve refuses it.",
                advice: "Give it once; apps can share one volume by its name.",
            },
            Self::SameName => &Text {
                code: "same-name",
                severity: Error,
                why: "On the socket and in metrics the two could not be told apart, and serve \
                      refuses it.",
                advice: "Give one of them another name: NAME=DIR.",
            },
            Self::EnvironmentOnly => &Text {
                code: "environment-only",
                severity: Warning,
                why: "Environment variables never change in a running process, so a secret that \
                      comes by them needs a restart.",
                advice: "Mount the Secret as a volume, too, or restart the deployment on a change.",
            },
            Self::EnvironmentStale => &Text {
                code: "environment-stale",
                severity: Warning,
                why: "Environment variables never change in a running process, so the command \
                      keeps the values that it was started with.",
                advice: "Add --restart, so that the command is started anew with the new values.",
            },
            Self::InotifyUnusable => &Text {
                code: "inotify-unusable",
                severity: Warning,
                why: "Without it the poll alone finds rotations, once a second instead of at once.",
                advice: "Raise the limit that is named, on the node; or accept it and say \
                         --detector poll.",
            },
            Self::InotifyUntested => &Text {
                code: "inotify-untested",
                severity: Note,
                why: "An instance and a watch could be had; whether events arrive can only be \
                      tried where a file can be made, and never is in a volume.",
                advice: "Nothing: serve notices by its poll where events stay out.",
            },
            Self::InotifyInstances => &Text {
                code: "inotify-instances",
                severity: Warning,
                why: "They are counted for each user and node, over all pods; the next process \
                      that wants one gets none.",
                advice: "Raise fs.inotify.max_user_instances on the node, such as to 1024.",
            },
            Self::InotifyWatches => &Text {
                code: "inotify-watches",
                severity: Warning,
                why: "They are counted for each user and node, over all pods; the next directory \
                      cannot be watched.",
                advice: "Raise fs.inotify.max_user_watches on the node, such as to 65536.",
            },
            Self::SocketDirectory => &Text {
                code: "socket-directory",
                severity: Error,
                why: "The socket cannot be made there, so serve does not start and run has none.",
                advice: "Mount an emptyDir there that this uid may write to, or give --socket a \
                         path in one.",
            },
            Self::SocketPath => &Text {
                code: "socket-path",
                severity: Error,
                why: "The system has room for 107 bytes, so neither serve nor a client can use it.",
                advice: "Give --socket a shorter path.",
            },
            Self::SocketTaken => &Text {
                code: "socket-taken",
                severity: Error,
                why: "serve replaces a stale socket and nothing else, so it does not start.",
                advice: "Remove what is there, or give --socket another path.",
            },
            Self::SocketNotShared => &Text {
                code: "socket-not-shared",
                severity: Warning,
                why: "It is in the container's own file system, where no other container of the \
                      pod can see the socket.",
                advice: "Mount one emptyDir at this directory in both containers; with run in the \
                         app's own container it is fine.",
            },
            Self::MountsUnknown => &Text {
                code: "mounts-unknown",
                severity: Note,
                why: "subPath mounts can be found nowhere else, so there may be some.",
                advice: "Look for subPath in volumeMounts of the pod.",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every code: the compiler asks for the next one here.
    fn next(code: Option<Code>) -> Option<Code> {
        let Some(code) = code else { return Some(Code::SubPath) };
        Some(match code {
            Code::SubPath => Code::NotADirectory,
            Code::NotADirectory => Code::MissingDirectory,
            Code::MissingDirectory => Code::InsideVolume,
            Code::InsideVolume => Code::ParentDirectory,
            Code::ParentDirectory => Code::BrokenLink,
            Code::BrokenLink => Code::Unreadable,
            Code::Unreadable => Code::MissingKey,
            Code::MissingKey => Code::Empty,
            Code::Empty => Code::TooManyEntries,
            Code::TooManyEntries => Code::DetachedMount,
            Code::DetachedMount => Code::NotAMount,
            Code::NotAMount => Code::PlainDirectory,
            Code::PlainDirectory => Code::RemoteFileSystem,
            Code::RemoteFileSystem => Code::InterruptedWrite,
            Code::InterruptedWrite => Code::ClockSkew,
            Code::ClockSkew => Code::OldSecret,
            Code::OldSecret => Code::SameDirectory,
            Code::SameDirectory => Code::SameName,
            Code::SameName => Code::EnvironmentOnly,
            Code::EnvironmentOnly => Code::EnvironmentStale,
            Code::EnvironmentStale => Code::InotifyUnusable,
            Code::InotifyUnusable => Code::InotifyUntested,
            Code::InotifyUntested => Code::InotifyInstances,
            Code::InotifyInstances => Code::InotifyWatches,
            Code::InotifyWatches => Code::SocketDirectory,
            Code::SocketDirectory => Code::SocketPath,
            Code::SocketPath => Code::SocketTaken,
            Code::SocketTaken => Code::SocketNotShared,
            Code::SocketNotShared => Code::MountsUnknown,
            Code::MountsUnknown => return None,
        })
    }

    fn all() -> impl Iterator<Item = Code> {
        std::iter::successors(next(None), |code| next(Some(*code)))
    }

    #[test]
    fn each_code_is_a_word_of_its_own_and_has_two_sentences() {
        let codes: BTreeSet<_> = all().map(Code::as_str).collect();
        assert_eq!(codes.len(), all().count());
        for code in all() {
            let text = code.as_str();
            assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{text}");
            for sentence in [code.why(), code.advice()] {
                assert!(sentence.ends_with('.') && !sentence.contains("  "), "{text}: {sentence}");
            }
        }
    }

    /// The page says the severity beside each code, too.
    #[test]
    fn troubleshooting_has_one_section_for_each_code() {
        let page = include_str!("../../examples/troubleshooting/README.md");
        let headings: Vec<_> = page.lines().filter_map(|l| l.strip_prefix("### `")).collect();
        let codes: Vec<_> = all()
            .map(|code| format!("{}` ({})", code.as_str(), code.severity().as_str()))
            .collect();
        assert_eq!(headings, codes);
    }
}
