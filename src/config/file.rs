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

/// What a `[[volume]]` table may hold.
const VOLUME_KEYS: [&str; 5] = ["name", "path", "require", "max_bytes", "allow_empty"];

/// What is true or false.
const SWITCHES: [&str; 2] = ["allow_empty", "restart"];

/// What the file holds, still unchecked.
#[derive(Debug, Default)]
pub(crate) struct File {
    settings: Vec<Given>,
    pub(crate) volumes: Vec<FileVolume>,
}

/// One `[[volume]]` table, still unchecked.
#[derive(Debug)]
pub(crate) struct FileVolume {
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

impl FileVolume {
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
        if name == "volume" {
            return self.volumes(file, line, value);
        }
        if name == "run" {
            return self.run(file, line, value);
        }
        let keys = ALL.iter().filter_map(|setting| Some((setting, setting.key?)));
        let Some((setting, key)) = keys.clone().find(|(_, key)| *key == name) else {
            let known: Vec<_> = keys.map(|(_, key)| key).collect();
            let known = known.join(", ");
            let message = format!(
                "no such setting; there are: {known}, a [run] table, and [[volume]] tables"
            );
            return self.problem(line, message);
        };
        self.setting(file, setting, key, line, value);
    }

    fn setting(
        &mut self,
        file: &mut File,
        setting: &Setting,
        key: &'static str,
        line: usize,
        value: &Spanned<DeValue<'_>>,
    ) {
        if let Some(values) = self.values(key, line, value, setting.is_list) {
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
            match known.clone().find(|(_, known)| *known == key.get_ref()) {
                Some((setting, key)) => self.setting(file, setting, key, line, value),
                None => {
                    let known: Vec<_> = known.map(|(_, key)| key).collect();
                    let known = known.join(", ");
                    self.problem(line, format!("no such setting of `run`; there are: {known}"));
                }
            }
        }
    }

    fn volumes(&mut self, file: &mut File, line: usize, value: &Spanned<DeValue<'_>>) {
        let Some(tables) = value.get_ref().as_array() else {
            return self.problem(line, "volumes are written as [[volume]], with two brackets");
        };
        for table in tables.iter() {
            let line = self.line(&table.span());
            match table.get_ref().as_table() {
                Some(entries) => {
                    let volume = self.volume(line, entries);
                    file.volumes.push(volume);
                }
                None => self.problem(line, "volumes are written as [[volume]] tables"),
            }
        }
    }

    fn volume(&mut self, line: usize, entries: &DeTable<'_>) -> FileVolume {
        let mut volume = FileVolume { place: self.place("volume", line), values: Vec::new() };
        for (key, value) in entries {
            let line = self.line(&key.span());
            let Some(key) = VOLUME_KEYS.into_iter().find(|known| *known == key.get_ref()) else {
                let known = VOLUME_KEYS.join(", ");
                self.problem(line, format!("no such setting of a volume; there are: {known}"));
                continue;
            };
            if let Some(values) = self.values(key, line, value, key == "require") {
                volume.values.push(Given { setting: key, values, place: self.place(key, line) });
            }
        }
        volume
    }

    fn values(
        &mut self,
        key: &'static str,
        line: usize,
        value: &Spanned<DeValue<'_>>,
        is_list: bool,
    ) -> Option<Vec<OsString>> {
        let values = match value.get_ref() {
            DeValue::Array(array) if is_list => {
                array.iter().map(|item| scalar(item.get_ref())).collect()
            }
            DeValue::Boolean(flag) if SWITCHES.contains(&key) => {
                Some(vec![flag.to_string().into()])
            }
            _ if SWITCHES.contains(&key) => None,
            single => scalar(single).map(|value| vec![value]),
        };
        if values.is_none() {
            let expected = match (SWITCHES.contains(&key), is_list) {
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
