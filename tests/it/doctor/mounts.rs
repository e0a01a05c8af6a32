//! Real mounts, each test in a mount namespace of its own.

use super::*;
use crate::faults::unshare;

/// Runs a script as root of a namespace, with `$d` a directory, `$b` the binary, and the functions
/// of the prelude. Prints what the last doctor says.
struct Namespace {
    directory: TempDir,
    prelude: &'static str,
}

const PRELUDE: &str = r#"
set -eu
doctor() { "$b" doctor --json --detector poll "$@" || true; }
bind() { mkdir -p "$(dirname "$2")"; [ -d "$1" ] && mkdir -p "$2" || touch "$2"; mount --bind "$1" "$2"; }
mkdir -p "$d/db" && mount -t tmpfs secret "$d/db" && "$b" simulate "$d/db" k=1 sub/k=1 >&2
"#;

impl Namespace {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), prelude: PRELUDE }
    }

    /// `None` where this machine has no namespaces for us, which is said loudly.
    fn run(&self, script: &str) -> Option<Report> {
        let mut command = unshare(&["--mount", "--user", "--map-root-user"])?;
        plain(&mut command).args(["sh", "-c", &format!("{}{script}", self.prelude)]);
        command.env("d", self.directory.path()).env("b", BINARY);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{script}: {}", stderr(&output));
        Some(Report::of(&output))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

#[test]
fn file_by_sub_path_is_found_without_any_volume_given() {
    let namespace = Namespace::new();
    let Some(report) = namespace.run(
        r#"bind "$d/db/..data/k" "$d/app dir/k"
           doctor"#,
    ) else {
        return;
    };
    report.is_only("sub-path", &namespace.path("app dir/k"));
    assert_eq!(report.json["worst"], "error");
    // The volume that is mounted beside it is found by itself, and healthy.
    assert_eq!(report.json["volumes"][0]["path"], namespace.path("db").to_str().unwrap());
    assert_eq!(report.json["volumes"].as_array().unwrap().len(), 1);
}

#[test]
fn sub_path_mount_that_is_old_already_says_so() {
    let namespace = Namespace::new();
    let Some(report) = namespace.run(
        r#"bind "$d/db/..data/k" "$d/app/k"
           "$b" simulate "$d/db" k=2 >&2
           [ "$(cat "$d/app/k")" = 1 ]
           doctor"#,
    ) else {
        return;
    };
    report.is_only("sub-path", &namespace.path("app/k"));
    let message = report.finding("sub-path")["message"].as_str().unwrap();
    assert!(message.contains("old already"), "{message}");
}

#[test]
fn sub_path_of_a_directory_never_updates_either() {
    let namespace = Namespace::new();
    let Some(report) = namespace.run(
        r#"bind "$d/db/..data/sub" "$d/app"
           doctor --volume app="$d/app""#,
    ) else {
        return;
    };
    let finding = report.finding("sub-path");
    assert_eq!((&finding["volume"], &finding["severity"]), (&"app".into(), &"error".into()));
    assert!(!report.codes().contains("inside-volume"), "{report:#?}");
}

#[test]
fn sub_path_in_a_volume_or_as_a_volume_is_an_error_and_elsewhere_a_note() {
    let namespace = Namespace::new();
    let script = |volume: &str| {
        format!(
            r#"bind "$d/db/..data/k" "$d/app/k"
               doctor --socket "$d/s.sock" --volume v="$d/{volume}""#
        )
    };
    for (volume, codes) in [("app", &["plain-directory", "sub-path"][..]), ("app/k", &["sub-path"])]
    {
        let Some(report) = Namespace::new().run(&script(volume)) else { return };
        assert_eq!(report.codes(), codes.iter().copied().collect(), "{report:#?}");
        let finding = report.finding("sub-path");
        assert_eq!((&finding["volume"], &finding["severity"]), (&"v".into(), &"error".into()));
    }
    let Some(report) = namespace.run(&script("db")) else { return };
    report.is_only("sub-path", &namespace.path("app/k"));
    assert_eq!(report.finding("sub-path")["severity"], "note");
}

#[test]
fn mount_of_something_that_was_deleted_is_detached() {
    let namespace = Namespace::new();
    let Some(report) = namespace.run(
        r#"mkdir "$d/source" && "$b" simulate "$d/source" k=1 >&2
           bind "$d/source" "$d/v"
           rm -r "$d/source"
           doctor --socket "$d/s.sock" --volume db="$d/v""#,
    ) else {
        return;
    };
    let finding = report.finding("detached-mount");
    assert_eq!(finding["path"], namespace.path("v").to_str().unwrap());
}

#[test]
fn container_without_any_mounted_secret_has_only_its_environment() {
    let namespace = Namespace { prelude: "set -eu\n", ..Namespace::new() };
    // The token that every pod has does not count.
    let Some(report) = namespace.run(
        r#"v="$d/run/secrets/kubernetes.io/serviceaccount"; mkdir -p "$v"
           mount -t tmpfs token "$v" && "$b" simulate "$v" token=1 >&2
           "$b" doctor --json --detector poll || [ $? = 7 ]"#,
    ) else {
        return;
    };
    assert_eq!(report.codes(), BTreeSet::from(["environment-only"]), "{report:#?}");
}

#[test]
fn without_proc_the_mounts_are_unknown_and_it_says_so() {
    let Some(report) = Namespace::new().run(
        r#"mount -t tmpfs none /proc
           doctor --socket "$d/s.sock" --volume db="$d/db""#,
    ) else {
        return;
    };
    assert_eq!(report.codes(), BTreeSet::from(["mounts-unknown"]), "{report:#?}");
}

#[test]
fn in_a_pod_what_is_no_mount_is_cut_off() {
    let namespace = Namespace::new();
    let Some(report) = namespace.run(
        r#"mkdir "$d/own" "$d/shared" && "$b" simulate "$d/own" k=1 >&2
           export KUBERNETES_SERVICE_HOST=10.0.0.1
           doctor --volume own="$d/own" --volume db="$d/db" --socket "$d/later/s.sock""#,
    ) else {
        return;
    };
    // Where temporary directories are in a mount of their own, they count as one.
    let is_root = mount_of(namespace.directory.path()) == Path::new("/");
    let expected: &[&str] = if is_root { &["not-a-mount", "socket-not-shared"] } else { &[] };
    assert_eq!(report.codes(), expected.iter().copied().collect(), "{report:#?}");
    if is_root {
        let path = report.finding("not-a-mount")["path"].as_str().unwrap();
        assert!(path.ends_with("/own"), "{path}");
    }
    let Some(report) = namespace.run(
        r#"mount -t tmpfs socket "$d/shared"; export KUBERNETES_SERVICE_HOST=10.0.0.1
           doctor --volume db="$d/db" --socket "$d/shared/s.sock""#,
    ) else {
        return;
    };
    assert_eq!(report.findings().len(), 0, "{report:#?}");
}

/// The mount point that a path is in, as `findmnt` would say.
fn mount_of(path: &Path) -> PathBuf {
    let output = Command::new("stat").args(["--format", "%m"]).arg(path).output().unwrap();
    stdout(&output).trim_end().into()
}

/// The limit is one of the namespace, so that no other test is hurt.
#[test]
fn limits_that_are_used_up_are_counted_and_named() {
    let case = Case::new();
    case.write(&[("k", "1")]);
    let Some(mut command) = unshare(&["--user", "--map-root-user"]) else { return };
    let script = r#"
        echo 2 > /proc/sys/user/max_inotify_instances; echo 2 > /proc/sys/user/max_inotify_watches
        holder='import ctypes, sys
c = ctypes.CDLL(None)
for path in sys.argv[1:3]:
    assert c.inotify_add_watch(c.inotify_init(), path.encode(), 0x100) == 1
print("held", flush=True)
sys.stdin.read()'
        mkfifo "$d/end" "$d/held"; exec 3<>"$d/end"
        python3 -c "$holder" "$d" "$d/v" <"$d/end" >"$d/held" & pid=$!
        read -r _ <"$d/held"
        "$b" doctor --json --volume "$d/v" --socket "$d/s.sock"; code=$?
        kill $pid; wait $pid; exit $code"#;
    plain(&mut command).args(["sh", "-c", script]).env("d", case.0.path()).env("b", BINARY);
    let report = Report::of(&command.output().unwrap());
    let codes = ["inotify-instances", "inotify-unusable", "inotify-watches"];
    assert_eq!(report.codes(), BTreeSet::from(codes), "{report:#?}");
    assert_eq!(report.code, 7);
    let message = report.finding("inotify-instances")["message"].as_str().unwrap();
    assert!(message.starts_with("2 of at most 2 inotify instances"), "{message}");
    let message = report.finding("inotify-unusable")["message"].as_str().unwrap();
    assert!(message.contains("max_user_instances"), "{message}");
}

/// Neither the temporary directory nor `/dev/shm` can be written to.
#[test]
fn inotify_that_cannot_be_tried_out_is_only_a_note() {
    let Some(report) = Namespace::new().run(
        r#"mount -t tmpfs -o ro none /dev/shm
           export TMPDIR=/nonexistent
           "$b" doctor --json --socket "$d/s.sock" --volume db="$d/db" || [ $? = 7 ]"#,
    ) else {
        return;
    };
    assert_eq!(report.finding("inotify-untested")["severity"], "note");
    assert!(!report.codes().contains("inotify-unusable"), "{report:#?}");
}
