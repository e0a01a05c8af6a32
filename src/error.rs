//! Errors that callers of the library meet.

use std::fmt;
use std::path::Path;

use thiserror::Error;

use crate::name::VolumeName;
use crate::status::{Status, Trouble};

/// A snapshot has no such key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingKey {
    volume: VolumeName,
    key: Box<str>,
    is_waiting: bool,
}

impl MissingKey {
    pub(crate) fn new(volume: VolumeName, key: &str, is_waiting: bool) -> Self {
        Self { volume, key: key.into(), is_waiting }
    }

    /// The key that was asked for.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for MissingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volume `{}` has no key `{}`", self.volume, self.key.escape_debug())?;
        if self.is_waiting {
            f.write_str(": nothing has been accepted yet")?;
        }
        Ok(())
    }
}

impl std::error::Error for MissingKey {}

/// The watch has ended: the engine was stopped, so no further change can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the watch has ended")]
pub struct Stopped;

/// What can go wrong when a watch is opened or asked.
#[derive(Debug)]
pub struct Error(Kind);

#[derive(Debug, Error)]
enum Kind {
    #[error("{0}")]
    Config(String),
    #[error("no volume is named {name:?}; there are: {known}")]
    UnknownVolume { name: String, known: String },
    #[error(
        "volume `{volume}` ({path}) had nothing acceptable within the start timeout: {trouble}"
    )]
    StartTimeout { volume: VolumeName, path: String, trouble: String },
    #[error("metrics cannot be registered")]
    Metrics(#[source] prometheus::Error),
    #[error("a thread of the watch cannot be started")]
    Thread(#[source] std::io::Error),
    #[error(transparent)]
    Stopped(Stopped),
}

impl Error {
    pub(crate) fn config(message: String) -> Self {
        Self(Kind::Config(message))
    }

    pub(crate) fn unknown_volume<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known = known.collect::<Vec<_>>().join(", ");
        Self(Kind::UnknownVolume { name: name.to_owned(), known })
    }

    pub(crate) fn start_timeout(volume: &VolumeName, path: &Path, status: &Status) -> Self {
        let trouble =
            status.trouble.as_ref().map_or_else(|| "not read yet".to_owned(), Trouble::to_string);
        Self(Kind::StartTimeout {
            volume: volume.clone(),
            path: path.display().to_string(),
            trouble,
        })
    }

    pub(crate) fn metrics(error: prometheus::Error) -> Self {
        Self(Kind::Metrics(error))
    }

    pub(crate) fn thread(error: std::io::Error) -> Self {
        Self(Kind::Thread(error))
    }

    pub(crate) fn stopped(error: Stopped) -> Self {
        Self(Kind::Stopped(error))
    }

    /// Whether a setting was not allowed.
    pub fn is_config(&self) -> bool {
        matches!(self.0, Kind::Config(_))
    }

    /// Whether a volume was asked for that is not configured.
    pub fn is_unknown_volume(&self) -> bool {
        matches!(self.0, Kind::UnknownVolume { .. })
    }

    /// Whether a volume had no acceptable snapshot in time.
    pub fn is_start_timeout(&self) -> bool {
        matches!(self.0, Kind::StartTimeout { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
