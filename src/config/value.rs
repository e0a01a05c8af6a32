//! Turns the text of one value into what it means, or says what is allowed.
//!
//! No message repeats the text: it may be a secret in the wrong place.

use std::ffi::OsStr;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use humantime::format_duration;
use tracing::level_filters::LevelFilter;

use super::{LogFormat, MAX_SOCKET_PATH_BYTES};
use crate::builder::Detector;
use crate::duration;

/// The outcome of one value: what it means, or what is wrong with it.
pub(super) type Parsed<T> = Result<T, String>;

pub(super) fn text(value: &OsStr) -> Parsed<&str> {
    value.to_str().ok_or_else(|| "the value is not UTF-8".to_owned())
}

pub(super) fn number<T>(value: &OsStr, range: &RangeInclusive<T>) -> Parsed<T>
where
    T: FromStr + PartialOrd + Display,
{
    let number = text(value)?.parse().ok().filter(|number| range.contains(number));
    number
        .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
        .map_err(expected)
}

pub(super) fn duration(value: &OsStr, range: &RangeInclusive<Duration>) -> Parsed<Duration> {
    let duration = duration::parse(text(value)?);
    duration.filter(|duration| range.contains(duration)).ok_or_else(|| {
        let (from, to) = (format_duration(*range.start()), format_duration(*range.end()));
        expected(format!("a time such as 500ms, 30s or 2m, from {from} to {to}"))
    })
}

/// Octal digits, as in `chmod`; `0o` in front is allowed because TOML writes it so.
pub(super) fn mode(value: &OsStr) -> Parsed<u32> {
    let text = text(value)?;
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or_else(|| expected("octal permissions from 0000 to 0777, such as 0660"))
}

pub(super) fn path(value: &OsStr) -> Parsed<PathBuf> {
    if value.is_empty() {
        return Err(expected("a path, not nothing"));
    }
    std::path::absolute(value).map_err(|e| format!("the path cannot be made absolute: {e}"))
}

pub(super) fn socket(value: &OsStr) -> Parsed<PathBuf> {
    let path = path(value)?;
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH_BYTES {
        return Err(format!(
            "the path has {length} bytes; the system allows sockets at most {MAX_SOCKET_PATH_BYTES}"
        ));
    }
    Ok(path)
}

/// An address and a port. Names other than `localhost` are refused: to look one up could block
/// the start, and could give another address than the one meant.
pub(super) fn address(value: &OsStr) -> Parsed<SocketAddr> {
    let text = text(value)?;
    let literal = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address = literal.as_deref().unwrap_or(text).parse();
    address.map_err(|_| expected("an IP address and a port, such as 0.0.0.0:9180 or [::]:9180"))
}

pub(super) fn detector(value: &OsStr) -> Parsed<Detector> {
    match text(value)? {
        "auto" => Ok(Detector::Auto),
        "poll" => Ok(Detector::Poll),
        _ => Err(expected("`auto` or `poll`")),
    }
}

pub(super) fn log_format(value: &OsStr) -> Parsed<LogFormat> {
    match text(value)? {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(expected("`text` or `json`")),
    }
}

pub(super) fn log_level(value: &OsStr) -> Parsed<LevelFilter> {
    match text(value)? {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(expected("`error`, `warn`, `info`, `debug`, `trace` or `off`")),
    }
}

fn expected(what: impl Display) -> String {
    format!("expected {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    #[test]
    fn mode_is_octal_in_every_spelling() {
        for text in ["0660", "660", "0o660"] {
            assert_eq!(mode(os(text)), Ok(0o660), "{text}");
        }
        for text in ["", "0o", "rw", "+600", "1777", "0888", "0x180"] {
            assert!(mode(os(text)).unwrap_err().contains("0000 to 0777"), "{text}");
        }
    }

    #[test]
    fn number_and_time_out_of_range_name_the_range() {
        assert_eq!(number(os("7"), &(1..=9)), Ok(7));
        for text in ["0", "10", "-1", "x", ""] {
            let error = number(os(text), &(1..=9)).unwrap_err();
            assert_eq!(error, "expected a whole number from 1 to 9");
        }
        let range = Duration::from_secs(1)..=Duration::from_secs(60);
        assert_eq!(duration(os("2s"), &range), Ok(Duration::from_secs(2)));
        for text in ["90", "2m", "0s", "soon"] {
            let error = duration(os(text), &range).unwrap_err();
            assert!(error.ends_with("from 1s to 1m"), "{error}");
        }
    }

    #[test]
    fn address_needs_no_name_lookup() {
        assert_eq!(address(os("localhost:80")), Ok(([127, 0, 0, 1], 80).into()));
        assert!(address(os("[::]:9180")).is_ok());
        for text in ["9180", "example.com:80", ":80", "1.2.3.4:99999"] {
            assert!(address(os(text)).unwrap_err().contains("0.0.0.0:9180"), "{text}");
        }
    }

    #[test]
    fn socket_path_is_absolute_and_fits_the_system() {
        assert!(socket(os("here.sock")).unwrap().is_absolute());
        assert!(socket(os("")).is_err());
        let long = format!("/{}", "x".repeat(MAX_SOCKET_PATH_BYTES));
        assert!(socket(os(&long)).unwrap_err().contains("at most 107"));
    }

    #[test]
    fn no_message_repeats_the_value() {
        let canary = os("canary-3f9c");
        let messages = [
            number(canary, &(1..=9)).unwrap_err(),
            duration(canary, &(Duration::ZERO..=Duration::MAX)).unwrap_err(),
            mode(canary).unwrap_err(),
            address(canary).unwrap_err(),
            detector(canary).unwrap_err(),
            log_format(canary).unwrap_err(),
            log_level(canary).unwrap_err(),
        ];
        assert!(messages.iter().all(|message| !message.contains("canary")), "{messages:?}");
    }
}
