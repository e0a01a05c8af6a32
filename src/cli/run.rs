//! `secretwatch run`: the sidecar as the parent of the app, in one container.

use std::ffi::OsString;
use std::ops::ControlFlow;

use tracing::{info, warn};

use super::serve::options;
use super::{Exit, Failure, connect, doctor, log, targets};
use crate::api::{self, Bound};
use crate::config::{Config, DEFAULT_SOCKET, RawRun};
use crate::secrets::Secrets;
use crate::supervise::{Forwarded, SuperviseError, Supervisor};

const EXAMPLES: &str = "\
Examples:
  secretwatch run --volume /etc/my-generic-secret --signal HUP -- python3 app.py
  secretwatch run --volume db=/etc/db --restart --env PASSWORD=db/password -- node app.js
  secretwatch run --volume db=/etc/db --restart --env-from db -- java -jar app.jar
  secretwatch run --volume db=/etc/db --socket /tmp/secretwatch.sock -- ./app

The command is started once every volume has contents. Without --signal and --restart a rotation
does nothing to it: it asks on the socket. Where the default socket cannot be made, there is none,
and the log says so; any other must be possible.

With --signal nothing is sent until the command handles the signal; the log says that it waits.
With --restart the old command stays where a new environment cannot be made. One that fails within
2s of a restart is started again after 1s, 2s and so on up to 1m, or 1s after newer values.
A command that ends by itself is not restarted: run ends with its status (128+n after signal n,
126 and 127 where it cannot be started), and the platform decides.

Signals: TERM, INT, QUIT, HUP, USR1, USR2 and WINCH are passed on to the command. After TERM it has
--stop-grace to end; the second TERM kills at once. Orphans are reaped, as the first process of a
container has to. HUP does not look at the volumes, as it does with serve.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Run {
    #[command(flatten)]
    raw: RawRun,

    /// The command and its arguments.
    #[arg(
        value_name = "COMMAND",
        last = true,
        required = true,
        num_args = 1..,
        help = "The command and its arguments; no value ever goes there"
    )]
    command: Vec<OsString>,
}

impl From<SuperviseError> for Failure {
    fn from(error: SuperviseError) -> Self {
        Self::new(Exit::Child(error.code()), error)
    }
}

impl Run {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let config = Config::load(&self.raw.0)?.with_required_environment();
        log::start(&config)?;
        for warning in config.warnings() {
            warn!(warning, "the configuration is unusual");
        }
        let runtime = connect::runtime()?;
        // Entered before the signals, which need its reactor.
        let entered = runtime.enter();
        let signals = Forwarded::new()?;
        // Before any other thread runs: the socket gets its mode from the umask, which all
        // threads share.
        let bound = bind(&config)?;
        let secrets = config.builder().open_pending()?;
        let run = config.run.clone();
        let supervisor = Supervisor::new(self.command, run, secrets.clone(), signals)?;
        drop(entered);
        runtime.block_on(supervise(&config, bound, secrets, supervisor))
    }
}

async fn supervise(
    config: &Config,
    bound: Option<Bound>,
    secrets: Secrets,
    mut supervisor: Supervisor,
) -> Result<Exit, Failure> {
    let metrics = targets::metrics()?;
    let mut targets = targets::targets(config, &secrets, &metrics, || Ok(supervisor.reaper()))?;
    if let Some((rules, action)) = supervisor.target() {
        targets.add(&secrets, rules, action, &metrics);
    }
    doctor::start::examine(config, &secrets, false);
    let running = match bound {
        None => None,
        Some(bound) => {
            let bound = bound.with_targets(targets.boards(), metrics);
            Some(bound.serve(secrets).map_err(|e| Failure::new(Exit::Negative, e))?)
        }
    };
    let telling = targets.start();
    let code = match supervisor.start().await? {
        ControlFlow::Break(code) => code,
        ControlFlow::Continue(()) => supervisor.run().await,
    };
    // The pod ends with its app: what is still at work has no more time than elsewhere.
    let timeout = config.shutdown_timeout;
    let served = async {
        if let Some(running) = running {
            running.stop(timeout).await;
        }
    };
    tokio::join!(served, telling.stop(timeout));
    Ok(Exit::Child(code))
}

/// The socket is a convenience as long as nobody has asked for a certain one: many images let
/// nobody write to `/run`.
fn bind(config: &Config) -> Result<Option<Bound>, Failure> {
    match api::bind(&options(config, "run")) {
        Ok(bound) => {
            info!(
                version = env!("CARGO_PKG_VERSION"),
                socket = %config.socket.display(),
                metrics_addr = bound.metrics_addr().map(tracing::field::display),
                "started"
            );
            Ok(Some(bound))
        }
        Err(error) if is_optional(config) && error.is_about_the_directory() => {
            let error = super::chain(&error);
            warn!(
                error,
                "there is no socket; give --socket a path in a directory that can be made"
            );
            Ok(None)
        }
        Err(error) => Err(Failure::new(Exit::Negative, error)),
    }
}

/// Metrics on a port are asked for by hand, and there are none without the socket.
fn is_optional(config: &Config) -> bool {
    config.socket.as_os_str() == DEFAULT_SOCKET && config.metrics_addr.is_none()
}
