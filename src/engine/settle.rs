//! Settling: when a plain directory can be believed.
//!
//! A plain directory has no commit point, nor has a payload that changes under its `..data`, so what
//! is read may be half of what somebody is writing.
//! It is believed once two looks, [`SETTLE`] or more apart, have found the same.

use std::time::{Duration, Instant};

use crate::snapshot::Contents;

/// How long a plain directory has to be left alone before it is believed. Editors and copies write
/// a file in a few milliseconds.
pub(super) const SETTLE: Duration = Duration::from_millis(50);
/// How long a plain directory may keep changing before that is reported. It is looked at again
/// afterwards, too, but less often.
const MAX_SETTLE: Duration = Duration::from_secs(2);

/// What has been seen of a directory that has changed and is not believed yet.
#[derive(Default)]
pub(super) struct Settling {
    /// When it began to change.
    since: Option<Instant>,
    /// What was found, and when first.
    candidate: Option<(Contents, Instant)>,
}

/// Whether what was found can be believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It has been the same for long enough.
    Yes,
    /// It has to be looked at again.
    NotBefore(Instant),
    /// It has been changing for so long that somebody should know.
    Never,
}

impl Settling {
    /// Somebody has written into the directory: gives when to look, where a look may be due
    /// already. Writing without a pause does not put the look off for ever.
    pub(super) fn touched(&mut self, due: Option<Instant>, now: Instant) -> Instant {
        let since = *self.since.get_or_insert(now);
        let is_over = now.duration_since(since) >= MAX_SETTLE;
        due.filter(|_| is_over).unwrap_or(now + SETTLE)
    }

    /// Compares what was found with what was found before. Keeps it, unless it is settled.
    pub(super) fn offer(&mut self, contents: &mut Contents, now: Instant) -> Settled {
        let since = *self.since.get_or_insert(now);
        let same_since = match self.candidate.take() {
            Some((before, at)) if before.is_same(contents) => at,
            _ => now,
        };
        if now.duration_since(same_since) >= SETTLE {
            return Settled::Yes;
        }
        self.candidate = Some((std::mem::take(contents), same_since));
        if now.duration_since(since) > MAX_SETTLE {
            return Settled::Never;
        }
        Settled::NotBefore(same_since + SETTLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::contents;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn two_equal_looks_are_believed_only_some_time_apart() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        let mut look = |at| settling.offer(&mut contents([("k", "half")]), at);
        assert_eq!(look(start), Settled::NotBefore(start + SETTLE));
        assert_eq!(look(start + MOMENT), Settled::NotBefore(start + SETTLE));
        assert_eq!(look(start + SETTLE), Settled::Yes);
    }

    #[test]
    fn other_contents_begin_anew() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        settling.offer(&mut contents([("k", "1")]), start);
        let later = start + SETTLE;
        let settled = settling.offer(&mut contents([("k", "2")]), later);
        assert_eq!(settled, Settled::NotBefore(later + SETTLE));
    }

    #[test]
    fn directory_that_never_rests_is_reported() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        settling.offer(&mut contents([("k", "1")]), start);
        let late = start + MAX_SETTLE + MOMENT;
        assert_eq!(settling.offer(&mut contents([("k", "2")]), late), Settled::Never);
    }

    #[test]
    fn touches_put_a_look_off_only_for_a_while() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        assert_eq!(settling.touched(None, start), start + SETTLE);
        let soon = start + MOMENT;
        assert_eq!(settling.touched(Some(start + SETTLE), soon), soon + SETTLE);
        let late = start + MAX_SETTLE;
        assert_eq!(settling.touched(Some(late + MOMENT), late), late + MOMENT);
    }
}
