//! What was given for a setting, where, and what is wrong with it.
//!
//! A problem never repeats the value: it may be a secret in the wrong place.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use super::setting::Setting;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The command line.
    Flag(&'static str),
    /// An environment variable.
    Variable { flag: &'static str, variable: &'static str },
    /// A line of the file, counted from 1.
    File { key: &'static str, file: Arc<PathBuf>, line: usize },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Variable { flag, variable } => write!(f, "--{flag} (from {variable})"),
            Self::File { key, file, line } => write!(f, "{key} ({}:{line})", file.display()),
        }
    }
}

/// One setting as it was given.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    /// The flag of the setting, or the key in a `[[volume]]` table.
    pub(crate) setting: &'static str,
    /// At least one, unless the file has an empty list.
    pub(crate) values: Vec<OsString>,
    pub(crate) place: Place,
}

impl Given {
    /// What a variable holds; an empty one counts as absent, because manifests cannot leave one
    /// out conditionally.
    pub(crate) fn from_variable(setting: &Setting, values: Vec<OsString>) -> Option<Self> {
        let values = if setting.has_commas() {
            values.iter().flat_map(split_at_commas).collect()
        } else {
            values
        };
        let values: Vec<_> = values.into_iter().filter(|value| !value.is_empty()).collect();
        let place = Place::Variable { flag: setting.flag, variable: setting.variable };
        (!values.is_empty()).then_some(Self { setting: setting.flag, values, place })
    }
}

/// In bytes, because a directory's name need not be UTF-8.
fn split_at_commas(list: &OsString) -> impl Iterator<Item = OsString> {
    list.as_bytes()
        .split(|&byte| byte == b',')
        .map(|part| OsString::from_vec(part.trim_ascii().to_vec()))
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(String);

impl Problem {
    pub(crate) fn at(place: &Place, message: impl fmt::Display) -> Self {
        Self(format!("{place}: {message}"))
    }

    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Everything that is wrong with the settings: never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError(Vec<Problem>);

impl ConfigError {
    /// The error, where there are problems.
    pub(crate) fn of(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [Problem(only)] = self.0.as_slice() {
            return f.write_str(only);
        }
        write!(f, "{} settings cannot be used:", self.0.len())?;
        self.0.iter().try_for_each(|Problem(text)| write!(f, "\n  {text}"))
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::super::setting::{SOCKET, VOLUME};
    use super::*;

    #[test]
    fn list_in_a_variable_is_split_and_a_single_path_is_not() {
        let list = Given::from_variable(&VOLUME, vec!["/a, b=/b,".into()]).unwrap();
        assert_eq!(list.values, ["/a", "b=/b"]);
        let path = Given::from_variable(&SOCKET, vec!["/a,b".into()]).unwrap();
        assert_eq!(path.values, ["/a,b"]);
        assert_eq!(path.place.to_string(), "--socket (from SECRETWATCH_SOCKET)");
    }

    #[test]
    fn empty_variable_counts_as_absent() {
        assert!(Given::from_variable(&SOCKET, vec!["".into()]).is_none());
        assert!(Given::from_variable(&VOLUME, vec![" ,".into()]).is_none());
    }

    #[test]
    fn several_problems_are_listed_and_one_stands_alone() {
        let problem = |flag| Problem::at(&Place::Flag(flag), "wrong");
        assert_eq!(ConfigError(vec![problem("a")]).to_string(), "--a: wrong");
        let both = ConfigError(vec![problem("a"), problem("b")]).to_string();
        assert_eq!(both, "2 settings cannot be used:\n  --a: wrong\n  --b: wrong");
    }
}
