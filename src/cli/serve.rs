//! `secretwatch serve`: the sidecar.

use tracing::{info, warn};

use super::{Exit, Failure, connect, descriptors, doctor, log, targets};
use crate::api::{self, Bound};
use crate::config::{Config, Raw};
use crate::reaper::Reaper;
use crate::secrets::Secrets;
use crate::shutdown::{Signals, Wish};

const EXAMPLES: &str = "\
Examples:
  secretwatch serve --volume /etc/my-generic-secret
  secretwatch serve --volume db=/etc/db --require db:password --socket /tmp/secretwatch.sock
  secretwatch serve --volume /etc/tls --metrics-addr 0.0.0.0:9180 --log-format json
  secretwatch serve --volume /etc/db --notify-http http://127.0.0.1:8080/-/reload
  secretwatch serve --volume /etc/tls --notify-process nginx --notify-signal HUP
  secretwatch serve --config secretwatch.toml

Then, from anything that can see the socket:
  secretwatch status --socket /tmp/secretwatch.sock
  curl --unix-socket /tmp/secretwatch.sock http://localhost/v1/secrets/db

Values are served on the socket only, to the users that are let in, never over TCP.

What --notify-… tells is told at least once of every rotation, and tried again until it succeeds.
A signal is held back until the process has a handler for it. The same in the file, with more to say:
  [[target]]
  name = \"web\"             # volumes = [\"db\"]  keys = [\"tls.*\"]  first = true  merge = \"2s\"
  http = \"http://…\"        # or \"unix:/run/app.sock:/reload\"; method = \"POST\"  expect = [\"200-299\"]
                           # headers_file = \"/etc/headers\"  body = true
  timeout = \"30s\"          # retry_min = \"500ms\"  retry_max = \"30s\"  splay = \"10s\"
  # or: exec = [\"command\", \"argument\", \"{path}\"]
  # or: process = \"nginx\"  which = \"oldest\" | \"all\", or pid_file = \"/run/app.pid\"; signal = \"HUP\"

Signals: SIGTERM and SIGINT end it in order, the second one at once; SIGHUP looks at every volume
now.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Serve {
    #[command(flatten)]
    raw: Raw,
}

impl Serve {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let config = Config::load(&self.raw)?;
        log::start(&config)?;
        for warning in config.warnings() {
            warn!(warning, "the configuration is unusual");
        }
        descriptors::raise_limit();
        let runtime = connect::runtime()?;
        // Entered before the signals, which need its reactor.
        let entered = runtime.enter();
        let signals = Signals::new()?;
        // Before any other thread runs: the socket gets its mode from the umask, which all
        // threads share.
        let bound =
            api::bind(&options(&config, "serve")).map_err(|e| Failure::new(Exit::Negative, e))?;
        let secrets = config.builder().open_pending()?;
        drop(entered);
        announce(&config, &bound);
        runtime.block_on(serve(&config, bound, secrets, signals))
    }
}

pub(super) fn options(config: &Config, mode: &'static str) -> api::Options {
    api::Options {
        socket: api::SocketOptions {
            path: config.socket.clone(),
            mode: config.socket_mode,
            allow_uid: config.allow_uid.clone(),
            allow_gid: config.allow_gid.clone(),
            token_file: config.token_file.clone(),
        },
        metrics_addr: config.metrics_addr,
        max_connections: descriptors::connections(config.max_connections),
        mode,
    }
}

fn announce(config: &Config, bound: &Bound) {
    let volumes: Vec<_> = config
        .volumes
        .iter()
        .map(|volume| format!("{}={}", volume.name, volume.path.display()))
        .collect();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        volumes = volumes.join(","),
        socket = %config.socket.display(),
        metrics_addr = bound.metrics_addr().map(tracing::field::display),
        "started"
    );
}

async fn serve(
    config: &Config,
    bound: Bound,
    secrets: Secrets,
    mut signals: Signals,
) -> Result<Exit, Failure> {
    let metrics = targets::metrics()?;
    let mut reaper = None;
    let targets = targets::targets(config, &secrets, &metrics, || match &reaper {
        Some(reaper) => Ok(Reaper::clone(reaper)),
        None => Ok(reaper.insert(Reaper::start()?).clone()),
    })?;
    let bound = bound.with_targets(targets.boards(), metrics);
    let running = bound.serve(secrets.clone()).map_err(|e| Failure::new(Exit::Negative, e))?;
    let telling = targets.start();
    doctor::start::examine(config, &secrets, true);
    let signal = loop {
        match signals.next().await {
            Wish::Stop(signal) => break signal,
            Wish::LookNow => {
                info!("looking at every volume now");
                secrets.look_now();
            }
        }
    };
    info!(signal, "stopping");
    let timeout = config.shutdown_timeout;
    let (is_served, is_told) = tokio::join!(running.stop(timeout), telling.stop(timeout));
    if !is_told {
        warn!("a target was still being told after the shutdown timeout");
    }
    if is_served {
        info!("stopped");
    } else {
        warn!("stopped with requests still open after the shutdown timeout");
    }
    Ok(Exit::Done)
}
