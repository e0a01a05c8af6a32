//! Names: of a volume, of a key in it, and of a consumer of it.
//!
//! All end up in URLs, metric labels, log lines and JSON, so what a name may contain is decided
//! here once and nowhere else. A [`VolumeName`] and a [`ConsumerName`] are chosen by people and are
//! strict. A [`KeyName`] comes from a directory listing and is only refused where it could mislead a reader
//! of a log line or escape from the volume.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use thiserror::Error;

/// The longest volume name, and the longest component of a key: Kubernetes' own limit for both.
pub const MAX_NAME_BYTES: usize = 253;
/// The longest consumer name: a host name of Kubernetes (63) fits, and as a metric label it stays
/// readable.
pub const MAX_CONSUMER_BYTES: usize = 64;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing between the separators.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than [`MAX_NAME_BYTES`].
    #[error("a name has at most {MAX_NAME_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// A consumer name longer than [`MAX_CONSUMER_BYTES`].
    #[error("a consumer name has at most {MAX_CONSUMER_BYTES} bytes, this one has {0}")]
    ConsumerTooLong(usize),
    /// `.` and `..` mean something else to every tool that sees a path.
    #[error("`.` and `..` are not names")]
    Dots,
    /// A volume or consumer name outside `[A-Za-z0-9._-]`.
    #[error("a volume or consumer name consists of A-Z, a-z, 0-9, `.`, `_` and `-`, not {0:?}")]
    Character(char),
    /// A control character in a key, which could forge log lines.
    #[error("a key must not contain control characters")]
    Control,
    /// Not UTF-8.
    #[error("the name is not UTF-8")]
    NotUtf8,
    /// Names that begin with `..` belong to the kubelet.
    #[error("names that begin with `..` are reserved for the writer of the volume")]
    Reserved,
}

/// The configured name of a volume: 1 to [`MAX_NAME_BYTES`] of `[A-Za-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeName(Box<str>);

impl VolumeName {
    /// Takes the name from the last component of a directory's path.
    ///
    /// # Errors
    /// Where the path has no last component, or one that is no volume name.
    pub fn from_directory(path: &Path) -> Result<Self, NameError> {
        let last = path.file_name().unwrap_or_else(|| OsStr::new(""));
        last.to_str().ok_or(NameError::NotUtf8)?.parse()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_label(text)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name under which an app says what it uses: 1 to [`MAX_CONSUMER_BYTES`] of `[A-Za-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerName(Box<str>);

impl ConsumerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConsumerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_CONSUMER_BYTES {
            return Err(NameError::ConsumerTooLong(text.len()));
        }
        check_label(text)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a key: its path relative to the volume, such as `tls.crt` or `db/password`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(Box<str>);

impl KeyName {
    /// The name of `entry` in the directory `parent`, which is the volume itself where `None`.
    pub(crate) fn join(parent: Option<&Self>, entry: &OsStr) -> Result<Self, NameError> {
        let entry = entry.to_str().ok_or(NameError::NotUtf8)?;
        check_key_component(entry)?;
        Ok(Self(match parent {
            Some(parent) => format!("{parent}/{entry}").into(),
            None => entry.into(),
        }))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.split('/').try_for_each(check_key_component)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lets maps of keys be searched by text.
impl Borrow<str> for KeyName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

fn check_component(text: &str) -> Result<(), NameError> {
    match text {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Dots),
        _ if text.len() > MAX_NAME_BYTES => Err(NameError::TooLong(text.len())),
        _ => Ok(()),
    }
}

fn check_label(text: &str) -> Result<(), NameError> {
    check_component(text)?;
    text.chars().find(|&c| !is_label_character(c)).map_or(Ok(()), |c| Err(NameError::Character(c)))
}

fn check_key_component(text: &str) -> Result<(), NameError> {
    check_component(text)?;
    if text.chars().any(is_misleading) {
        return Err(NameError::Control);
    }
    if text.starts_with("..") {
        return Err(NameError::Reserved);
    }
    Ok(())
}

fn is_label_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Control characters, and the marks that reorder the text around them on a terminal.
pub(crate) fn is_misleading(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn directory_gives_its_last_component_as_name() {
        let name = VolumeName::from_directory(Path::new("/etc/my-generic-secret/")).unwrap();
        assert_eq!(name.as_str(), "my-generic-secret");
    }

    #[test]
    fn root_directory_has_no_name() {
        assert_eq!(VolumeName::from_directory(Path::new("/")), Err(NameError::Empty));
    }

    #[test]
    fn volume_name_refuses_what_a_url_or_label_could_misread() {
        for (text, error) in [
            ("", NameError::Empty),
            ("..", NameError::Dots),
            ("a/b", NameError::Character('/')),
            ("a b", NameError::Character(' ')),
            ("ü", NameError::Character('ü')),
        ] {
            assert_eq!(text.parse::<VolumeName>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn consumer_name_is_as_strict_as_that_of_a_volume_and_shorter() {
        let longest = "x".repeat(MAX_CONSUMER_BYTES);
        assert_eq!(longest.parse::<ConsumerName>().unwrap().as_str(), longest);
        for (text, error) in [
            ("", NameError::Empty),
            ("..", NameError::Dots),
            ("a/b", NameError::Character('/')),
            ("a\"b", NameError::Character('"')),
            (&"x".repeat(MAX_CONSUMER_BYTES + 1), NameError::ConsumerTooLong(65)),
        ] {
            assert_eq!(text.parse::<ConsumerName>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn key_component_refuses_hostile_names() {
        for (bytes, error) in [
            (&b"a\nb"[..], NameError::Control),
            (b"\xff", NameError::NotUtf8),
            (b"..data", NameError::Reserved),
            ("\u{202e}txt".as_bytes(), NameError::Control),
        ] {
            assert_eq!(KeyName::join(None, OsStr::from_bytes(bytes)), Err(error));
        }
    }

    proptest! {
        #[test]
        fn any_accepted_key_stays_below_the_volume(text in ".{0,40}") {
            if let Ok(key) = text.parse::<KeyName>() {
                let path = Path::new(key.as_str());
                prop_assert!(path.components().all(|c| matches!(c, std::path::Component::Normal(_))));
                prop_assert!(!key.as_str().chars().any(char::is_control));
            }
        }

        #[test]
        fn any_kubernetes_key_is_accepted(text in "[-_a-zA-Z0-9][-._a-zA-Z0-9]{0,252}") {
            prop_assert!(text.parse::<KeyName>().is_ok());
        }

        #[test]
        fn parsing_a_name_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = KeyName::join(None, OsStr::from_bytes(&bytes));
        }
    }
}
