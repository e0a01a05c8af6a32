//! The deployment templates under `examples/`: that platforms take them, that every setting in them
//! exists, and that they do what their comments say.
//!
//! `rules` reads as a list of what platforms refuse. `refused` breaks each of them once.

use std::process::Command;

use crate::sidecar::{BINARY, stderr};
use command::{Call, probes};
use manifest::{Manifest, items, words};
use rules::{Rule, broken};

mod command;
mod compose;
mod manifest;
mod readme;
mod refused;
mod rules;
mod running;
mod systemd;

const AI_CORE: [&str; 3] =
    ["ai-core/serving-supervisor.yaml", "ai-core/serving-sidecar.yaml", "ai-core/workflow.yaml"];
const KUBERNETES: [&str; 3] = [
    "kubernetes/native-sidecar.yaml",
    "kubernetes/shared-process.yaml",
    "kubernetes/projected.yaml",
];

fn text(path: &str) -> String {
    std::fs::read_to_string(format!("{}/examples/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn template(path: &str) -> Manifest {
    Manifest::parse(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rules of the platform that a template is for.
fn rules_for(path: &str) -> Vec<Rule> {
    let platform = if path.starts_with("ai-core/") {
        [rules::parameter::RULES, rules::ai_core::RULES].concat()
    } else {
        rules::kubernetes::RULES.to_vec()
    };
    [rules::mount::RULES, platform.as_slice()].concat()
}

/// What `check-config` says to the settings of a call; the code is 2 where one does not exist.
fn checked(call: &Call) -> Result<(), String> {
    let mut command = Command::new(BINARY);
    // Whether they are settings of this very subcommand shows where they are run.
    command.arg("check-config").args(call.settings()).envs(&call.env);
    let output = command.output().unwrap();
    if output.status.success() { Ok(()) } else { Err(stderr(&output)) }
}

#[test]
fn templates_break_no_rule_of_their_platform() {
    for path in AI_CORE.into_iter().chain(KUBERNETES) {
        let manifest = template(path);
        assert!(manifest.pods().is_ok_and(|pods| !pods.is_empty()), "{path} has no pod");
        assert_eq!(broken(&rules_for(path), &manifest), [], "{path}");
    }
}

#[test]
fn every_template_is_tested() {
    for folder in ["ai-core", "kubernetes"] {
        let path = format!("{}/examples/{folder}", env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(path).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = format!("{folder}/{name}");
            let is_tested = AI_CORE.into_iter().chain(KUBERNETES).any(|known| known == path);
            assert!(is_tested || !name.ends_with(".yaml"), "{path}");
        }
    }
}

#[test]
fn every_setting_in_the_templates_exists() {
    for path in AI_CORE.into_iter().chain(KUBERNETES) {
        let mut calls = 0;
        for pod in template(path).pods().unwrap() {
            for call in pod.containers().filter_map(Call::of_container) {
                checked(&call).unwrap_or_else(|error| panic!("{path}: {error}"));
                calls += 1;
            }
        }
        assert_eq!(calls, 1, "{path} runs secretwatch once");
    }
}

#[test]
fn setting_that_does_not_exist_is_noticed() {
    let line = ["/secretwatch", "serve", "--volume=/etc/db", "--poll-intervall=2s"];
    let call = Call::of_line(&line.map(str::to_owned)).unwrap();
    let error = checked(&call).unwrap_err();
    assert!(error.contains("--poll-intervall"), "{error}");
}

#[test]
fn every_probe_in_the_templates_is_a_command() {
    let mut count = 0;
    for path in KUBERNETES {
        for pod in template(path).pods().unwrap() {
            for probe in pod.containers().flat_map(probes) {
                // With a mistake it would end with 2; nobody is there to answer.
                let mut command = Command::new(BINARY);
                let output = command.args(&probe.args).args(["--socket", "/nowhere"]).output();
                assert_eq!(output.unwrap().status.code(), Some(1), "{path}: {probe:?}");
                count += 1;
            }
        }
    }
    assert_eq!(count, 2 * KUBERNETES.len());
}

#[test]
fn image_has_the_binary_where_the_templates_run_it() {
    let dockerfile = text("ai-core/Dockerfile");
    for path in ["ai-core/serving-supervisor.yaml", "ai-core/workflow.yaml"] {
        let pod = template(path).pods().unwrap().remove(0);
        let container = &items(&pod.spec["containers"])[0];
        let line = [words(&container["command"]), words(&container["args"])].concat().join(" ");
        assert!(line.contains("/usr/local/bin/secretwatch run"), "{path}: {line}");
    }
    let copy = "COPY --from=secretwatch /secretwatch /usr/local/bin/secretwatch\n";
    assert!(dockerfile.contains(copy), "{dockerfile}");
}
