//! The example configuration: what users start from has to be accepted, and complete.

use std::path::Path;
use std::process::Command;

use crate::sidecar::{BINARY, stderr, stdout};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/secretwatch.toml");

/// What `check-config` says to a file.
fn check(path: &Path) -> String {
    let output = Command::new(BINARY).args(["check-config", "--config"]).arg(path).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

/// The example with the settings that are commented out in it.
fn with_all_settings() -> String {
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    let is_setting = |line: &str| {
        let name = line.split(" = ").next().unwrap_or_default();
        line.contains(" = ") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(setting) if is_setting(setting) => setting,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn example_configuration_is_accepted() {
    let meaning = check(Path::new(EXAMPLE));
    assert!(meaning.contains(r#"path = "/etc/my-generic-secret""#), "{meaning}");
}

#[test]
fn settings_commented_out_in_the_example_are_accepted_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.toml");
    let text = with_all_settings();
    assert!(text.lines().any(|line| line.starts_with("allow_gid = ")), "{text}");
    std::fs::write(&path, &text).unwrap();
    // What it prints has every setting.
    for line in check(&path).lines().filter(|line| !line.starts_with('#')) {
        let Some((name, _)) = line.split_once(" = ") else { continue };
        assert!(text.contains(&format!("\n{name} = ")), "{name} is not in the example");
    }
}

/// The soak at work, for a moment: it has to see all that it waits for, whatever the machine does
/// beside it. How long it runs for the sake of what it finds is for whoever calls it.
#[test]
fn soak_of_a_moment_loses_nothing() {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--locked", "--example", "soak"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.args(["--", "--seconds", "2", "--seed", "1"]).output().unwrap();
    assert!(output.status.success(), "{}\n{}", stdout(&output), stderr(&output));
    let text = stdout(&output);
    let rounds = text.lines().find_map(|line| line.strip_prefix("rounds")).map(str::trim);
    assert_eq!(rounds, Some("2"), "{text}");
}

#[test]
fn soak_says_what_is_wrong_with_its_command_line() {
    // The message of the failing command, not of `cargo`, comes first.
    for (words, expected) in [
        (&["--seconds", "0"][..], "a number from 1 to"),
        (&["--seconds", "many"], "not a number"),
        (&["--seconds"], "needs a number"),
        (&["--minutes", "1"], "is not known"),
    ] {
        let mut command = Command::new(env!("CARGO"));
        command.args(["run", "--quiet", "--locked", "--example", "soak", "--"]).args(words);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}
