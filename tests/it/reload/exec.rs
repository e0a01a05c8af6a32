//! Commands, and everything that can be wrong with them.

use std::fs;

use super::Stage;
use crate::fixture::eventually;

/// A target that runs a script in a directory of its own.
fn script(script: &str, more: &str) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("hook"), script).unwrap();
    let table = "[[target]]\nexec = [\"sh\", \"{dir}/hook\", \"{dir}\", \"{path}\"]\n\
                 retry_min = \"20ms\"\nretry_max = \"50ms\"\n";
    Stage::with_file(directory, &format!("{table}{more}"))
}

#[test]
fn command_learns_names_from_its_environment_and_the_path_from_its_arguments() {
    let stage = script(
        "echo \"$SECRETWATCH_VOLUME $SECRETWATCH_REVISION $SECRETWATCH_CHANGED_KEYS $2\" > $1/told",
        "",
    );
    stage.rotate("1");
    stage.until_told("1");
    let revision = stage.sidecar.get("/v1/secrets/db").revision();
    let path = stage.mount.path();
    let expected = format!("db {revision} password {}\n", path.display());
    assert_eq!(fs::read_to_string(stage.path("told")).unwrap(), expected);
}

#[test]
fn words_of_the_flag_are_split_as_by_a_shell_and_run_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a b");
    let stage = Stage::start(&["--notify-exec", &format!("touch '{}' ';'", file.display())]);
    stage.rotate("1");
    stage.until_told("1");
    assert!(file.exists());
    // touch has made a file with the name `;` in the working directory, which no shell would.
    fs::remove_file(";").unwrap();
}

#[test]
fn command_that_fails_five_times_is_run_a_sixth_time() {
    let stage = script("echo x >> $1/runs; test $(wc -l < $1/runs) -gt 5", "");
    stage.rotate("1");
    stage.until_told("1");
    assert_eq!(fs::read_to_string(stage.path("runs")).unwrap().lines().count(), 6);
    assert_eq!(stage.metric("reloads_failed_total"), 5.0);
    stage.sidecar.process.until_said("the command ended with status 1");
}

#[test]
fn command_that_hangs_and_ignores_the_request_to_end_is_killed_with_its_group() {
    let stage = script(
        "trap '' TERM; test -e $1/first && exec sleep 600; touch $1/first; \
         sleep 600 & echo $! > $1/child; echo $$ > $1/pid; while :; do wait; done",
        "timeout = \"200ms\"\n",
    );
    stage.rotate("1");
    let target = stage.until_state("failing");
    assert!(target["detail"].as_str().unwrap().contains("longer than 200ms"), "{target}");
    assert_eq!(stage.metric("reloads_total"), 0.0);
    stage.sidecar.process.until_said("target not told");
    for name in ["pid", "child"] {
        let pid = fs::read_to_string(stage.path(name)).unwrap();
        eventually("the group is gone", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            let stat = stat.unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z")).then_some(())
        });
    }
    // Other routes answer while hooks hang.
    stage.rotate("2");
    stage.sidecar.until("db/password", "2");
}

#[test]
fn grandchild_that_keeps_the_pipe_open_delays_nothing() {
    let stage = script("sleep 600 & echo $! > $1/child; echo done", "");
    stage.rotate("1");
    stage.until_told("1");
    stage.sidecar.process.until_said("done");
    let child = fs::read_to_string(stage.path("child")).unwrap();
    assert!(fs::exists(format!("/proc/{}", child.trim())).unwrap());
    let pid = nix::unistd::Pid::from_raw(child.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn megabytes_of_output_are_read_and_few_lines_logged() {
    let stage = script("yes 0123456789 | head -c 8000000; printf 'e\\033[1mnd' >&2", "");
    stage.rotate("1");
    stage.until_told("1");
    let log = eventually("the output is logged", || {
        let log = stage.sidecar.process.output();
        log.contains("more was printed and left out").then_some(log)
    });
    assert!(log.matches("0123456789").count() <= 50, "{}", log.len());
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn command_that_is_not_there_is_named() {
    let stage = Stage::start(&["--notify-exec", "/nowhere/hook"]);
    stage.rotate("1");
    let target = stage.until_state("failing");
    let detail = target["detail"].as_str().unwrap();
    assert!(detail.contains("\"/nowhere/hook\" cannot be run: No such file"), "{detail}");
}
