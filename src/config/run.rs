//! What only `run` uses: flags and variables like the others, and a `[run]` table in the file.

use std::ffi::OsStr;
use std::fmt;
use std::time::Duration;

use clap::{ArgMatches, Command};
use nix::sys::signal::Signal;

use super::given::Problem;
use super::setting::{self, Raw, Setting, argument, take};
use super::value::{self, Parsed};
use super::{Check, VolumeConfig};
use crate::name::{KeyName, VolumeName};
use crate::process::parse_signal;

/// Well below the 30 s after which Kubernetes kills.
const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(10);
/// As long as Kubernetes waits where an operator asks for a long end.
const MAX_STOP_GRACE: Duration = Duration::from_secs(3600);
/// The kubelet's first write comes before the container; a volume that appears later may take a
/// sync, 60 to 90 s of which are rare at the start.
const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(60);
/// After an hour nobody is waiting any more.
const MAX_START_TIMEOUT: Duration = Duration::from_secs(3600);

pub(super) const SIGNAL: Setting = Setting {
    flag: "signal",
    variable: "SECRETWATCH_SIGNAL",
    key: Some("signal"),
    value: "SIGNAL",
    is_list: false,
    help: "Signal the command after each rotation, such as HUP; only once it has a handler,\n\
           because the signal would end it otherwise",
};
pub(super) const RESTART: Setting = Setting {
    flag: "restart",
    variable: "SECRETWATCH_RESTART",
    key: Some("restart"),
    value: "true|false",
    is_list: false,
    help: "Restart the command after each rotation: SIGTERM, --stop-grace, SIGKILL, start",
};
pub(super) const STOP_GRACE: Setting = Setting {
    flag: "stop-grace",
    variable: "SECRETWATCH_STOP_GRACE",
    key: Some("stop_grace"),
    value: "TIME",
    is_list: false,
    help: "How long the command may take to end after SIGTERM [default: 10s]",
};
pub(super) const START_TIMEOUT: Setting = Setting {
    flag: "start-timeout",
    variable: "SECRETWATCH_START_TIMEOUT",
    key: Some("start_timeout"),
    value: "TIME",
    is_list: false,
    help: "How long to wait for the first contents of every volume [default: 1m]",
};
pub(super) const ENV: Setting = Setting {
    flag: "env",
    variable: "SECRETWATCH_ENV",
    key: Some("env"),
    value: "NAME=VOLUME/KEY",
    is_list: true,
    help: "Give the command the value of KEY as the variable NAME.\n\
           The key is required then, as with --require. A running process keeps its\n\
           variables for ever: combine it with --restart.",
};
pub(super) const ENV_FROM: Setting = Setting {
    flag: "env-from",
    variable: "SECRETWATCH_ENV_FROM",
    key: Some("env_from"),
    value: "VOLUME",
    is_list: true,
    help: "Give the command all values of VOLUME; some-credential becomes SOME_CREDENTIAL.\n\
           Two keys for one variable are refused.",
};

/// All settings of `run` alone, in the order of `--help`.
pub(super) static ALL: [&Setting; 6] =
    [&SIGNAL, &RESTART, &STOP_GRACE, &START_TIMEOUT, &ENV, &ENV_FROM];

/// The settings of `serve` together with those of `run`, as given.
#[derive(Debug, Default)]
pub(crate) struct RawRun(pub(crate) Raw);

impl clap::FromArgMatches for RawRun {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let all = setting::ALL.into_iter().chain(ALL);
        Ok(Self(Raw::new(all.filter_map(|setting| take(setting, matches)).collect())))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for RawRun {
    fn augment_args(command: Command) -> Command {
        // First, because these are what `run` is about.
        Raw::augment_args(command.args(ALL.into_iter().map(argument)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// What a rotation does to the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnRotation {
    /// Nothing: it asks by itself.
    Nothing,
    Signal(Signal),
    Restart,
}

/// One variable from one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnvKey {
    pub(crate) name: String,
    pub(crate) volume: VolumeName,
    pub(crate) key: KeyName,
}

impl fmt::Display for EnvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}/{}", self.name, self.volume, self.key)
    }
}

/// The settings of `run`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunConfig {
    pub(crate) on_rotation: OnRotation,
    pub(crate) stop_grace: Duration,
    pub(crate) start_timeout: Duration,
    pub(crate) env: Vec<EnvKey>,
    pub(crate) env_from: Vec<VolumeName>,
}

impl RunConfig {
    pub(super) fn has_environment(&self) -> bool {
        !self.env.is_empty() || !self.env_from.is_empty()
    }

    /// What is allowed and yet hardly meant.
    pub(super) fn warning(&self) -> Option<String> {
        let is_stale = self.has_environment() && self.on_rotation == OnRotation::Nothing;
        is_stale.then(|| {
            "env or env_from without restart: the command keeps the values it was started with"
                .to_owned()
        })
    }
}

pub(super) fn check(check: &mut Check<'_>, volumes: &[VolumeConfig]) -> RunConfig {
    let signal = check.one(&SIGNAL, |v| parse_signal(value::text(v)?));
    let restart = check.one(&RESTART, switch).unwrap_or(false);
    let range = |max| Duration::ZERO..=max;
    let config = RunConfig {
        on_rotation: match signal {
            Some(signal) => OnRotation::Signal(signal),
            None if restart => OnRotation::Restart,
            None => OnRotation::Nothing,
        },
        stop_grace: check
            .one(&STOP_GRACE, |v| value::duration(v, &range(MAX_STOP_GRACE)))
            .unwrap_or(DEFAULT_STOP_GRACE),
        start_timeout: check
            .one(&START_TIMEOUT, |v| value::duration(v, &range(MAX_START_TIMEOUT)))
            .unwrap_or(DEFAULT_START_TIMEOUT),
        env: check.list(&ENV, |v| variable(v, volumes)),
        env_from: check.list(&ENV_FROM, |v| known(value::text(v)?, volumes)),
    };
    if signal.is_some() && restart {
        check.problems.push(Problem::new("--signal and --restart exclude each other"));
    }
    if signal.is_some() && config.has_environment() {
        check.problems.push(Problem::new(
            "--env and --env-from do not go with --signal: no signal changes the variables of a \
             running process; use --restart",
        ));
    }
    for (at, EnvKey { name, .. }) in config.env.iter().enumerate() {
        if config.env[..at].iter().any(|earlier| earlier.name == *name) {
            let message = format!("--{}: the variable {name} is given twice", ENV.flag);
            check.problems.push(Problem::new(message));
        }
    }
    config
}

fn switch(value: &OsStr) -> Parsed<bool> {
    value::text(value)?.parse().map_err(|_| "expected true or false".to_owned())
}

/// `NAME=VOLUME/KEY`. A volume's name has no `/`, a key may have.
fn variable(value: &OsStr, volumes: &[VolumeConfig]) -> Parsed<EnvKey> {
    let split = value::text(value)?.split_once('=');
    let parts = split.and_then(|(name, source)| Some((name, source.split_once('/')?)));
    let (name, (volume, key)) = parts
        .filter(|(name, _)| is_variable(name))
        .ok_or("expected NAME=VOLUME/KEY, where NAME has letters, digits and _ only")?;
    let volume = known(volume, volumes)?;
    let key = key.parse().map_err(|e| format!("a key cannot be named so: {e}"))?;
    Ok(EnvKey { name: name.to_owned(), volume, key })
}

fn known(name: &str, volumes: &[VolumeConfig]) -> Parsed<VolumeName> {
    let found = volumes.iter().find(|volume| volume.name.as_str() == name);
    found.map(|volume| volume.name.clone()).ok_or_else(|| {
        let names: Vec<_> = volumes.iter().map(|volume| volume.name.as_str()).collect();
        format!("it names a volume that is not configured; there are: {}", names.join(", "))
    })
}

/// Whether every shell can use a variable of this name.
pub(crate) fn is_variable(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_word) && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::super::{Config, file};
    use super::*;

    fn load(flags: &[&str]) -> Result<Config, String> {
        let all = setting::ALL.into_iter().chain(ALL);
        let command = RawRun::augment_args(Command::new("t").no_binary_name(true));
        let command = all.fold(command, |command, setting| {
            command.mut_arg(setting.flag, |arg| arg.env(None::<&str>))
        });
        let matches = command.try_get_matches_from(flags).unwrap();
        let raw = RawRun::from_arg_matches(&matches).unwrap();
        Config::load(&raw.0).map_err(|error| error.to_string())
    }

    fn with(flags: &[&str]) -> Result<RunConfig, String> {
        load(&[&["--volume=db=/etc/db", "--volume=tls=/etc/tls"], flags].concat())
            .map(|config| config.run)
    }

    #[test]
    fn names_of_a_setting_follow_from_its_flag() {
        for setting in ALL {
            let snake = setting.flag.replace('-', "_");
            assert_eq!(setting.variable, format!("SECRETWATCH_{}", snake.to_uppercase()));
            assert_eq!(setting.key, Some(snake.as_str()));
        }
        assert!(file::RUN.keys.iter().eq(ALL.iter().filter_map(|setting| setting.key.as_ref())));
    }

    #[test]
    fn defaults_are_those_in_the_help() {
        let plain = with(&[]);
        assert_eq!(plain, with(&["--stop-grace=10s", "--start-timeout=1m", "--restart=false"]));
        assert_eq!(plain.unwrap().on_rotation, OnRotation::Nothing);
    }

    #[test]
    fn mistakes_say_what_is_allowed() {
        for (flags, expected) in [
            (&["--signal=HUP", "--restart"][..], "--signal and --restart exclude each other"),
            (&["--signal=HUP", "--env=A=db/a"], "do not go with --signal: no signal changes"),
            (&["--signal=HUP", "--env-from=db"], "do not go with --signal: no signal changes"),
            (&["--signal=KILL"], "--signal: KILL and STOP cannot be handled"),
            (&["--restart=canary"], "--restart: expected true or false"),
            (&["--stop-grace=2h"], "--stop-grace: expected a time"),
            (&["--env=canary"], "--env: expected NAME=VOLUME/KEY"),
            (&["--env=9=db/canary"], "--env: expected NAME=VOLUME/KEY"),
            (&["--env=A=x/canary"], "a volume that is not configured; there are: db, tls"),
            (&["--env=A=db/.."], "--env: a key cannot be named so"),
            (&["--env=A=db/a", "--env=A=tls/b"], "--env: the variable A is given twice"),
            (&["--env-from=x"], "--env-from: it names a volume that is not configured"),
        ] {
            let error = with(flags).unwrap_err();
            assert!(error.contains(expected), "{flags:?}: {error}");
            assert!(!error.contains("canary"), "{flags:?}: {error}");
        }
    }

    #[test]
    fn environment_that_never_changes_is_a_warning() {
        assert!(with(&["--env=A=db/a/b"]).unwrap().warning().is_some());
        assert!(with(&["--env=A=db/a/b", "--restart"]).unwrap().warning().is_none());
    }

    #[test]
    fn key_of_a_variable_is_required() {
        let config = load(&["--volume=db=/etc/db", "--env=A=db/a", "--require=db:b"]).unwrap();
        let keys: Vec<_> = config.with_required_environment().volumes[0]
            .require
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(keys, ["b", "a"]);
    }

    #[test]
    fn shown_table_means_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sw.toml");
        for flags in [&["--signal=USR1"][..], &["--restart", "--env=A=db/a", "--env-from=tls"], &[]]
        {
            let flags = [&["--volume=db=/etc/db", "--volume=tls=/etc/tls"], flags].concat();
            let config = load(&flags).unwrap();
            std::fs::write(&path, config.to_string()).unwrap();
            assert_eq!(load(&[&format!("--config={}", path.display())]), Ok(config));
        }
    }
}
