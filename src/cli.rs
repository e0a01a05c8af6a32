//! The command line: one file for each subcommand.
//!
//! A subcommand writes what was asked for to standard output and returns how it ended; only
//! [`main`] prints errors, once, and turns the outcome into the exit code.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use nix::sys::prctl;

use crate::client::ClientError;
use crate::config::ConfigError;

mod adopted;
mod check_config;
mod completions;
mod connect;
mod demo;
mod descriptors;
mod doctor;
mod follow;
mod get;
mod healthcheck;
mod list;
mod listing;
mod log;
mod run;
mod serve;
mod simulate;
mod status;
mod table;
mod targets;
mod wait;

/// How a command ended: the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// Failed, or the answer is "no".
    Negative,
    /// The command line, a variable or the configuration file is wrong.
    Usage,
    /// The sidecar cannot be reached.
    Unreachable,
    /// The sidecar has no such volume or key.
    NotFound,
    /// The sidecar, or its socket, does not let this user in.
    Denied,
    /// A value would have been printed to a terminal.
    Terminal,
    /// `doctor` has found what will bite, and nothing that is broken.
    Warned,
    /// It took too long: the same as `timeout(1)`.
    TimedOut,
    /// The status of the command that `run` has run.
    Child(u8),
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Negative => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NotFound => 4,
            Self::Denied => 5,
            Self::Terminal => 6,
            Self::Warned => 7,
            Self::TimedOut => 124,
            Self::Child(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command ended without doing its work.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    error: Box<dyn Error>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<Box<dyn Error>>) -> Self {
        Self { exit, error: error.into() }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::NotFound { .. } => Exit::NotFound,
            ClientError::TokenFile { .. } => Exit::Usage,
            error if error.is_unreachable() => Exit::Unreachable,
            error if error.is_denied() => Exit::Denied,
            _ => Exit::Negative,
        };
        Self::new(exit, error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<crate::Error> for Failure {
    fn from(error: crate::Error) -> Self {
        let exit = if error.is_config() { Exit::Usage } else { Exit::Negative };
        Self::new(exit, error)
    }
}

/// A failure to read or write; see [`main`] for the reader that has gone away.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Exit::Negative, error)
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed, or the answer is \"no\" (status: not every volume is current; doctor: errors)
  2    the command line, a variable or the configuration file is wrong
  3    the sidecar cannot be reached
  4    no such volume or key
  5    the sidecar or its socket does not let this user in
  6    refused to print a value to a terminal (see get --show)
  7    doctor: warnings, and no errors
  124  timed out
`run` ends with the status of its command, 128+n after signal n.

Start here:
  secretwatch serve --volume db=/etc/my-generic-secret &
  secretwatch status
  secretwatch follow
  PASSWORD=\"$(secretwatch get db password)\"";

/// Watches mounted secrets and serves the current ones, so that nothing needs a restart when they
/// rotate.
#[derive(Debug, Parser)]
#[command(
    name = "secretwatch",
    version,
    about = "Rotate a mounted secret without restarting anything, and know that it worked",
    after_help = EXIT_CODES,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// A process runs one of them, so the arguments of the others are never made.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    /// Watch mounted secrets and serve the current ones on a Unix socket
    Serve(serve::Serve),
    /// Run a command, and tell it when a mounted secret has changed
    Run(run::Run),
    /// Check the settings of `serve` and `run`, print what they mean, and start nothing
    CheckConfig(check_config::CheckConfig),
    /// Say what will never update, why, and what to do
    Doctor(doctor::Doctor),
    /// Print one value as it is, or all values of a volume as JSON
    Get(get::Get),
    /// List the volumes with their revisions and the names of their keys
    List(list::List),
    /// Show how each volume is doing, and what is wrong
    Status(status::Status),
    /// Print a line whenever a volume is rotated
    Follow(follow::Follow),
    /// Wait until a volume is ready, has another revision than the one given, or is adopted
    Wait(wait::Wait),
    /// Say that an app uses a revision, for `wait --adopted`
    Adopted(adopted::Adopted),
    /// Ask whether the sidecar is ready, or alive
    Healthcheck(healthcheck::Healthcheck),
    /// Rotate a directory the way the kubelet rotates a mounted secret
    ///
    /// The directory is made if it is not there. One that holds anything else is left alone.
    Simulate(simulate::Simulate),
    /// Watch rotations being picked up: a simulated mount, the real engine, socket and client
    ///
    /// Takes a few seconds, needs nothing and leaves nothing behind.
    Demo(demo::Demo),
    /// Print completions for a shell
    Completions(completions::Completions),
}

impl Command {
    fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Serve(serve) => serve.run(),
            Self::Run(run) => run.run(),
            Self::CheckConfig(check) => check.run(),
            Self::Doctor(doctor) => doctor.run(),
            Self::Get(get) => get.run(),
            Self::List(list) => list.run(),
            Self::Status(status) => status.run(),
            Self::Follow(follow) => follow.run(),
            Self::Wait(wait) => wait.run(),
            Self::Adopted(adopted) => adopted.run(),
            Self::Healthcheck(check) => check.run(),
            Self::Simulate(simulate) => simulate.run(),
            Self::Demo(demo) => demo.run(),
            Self::Completions(completions) => completions.run(),
        }
    }
}

/// Runs the command that the process was started with, and says how it ended.
pub fn main() -> ExitCode {
    harden();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => return usage(&message).into(),
    };
    match cli.command.run() {
        Ok(exit) => exit.into(),
        Err(failure) if is_broken_pipe(failure.error.as_ref()) => Exit::Done.into(),
        Err(failure) => {
            note(&chain(failure.error.as_ref()));
            failure.exit.into()
        }
    }
}

/// Keeps values out of core files, and other processes of the same user (on some platforms every
/// container has the same one) from reading them out of this one's memory. An executed child is not
/// concerned.
fn harden() {
    if let Err(error) = prctl::set_dumpable(false) {
        note(&format!("warning: core files cannot be ruled out: {error}"));
    }
}

/// Help and the version are answers, everything else is a mistake.
fn usage(message: &clap::Error) -> Exit {
    // Whoever closes the output early has seen enough of it.
    let _ = message.print();
    if message.use_stderr() { Exit::Usage } else { Exit::Done }
}

/// Says something beside the output.
fn note(text: &str) {
    // There is nowhere left to complain where standard error is closed.
    let _ = writeln!(io::stderr(), "secretwatch: {text}");
}

/// The error and its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Whoever reads the output has gone, as `head` does: nobody is left to be told of a failure.
fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// The whole command line, for completions.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn help_has_no_endless_lines() {
        let mut root = command();
        root.build();
        for sub in root.get_subcommands_mut() {
            let help = sub.render_long_help().to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= 110, "{}: {line}", sub.get_name());
            }
        }
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        let codes = [
            Exit::Done,
            Exit::Negative,
            Exit::Usage,
            Exit::Unreachable,
            Exit::NotFound,
            Exit::Denied,
            Exit::Terminal,
            Exit::Warned,
            Exit::TimedOut,
        ];
        for exit in codes {
            let line = format!("\n  {:<4} ", exit.code());
            assert!(EXIT_CODES.contains(&line), "{exit:?}");
        }
    }

    #[test]
    fn every_example_in_the_help_is_a_valid_command_line() {
        let mut count = 0;
        let mut root = command();
        root.build();
        for sub in std::iter::once(&root).chain(root.get_subcommands()) {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter_map(|l| l.trim().strip_prefix("secretwatch ")) {
                let words = line.split(['|', '&', ';', '>']).next().unwrap_or_default();
                let words = words.replace(['"', '\''], "");
                let words = std::iter::once("secretwatch").chain(words.split_whitespace());
                let parsed = command().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                count += 1;
            }
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
        }
        assert!(count >= 15, "{count} examples");
    }

    #[test]
    fn arguments_do_not_change_what_a_command_is_said_to_do() {
        let about = |root: &clap::Command| -> Vec<_> {
            let about = |sub: &clap::Command| sub.get_about().map(ToString::to_string);
            root.get_subcommands().map(about).collect()
        };
        let mut root = command();
        let said = about(&root);
        root.build();
        assert_eq!(about(&root), said);
    }

    #[test]
    fn chain_names_every_cause_once() {
        let inner = io::Error::other("disk");
        let path = std::path::PathBuf::from("/t");
        let error = ClientError::TokenFile { path, source: inner };
        assert_eq!(chain(&error), "the token in /t cannot be used: disk");
        assert_eq!(Failure::from(error).exit, Exit::Usage);
    }

    #[test]
    fn closed_output_is_no_failure() {
        assert!(is_broken_pipe(&io::Error::from(io::ErrorKind::BrokenPipe)));
        assert!(!is_broken_pipe(&io::Error::from(io::ErrorKind::StorageFull)));
    }
}
