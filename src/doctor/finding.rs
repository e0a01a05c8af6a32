//! One thing that was found, and how bad it is.

use std::path::PathBuf;

use super::code::Code;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Good to know.
    Note,
    /// Works now, and will bite.
    Warning,
    /// Never updates, or cannot be used at all.
    Error,
}

impl Severity {
    /// The word in output, JSON and documentation.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) code: Code,
    pub(crate) severity: Severity,
    /// The volume's name, where it is about one.
    pub(crate) volume: Option<String>,
    pub(crate) path: Option<PathBuf>,
    /// What was found, in one sentence.
    pub(crate) message: String,
}

impl Finding {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        let severity = code.severity();
        Self { code, severity, volume: None, path: None, message: message.into() }
    }

    pub(crate) fn of(mut self, volume: &str) -> Self {
        self.volume = Some(volume.to_owned());
        self
    }

    pub(crate) fn at(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// For what is elsewhere and only good to know.
    pub(crate) fn only_noted(mut self) -> Self {
        self.severity = Severity::Note;
        self
    }
}
