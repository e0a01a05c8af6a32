//! What can be wrong with the settings themselves.

use std::path::{Path, PathBuf};

use super::code::Code;
use super::finding::Finding;
use super::{Subject, Volume};

/// What the settings say, together with the volumes that are examined.
pub(super) fn examine(subject: &Subject, volumes: &[Volume]) -> Vec<Finding> {
    // Volumes that were found by themselves have no names that anybody has given.
    let mut findings = same(&subject.volumes);
    if volumes.is_empty() {
        let message = "No volume is given, and no mounted Secret can be seen in this container.";
        findings.push(Finding::new(Code::EnvironmentOnly, message));
    }
    if subject.has_stale_environment {
        let message = "--env or --env-from is given, and --restart is not.";
        findings.push(Finding::new(Code::EnvironmentStale, message));
    }
    findings
}

fn same(volumes: &[Volume]) -> Vec<Finding> {
    let real: Vec<_> = volumes.iter().map(|volume| real(&volume.path)).collect();
    let mut findings = Vec::new();
    for (at, volume) in volumes.iter().enumerate() {
        for (other, other_real) in volumes.iter().zip(&real).take(at) {
            let (name, path) = (&volume.name, &volume.path);
            if volume.name == other.name {
                let message = format!("{:?} and {path:?} are both named `{name}`.", other.path);
                findings.push(Finding::new(Code::SameName, message).of(name).at(path));
            }
            if is_nested(other_real, &real[at]) {
                let message = format!(
                    "`{}` and `{name}` are the same directory, or one is in the other: {path:?}.",
                    other.name
                );
                findings.push(Finding::new(Code::SameDirectory, message).of(name).at(path));
            }
        }
    }
    findings
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn is_nested(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}
