//! Times and durations, as people read them.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime};

use crate::api::json::rfc3339;
use crate::duration::largest_unit;

/// A time to the second, and for programs to the millisecond. Nothing where the calendar has no
/// words for it.
pub(super) struct Stamp(pub(super) SystemTime);

impl Display for Stamp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(time) = rfc3339(self.0) else { return f.write_str("an unknown time") };
        let (date, clock) = time.split_once('T').unwrap_or((&time, ""));
        let clock = clock.split('.').next().unwrap_or(clock);
        write!(f, r#"<time datetime="{time}">{date} {clock} UTC</time>"#)
    }
}

/// How long ago a time was, and when that was.
pub(super) struct Ago(pub(super) SystemTime, pub(super) SystemTime);

impl Display for Ago {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(time, now) = *self;
        // A clock that was set back makes the future "now".
        let age = now.duration_since(time).unwrap_or_default();
        write!(f, "{} ago <small>{}</small>", Span(age), Stamp(time))
    }
}

/// A duration in its largest unit.
pub(super) struct Span(pub(super) Duration);

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (count, unit) = largest_unit(self.0);
        let unit = match unit {
            's' => "s",
            'm' => "min",
            'h' => "h",
            _ if count == 1 => "day",
            _ => "days",
        };
        write!(f, "{count} {unit}")
    }
}

/// How long one step of a rotation took, which may be less than a millisecond; nothing where the
/// clock went backwards meanwhile.
pub(super) struct Hop {
    took: Duration,
}

impl Hop {
    pub(super) fn between(from: SystemTime, to: SystemTime) -> Option<Self> {
        to.duration_since(from).ok().map(|took| Self { took })
    }
}

impl Display for Hop {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let micros = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX);
        match micros {
            0..10_000 => write!(f, "{}.{} ms", micros / 1_000, micros / 100 % 10),
            10_000..1_000_000 => write!(f, "{} ms", micros / 1_000),
            1_000_000..60_000_000 => {
                write!(f, "{}.{} s", micros / 1_000_000, micros / 100_000 % 10)
            }
            _ => write!(f, "{}", Span(self.took)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_has_its_unit() {
        for (millis, span, hop) in [
            (0, "0 s", "0.0 ms"),
            (9, "0 s", "9.0 ms"),
            (999, "0 s", "999 ms"),
            (59_900, "59 s", "59.9 s"),
            (60_000, "1 min", "1 min"),
            (7_200_000, "2 h", "2 h"),
            (86_400_000, "1 day", "1 day"),
            (864_000_000, "10 days", "10 days"),
        ] {
            let took = Duration::from_millis(millis);
            assert_eq!(Span(took).to_string(), span);
            assert_eq!(Hop { took }.to_string(), hop);
        }
    }

    #[test]
    fn time_outside_the_calendar_is_said_to_be_unknown() {
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(
            Stamp(now).to_string(),
            r#"<time datetime="1970-01-01T00:00:00.000Z">1970-01-01 00:00:00 UTC</time>"#
        );
        assert_eq!(Stamp(now - Duration::from_secs(1)).to_string(), "an unknown time");
        assert!(Hop::between(now, now - Duration::from_secs(1)).is_none());
    }
}
