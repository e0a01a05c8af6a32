//! `secretwatch completions`: completions for a shell.

use std::io::{self, Write};

use clap_complete::{Shell, generate};

use super::{Exit, Failure, command};

const EXAMPLES: &str = "\
Examples:
  secretwatch completions bash > /etc/bash_completion.d/secretwatch
  secretwatch completions zsh > \"${fpath[1]}/_secretwatch\"
  secretwatch completions fish > ~/.config/fish/completions/secretwatch.fish";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        // By way of memory, because writing straight to a closed pipe would panic.
        let mut script = Vec::new();
        generate(self.shell, &mut command(), "secretwatch", &mut script);
        io::stdout().write_all(&script)?;
        Ok(Exit::Done)
    }
}
