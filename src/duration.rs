//! Durations as people write them, the same in flags, files and queries.

use std::time::Duration;

/// Reads `500ms`, `30s`, `1m 30s`, or a bare number of seconds.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| humantime::parse_duration(text).ok())
}

/// How much it is in its largest unit, rounded down, and the unit's first letter.
pub(crate) fn largest_unit(duration: Duration) -> (u64, char) {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => (seconds, 's'),
        60..3_600 => (seconds / 60, 'm'),
        3_600..86_400 => (seconds / 3_600, 'h'),
        _ => (seconds / 86_400, 'd'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_may_be_left_out_for_seconds() {
        assert_eq!(parse("30"), Some(Duration::from_secs(30)));
        assert_eq!(parse("1m 30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
    }

    #[test]
    fn what_is_no_duration_is_none() {
        for text in ["", "-1", "soon", "1.5", "1x", "99999999999999999999"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
