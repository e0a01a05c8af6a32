//! Telling an app by running a command.
//!
//! The command runs without a shell, in a process group of its own, and learns names and revisions
//! from its environment. One that takes too long is asked to end, with its group, and then killed.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use tokio::time::timeout;
use tracing::warn;

use super::output::Output;
use super::{Notice, Undelivered};
use crate::name::KeyName;
use crate::process::SignalName;
use crate::reaper::{Child, Reaper};

/// What stands for the mount's path in an argument.
const PATH: &str = "{path}";
/// How long a command that has been asked to end may take for it.
const GRACE: Duration = Duration::from_secs(2);
/// How long output is still read after the command has ended. What was written before its end is
/// in the pipe already; a grandchild that keeps the pipe open could go on for ever.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A command, and who collects it when it has ended.
pub(crate) struct ExecTarget {
    /// At least one word.
    argv: Vec<String>,
    reaper: Reaper,
}

impl ExecTarget {
    pub(crate) fn new(argv: Vec<String>, reaper: Reaper) -> Self {
        Self { argv, reaper }
    }

    pub(super) async fn deliver(
        &self,
        notice: &Notice,
        patience: Duration,
    ) -> Result<(), Undelivered> {
        let mut command = self.command(notice);
        let child = self.reaper.spawn(&mut command).map_err(|error| {
            let program = self.argv.first().map_or("", String::as_str);
            Undelivered::Failed(format!("{program:?} cannot be run: {error}"))
        })?;
        let mut running = GroupGuard(child);
        let output = Output::start(running.0.stdout.take(), running.0.stderr.take());
        let ended = timeout(patience, running.0.wait()).await;
        let outcome = match ended {
            Ok(status) => judged(status),
            Err(_) => {
                end(&running.0).await;
                let limit = humantime::format_duration(patience);
                Err(format!("the command took longer than {limit} and was ended"))
            }
        };
        output.finish(LAST_WORDS).await;
        outcome.map_err(Undelivered::Failed)
    }

    fn command(&self, notice: &Notice) -> Command {
        let path = notice.volumes.first().map(|volume| volume.path.display().to_string());
        let path = path.unwrap_or_default();
        let mut words = self.argv.iter().map(|word| word.replace(PATH, &path));
        let mut command = Command::new(words.next().unwrap_or_default());
        command
            .args(words)
            .env("SECRETWATCH_VOLUME", joined(notice, ",", |volume| volume.name.to_string()))
            .env("SECRETWATCH_REVISION", notice.revision())
            .env("SECRETWATCH_CHANGED_KEYS", changed_keys(notice))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }
}

/// One key a line: only a line break can be in no key. Where several volumes are told of in one
/// call, each key has its volume in front.
fn changed_keys(notice: &Notice) -> String {
    let is_single = notice.volumes.len() == 1;
    joined(notice, "\n", |volume| {
        let keys = &volume.keys;
        let all = keys.added.iter().chain(&keys.removed).chain(&keys.modified);
        let mut lines: Vec<_> = all
            .map(KeyName::as_str)
            .map(|key| if is_single { key.to_owned() } else { format!("{}/{key}", volume.name) })
            .collect();
        lines.sort_unstable();
        lines.join("\n")
    })
}

fn joined(notice: &Notice, with: &str, show: impl Fn(&super::Changed) -> String) -> String {
    notice.volumes.iter().map(show).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(with)
}

fn judged(status: Option<ExitStatus>) -> Result<(), String> {
    let status = status.ok_or("the command's status was taken by somebody else")?;
    if status.success() {
        return Ok(());
    }
    Err(match (status.code(), status.signal()) {
        (Some(code), _) => format!("the command ended with status {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("the command was ended by {}", SignalName(signal)),
            Err(_) => format!("the command was ended by signal {signal}"),
        },
        (None, None) => "the command ended in an unknown way".to_owned(),
    })
}

/// Asks the command's group to end, and kills it after a while.
async fn end(child: &Child) {
    signal_group(child, Signal::SIGTERM);
    if timeout(GRACE, child.wait()).await.is_err() {
        signal_group(child, Signal::SIGKILL);
        child.wait().await;
    }
}

fn signal_group(child: &Child, signal: Signal) {
    match child.signal_group(signal) {
        // ESRCH: it has ended by itself.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => {
            warn!(pid = child.pid.as_raw(), %error, "a command cannot be signalled");
        }
    }
}

/// Kills what is still running where an attempt is abandoned.
struct GroupGuard(Child);

impl Drop for GroupGuard {
    fn drop(&mut self) {
        if !self.0.has_ended() {
            signal_group(&self.0, Signal::SIGKILL);
        }
    }
}
