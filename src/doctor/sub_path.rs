//! Mounts that never update, because a single file or directory of one version was bound.

use super::code::Code;
use super::finding::Finding;
use super::mountinfo::{Mount, Mounts};

/// Every such mount that no finding is about yet. They are not among the volumes that were asked
/// about, if any were, and then only good to know.
pub(super) fn elsewhere(mounts: &Mounts, known: &[Finding], is_note: bool) -> Vec<Finding> {
    let is_known = |mount: &&Mount| {
        known.iter().any(|finding| {
            finding.code == Code::SubPath && finding.path.as_deref() == Some(mount.point.as_path())
        })
    };
    let never = mounts.visible().filter(|mount| mount.version().is_some());
    let findings = never.filter(|mount| !is_known(mount)).map(finding);
    findings.map(|finding| if is_note { finding.only_noted() } else { finding }).collect()
}

/// What is wrong with such a mount.
pub(super) fn finding(mount: &Mount) -> Finding {
    let source = if mount.is_config_map() { "ConfigMap" } else { "volume" };
    let message = match mount.version() {
        Some(version) if mount.is_deleted => format!(
            "{:?} is a subPath mount of version {version:?} of a {source}, which has been replaced \
             since: what is there is old already.",
            mount.point
        ),
        version => format!(
            "{:?} is a subPath mount of version {:?} of a {source}.",
            mount.point,
            version.unwrap_or_default()
        ),
    };
    Finding::new(Code::SubPath, message).at(&mount.point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    const LINES: &[u8] = b"\
1 0 0:1 / / rw - ext4 x rw
2 1 0:2 / /etc/db rw - tmpfs x rw
3 1 0:2 /..2026_11_22_10_00_00.1/k /app/k rw - tmpfs x rw
4 1 0:2 /..2026_11_22_10_00_00.1/sub//deleted /app/sub rw - tmpfs x rw
";

    #[test]
    fn files_and_directories_of_one_version_are_found_once() {
        let mounts = Mounts::parse(LINES);
        let found = elsewhere(&mounts, &[], false);
        assert_eq!(found.len(), 2);
        assert!(found[1].message.contains("old already"), "{}", found[1].message);
        assert!(!found[0].message.contains("old already"), "{}", found[0].message);
        let rest = elsewhere(&mounts, &found[..1], true);
        assert_eq!(rest.len(), 1);
        assert_eq!((rest[0].severity, &rest[0].path), (Severity::Note, &found[1].path));
    }
}
