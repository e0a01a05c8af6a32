//! `secretwatch check-config`: what `serve` and `run` would work with.

use std::io::{self, Write};

use super::{Exit, Failure, note};
use crate::config::{Config, RawRun};

const EXAMPLES: &str = "\
Examples:
  secretwatch check-config --volume db=/etc/db --require db:password
  secretwatch check-config --config secretwatch.toml
  secretwatch check-config --volume /etc/db > secretwatch.toml

What it prints is a file for --config that means the same.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckConfig {
    #[command(flatten)]
    raw: RawRun,
}

impl CheckConfig {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let config = Config::load(&self.raw.0)?;
        for warning in config.warnings() {
            note(&format!("warning: {warning}"));
        }
        write!(io::stdout(), "{config}")?;
        Ok(Exit::Done)
    }
}
