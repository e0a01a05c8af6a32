//! What this program is when it is started anew.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::line::Line;
use crate::{app, failure, hook};

/// Set for `secretwatch` itself, which needs the whole command line.
const ROLE: &str = "SOAK_ROLE";
/// The directory of the run, which all roles are given.
const DIRECTORY: &str = "SOAK_DIRECTORY";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The `secretwatch` command.
    Secretwatch,
    /// What the sidecar runs.
    Hook,
    /// What the hook leaves behind.
    Grandchild,
    /// An app that writes a pid file.
    Independent,
    /// The app of the supervisor.
    Supervised,
}

const WORDS: [(&str, Role); 4] = [
    ("role:hook", Role::Hook),
    ("role:grandchild", Role::Grandchild),
    ("role:independent", Role::Independent),
    ("role:supervised", Role::Supervised),
];

impl Role {
    /// `None` for the soak itself. A word goes before the variable, which is inherited.
    pub fn of_this_process() -> Option<Self> {
        let word = std::env::args().nth(1).unwrap_or_default();
        let of_word = WORDS.into_iter().find(|(known, _)| *known == word);
        let of_variable = std::env::var_os(ROLE).map(|_| Self::Secretwatch);
        of_word.map(|(_, role)| role).or(of_variable)
    }

    pub fn word(self) -> &'static str {
        WORDS.into_iter().find(|(_, role)| *role == self).map_or("", |(word, _)| word)
    }

    pub fn run(self) -> ExitCode {
        failure::catch_panics();
        let directory = directory();
        match self {
            Self::Secretwatch => {
                let _line = Line::open(&directory, "secretwatch");
                return secretwatch::cli::main();
            }
            Self::Hook => return hook::run(&directory),
            Self::Grandchild => hook::run_grandchild(&directory),
            Self::Independent => app::run_independent(&directory),
            Self::Supervised => app::run_supervised(&directory),
        }
        ExitCode::SUCCESS
    }

    /// This program in this role.
    pub fn command(self, directory: &Path) -> Command {
        let mut command = Command::new(program());
        command.env(DIRECTORY, directory);
        match self {
            Self::Secretwatch => command.env(ROLE, "secretwatch"),
            _ => command.arg(self.word()),
        };
        command
    }
}

pub fn program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY).map(PathBuf::from).unwrap()
}
