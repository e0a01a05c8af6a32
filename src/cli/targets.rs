//! The targets that the configuration asks for.

use std::io;

use super::{Exit, Failure};
use crate::config::{ActionConfig, Config};
use crate::reaper::Reaper;
use crate::reload::{Action, ExecTarget, HttpTarget, ReloadMetrics, SignalTarget, Targets};
use crate::secrets::Secrets;

/// Makes them, still at rest. To be called inside a runtime; `reaper` is asked for where a command
/// is to be run.
pub(crate) fn targets(
    config: &Config,
    secrets: &Secrets,
    metrics: &ReloadMetrics,
    mut reaper: impl FnMut() -> io::Result<Reaper>,
) -> Result<Targets, Failure> {
    let mut targets = Targets::default();
    for target in &config.targets {
        let action = match target.action.clone() {
            ActionConfig::Signal { receiver, signal } => {
                Action::Signal(SignalTarget::new(receiver, signal))
            }
            ActionConfig::Http { url, method, headers_file, expect, body } => {
                Action::Http(Box::new(HttpTarget::new(url, method, headers_file, expect, body)))
            }
            ActionConfig::Exec { argv } => Action::Exec(ExecTarget::new(argv, reaper()?)),
        };
        targets.add(secrets, target.rules.clone(), action, metrics);
    }
    Ok(targets)
}

/// The families of metrics, which only a defect can make impossible.
pub(crate) fn metrics() -> Result<ReloadMetrics, Failure> {
    ReloadMetrics::new().map_err(|error| Failure::new(Exit::Negative, error))
}
