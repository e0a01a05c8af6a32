//! The configuration of the sidecar.
//!
//! [`Raw`] is what stands on the command line and in the environment, [`Config`] is what it means
//! together with the file. Flags win over variables, variables over the file, and the file over
//! the defaults. Everything is checked on the way: a [`Config`] is never validated again, and no
//! `Option` in it means "default". All mistakes are reported together, each with the setting, the
//! place it was made in and what is allowed, and none with the value, which may be a misplaced
//! secret.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::level_filters::LevelFilter;

pub(crate) use self::draft::Draft;
pub(crate) use self::given::ConfigError;
use self::given::{Given, Problem};
pub(crate) use self::run::{EnvKey, OnRotation, RawRun, RunConfig, is_variable};
pub(crate) use self::setting::Raw;
use self::setting::Setting;
pub(crate) use self::target::{ActionConfig, TargetConfig};
use self::value::Parsed;
pub(crate) use self::volume::VolumeConfig;
use crate::adoption::{DEFAULT_ADOPTION_EXPIRY, MAX_ADOPTION_EXPIRY, MIN_ADOPTION_EXPIRY};
use crate::api::{DEFAULT_MAX_CONNECTIONS, MAX_MAX_CONNECTIONS};
use crate::builder::{
    Builder, DEFAULT_POLL_INTERVAL, Detector, MAX_POLL_INTERVAL, MIN_POLL_INTERVAL, VolumeOptions,
};
use crate::secrets::Secrets;

mod draft;
mod file;
mod given;
mod run;
pub(crate) mod setting;
mod show;
mod target;
mod value;
mod volume;

/// Where the sidecar listens, and where the client commands look for it.
pub(crate) const DEFAULT_SOCKET: &str = "/run/secretwatch/secretwatch.sock";
/// Only the sidecar's own user.
const DEFAULT_SOCKET_MODE: u32 = 0o600;
/// What `sockaddr_un` has room for, without the NUL at its end.
pub(crate) const MAX_SOCKET_PATH_BYTES: usize = 107;
/// Well below the 30 s after which Kubernetes kills.
const DEFAULT_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Nobody waits longer for a pod.
const MAX_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(600);
/// Bits that let others than the socket's owner connect: that takes write permission.
const OTHERS_MAY_CONNECT: u32 = 0o022;

/// The form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What the settings are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A sidecar is to be started with them.
    Start,
    /// `doctor` is to say what is wrong: paths need not be usable.
    Examine,
}

/// The checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// At least one.
    pub(crate) volumes: Vec<VolumeConfig>,
    /// Whom to tell of a change, by distinct names.
    pub(crate) targets: Vec<TargetConfig>,
    pub(crate) detector: Detector,
    pub(crate) poll_interval: Duration,
    pub(crate) socket: PathBuf,
    pub(crate) socket_mode: u32,
    pub(crate) allow_uid: Vec<u32>,
    pub(crate) allow_gid: Vec<u32>,
    /// No token is asked for where `None`.
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) max_connections: usize,
    /// Nothing listens on TCP where `None`.
    pub(crate) metrics_addr: Option<SocketAddr>,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: LevelFilter,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) adoption_expiry: Duration,
    /// What only `run` uses.
    pub(crate) run: RunConfig,
    /// For every target that has none of its own.
    pub(crate) splay: Duration,
}

impl Config {
    /// Checks what was given and reads the file, if one is named.
    ///
    /// # Errors
    /// Where any setting cannot be used; the error lists all of them.
    pub(crate) fn load(raw: &Raw) -> Result<Self, ConfigError> {
        Self::load_for(raw, Purpose::Start)
    }

    fn load_for(raw: &Raw, purpose: Purpose) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let file = raw.given(&setting::CONFIG).map(|given| {
            let path = given.values.first().map_or(Path::new(""), Path::new);
            file::File::read(path, &given.place, &mut problems)
        });
        let file = file.unwrap_or_default();
        let mut check = Check { raw, file: &file, purpose, problems };
        let config = check.config();
        ConfigError::of(check.problems)?;
        Ok(config)
    }

    /// The watch that this configuration asks for.
    pub(crate) fn builder(&self) -> Builder {
        let builder = Secrets::builder()
            .detector(self.detector)
            .poll_interval(self.poll_interval)
            .adoption_expiry(self.adoption_expiry);
        self.volumes.iter().fold(builder, |builder, volume| builder.volume(options(volume)))
    }

    /// The same for `run`: contents without a key that the command needs are not accepted.
    pub(crate) fn with_required_environment(mut self) -> Self {
        for EnvKey { volume, key, .. } in &self.run.env {
            let volume = self.volumes.iter_mut().find(|known| known.name == *volume);
            if let Some(volume) = volume.filter(|known| !known.require.contains(key)) {
                volume.require.push(key.clone());
            }
        }
        self
    }

    /// What is allowed and yet hardly meant.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let own = own_uid();
        let lets_others_in = !self.allow_gid.is_empty() || self.allow_uid.iter().any(|u| *u != own);
        let mut warnings = Vec::new();
        if lets_others_in && self.socket_mode & OTHERS_MAY_CONNECT == 0 {
            warnings.push(format!(
                "allow_uid or allow_gid let others in, and socket_mode {:04o} shuts them out; \
                 connecting takes write permission, such as 0660 or 0666",
                self.socket_mode
            ));
        }
        warnings.extend(self.run.warning());
        warnings
    }
}

fn options(volume: &VolumeConfig) -> VolumeOptions {
    let mut options =
        VolumeOptions::new(&volume.path).named(volume.name.as_str()).max_bytes(volume.max_bytes);
    if volume.allow_empty {
        options = options.allow_empty();
    }
    volume.require.iter().fold(options, |options, key| options.require(key.as_str()))
}

/// Takes settings out of the layers, and collects what is wrong with them.
struct Check<'a> {
    raw: &'a Raw,
    file: &'a file::File,
    purpose: Purpose,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn config(&mut self) -> Config {
        let allow_gid = self.list(&setting::ALLOW_GID, id);
        let allow_uid = self.list(&setting::ALLOW_UID, id);
        let volumes = volume::check(self.raw, self.file, self.purpose, &mut self.problems);
        let splay = self.one(&setting::SPLAY, target::splay).unwrap_or_default();
        Config {
            run: run::check(self, &volumes),
            targets: target::check(self.raw, self.file, &volumes, splay, &mut self.problems),
            splay,
            volumes,
            detector: self.one(&setting::DETECTOR, value::detector).unwrap_or_default(),
            poll_interval: self
                .one(&setting::POLL_INTERVAL, |v| {
                    value::duration(v, &(MIN_POLL_INTERVAL..=MAX_POLL_INTERVAL))
                })
                .unwrap_or(DEFAULT_POLL_INTERVAL),
            socket: self.socket(),
            socket_mode: self
                .one(&setting::SOCKET_MODE, value::mode)
                .unwrap_or(DEFAULT_SOCKET_MODE),
            allow_uid,
            allow_gid,
            token_file: self.one(&setting::TOKEN_FILE, value::path),
            max_connections: self
                .one(&setting::MAX_CONNECTIONS, |v| value::number(v, &(1..=MAX_MAX_CONNECTIONS)))
                .unwrap_or(DEFAULT_MAX_CONNECTIONS),
            metrics_addr: self.one(&setting::METRICS_ADDR, value::address),
            log_format: self
                .one(&setting::LOG_FORMAT, value::log_format)
                .unwrap_or(LogFormat::Text),
            log_level: self.one(&setting::LOG_LEVEL, value::log_level).unwrap_or(LevelFilter::INFO),
            shutdown_timeout: self
                .one(&setting::SHUTDOWN_TIMEOUT, |v| {
                    value::duration(v, &(Duration::ZERO..=MAX_SHUTDOWN_TIMEOUT))
                })
                .unwrap_or(DEFAULT_SHUTDOWN_TIMEOUT),
            adoption_expiry: self
                .one(&setting::ADOPTION_EXPIRY, |v| {
                    value::duration(v, &(MIN_ADOPTION_EXPIRY..=MAX_ADOPTION_EXPIRY))
                })
                .unwrap_or(DEFAULT_ADOPTION_EXPIRY),
        }
    }

    fn socket(&mut self) -> PathBuf {
        let parse = match self.purpose {
            Purpose::Start => value::socket,
            Purpose::Examine => value::path,
        };
        self.one(&setting::SOCKET, parse).unwrap_or_else(|| DEFAULT_SOCKET.into())
    }

    /// The layers, from the strongest to the weakest.
    fn given(&self, setting: &Setting) -> Option<Given> {
        self.raw.given(setting).or_else(|| self.file.given(setting)).cloned()
    }

    fn one<T>(&mut self, setting: &Setting, parse: impl Fn(&OsStr) -> Parsed<T>) -> Option<T> {
        let given = self.given(setting)?;
        let parsed = parse(given.values.first()?);
        parsed.map_err(|message| self.problems.push(Problem::at(&given.place, message))).ok()
    }

    fn list<T>(&mut self, setting: &Setting, parse: impl Fn(&OsStr) -> Parsed<T>) -> Vec<T> {
        let Some(given) = self.given(setting) else { return Vec::new() };
        let parsed: Parsed<Vec<T>> = given.values.iter().map(|value| parse(value)).collect();
        parsed.unwrap_or_else(|message| {
            self.problems.push(Problem::at(&given.place, message));
            Vec::new()
        })
    }
}

/// `u32::MAX` stands for "nobody" in system calls.
fn id(value: &OsStr) -> Parsed<u32> {
    value::number(value, &(0..=u32::MAX - 1))
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

#[cfg(test)]
mod tests;
