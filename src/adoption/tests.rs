//! The ledger, with a clock that stands where a test puts it.

use super::*;
use crate::snapshot::tests::snapshot;

const HOUR: Duration = Duration::from_secs(60 * 60);
const EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);

/// A ledger, and the time since it was made.
struct Desk {
    ledger: Ledger,
    start: Now,
    passed: Duration,
}

impl Desk {
    /// With generations 1 to `generation`.
    fn new(generation: u64) -> Self {
        let start = Now::read();
        let ledger = Ledger::new(&snapshot(0, []), start.instant);
        let desk = Self { ledger, start, passed: Duration::ZERO };
        (1..=generation).for_each(|generation| desk.publish(generation));
        desk
    }

    fn now(&self) -> Now {
        let Now { instant, time } = self.start;
        Now { instant: instant + self.passed, time: time + self.passed }
    }

    fn publish(&self, generation: u64) {
        self.ledger.published(&snapshot(generation, [("k", "value")]), self.now().instant);
    }

    fn adopt(&self, consumer: &str, generation: u64) -> Result<Adoption, AdoptError> {
        let revision = format!("boot.{generation}");
        self.ledger.adopt(&name(consumer), &revision, self.now(), EXPIRY)
    }

    fn leave(&self, consumer: &str) -> bool {
        self.ledger.leave(&name(consumer), self.now().instant, EXPIRY)
    }

    fn look(&self) -> Adoptions {
        self.ledger.look(self.now().instant, EXPIRY)
    }

    fn names(&self) -> Vec<String> {
        self.look().consumers.iter().map(|known| known.consumer.to_string()).collect()
    }
}

fn name(text: &str) -> ConsumerName {
    text.parse().unwrap()
}

#[test]
fn everybody_has_adopted_once_each_known_consumer_has_and_not_before() {
    let desk = Desk::new(1);
    assert!(!desk.look().all_adopted(), "nobody is not everybody");
    desk.adopt("a", 1).unwrap();
    desk.adopt("b", 1).unwrap();
    assert!(desk.look().all_adopted());
    desk.publish(2);
    assert_eq!((desk.look().all_adopted(), desk.look().adopted()), (false, 0));
    desk.adopt("b", 2).unwrap();
    let now = desk.look();
    assert_eq!((now.all_adopted(), now.adopted(), now.generation), (false, 1, 2));
    assert!(now.is_adopted_by(&name("b")) && !now.is_adopted_by(&name("a")));
    desk.adopt("a", 2).unwrap();
    assert!(desk.look().all_adopted());
}

#[test]
fn same_revision_again_is_seen_and_not_adopted_again() {
    let mut desk = Desk::new(1);
    let first = desk.adopt("a", 1).unwrap();
    assert_eq!((first.adopted_at, first.seen_at), (desk.now().time, desk.now().time));
    desk.passed = HOUR;
    let again = desk.adopt("a", 1).unwrap();
    assert_eq!((again.adopted_at, again.seen_at), (first.adopted_at, desk.now().time));
}

#[test]
fn consumer_expires_when_it_was_not_seen_for_long_enough() {
    let mut desk = Desk::new(1);
    desk.adopt("silent", 1).unwrap();
    desk.adopt("faithful", 1).unwrap();
    desk.passed = EXPIRY - HOUR;
    assert_eq!(desk.look().next_expiry, Some(HOUR));
    desk.adopt("faithful", 1).unwrap();
    desk.publish(2);
    desk.adopt("faithful", 2).unwrap();
    assert!(!desk.look().all_adopted());
    desk.passed = EXPIRY - Duration::from_nanos(1);
    assert_eq!(desk.names(), ["faithful", "silent"]);
    desk.passed = EXPIRY;
    assert_eq!(desk.names(), ["faithful"]);
    assert!(desk.look().all_adopted());
    assert!(!desk.leave("silent"));
}

#[test]
fn lag_counts_from_the_rotation_that_left_the_consumer_behind() {
    let mut desk = Desk::new(1);
    desk.adopt("slow", 1).unwrap();
    desk.adopt("fast", 1).unwrap();
    assert_eq!(desk.look().lag, Duration::ZERO);
    desk.passed = HOUR;
    desk.publish(2);
    desk.passed = 2 * HOUR;
    desk.publish(3);
    desk.adopt("fast", 3).unwrap();
    desk.passed = 4 * HOUR;
    assert_eq!(desk.look().lag, 3 * HOUR);
    // It has caught up with the second, and is behind since the third.
    desk.adopt("slow", 2).unwrap();
    assert_eq!(desk.look().lag, 2 * HOUR);
    desk.adopt("slow", 3).unwrap();
    assert_eq!(desk.look().lag, Duration::ZERO);
}

#[test]
fn rollback_to_an_older_revision_is_recorded_as_it_is() {
    let mut desk = Desk::new(2);
    desk.adopt("a", 2).unwrap();
    desk.passed = HOUR;
    let adoption = desk.adopt("a", 1).unwrap();
    assert_eq!((adoption.generation, adoption.is_current), (1, false));
    assert_eq!(adoption.adopted_at, desk.now().time);
    assert_eq!((desk.look().all_adopted(), desk.look().lag), (false, HOUR));
}

#[test]
fn only_the_last_revisions_can_be_adopted() {
    let last = MAX_KNOWN_REVISIONS as u64 + 3;
    let desk = Desk::new(last);
    desk.adopt("a", 4).unwrap();
    for generation in [0, 3, last + 1] {
        let error = desk.adopt("a", generation).unwrap_err();
        let AdoptError::UnknownRevision { current, .. } = &error else { panic!("{error}") };
        assert_eq!(**current, *format!("boot.{last}"));
        assert!(error.to_string().contains("volume `db`"), "{error}");
    }
    let other = desk.ledger.adopt(&name("a"), "other.4", desk.now(), EXPIRY);
    assert!(matches!(other, Err(AdoptError::UnknownRevision { .. })));
    assert_eq!(desk.look().consumers[0].generation, 4);
}

#[test]
fn nothing_can_be_adopted_before_the_first_snapshot() {
    let desk = Desk::new(0);
    assert!(matches!(desk.adopt("a", 0), Err(AdoptError::NotReady { .. })));
    assert!(desk.look().consumers.is_empty());
    desk.publish(1);
    assert!(matches!(desk.adopt("a", 0), Err(AdoptError::UnknownRevision { .. })));
}

#[test]
fn consumers_are_bounded_until_one_leaves_or_expires() {
    let mut desk = Desk::new(1);
    for n in 0..MAX_CONSUMERS {
        desk.adopt(&format!("c{n}"), 1).unwrap();
    }
    assert!(matches!(desk.adopt("late", 1), Err(AdoptError::TooManyConsumers { .. })));
    desk.adopt("c0", 1).unwrap();
    assert!(desk.leave("c0") && !desk.leave("c0"));
    desk.adopt("late", 1).unwrap();
    assert!(desk.adopt("later", 1).is_err());
    desk.passed = EXPIRY;
    desk.adopt("later", 1).unwrap();
    assert_eq!(desk.names(), ["later"]);
}

#[test]
fn whatever_changes_the_answer_wakes_those_who_wait() {
    let desk = Desk::new(1);
    let is_woken = |change: &dyn Fn()| {
        let listener = desk.ledger.listen();
        change();
        event_listener::Listener::wait_timeout(listener, Duration::ZERO).is_some()
    };
    assert!(!is_woken(&|| ()));
    assert!(is_woken(&|| assert!(desk.adopt("a", 1).is_ok())));
    assert!(is_woken(&|| desk.publish(2)));
    assert!(is_woken(&|| assert!(desk.leave("a"))));
}
