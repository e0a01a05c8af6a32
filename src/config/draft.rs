//! The settings as `doctor` takes them: read like those of a start, and not yet believed. A volume
//! may be a file, absent or given twice, the socket's path may be too long: that is what it is
//! asked to find.

use std::path::Path;

use super::setting::{self, Raw};
use super::{Config, ConfigError, OnRotation, Purpose, VolumeConfig};
use crate::builder::Detector;

/// Settings to examine.
#[derive(Debug)]
pub(crate) struct Draft {
    config: Config,
    is_socket_given: bool,
}

impl Draft {
    /// Reads what was given, and the file, if one is named.
    ///
    /// # Errors
    /// Where a setting cannot even be read; the error lists all of them.
    pub(crate) fn load(raw: &Raw) -> Result<Self, ConfigError> {
        let config = Config::load_for(raw, Purpose::Examine)?;
        // The file may say it, too, and is read only once.
        let is_default = config.socket.as_os_str() == super::DEFAULT_SOCKET;
        let is_socket_given = raw.given(&setting::SOCKET).is_some() || !is_default;
        Ok(Self { config: config.with_required_environment(), is_socket_given })
    }

    /// None where none was given; not necessarily distinct.
    pub(crate) fn volumes(&self) -> &[VolumeConfig] {
        &self.config.volumes
    }

    /// The socket that was asked for, or that `serve` would make with these settings. `run` can do
    /// without the default one, and nobody wants one where there is no volume.
    pub(crate) fn socket(&self) -> Option<&Path> {
        let is_for_serve = !self.config.volumes.is_empty() && !self.is_for_run();
        (self.is_socket_given || is_for_serve).then_some(self.config.socket.as_path())
    }

    /// Whether a socket is only for processes of the same container.
    pub(crate) fn is_for_run(&self) -> bool {
        self.config.run.on_rotation != OnRotation::Nothing || self.config.run.has_environment()
    }

    /// Whether the command would keep the variables that it was started with.
    pub(crate) fn has_stale_environment(&self) -> bool {
        self.config.run.warning().is_some()
    }

    /// Whether inotify is wanted at all.
    pub(crate) fn wants_inotify(&self) -> bool {
        self.config.detector == Detector::Auto
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;
    use crate::config::RawRun;

    fn draft(line: &[&str]) -> Draft {
        let command = RawRun::augment_args(Command::new("t").no_binary_name(true));
        let command = command.mut_args(|arg| arg.env(None::<&str>));
        let matches = command.try_get_matches_from(line).unwrap();
        Draft::load(&RawRun::from_arg_matches(&matches).unwrap().0).unwrap()
    }

    #[test]
    fn what_no_start_would_take_can_be_examined() {
        assert!(draft(&[]).volumes().is_empty());
        let same = draft(&["--volume=a=/etc/passwd", "--volume=a=/etc/passwd"]);
        assert_eq!(same.volumes().len(), 2);
        let long = format!("--socket=/{}", "x".repeat(200));
        assert_eq!(draft(&[&long]).socket().unwrap().as_os_str().len(), 201);
    }

    #[test]
    fn default_socket_counts_where_serve_would_make_it() {
        assert_eq!(draft(&[]).socket(), None);
        assert_eq!(draft(&["--volume=/v"]).socket(), Some(Path::new(super::super::DEFAULT_SOCKET)));
        assert_eq!(draft(&["--volume=/v", "--restart"]).socket(), None);
        let given = draft(&["--volume=/v", "--restart", "--socket=/s"]);
        assert_eq!(given.socket(), Some(Path::new("/s")));
    }

    #[test]
    fn variable_makes_its_key_required() {
        let draft = draft(&["--volume=db=/v", "--env=A=db/k"]);
        assert_eq!(draft.volumes()[0].require[0].as_str(), "k");
        assert!(draft.has_stale_environment());
    }
}
