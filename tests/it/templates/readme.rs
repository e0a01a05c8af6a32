//! The commands in the READMEs of the templates.

use std::process::Command;

use super::text;
use crate::sidecar::{BINARY, stderr};

const FOLDERS: [&str; 4] = ["ai-core", "kubernetes", "compose", "systemd"];

/// The lines of the `sh` blocks of a page, with continued lines joined.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let lines = blocks.flat_map(|block| {
        let joined = block.replace("\\\n", " ");
        joined.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    lines.collect()
}

/// The arguments of secretwatch in a command: all that another program would not take.
fn arguments(command: &str) -> Option<Vec<String>> {
    let command = command.split(['#', '|']).next()?;
    let words: Vec<_> = command.split_whitespace().collect();
    let program = words.iter().position(|word| ["secretwatch", "/secretwatch"].contains(word))?;
    // It is a file or the name of an image there.
    let is_argument = ["install", "docker run"].iter().any(|other| command.starts_with(other));
    (!is_argument).then(|| words[program + 1..].iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn every_secretwatch_command_in_the_readmes_exists() {
    for folder in FOLDERS {
        let mut count = 0;
        let page = text(&format!("{folder}/README.md"));
        for mut args in commands(&page).iter().filter_map(|command| arguments(command)) {
            // Mistakes before it come first, and nothing is done after it.
            let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
            args.insert(end, "--help".to_owned());
            let output = Command::new(BINARY).args(&args).output().unwrap();
            assert!(output.status.success(), "{folder}: {args:?}: {}", stderr(&output));
            count += 1;
        }
        assert!(count > 0, "{folder} has no command");
    }
}

#[test]
fn mistake_in_a_command_is_noticed() {
    let args = arguments("kubectl exec a -- /secretwatch follow --name db | head").unwrap();
    assert_eq!(args, ["follow", "--name", "db"]);
    let output = Command::new(BINARY).args(args).arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn every_template_is_in_the_readme_beside_it() {
    for folder in FOLDERS {
        let page = text(&format!("{folder}/README.md"));
        let path = format!("{}/examples/{folder}", env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(path).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(name == "README.md" || page.contains(&format!("]({name})")), "{folder}/{name}");
        }
    }
}
