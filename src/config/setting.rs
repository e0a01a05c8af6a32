//! Every setting of the sidecar, one row each: the same row makes the flag, its `SECRETWATCH_…`
//! variable and its line in the file, so that none of the three can be forgotten.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::given::{Given, Place};
use super::run::RESTART;

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The name of the flag, without dashes in front.
    pub(crate) flag: &'static str,
    /// The environment variable.
    pub(crate) variable: &'static str,
    /// The key in the file; `None` where the file cannot set it, or sets it for each volume.
    pub(crate) key: Option<&'static str>,
    /// What stands for the value in `--help`.
    pub(super) value: &'static str,
    /// Whether it may be given several times; a variable then holds a list with commas.
    pub(crate) is_list: bool,
    /// The help, with the default at its end in brackets.
    pub(super) help: &'static str,
}

pub(crate) const VOLUME: Setting = Setting {
    flag: "volume",
    variable: "SECRETWATCH_VOLUME",
    key: None,
    value: "[NAME=]DIR",
    is_list: true,
    help: "Directory where a secret is mounted; it may appear later.\n\
           Without NAME it is named after its last component.",
};
pub(crate) const REQUIRE: Setting = Setting {
    flag: "require",
    variable: "SECRETWATCH_REQUIRE",
    key: None,
    value: "[VOLUME:]KEY",
    is_list: true,
    help: "Accept only contents that have KEY; without VOLUME, in every volume.",
};
pub(crate) const ALLOW_EMPTY: Setting = Setting {
    flag: "allow-empty",
    variable: "SECRETWATCH_ALLOW_EMPTY",
    key: None,
    value: "VOLUME",
    is_list: true,
    help: "Accept contents without any key, in this volume or (without =VOLUME) in all.\n\
           Otherwise the last good contents stay. The variable says `*` for all.",
};
pub(crate) const MAX_BYTES: Setting = Setting {
    flag: "max-bytes",
    variable: "SECRETWATCH_MAX_BYTES",
    key: None,
    value: "N",
    is_list: false,
    help: "Accept only contents of at most N bytes, in every volume [default: 8388608]",
};
pub(crate) const DETECTOR: Setting = Setting {
    flag: "detector",
    variable: "SECRETWATCH_DETECTOR",
    key: Some("detector"),
    value: "auto|poll",
    is_list: false,
    help: "inotify and the poll side by side, or the poll alone [default: auto]",
};
pub(crate) const POLL_INTERVAL: Setting = Setting {
    flag: "poll-interval",
    variable: "SECRETWATCH_POLL_INTERVAL",
    key: Some("poll_interval"),
    value: "TIME",
    is_list: false,
    help: "How often the poll audits inotify, such as 500ms or 1m [default: 30s]",
};
pub(crate) const SOCKET: Setting = Setting {
    flag: "socket",
    variable: "SECRETWATCH_SOCKET",
    key: Some("socket"),
    value: "PATH",
    is_list: false,
    help: "Unix socket to serve on [default: /run/secretwatch/secretwatch.sock]",
};
pub(crate) const SOCKET_MODE: Setting = Setting {
    flag: "socket-mode",
    variable: "SECRETWATCH_SOCKET_MODE",
    key: Some("socket_mode"),
    value: "OCTAL",
    is_list: false,
    help: "Permissions of the socket; who connects needs `w` [default: 0600]",
};
pub(crate) const ALLOW_UID: Setting = Setting {
    flag: "allow-uid",
    variable: "SECRETWATCH_ALLOW_UID",
    key: Some("allow_uid"),
    value: "UID",
    is_list: true,
    help: "User that may use the socket, besides the sidecar's own",
};
pub(crate) const ALLOW_GID: Setting = Setting {
    flag: "allow-gid",
    variable: "SECRETWATCH_ALLOW_GID",
    key: Some("allow_gid"),
    value: "GID",
    is_list: true,
    help: "Group that may use the socket: the primary one of the peer; supplementary groups,\n\
           as `fsGroup` gives them, do not count",
};
pub(crate) const TOKEN_FILE: Setting = Setting {
    flag: "token-file",
    variable: "SECRETWATCH_TOKEN_FILE",
    key: Some("token_file"),
    value: "PATH",
    is_list: false,
    help: "Ask for the bearer token in this file; it is read again when it changes",
};
pub(crate) const MAX_CONNECTIONS: Setting = Setting {
    flag: "max-connections",
    variable: "SECRETWATCH_MAX_CONNECTIONS",
    key: Some("max_connections"),
    value: "N",
    is_list: false,
    help: "How many connections may be open at a time [default: 2048]",
};
pub(crate) const METRICS_ADDR: Setting = Setting {
    flag: "metrics-addr",
    variable: "SECRETWATCH_METRICS_ADDR",
    key: Some("metrics_addr"),
    value: "HOST:PORT",
    is_list: false,
    help: "Serve /metrics, /livez, /readyz and the status page / over TCP too, never a value,\n\
           such as 0.0.0.0:9180 or [::]:9180 [default: no TCP at all]",
};
pub(crate) const LOG_FORMAT: Setting = Setting {
    flag: "log-format",
    variable: "SECRETWATCH_LOG_FORMAT",
    key: Some("log_format"),
    value: "text|json",
    is_list: false,
    help: "Form of the log lines on standard error [default: text]",
};
pub(crate) const LOG_LEVEL: Setting = Setting {
    flag: "log-level",
    variable: "SECRETWATCH_LOG_LEVEL",
    key: Some("log_level"),
    value: "LEVEL",
    is_list: false,
    help: "error, warn, info, debug, trace or off [default: info]",
};
pub(crate) const SHUTDOWN_TIMEOUT: Setting = Setting {
    flag: "shutdown-timeout",
    variable: "SECRETWATCH_SHUTDOWN_TIMEOUT",
    key: Some("shutdown_timeout"),
    value: "TIME",
    is_list: false,
    help: "How long open requests may take to end after SIGTERM [default: 10s]",
};
pub(crate) const ADOPTION_EXPIRY: Setting = Setting {
    flag: "adoption-expiry",
    variable: "SECRETWATCH_ADOPTION_EXPIRY",
    key: Some("adoption_expiry"),
    value: "TIME",
    is_list: false,
    help: "How long a consumer that says nothing counts as known. Longer than the time\n\
           between two rotations, unless it repeats what it uses [default: 30days]",
};
pub(crate) const NOTIFY_HTTP: Setting = Setting {
    flag: "notify-http",
    variable: "SECRETWATCH_NOTIFY_HTTP",
    key: None,
    value: "URL",
    is_list: true,
    help: "On a change, POST to http://host:port/path or unix:/path/of.sock:/path",
};
pub(crate) const NOTIFY_EXEC: Setting = Setting {
    flag: "notify-exec",
    variable: "SECRETWATCH_NOTIFY_EXEC",
    key: None,
    value: "COMMAND",
    is_list: true,
    help: "On a change, run a command: split into words as by a shell, run without one.\n\
           {path} is the volume's directory; the environment has SECRETWATCH_VOLUME,\n\
           SECRETWATCH_REVISION and SECRETWATCH_CHANGED_KEYS (one a line).",
};
pub(crate) const NOTIFY_PID_FILE: Setting = Setting {
    flag: "notify-pid-file",
    variable: "SECRETWATCH_NOTIFY_PID_FILE",
    key: None,
    value: "PATH",
    is_list: true,
    help: "On a change, signal the process whose pid is in this file; a signal is only\n\
           ever sent to a process that has a handler for it.",
};
pub(crate) const NOTIFY_PROCESS: Setting = Setting {
    flag: "notify-process",
    variable: "SECRETWATCH_NOTIFY_PROCESS",
    key: None,
    value: "NAME",
    is_list: true,
    help: "On a change, signal the oldest process whose executable or comm is named so",
};
pub(crate) const NOTIFY_SIGNAL: Setting = Setting {
    flag: "notify-signal",
    variable: "SECRETWATCH_NOTIFY_SIGNAL",
    key: None,
    value: "SIGNAL",
    is_list: false,
    help: "The signal for --notify-pid-file and --notify-process [default: HUP]",
};
pub(crate) const SPLAY: Setting = Setting {
    flag: "splay",
    variable: "SECRETWATCH_SPLAY",
    key: Some("splay"),
    value: "TIME",
    is_list: false,
    help: "Wait up to so long before a target is told, each host for a time of its own,\n\
           so that not all replicas reload in the same second [default: 0s]",
};
pub(crate) const CONFIG: Setting = Setting {
    flag: "config",
    variable: "SECRETWATCH_CONFIG",
    key: None,
    value: "FILE",
    is_list: false,
    help: "TOML file with these settings (socket_mode = \"0600\") and [[volume]] tables\n\
           of name, path, require, max_bytes, allow_empty, and [[target]] tables.\n\
           Each flag has a variable too (--socket-mode: SECRETWATCH_SOCKET_MODE), where\n\
           lists have commas. Flags win over variables, variables over the file.",
};

impl Setting {
    /// Whether a comma in the variable separates values. One in a command or a URL belongs to it.
    pub(crate) fn has_commas(&self) -> bool {
        self.is_list && ![NOTIFY_HTTP.flag, NOTIFY_EXEC.flag].contains(&self.flag)
    }
}

/// All settings, in the order of `--help`.
pub(crate) static ALL: [&Setting; 24] = [
    &VOLUME,
    &REQUIRE,
    &ALLOW_EMPTY,
    &MAX_BYTES,
    &DETECTOR,
    &POLL_INTERVAL,
    &SOCKET,
    &SOCKET_MODE,
    &ALLOW_UID,
    &ALLOW_GID,
    &TOKEN_FILE,
    &MAX_CONNECTIONS,
    &METRICS_ADDR,
    &LOG_FORMAT,
    &LOG_LEVEL,
    &SHUTDOWN_TIMEOUT,
    &ADOPTION_EXPIRY,
    &NOTIFY_HTTP,
    &NOTIFY_EXEC,
    &NOTIFY_PID_FILE,
    &NOTIFY_PROCESS,
    &NOTIFY_SIGNAL,
    &SPLAY,
    &CONFIG,
];

/// What stands for "every volume" where a volume can be named: no volume can have this name.
pub(crate) const EVERY_VOLUME: &str = "*";

/// The settings given as flags and variables: text that nothing has looked at yet.
#[derive(Debug, Default)]
pub(crate) struct Raw(Vec<Given>);

impl Raw {
    pub(crate) fn new(given: Vec<Given>) -> Self {
        Self(given)
    }

    /// What was given for `setting`; a flag hides the variable.
    pub(crate) fn given(&self, setting: &Setting) -> Option<&Given> {
        self.0.iter().find(|given| given.setting == setting.flag)
    }
}

/// Written by hand, because the derive does not tell a flag from a variable, and because its own
/// checks would print values that may be misplaced secrets.
impl clap::FromArgMatches for Raw {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(ALL.into_iter().filter_map(|setting| take(setting, matches)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Raw {
    fn augment_args(command: Command) -> Command {
        command.args(ALL.into_iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

pub(super) fn argument(setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.flag)
        .long(setting.flag)
        .value_name(setting.value)
        .env(setting.variable)
        // Beside each flag it would make lines too long to read; the help states the rule once.
        .hide_env(true)
        .hide_env_values(true)
        .value_parser(ValueParser::os_string())
        .action(if setting.is_list { ArgAction::Append } else { ArgAction::Set })
        .help(setting.help);
    if setting.flag == ALLOW_EMPTY.flag {
        return arg.num_args(0..=1).require_equals(true).default_missing_value(EVERY_VOLUME);
    }
    if setting.flag == RESTART.flag {
        return arg.num_args(0..=1).require_equals(true).default_missing_value("true");
    }
    arg
}

pub(super) fn take(setting: &'static Setting, matches: &ArgMatches) -> Option<Given> {
    let values = matches.get_many::<std::ffi::OsString>(setting.flag)?.cloned().collect();
    match matches.value_source(setting.flag)? {
        clap::parser::ValueSource::EnvVariable => Given::from_variable(setting, values),
        _ => Some(Given { setting: setting.flag, values, place: Place::Flag(setting.flag) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_setting_follow_from_its_flag() {
        for setting in ALL {
            let snake = setting.flag.replace('-', "_");
            let variable = format!("SECRETWATCH_{}", snake.to_uppercase());
            assert_eq!(setting.variable, variable);
            assert!(setting.key.is_none_or(|key| key == snake), "{snake}");
        }
    }

    #[test]
    fn flags_are_taken_with_all_their_values() {
        let command = <Raw as clap::Args>::augment_args(Command::new("test"));
        let line = ["test", "--volume", "a=/a,b", "--volume", "/b", "--allow-empty"];
        let matches = command.try_get_matches_from(line).unwrap();
        let raw = <Raw as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
        assert_eq!(raw.given(&VOLUME).unwrap().values, ["a=/a,b", "/b"]);
        assert_eq!(raw.given(&ALLOW_EMPTY).unwrap().values, [EVERY_VOLUME]);
        assert!(raw.given(&SOCKET).is_none());
    }
}
