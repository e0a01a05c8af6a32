//! Why a mount will never update: what can be seen from inside a container, without a value.
//!
//! How it works. [`examine`] looks at mounts, directories, rights and limits, and gives a list of
//! findings, the worst first. Each has a [`Code`] that never changes, on which scripts and the page
//! on troubleshooting rely. Key files are never opened: whether that is allowed is asked.

mod access;
mod code;
mod directory;
mod finding;
mod inotify;
mod limits;
mod mountinfo;
mod payload;
mod settings;
mod socket;
mod sub_path;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

pub(crate) use code::Code;
pub(crate) use finding::{Finding, Severity};
use mountinfo::Mounts;
pub(crate) use socket::Socket;

use crate::config::VolumeConfig;
use crate::name::KeyName;
use crate::volume::DATA_LINK;

/// Every pod has this one, and the kubelet rotates it for the API server alone.
const SERVICE_ACCOUNT: &str = "kubernetes.io/serviceaccount";
/// Set in every container of Kubernetes.
const IN_POD: &str = "KUBERNETES_SERVICE_HOST";

/// What is examined.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) volumes: Vec<Volume>,
    pub(crate) socket: Option<Socket>,
    /// Whether inotify is tried and counted.
    pub(crate) inotify: bool,
    /// Whether a command would keep variables that are out of date.
    pub(crate) has_stale_environment: bool,
    /// The age at which a secret is worth a warning.
    pub(crate) older_than: Option<Duration>,
    pub(crate) is_in_pod: bool,
    pub(crate) now: SystemTime,
}

impl Subject {
    /// Volumes alone.
    pub(crate) fn new(volumes: Vec<Volume>) -> Self {
        Self {
            volumes,
            socket: None,
            inotify: false,
            has_stale_environment: false,
            older_than: None,
            is_in_pod: std::env::var_os(IN_POD).is_some(),
            now: SystemTime::now(),
        }
    }
}

/// One volume, as far as it matters here.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) require: Vec<KeyName>,
    pub(crate) allow_empty: bool,
}

impl From<&VolumeConfig> for Volume {
    fn from(volume: &VolumeConfig) -> Self {
        Self {
            name: volume.name.to_string(),
            path: volume.path.clone(),
            require: volume.require.clone(),
            allow_empty: volume.allow_empty,
        }
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Report {
    /// What was examined: the given volumes, or those that were found where none was given.
    pub(crate) volumes: Vec<Volume>,
    /// The worst first.
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    pub(crate) fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// Examines everything. Without any volume it takes those that are mounted.
pub(crate) fn examine(subject: &Subject) -> Report {
    let mut findings = Vec::new();
    let mounts = match fs::read("/proc/self/mountinfo") {
        Ok(text) => Mounts::parse(&text),
        Err(error) => {
            let message = format!("/proc/self/mountinfo cannot be read: {error}.");
            findings.push(Finding::new(Code::MountsUnknown, message));
            Mounts::default()
        }
    };
    let is_given = !subject.volumes.is_empty();
    let volumes = if is_given { subject.volumes.clone() } else { mounted(&mounts) };
    findings.extend(settings::examine(subject, &volumes));
    for volume in &volumes {
        findings.extend(directory::examine(volume, subject, &mounts));
    }
    findings.extend(sub_path::elsewhere(&mounts, &findings, is_given));
    if let Some(socket) = &subject.socket {
        findings.extend(socket::examine(socket, &mounts));
    }
    if subject.inotify {
        // Counted first, so that the try is not among what is used.
        findings.extend(limits::examine());
        findings.extend(inotify::examine());
    }
    // Stable: within one severity they stay in the order of the volumes.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Report { volumes, findings }
}

/// The mounts that a kubelet writes, but for configuration and its own token.
fn mounted(mounts: &Mounts) -> Vec<Volume> {
    let secrets = mounts.visible().filter(|mount| {
        !mount.is_config_map()
            && !mount.point.ends_with(SERVICE_ACCOUNT)
            && mount.point.join(DATA_LINK).is_symlink()
    });
    let volumes = secrets.map(|mount| Volume {
        name: mount.point.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        path: mount.point.clone(),
        require: Vec::new(),
        allow_empty: false,
    });
    volumes.collect()
}
