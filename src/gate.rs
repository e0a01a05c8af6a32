//! The gate: decides whether what was read may replace what is served.
//!
//! It looks at contents and rules only; it does no I/O and reads no clock. [`Accepted`] can be made
//! nowhere else, and the store publishes nothing else, so unchecked contents cannot be published.

use crate::name::KeyName;
use crate::snapshot::Contents;
use crate::status::{Reason, Trouble};

/// What contents of a volume have to fulfil.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    /// Keys that have to be there.
    pub(crate) require: Vec<KeyName>,
    /// The most bytes that all values together may have.
    pub(crate) max_bytes: usize,
    /// Whether a volume without any key is a valid state.
    pub(crate) allow_empty: bool,
}

/// Contents that have passed the gate.
#[derive(Debug)]
pub(crate) struct Accepted(Contents);

impl Accepted {
    pub(crate) fn into_contents(self) -> Contents {
        self.0
    }

    #[cfg(test)]
    pub(crate) fn for_test(contents: Contents) -> Self {
        Self(contents)
    }
}

impl Gate {
    /// Lets contents pass, or says why not. What is rejected is wiped at once.
    pub(crate) fn judge(&self, contents: Contents) -> Result<Accepted, Trouble> {
        let missing: Vec<&str> = self
            .require
            .iter()
            .map(KeyName::as_str)
            .filter(|key| contents.get(key).is_none())
            .collect();
        if !missing.is_empty() {
            let detail = format!("required but not there: {}", missing.join(", "));
            return Err(Trouble::new(Reason::MissingKey, detail));
        }
        if contents.is_empty() && !self.allow_empty {
            return Err(Trouble::new(
                Reason::Empty,
                "there is no key in it; where that is a valid state, allow it with `allow_empty`",
            ));
        }
        let total = contents.total_bytes();
        if total > self.max_bytes {
            let detail = format!("{total} bytes of values, {} are allowed", self.max_bytes);
            return Err(Trouble::new(Reason::TooLarge, detail));
        }
        Ok(Accepted(contents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::contents;

    fn gate() -> Gate {
        Gate { require: Vec::new(), max_bytes: 100, allow_empty: false }
    }

    #[test]
    fn contents_within_the_rules_pass() {
        let gate = Gate { require: vec!["a".parse().unwrap()], ..gate() };
        assert!(gate.judge(contents([("a", "1"), ("b", "2")])).is_ok());
    }

    #[test]
    fn every_missing_key_is_named() {
        let require = ["a", "b", "c"].map(|key| key.parse().unwrap()).to_vec();
        let trouble = Gate { require, ..gate() }.judge(contents([("b", "2")])).unwrap_err();
        assert_eq!(trouble.reason, Reason::MissingKey);
        assert_eq!(trouble.detail, "required but not there: a, c");
    }

    #[test]
    fn limit_counts_all_values_together() {
        let gate = Gate { max_bytes: 4, ..gate() };
        assert!(gate.judge(contents([("a", "12"), ("b", "34")])).is_ok());
        let trouble = gate.judge(contents([("a", "12"), ("b", "345")])).unwrap_err();
        assert_eq!(trouble.reason, Reason::TooLarge);
    }

    #[test]
    fn empty_volume_is_held_unless_allowed() {
        assert_eq!(gate().judge(contents([])).unwrap_err().reason, Reason::Empty);
        assert!(Gate { allow_empty: true, ..gate() }.judge(contents([])).is_ok());
    }
}
