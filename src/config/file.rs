//! The TOML file.
//!
//! It is read into the same raw text as flags and variables, so that one set of checks serves all
//! three. Problems name the line and never show what stands there: it may be a misplaced secret.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::{Given, Place, Problem};
use super::run;
use super::setting::{ALL, CONFIG, Setting};

/// The largest file that is read: 64 volumes with long lists of keys fit many times.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Tables that may be there several times.
#[derive(Debug)]
pub(super) struct Kind {
    name: &'static str,
    /// What a table may hold.
    pub(super) keys: &'static [&'static str],
    /// Those that are lists.
    lists: &'static [&'static str],
    /// Those that are true or false.
    flags: &'static [&'static str],
}

const VOLUME: Kind = Kind {
    name: "volume",
    keys: &["name", "path", "require", "max_bytes", "allow_empty"],
    lists: &["require"],
    flags: &["allow_empty"],
};
const TARGET: Kind = Kind {
    name: "target",
    keys: &[
        "name",
        "volumes",
        "keys",
        "splay",
        "retry_min",
        "retry_max",
        "timeout",
        "first",
        "merge",
        "signal",
        "pid_file",
        "process",
        "which",
        "http",
        "method",
        "headers_file",
        "expect",
        "body",
        "exec",
    ],
    lists: &["volumes", "keys", "expect", "exec"],
    flags: &["first", "body"],
};
/// The one table that is there at most once.
pub(super) const RUN: Kind = Kind {
    name: "run",
    keys: &["signal", "restart", "stop_grace", "start_timeout", "env", "env_from"],
    lists: &["env", "env_from"],
    flags: &["restart"],
};
/// Top-level settings are never true or false.
const TOP: Kind = Kind { name: "", keys: &[], lists: &[], flags: &[] };

/// What the file holds, still unchecked.
#[derive(Debug, Default)]
pub(crate) struct File {
    settings: Vec<Given>,
    pub(crate) volumes: Vec<FileTable>,
    pub(crate) targets: Vec<FileTable>,
}

/// One `[[volume]]` or `[[target]]` table, still unchecked.
#[derive(Debug)]
pub(crate) struct FileTable {
    pub(crate) place: Place,
    values: Vec<Given>,
}

impl File {
    pub(crate) fn given(&self, setting: &Setting) -> Option<&Given> {
        self.settings.iter().find(|given| given.setting == setting.flag)
    }

    /// Reads the file, and collects what is wrong with it.
    pub(crate) fn read(path: &Path, place: &Place, problems: &mut Vec<Problem>) -> Self {
        match read_text(path) {
            Ok(text) => Parser { text: &text, file: Arc::new(path.to_owned()), problems }.file(),
            Err(message) => {
                problems.push(Problem::at(place, format!("{}: {message}", path.display())));
                Self::default()
            }
        }
    }
}

impl FileTable {
    pub(crate) fn given(&self, key: &str) -> Option<&Given> {
        self.values.iter().find(|given| given.setting == key)
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("the file is larger than {MAX_FILE_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())
}

struct Parser<'a> {
    text: &'a str,
    file: Arc<PathBuf>,
    problems: &'a mut Vec<Problem>,
}

impl Parser<'_> {
    fn file(mut self) -> File {
        let mut file = File::default();
        let text = self.text;
        match DeTable::parse(text) {
            Ok(table) => {
                for (key, value) in table.get_ref() {
                    self.top_level(&mut file, key, value);
                }
            }
            // The parser's messages are fixed phrases; its `Display` would show the line itself.
            Err(error) => {
                let line = error.span().map_or(1, |span| self.line(&span));
                self.problem(line, format!("not valid TOML: {}", error.message()));
            }
        }
        file
    }

    fn top_level(
        &mut self,
        file: &mut File,
        key: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let line = self.line(&key.span());
        let name = key.get_ref().as_ref();
        if name == VOLUME.name {
            return self.tables(&VOLUME, &mut file.volumes, line, value);
        }
        if name == TARGET.name {
            return self.tables(&TARGET, &mut file.targets, line, value);
        }
        if name == RUN.name {
            return self.run(file, line, value);
        }
        let keys = ALL.iter().filter_map(|setting| Some((setting, setting.key?)));
        let Some((setting, key)) = keys.clone().find(|(_, key)| *key == name) else {
            let known: Vec<_> = keys.map(|(_, key)| key).collect();
            let known = known.join(", ");
            let message = format!(
                "no such setting; there are: {known}, a [run] table, and [[volume]] and [[target]] \
                 tables"
            );
            return self.problem(line, message);
        };
        if let Some(values) = self.values(&TOP, key, line, value, setting.is_list) {
            let place = self.place(key, line);
            file.settings.push(Given { setting: setting.flag, values, place });
        }
    }

    fn run(&mut self, file: &mut File, line: usize, value: &Spanned<DeValue<'_>>) {
        let Some(entries) = value.get_ref().as_table() else {
            return self.problem(line, "the settings of `run` are written as one [run] table");
        };
        for (key, value) in entries {
            let line = self.line(&key.span());
            let known = run::ALL.iter().filter_map(|setting| Some((setting, setting.key?)));
            let Some((setting, key)) = known.into_iter().find(|(_, known)| *known == key.get_ref())
            else {
                let known = RUN.keys.join(", ");
                self.problem(line, format!("no such setting of `run`; there are: {known}"));
                continue;
            };
            if let Some(values) = self.values(&RUN, key, line, value, setting.is_list) {
                let place = self.place(key, line);
                file.settings.push(Given { setting: setting.flag, values, place });
            }
        }
    }

    fn tables(
        &mut self,
        kind: &Kind,
        into: &mut Vec<FileTable>,
        line: usize,
        value: &Spanned<DeValue<'_>>,
    ) {
        let name = kind.name;
        let Some(tables) = value.get_ref().as_array() else {
            let message = format!("{name}s are written as [[{name}]], with two brackets");
            return self.problem(line, message);
        };
        for table in tables.iter() {
            let line = self.line(&table.span());
            match table.get_ref().as_table() {
                Some(entries) => into.push(self.table(kind, line, entries)),
                None => {
                    self.problem(line, format!("{name}s are written as [[{name}]] tables"));
                }
            }
        }
    }

    fn table(&mut self, kind: &Kind, line: usize, entries: &DeTable<'_>) -> FileTable {
        let mut table = FileTable { place: self.place(kind.name, line), values: Vec::new() };
        for (key, value) in entries {
            let line = self.line(&key.span());
            let Some(key) = kind.keys.iter().find(|known| **known == key.get_ref()) else {
                let (name, known) = (kind.name, kind.keys.join(", "));
                self.problem(line, format!("no such setting of a {name}; there are: {known}"));
                continue;
            };
            if let Some(values) = self.values(kind, key, line, value, kind.lists.contains(key)) {
                table.values.push(Given { setting: key, values, place: self.place(key, line) });
            }
        }
        table
    }

    fn values(
        &mut self,
        kind: &Kind,
        key: &'static str,
        line: usize,
        value: &Spanned<DeValue<'_>>,
        is_list: bool,
    ) -> Option<Vec<OsString>> {
        let is_flag = kind.flags.contains(&key);
        let values = match value.get_ref() {
            DeValue::Array(array) if is_list => {
                array.iter().map(|item| scalar(item.get_ref())).collect()
            }
            DeValue::Boolean(flag) if is_flag => Some(vec![flag.to_string().into()]),
            _ if is_flag => None,
            single => scalar(single).map(|value| vec![value]),
        };
        if values.is_none() {
            let expected = match (is_flag, is_list) {
                (true, _) => "true or false",
                (_, true) => "a list of texts in quotes or of numbers",
                (_, false) => "a text in quotes or a number",
            };
            let place = self.place(key, line);
            self.problems.push(Problem::at(&place, format!("expected {expected}")));
        }
        values
    }

    fn place(&self, key: &'static str, line: usize) -> Place {
        Place::File { key, file: Arc::clone(&self.file), line }
    }

    fn problem(&mut self, line: usize, message: impl std::fmt::Display) {
        let file = self.file.display();
        self.problems.push(Problem::new(format!("--{} {file}:{line}: {message}", CONFIG.flag)));
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }
}

/// Text as it is, and numbers as they are written.
fn scalar(value: &DeValue<'_>) -> Option<OsString> {
    match value {
        DeValue::String(text) => Some(OsString::from(text.as_ref())),
        DeValue::Integer(number) => Some(number.to_string().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::setting::{ALLOW_UID, POLL_INTERVAL, SOCKET_MODE};
    use super::*;

    fn parse(text: &str) -> (File, Vec<String>) {
        let mut problems = Vec::new();
        let file = Arc::new(PathBuf::from("/sw.toml"));
        let file = Parser { text, file, problems: &mut problems }.file();
        let problems =
            problems.into_iter().map(|p| super::super::ConfigError::from(p).to_string()).collect();
        (file, problems)
    }

    #[test]
    fn settings_and_volumes_carry_their_lines() {
        let (file, problems) = parse(
            "socket_mode = 0o660\npoll_interval = \"5s\"\nallow_uid = [1000, 1001]\n\n\
             [[volume]]\nname = \"db\"\npath = \"/etc/db\"\nrequire = [\"user\"]\n\
             allow_empty = true\n",
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(file.given(&SOCKET_MODE).unwrap().values, ["0o660"]);
        let interval = file.given(&POLL_INTERVAL).unwrap();
        assert_eq!(interval.place.to_string(), "poll_interval (/sw.toml:2)");
        assert_eq!(file.given(&ALLOW_UID).unwrap().values, ["1000", "1001"]);
        let [volume] = file.volumes.as_slice() else { panic!("{:?}", file.volumes) };
        assert_eq!(volume.place.to_string(), "volume (/sw.toml:5)");
        assert_eq!(volume.given("path").unwrap().place.to_string(), "path (/sw.toml:7)");
        assert_eq!(volume.given("allow_empty").unwrap().values, ["true"]);
    }

    #[test]
    fn no_mistake_in_the_file_shows_what_stands_there() {
        for (text, expected) in [
            ("log_level = canary", "--config /sw.toml:1: not valid TOML: "),
            ("\npassword = \"canary\"", "--config /sw.toml:2: no such setting; there are: "),
            ("canary = 1", "no such setting; there are: "),
            ("canary", "not valid TOML"),
            ("socket = \"canary", "not valid TOML"),
            ("socket = \"\\canary\"", "not valid TOML"),
            ("socket = 1canary", "not valid TOML"),
            ("socket = [\"canary\"]", "socket (/sw.toml:1): expected a text in quotes or a number"),
            ("socket = { canary = 1 }", "expected a text in quotes"),
            ("allow_uid = [[\"canary\"]]", "expected a list of texts in quotes or of numbers"),
            ("volume = \"canary\"", "volumes are written as [[volume]]"),
            ("volume = [\"canary\"]", "volumes are written as [[volume]]"),
            ("[volume]\npath = \"canary\"", "with two brackets"),
            ("[[volume]]\ncanary = 1", "no such setting of a volume; there are: name, path, "),
            ("[[volume]]\nallow_empty = \"canary\"", "expected true or false"),
            (
                "socket = \"canary\"\nsocket = \"canary\"",
                "/sw.toml:2: not valid TOML: duplicate key",
            ),
            ("canary.a = 1\ncanary.a.b = 1", "not valid TOML"),
        ] {
            let (_, problems) = parse(text);
            let [problem] = problems.as_slice() else { panic!("{text}: {problems:?}") };
            assert!(problem.contains(expected), "{text}: {problem}");
            assert!(!problem.contains("canary"), "{text}: {problem}");
        }
    }

    #[test]
    fn unreadable_file_is_named_with_the_flag() {
        let mut problems = Vec::new();
        let _ = File::read(Path::new("/nowhere/sw.toml"), &Place::Flag("config"), &mut problems);
        let [problem] = problems.try_into().unwrap();
        let error = super::super::ConfigError::from(problem).to_string();
        assert!(error.starts_with("--config: /nowhere/sw.toml: No such file"), "{error}");
    }
}
