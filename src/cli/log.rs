//! Log lines of the sidecar, on standard error.

use std::io;

use tracing_subscriber::fmt;

use super::{Exit, Failure};
use crate::config::{Config, LogFormat};

/// Starts logging as configured. Without colours: the lines are collected more often than read.
pub(crate) fn start(config: &Config) -> Result<(), Failure> {
    let lines = fmt()
        .with_max_level(config.log_level)
        .with_writer(io::stderr)
        .with_ansi(false)
        // It would report a closed standard error on standard error, and panic.
        .log_internal_errors(false);
    let started = match config.log_format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::new(Exit::Negative, error as Box<dyn std::error::Error>))
}
