//! Tests of the whole way from text to [`Config`].

use std::fs;

use clap::{Args, Command, FromArgMatches};

use super::given::{Given, Place};
use super::*;
use crate::name::KeyName;

/// What the flags in `line` mean, without any variable of the environment that runs the tests.
fn load(line: &[&str]) -> Result<Config, ConfigError> {
    load_with(line, &[])
}

fn load_with(line: &[&str], variables: &[(&'static Setting, &str)]) -> Result<Config, ConfigError> {
    let command = Raw::augment_args(Command::new("t").no_binary_name(true));
    let command = setting::ALL.iter().fold(command, |command, setting| {
        command.mut_arg(setting.flag, |arg| arg.env(None::<&str>))
    });
    let matches = command.try_get_matches_from(line).unwrap();
    let flags = Raw::from_arg_matches(&matches).unwrap();
    let variables = variables.iter().filter(|(setting, _)| flags.given(setting).is_none());
    let variables =
        variables.filter_map(|(setting, text)| Given::from_variable(setting, vec![text.into()]));
    let given = setting::ALL.iter().filter_map(|setting| flags.given(setting).cloned());
    Config::load(&Raw::new(given.chain(variables).collect()))
}

fn error(line: &[&str]) -> String {
    load(line).unwrap_err().to_string()
}

struct TestFile(tempfile::TempDir);

impl TestFile {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("sw.toml"), text).unwrap();
        Self(dir)
    }

    fn flag(&self) -> String {
        format!("--config={}/sw.toml", self.0.path().display())
    }
}

#[test]
fn defaults_hold_where_only_a_volume_is_given() {
    let config = load(&["--volume", "/etc/db"]).unwrap();
    assert_eq!(config.socket, Path::new(DEFAULT_SOCKET));
    assert_eq!(config.socket_mode, 0o600);
    assert!(config.allow_uid.is_empty(), "the own user is always let in");
    assert_eq!(config.metrics_addr, None);
    assert_eq!(config.poll_interval, DEFAULT_POLL_INTERVAL);
    assert!(config.warnings().is_empty());
}

#[test]
fn defaults_are_those_in_the_help() {
    let defaults = load(&["--volume=/etc/db"]);
    let mut count = 0;
    for setting in setting::ALL {
        let Some((_, default)) = setting.help.split_once("[default: ") else { continue };
        let default = default.strip_suffix(']').unwrap();
        if default.contains(' ') {
            continue;
        }
        let flag = format!("--{}={default}", setting.flag);
        assert_eq!(load(&["--volume=/etc/db", &flag]), defaults, "{flag}");
        count += 1;
    }
    assert_eq!(count, 12);
}

#[test]
fn flag_wins_over_variable_over_file_over_default() {
    let file = TestFile::new(
        "poll_interval = \"1s\"\nlog_level = \"warn\"\nsocket_mode = 0o660\n\
         [[volume]]\npath = \"/etc/of-file\"\n",
    );
    let line = ["--poll-interval=3s", &file.flag()];
    let variables = [(&setting::POLL_INTERVAL, "2s"), (&setting::LOG_LEVEL, "debug")];
    let config = load_with(&line, &variables).unwrap();
    assert_eq!(config.poll_interval, Duration::from_secs(3));
    assert_eq!(config.log_level, LevelFilter::DEBUG);
    assert_eq!(config.socket_mode, 0o660);
    assert_eq!(config.max_connections, DEFAULT_MAX_CONNECTIONS);
    assert_eq!(config.volumes[0].name.as_str(), "of-file");
}

#[test]
fn volumes_of_flags_replace_those_of_the_file() {
    let file = TestFile::new("[[volume]]\npath = \"/etc/a\"\n");
    let config = load(&["--volume", "/etc/b", &file.flag()]).unwrap();
    let names: Vec<_> = config.volumes.iter().map(|volume| volume.name.as_str()).collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn rules_of_flags_replace_those_of_the_file_for_the_volumes_they_name() {
    let file = TestFile::new(
        "[[volume]]\nname = \"a\"\npath = \"/a\"\nrequire = [\"x\"]\nmax_bytes = 10\n\
         [[volume]]\nname = \"b\"\npath = \"/b\"\nrequire = [\"y\"]\nallow_empty = true\n",
    );
    let config = load(&["--require=a:z", "--require=a:k:1", &file.flag()]).unwrap();
    let keys =
        |at: usize| config.volumes[at].require.iter().map(KeyName::as_str).collect::<Vec<_>>();
    assert_eq!(keys(0), ["z", "k:1"]);
    assert_eq!(keys(1), ["y"]);
    assert_eq!(config.volumes[0].max_bytes, 10);
    assert!(config.volumes[1].allow_empty && !config.volumes[0].allow_empty);

    let config = load(&["--require=p", "--max-bytes=7", &file.flag()]).unwrap();
    assert!(config.volumes.iter().all(|v| v.require[0].as_str() == "p" && v.max_bytes == 7));
}

#[test]
fn empty_volumes_are_allowed_for_all_or_by_name() {
    let allowed = |flag: &str| {
        let config = load(&["--volume=/a", "--volume=/b", flag]).unwrap();
        config.volumes.iter().map(|volume| volume.allow_empty).collect::<Vec<_>>()
    };
    assert_eq!(allowed("--allow-empty"), [true, true]);
    assert_eq!(allowed("--allow-empty=b"), [false, true]);
    assert!(error(&["--volume=/a", "--allow-empty=c"]).ends_with("not configured; there are: a"));
}

#[test]
fn no_volume_says_what_to_do() {
    let error = error(&[]);
    assert!(error.starts_with("no volume to watch"), "{error}");
    for way in ["--volume [NAME=]DIR", "SECRETWATCH_VOLUME", "[[volume]]"] {
        assert!(error.contains(way), "{error}");
    }
}

#[test]
fn each_bad_value_names_its_setting_and_what_is_allowed() {
    for (flag, expected) in [
        ("--socket-mode=1777", "--socket-mode: expected octal permissions from 0000 to 0777"),
        ("--poll-interval=1ms", "--poll-interval: expected a time such as"),
        ("--poll-interval=1ms", "from 20ms to 1day"),
        ("--shutdown-timeout=1h", "--shutdown-timeout: expected a time"),
        ("--max-connections=0", "--max-connections: expected a whole number from 1 to 65536"),
        ("--max-bytes=0", "--max-bytes: expected a whole number from 1 to 8388608"),
        ("--allow-uid=root", "--allow-uid: expected a whole number from 0 to 4294967294"),
        ("--metrics-addr=9180", "--metrics-addr: expected an IP address and a port"),
        ("--detector=inotify", "--detector: expected `auto` or `poll`"),
        ("--log-format=xml", "--log-format: expected `text` or `json`"),
        ("--log-level=loud", "--log-level: expected `error`"),
        ("--require=x:key", "--require: it names a volume that is not configured; there are: db"),
        ("--require=a/../b", "--require: a required key cannot be named so"),
        ("--volume=db=/etc/other", "two volumes are named `db`: /etc/db and /etc/other"),
        ("--volume=again=/etc/db", "volumes `db` and `again` are the same directory /etc/db"),
    ] {
        let error = error(&["--volume=/etc/db", flag]);
        assert!(error.contains(expected), "{flag}: {error}");
    }
}

#[test]
fn place_of_a_bad_value_is_its_variable_or_its_line_and_never_the_value() {
    let canary = "canary-90b1";
    let settings = setting::ALL.iter().filter(|setting| {
        // Any text is a path, and any word a command.
        let any = [
            &setting::SOCKET,
            &setting::TOKEN_FILE,
            &setting::NOTIFY_EXEC,
            &setting::NOTIFY_PID_FILE,
            &setting::NOTIFY_PROCESS,
        ];
        !any.iter().any(|other| other.flag == setting.flag)
    });
    for setting in settings {
        let value = format!("{canary}:\n");
        let is_volume = setting.flag == setting::VOLUME.flag;
        let line: &[&str] = if is_volume { &[] } else { &["--volume=/etc/db"] };
        let error = load_with(line, &[(setting, &value)]).unwrap_err().to_string();
        let place = format!("--{} (from {})", setting.flag, setting.variable);
        assert!(error.contains(&place), "{error}");
        let is_path = setting.flag == setting::CONFIG.flag;
        assert!(is_path || !error.contains(canary), "{error}");
    }
    let file = TestFile::new(&format!("\nlog_level = \"{canary}\"\n[[volume]]\npath = \"/a\"\n"));
    let error = error(&[&file.flag()]);
    assert!(error.contains("log_level (") && error.contains("sw.toml:2): expected"), "{error}");
    assert!(!error.contains(canary), "{error}");
}

#[test]
fn all_mistakes_are_reported_together() {
    let error = error(&["--socket-mode=9", "--detector=x", "--volume="]);
    assert!(error.starts_with("3 settings cannot be used:\n"), "{error}");
}

#[test]
fn table_of_a_volume_is_checked_like_a_flag() {
    for (table, expected) in [
        ("name = \"db\"", "sw.toml:1): the table has no `path`"),
        ("path = \"/a\"\nname = \"a b\"", "sw.toml:3): the volume cannot be named so"),
        ("path = \"/a\"\nmax_bytes = 0", "sw.toml:3): expected a whole number from 1 to 8388608"),
        ("path = \"/a\"\nrequire = [\"..\"]", "require ("),
        ("path = \"\"", "path ("),
    ] {
        let file = TestFile::new(&format!("[[volume]]\n{table}\n"));
        let error = error(&[&file.flag()]);
        assert!(error.contains(expected), "{table}: {error}");
    }
}

#[test]
fn closed_socket_with_open_doors_is_a_warning() {
    let warnings = |line: &[&str]| {
        let line: Vec<_> = ["--volume=/a"].iter().chain(line).copied().collect();
        load(&line).unwrap().warnings().len()
    };
    assert_eq!(warnings(&["--allow-gid=7"]), 1);
    assert_eq!(warnings(&[&format!("--allow-uid={}", own_uid() + 1)]), 1);
    assert_eq!(warnings(&["--allow-gid=7", "--socket-mode=0660"]), 0);
    assert_eq!(warnings(&[&format!("--allow-uid={}", own_uid())]), 0);
}

#[test]
fn shown_configuration_is_a_file_that_means_the_same() {
    let config = load(&[
        "--volume=db=/etc/d\"b\n\u{7f}",
        "--volume=web=/etc/web",
        "--require=db:user",
        "--allow-empty=web",
        "--allow-gid=5",
        "--socket-mode=0660",
        "--metrics-addr=[::1]:9180",
        "--token-file=/run/token",
        "--poll-interval=1500ms",
        "--log-format=json",
        "--notify-http=http://localhost:8080/-/reload?a=b,c",
        "--notify-exec=kill '-HUP' \"a b\" {path}",
        "--notify-exec=true",
        "--notify-pid-file=/run/app.pid",
        "--notify-process=nginx",
        "--notify-signal=sigusr1",
        "--splay=30s",
    ])
    .unwrap();
    assert_eq!(config.targets.len(), 5);
    let file = TestFile::new(&config.to_string());
    assert_eq!(load(&[&file.flag()]), Ok(config));
}

#[test]
fn place_of_a_flag_is_the_flag() {
    assert_eq!(Place::Flag("socket").to_string(), "--socket");
}

fn with_target(table: &str) -> Result<Config, ConfigError> {
    let file = TestFile::new(&format!("splay = \"2s\"\n[[target]]\n{table}\n"));
    load(&["--volume=/etc/db", "--volume=/etc/web", &file.flag()])
}

#[test]
fn table_of_a_target_means_what_it_says() {
    let config = with_target(
        "name = \"app\"\nvolumes = [\"web\"]\nkeys = [\"tls.*\"]\nprocess = \"nginx\"\n\
         which = \"all\"\nsignal = \"USR1\"\nretry_min = \"1m\"\nfirst = true\nmerge = \"1s\"",
    );
    let config = config.unwrap();
    let rules = &config.targets[0].rules;
    assert_eq!((rules.name.as_str(), rules.volumes[0].as_str()), ("app", "web"));
    assert_eq!(rules.splay, Duration::from_secs(2));
    // The longest pause is never shorter than the first.
    assert_eq!(rules.retry_max, Duration::from_secs(60));
    assert!(rules.first && rules.keys[0].matches("tls.crt"));
    let file = TestFile::new(&config.to_string());
    assert_eq!(load(&[&file.flag()]), Ok(config));
}

#[test]
fn each_mistake_in_a_target_names_its_line_and_what_is_allowed() {
    for (table, expected) in [
        ("signal = \"HUP\"", "sw.toml:2): a target has exactly one of `pid_file`, `process`"),
        ("http = \"http://a/\"\nexec = [\"a\"]", "exactly one of"),
        ("http = \"https://canary/\"", "http (/"),
        ("http = \"https://canary/\"", "https is not supported"),
        ("exec = []", "exec (/"),
        ("exec = [\"\"]", "expected a list: the command"),
        ("pid_file = \"/p\"\nsignal = \"KILL\"", "sw.toml:4): KILL and STOP cannot be handled"),
        ("pid_file = \"/p\"\nsignal = \"canary\"", "such as HUP"),
        ("process = \"/usr/sbin/canary\"", "without its directory"),
        ("process = \"a\"\nwhich = \"canary\"", "expected `oldest` or `all`"),
        ("exec = [\"a\"]\nsignal = \"HUP\"", "it is for targets with `pid_file`, `process` only"),
        ("exec = [\"a\"]\nbody = true", "it is for targets with `http` only"),
        ("http = \"http://a/\"\nexpect = [\"canary\"]", "status codes from 100 to 599"),
        ("http = \"http://a/\"\nexpect = [299]\nmethod = \"canary\"", "expected GET, HEAD"),
        ("exec = [\"a\"]\nvolumes = [\"canary\"]", "not configured; there are: db, web"),
        ("exec = [\"a\"]\nkeys = [\"\"]", "expected a pattern of 1 to"),
        ("exec = [\"a\"]\ntimeout = \"canary\"", "timeout (/"),
        ("exec = [\"a\"]\nretry_min = \"1m\"\nretry_max = \"1s\"", "from 1m to 1day"),
        ("exec = [\"a\"]\nname = \"a b\"", "a target's name consists of"),
        ("exec = [\"a\"]\nname = \"child\"", "is the name of the command of `run`"),
        ("exec = [\"a\"]\nfirst = \"canary\"", "expected true or false"),
        ("exec = [\"a\"]\ncanary = 1", "no such setting of a target; there are: name, "),
        (
            "exec = [\"a\"]\nname = \"x\"\n[[target]]\nexec = [\"b\"]\nname = \"x\"",
            "two targets are named `x`",
        ),
    ] {
        let error = with_target(table).unwrap_err().to_string();
        assert!(error.contains(expected), "{table}: {error}");
        assert!(!error.contains("canary"), "{table}: {error}");
    }
    let error = error(&["--volume=/etc/db", "--notify-exec=sh -c 'canary"]);
    assert!(
        error.starts_with("--notify-exec: expected a command with its quotes closed"),
        "{error}"
    );
}

#[test]
fn targets_without_a_name_are_numbered_by_kind() {
    let config = load(&["--volume=/a", "--notify-exec=a", "--notify-exec=b", "--notify-process=c"]);
    let config = config.unwrap();
    let names: Vec<_> = config.targets.iter().map(|target| target.rules.name.as_str()).collect();
    assert_eq!(names, ["exec", "exec-2", "signal"]);
}
