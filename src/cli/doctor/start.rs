//! What the doctor says at the start of `serve` and `run`: one line of the log for each warning and
//! error, from a thread of its own, once nothing is held up by it any more.

use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use crate::config::Config;
use crate::doctor::{self, Severity, Socket, Subject, Volume};
use crate::secrets::{self, Secrets};

/// How long the doctor leaves the processors to the start.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the doctor waits for the volumes to become ready: a look before that would report what
/// is just about to be mounted, and take time from what is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Examines the volumes, and for `serve` the place of the socket. inotify is not tried: the engine
/// knows already, and says so. To be called inside a runtime.
pub(in crate::cli) fn examine(config: &Config, secrets: &Secrets, is_serve: bool) {
    let mut subject = Subject::new(config.volumes.iter().map(Volume::from).collect());
    if is_serve && subject.is_in_pod {
        subject.socket = Some(Socket { path: config.socket.clone(), is_shared: true });
    }
    let volumes: Vec<_> = secrets.volumes().collect();
    // It ends with the runtime, at the latest.
    drop(tokio::spawn(async move {
        tokio::time::sleep(PAUSE).await;
        let started = thread::Builder::new().name("doctor".to_owned()).spawn(move || {
            wait(volumes);
            warn_of_all(&subject);
        });
        if let Err(error) = started {
            warn!(%error, "the doctor has no thread; see secretwatch doctor");
        }
    }));
}

/// Returns at the latest when the doctor's patience ends; what is wrong then is to be found.
fn wait(volumes: Vec<secrets::Volume>) {
    let deadline = Instant::now() + PATIENCE;
    for volume in volumes {
        let _ = volume.wait_for_first(Some(deadline));
    }
}

fn warn_of_all(subject: &Subject) {
    let report = doctor::examine(subject);
    for finding in report.findings.iter().filter(|found| found.severity >= Severity::Warning) {
        warn!(
            code = finding.code.as_str(),
            volume = finding.volume.as_deref(),
            what = finding.message,
            advice = finding.code.advice(),
            "the doctor has found something"
        );
    }
    debug!(findings = report.findings.len(), "the doctor has looked");
}
