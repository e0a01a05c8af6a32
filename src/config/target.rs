//! Whom to tell of a change, and how.
//!
//! Flags or variables, where any is given, replace the targets of the file as a whole.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Method;
use nix::sys::signal::Signal;

use super::VolumeConfig;
use super::file::{File, FileTable};
use super::given::{Given, Place, Problem};
use super::setting::{
    NOTIFY_EXEC, NOTIFY_HTTP, NOTIFY_PID_FILE, NOTIFY_PROCESS, NOTIFY_SIGNAL, Raw,
};
use super::value::{self, Parsed};
use crate::name::VolumeName;
use crate::process::{Which, parse_signal};
use crate::reload::{KeyPattern, Receiver, Rules, Url};
use crate::supervise::TARGET as CHILD;

/// More targets than this are a mistake: each is a task with a pass over every rotation.
const MAX_TARGETS: usize = 64;
/// Replicas that are spread further than this are no longer rotated together.
const MAX_SPLAY: Duration = Duration::from_secs(3600);
/// Shorter pauses and limits would only keep both sides busy.
const MIN_TIME: Duration = Duration::from_millis(10);
/// Nobody waits longer for one attempt.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// A rotation that is tried again once a day is hardly tried again.
const MAX_RETRY: Duration = Duration::from_secs(24 * 3600);
/// Whoever waits longer than this for another volume wants two calls.
const MAX_MERGE: Duration = Duration::from_secs(60);
/// The kernel's own limit for a name in `comm` is 15; that of a file is this.
const MAX_PROCESS_NAME_BYTES: usize = 255;

/// One target, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetConfig {
    pub(crate) rules: Rules,
    pub(crate) action: ActionConfig,
}

/// How a target is told.
#[expect(clippy::large_enum_variant, reason = "there are few of them, made once")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ActionConfig {
    Signal {
        receiver: Receiver,
        signal: Signal,
    },
    Http {
        url: Url,
        method: Method,
        headers_file: Option<PathBuf>,
        expect: Vec<RangeInclusive<u16>>,
        body: bool,
    },
    /// At least one word.
    Exec {
        argv: Vec<String>,
    },
}

impl ActionConfig {
    fn kind(&self) -> &'static str {
        match self {
            Self::Signal { .. } => "signal",
            Self::Http { .. } => "http",
            Self::Exec { .. } => "exec",
        }
    }

    fn http(url: Url) -> Self {
        let (method, expect) = (Method::POST, vec![200..=299]);
        Self::Http { url, method, headers_file: None, expect, body: false }
    }
}

/// Checks the targets, and collects what is wrong with them.
pub(super) fn check(
    raw: &Raw,
    file: &File,
    volumes: &[VolumeConfig],
    splay: Duration,
    problems: &mut Vec<Problem>,
) -> Vec<TargetConfig> {
    let flags = [&NOTIFY_HTTP, &NOTIFY_EXEC, &NOTIFY_PID_FILE, &NOTIFY_PROCESS];
    let is_given = flags.iter().any(|setting| raw.given(setting).is_some());
    let mut targets = of_flags(raw, splay, problems);
    if !is_given {
        for table in &file.targets {
            let name = Table { table, problems, volumes }.target(splay);
            targets.extend(name.map(|target| (table.place.clone(), target)));
        }
    }
    if targets.len() > MAX_TARGETS {
        let message = format!("{} targets; at most {MAX_TARGETS} can be told", targets.len());
        problems.push(Problem::new(message));
    }
    named(targets, problems)
}

/// Gives those without a name that of their kind, numbered from the second one on.
fn named(targets: Vec<(Place, TargetConfig)>, problems: &mut Vec<Problem>) -> Vec<TargetConfig> {
    let given = |(_, target): &(Place, TargetConfig)| target.rules.name.clone();
    let mut taken: HashSet<String> = HashSet::new();
    let chosen: HashSet<String> = targets.iter().map(given).collect();
    let mut named = Vec::new();
    for (place, mut target) in targets {
        let name = &mut target.rules.name;
        if name.is_empty() {
            let kind = target.action.kind();
            let mut names = (1..).map(|n| if n == 1 { kind.into() } else { format!("{kind}-{n}") });
            let free = names.find(|name| !taken.contains(name) && !chosen.contains(name));
            *name = free.unwrap_or_default();
        } else if name == CHILD {
            let message =
                format!("`{CHILD}` is the name of the command of `run`; give another name");
            problems.push(Problem::at(&place, message));
        } else if taken.contains(name) {
            let message = format!("two targets are named `{name}`; give one another name");
            problems.push(Problem::at(&place, message));
        }
        taken.insert(name.clone());
        named.push(target);
    }
    named
}

fn of_flags(raw: &Raw, splay: Duration, problems: &mut Vec<Problem>) -> Vec<(Place, TargetConfig)> {
    let signal = raw.given(&NOTIFY_SIGNAL).map_or(Ok(Signal::SIGHUP), |given| {
        single(given, signal).map_err(|message| problems.push(Problem::at(&given.place, message)))
    });
    let signal = signal.unwrap_or(Signal::SIGHUP);
    let receiver = |receiver| ActionConfig::Signal { receiver, signal };
    let mut targets = Vec::new();
    let mut each = |setting, parse: &dyn Fn(&OsStr) -> Parsed<ActionConfig>| {
        let Some(given): Option<&Given> = raw.given(setting) else { return };
        for value in &given.values {
            match parse(value) {
                Ok(action) => {
                    let rules = Rules { splay, ..Rules::new("") };
                    targets.push((given.place.clone(), TargetConfig { rules, action }));
                }
                Err(message) => problems.push(Problem::at(&given.place, message)),
            }
        }
    };
    each(&NOTIFY_HTTP, &|value| url(value).map(ActionConfig::http));
    each(&NOTIFY_EXEC, &|value| command(value).map(|argv| ActionConfig::Exec { argv }));
    each(&NOTIFY_PID_FILE, &|value| value::path(value).map(Receiver::PidFile).map(receiver));
    each(&NOTIFY_PROCESS, &|value| {
        let name = process(value)?;
        Ok(receiver(Receiver::Named { name, which: Which::Oldest }))
    });
    targets
}

/// A `[[target]]` table while it is checked.
struct Table<'a> {
    table: &'a FileTable,
    volumes: &'a [VolumeConfig],
    problems: &'a mut Vec<Problem>,
}

impl Table<'_> {
    fn target(mut self, splay: Duration) -> Option<TargetConfig> {
        let defaults = Rules::new(self.one("name", name).unwrap_or_default());
        let time = |range: RangeInclusive<Duration>| move |v: &OsStr| value::duration(v, &range);
        let retry_min = self.one("retry_min", time(MIN_TIME..=MAX_RETRY));
        let retry_min = retry_min.unwrap_or(defaults.retry_min);
        let retry_max = self.one("retry_max", time(retry_min..=MAX_RETRY));
        let volumes = self.volumes;
        let rules = Rules {
            volumes: self.list("volumes", |value| volume(value, volumes)),
            keys: self.list("keys", |value| KeyPattern::parse(value::text(value)?)),
            splay: self.one("splay", self::splay).unwrap_or(splay),
            retry_min,
            retry_max: retry_max.unwrap_or(defaults.retry_max.max(retry_min)),
            timeout: self.one("timeout", time(MIN_TIME..=MAX_TIMEOUT)).unwrap_or(defaults.timeout),
            first: self.flag("first"),
            merge: self.one("merge", time(Duration::ZERO..=MAX_MERGE)).unwrap_or_default(),
            ..defaults
        };
        let action = self.action()?;
        Some(TargetConfig { rules, action })
    }

    fn action(&mut self) -> Option<ActionConfig> {
        let kinds = ["pid_file", "process", "http", "exec"];
        let mut given = kinds.into_iter().filter(|kind| self.table.given(kind).is_some());
        let (Some(kind), None) = (given.next(), given.next()) else {
            let message = "a target has exactly one of `pid_file`, `process`, `http` and `exec`";
            self.problems.push(Problem::at(&self.table.place, message));
            return None;
        };
        self.refuse_settings_of_others(kind);
        match kind {
            "http" => self.http(),
            "exec" => {
                let argv = self.list("exec", |value| word(value).map(str::to_owned));
                if argv.first().is_none_or(String::is_empty) {
                    self.wrong("exec", "expected a list: the command and its arguments");
                    return None;
                }
                Some(ActionConfig::Exec { argv })
            }
            _ => {
                let receiver = match kind {
                    "pid_file" => self.one("pid_file", value::path).map(Receiver::PidFile),
                    _ => {
                        let which = self.one("which", which).unwrap_or(Which::Oldest);
                        self.one("process", process).map(|name| Receiver::Named { name, which })
                    }
                };
                let signal = self.one("signal", signal).unwrap_or(Signal::SIGHUP);
                Some(ActionConfig::Signal { receiver: receiver?, signal })
            }
        }
    }

    fn http(&mut self) -> Option<ActionConfig> {
        let method = self.one("method", method).unwrap_or(Method::POST);
        let headers_file = self.one("headers_file", value::path);
        let mut expect = self.list("expect", statuses);
        if expect.is_empty() {
            expect.push(200..=299);
        }
        let body = self.flag("body");
        Some(ActionConfig::Http { url: self.one("http", url)?, method, headers_file, expect, body })
    }

    /// A setting that has no effect is a mistake.
    fn refuse_settings_of_others(&mut self, kind: &str) {
        let owners = [
            ("signal", &["pid_file", "process"][..]),
            ("which", &["process"]),
            ("method", &["http"]),
            ("headers_file", &["http"]),
            ("expect", &["http"]),
            ("body", &["http"]),
        ];
        for (key, owners) in owners {
            if !owners.contains(&kind) {
                self.wrong(key, &format!("it is for targets with `{}` only", owners.join("`, `")));
            }
        }
    }

    /// Says that a setting is wrong, if it is given.
    fn wrong(&mut self, key: &str, message: &str) {
        if let Some(given) = self.table.given(key) {
            self.problems.push(Problem::at(&given.place, message));
        }
    }

    fn one<T>(&mut self, key: &str, parse: impl Fn(&OsStr) -> Parsed<T>) -> Option<T> {
        let given = self.table.given(key)?;
        let parsed = single(given, parse);
        parsed.map_err(|message| self.problems.push(Problem::at(&given.place, message))).ok()
    }

    fn list<T>(&mut self, key: &str, parse: impl Fn(&OsStr) -> Parsed<T>) -> Vec<T> {
        let Some(given) = self.table.given(key) else { return Vec::new() };
        let parsed: Parsed<Vec<T>> = given.values.iter().map(|value| parse(value)).collect();
        parsed.unwrap_or_else(|message| {
            self.problems.push(Problem::at(&given.place, message));
            Vec::new()
        })
    }

    fn flag(&self, key: &str) -> bool {
        self.table.given(key).is_some_and(|given| given.values.iter().any(|v| v == "true"))
    }
}

fn single<T>(given: &Given, parse: impl Fn(&OsStr) -> Parsed<T>) -> Parsed<T> {
    parse(given.values.first().map_or(OsStr::new(""), |value| value.as_os_str()))
}

pub(super) fn splay(value: &OsStr) -> Parsed<Duration> {
    value::duration(value, &(Duration::ZERO..=MAX_SPLAY))
}

/// The same rules as for a volume: the name becomes a label and a cell.
fn name(value: &OsStr) -> Parsed<String> {
    let name: Result<VolumeName, _> = value::text(value)?.parse();
    let wrong = "a target's name consists of A-Z, a-z, 0-9, `.`, `_` and `-`";
    name.map(|name| name.as_str().to_owned()).map_err(|_| wrong.to_owned())
}

fn volume(value: &OsStr, volumes: &[VolumeConfig]) -> Parsed<VolumeName> {
    let found = volumes.iter().find(|volume| volume.name.as_str() == value);
    found.map(|volume| volume.name.clone()).ok_or_else(|| {
        let names: Vec<_> = volumes.iter().map(|volume| volume.name.as_str()).collect();
        format!("it names a volume that is not configured; there are: {}", names.join(", "))
    })
}

fn url(value: &OsStr) -> Parsed<Url> {
    Url::parse(value::text(value)?)
}

fn signal(value: &OsStr) -> Parsed<Signal> {
    parse_signal(value::text(value)?)
}

fn command(value: &OsStr) -> Parsed<Vec<String>> {
    let words =
        shlex::split(word(value)?).filter(|words| words.first().is_some_and(|w| !w.is_empty()));
    words.ok_or_else(|| "expected a command with its quotes closed, as in a shell".to_owned())
}

fn word(value: &OsStr) -> Parsed<&str> {
    let text = value::text(value)?;
    if text.contains('\0') { Err("a NUL byte can be in no argument".to_owned()) } else { Ok(text) }
}

fn process(value: &OsStr) -> Parsed<String> {
    let name = value::text(value)?;
    let is_name = !name.is_empty()
        && name.len() <= MAX_PROCESS_NAME_BYTES
        && !name.chars().any(|c| c == '/' || c.is_control());
    let wrong = "expected the name of an executable file, without its directory, such as nginx";
    if is_name { Ok(name.to_owned()) } else { Err(wrong.to_owned()) }
}

fn which(value: &OsStr) -> Parsed<Which> {
    match value::text(value)? {
        "oldest" => Ok(Which::Oldest),
        "all" => Ok(Which::All),
        _ => Err("expected `oldest` or `all`".to_owned()),
    }
}

fn method(value: &OsStr) -> Parsed<Method> {
    let known =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let text = value::text(value)?;
    let found = known.into_iter().find(|method| method.as_str() == text);
    found.ok_or_else(|| "expected GET, HEAD, POST, PUT, PATCH or DELETE".to_owned())
}

fn statuses(value: &OsStr) -> Parsed<RangeInclusive<u16>> {
    let text = value::text(value)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.parse().ok().filter(|code| (100..=599).contains(code));
    let range = code(first).zip(code(last)).map(|(first, last)| first..=last);
    range.filter(|range| !range.is_empty()).ok_or_else(|| {
        "expected status codes from 100 to 599, such as \"204\" or \"200-299\"".to_owned()
    })
}
