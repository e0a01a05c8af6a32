//! The query string: which parameters a route takes, and what they may be.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::extract::Query as Pairs;
use axum::http::Uri;

use super::problem::{Problem, shown};
use crate::adoption::MAX_CONSUMERS;
use crate::duration;
use crate::name::ConsumerName;

/// The longest that a request may wait. Proxies and clients give up before that.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(300);
/// How long a request waits that does not say.
pub(super) const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// How often the page may load itself again, in seconds: more often nobody can read it.
const REFRESH: RangeInclusive<u32> = 5..=3600;

/// How values are put into JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Format {
    /// Every value in base64, as in Kubernetes.
    #[default]
    Base64,
    /// UTF-8 values as text, all others in base64.
    Text,
}

/// The parameters of a request for a volume or a key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) format: Format,
    pub(super) wait: Option<Wait>,
}

/// A long poll: answer once the revision is another than this one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) after: String,
    pub(super) timeout: Duration,
}

impl Query {
    /// Reads the parameters `allowed`, of `format`, `after` and `timeout`.
    pub(super) fn parse(uri: &Uri, allowed: &[&str]) -> Result<Self, Problem> {
        let mut query = Self::default();
        let (mut format, mut after, mut timeout) = (None, None, None);
        for (name, value) in pairs(uri)? {
            let slot = match name.as_str() {
                _ if !allowed.contains(&name.as_str()) => return Err(unknown(&name, allowed)),
                "format" => &mut format,
                "after" => &mut after,
                _ => &mut timeout,
            };
            if slot.replace(value).is_some() {
                return Err(Problem::query(format!("parameter `{name}` is there twice")));
            }
        }
        if let Some(format) = format {
            query.format = parse_format(&format)?;
        }
        let timeout = timeout.map(|text| parse_timeout(&text)).transpose()?;
        query.wait = match (after, timeout) {
            (Some(after), _) if after.is_empty() => {
                return Err(Problem::query("parameter `after` is empty; a revision is needed"));
            }
            (Some(after), timeout) => {
                Some(Wait { after, timeout: timeout.unwrap_or(DEFAULT_WAIT) })
            }
            (None, Some(_)) => {
                let message = "parameter `timeout` has a meaning only with `after=<revision>`";
                return Err(Problem::query(message));
            }
            (None, None) => None,
        };
        Ok(query)
    }
}

/// A long poll for adoption: answer once everybody who is known has adopted the current revision.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AdoptedWait {
    /// The current revision has to be another than this one.
    pub(super) after: Option<String>,
    /// These have to be among those who have adopted it.
    pub(super) consumers: Vec<ConsumerName>,
    pub(super) timeout: Duration,
}

impl AdoptedWait {
    /// Reads `wait=adopted` and what goes with it; `None` where there is no parameter.
    pub(super) fn parse(uri: &Uri) -> Result<Option<Self>, Problem> {
        let (mut wait, mut after, mut timeout, mut consumers) = (None, None, None, Vec::new());
        for (name, value) in pairs(uri)? {
            let slot = match name.as_str() {
                "wait" => &mut wait,
                "after" => &mut after,
                "timeout" => &mut timeout,
                "consumer" if consumers.len() < MAX_CONSUMERS => {
                    let consumer = value.parse().map_err(|e| Problem::consumer(&value, &e))?;
                    consumers.push(consumer);
                    continue;
                }
                "consumer" => {
                    let message =
                        format!("at most {MAX_CONSUMERS} parameters `consumer` are allowed");
                    return Err(Problem::query(message));
                }
                _ => return Err(unknown(&name, &["wait", "after", "consumer", "timeout"])),
            };
            if slot.replace(value).is_some() {
                return Err(Problem::query(format!("parameter `{name}` is there twice")));
            }
        }
        let timeout = timeout.map(|text| parse_timeout(&text)).transpose()?;
        match wait.as_deref() {
            Some("adopted") => {
                let timeout = timeout.unwrap_or(DEFAULT_WAIT);
                Ok(Some(Self { after, consumers, timeout }))
            }
            Some(other) => Err(Problem::query(format!(
                "parameter `wait` is {}; `adopted` is allowed",
                shown(other)
            ))),
            None if after.is_none() && timeout.is_none() && consumers.is_empty() => Ok(None),
            None => Err(Problem::query(
                "parameters `after`, `consumer` and `timeout` have a meaning only with `wait=adopted`",
            )),
        }
    }
}

/// The values of `name`, for a route that takes this parameter, several times, and no other.
pub(super) fn repeated(uri: &Uri, name: &str) -> Result<Vec<String>, Problem> {
    let value = |(found, value): (String, String)| {
        if found == name { Ok(value) } else { Err(unknown(&found, &[name])) }
    };
    pairs(uri)?.into_iter().map(value).collect()
}

/// After how many seconds the page is to load itself again, if at all.
pub(super) fn refresh(uri: &Uri) -> Result<Option<u32>, Problem> {
    let values = repeated(uri, "refresh")?;
    let Some(text) = values.last() else { return Ok(None) };
    let seconds = text.parse().ok().filter(|seconds| REFRESH.contains(seconds));
    seconds.map(Some).ok_or_else(|| {
        let (text, least, most) = (shown(text), REFRESH.start(), REFRESH.end());
        Problem::query(format!(
            "parameter `refresh` is {text}; {least} to {most} seconds are allowed"
        ))
    })
}

/// Refuses every parameter.
pub(super) fn none(uri: &Uri) -> Result<(), Problem> {
    match pairs(uri)?.first() {
        Some((name, _)) => Err(unknown(name, &[])),
        None => Ok(()),
    }
}

fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    if uri.query().is_none_or(str::is_empty) {
        return Ok(Vec::new());
    }
    match Pairs::<Vec<(String, String)>>::try_from_uri(uri) {
        Ok(Pairs(pairs)) => Ok(pairs),
        Err(_) => Err(Problem::query("the query string is not made of `name=value` pairs")),
    }
}

fn unknown(name: &str, allowed: &[&str]) -> Problem {
    let allowed = if allowed.is_empty() { "none" } else { &allowed.join(", ") };
    Problem::query(format!("unknown parameter {}; this route takes: {allowed}", shown(name)))
}

fn parse_format(text: &str) -> Result<Format, Problem> {
    match text {
        "base64" => Ok(Format::Base64),
        "text" => Ok(Format::Text),
        _ => {
            let text = shown(text);
            Err(Problem::query(format!(
                "parameter `format` is {text}; `base64` and `text` are allowed"
            )))
        }
    }
}

/// A duration such as `30s` or `1m 30s`, or bare seconds.
fn parse_timeout(text: &str) -> Result<Duration, Problem> {
    duration::parse(text).filter(|&duration| duration <= MAX_WAIT).ok_or_else(|| {
        Problem::query(format!(
            "parameter `timeout` is {}; 0 to {} seconds are allowed, as `30`, `30s`, `500ms` or `2m`",
            shown(text),
            MAX_WAIT.as_secs()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 3] = ["format", "after", "timeout"];

    fn parse(query: &str) -> Result<Query, Problem> {
        Query::parse(&format!("/?{query}").parse().unwrap(), &ALL)
    }

    fn wait(query: &str) -> (String, u128) {
        let wait = parse(query).unwrap().wait.unwrap();
        (wait.after, wait.timeout.as_millis())
    }

    #[test]
    fn defaults_hold_where_nothing_is_said() {
        assert_eq!(parse("").unwrap(), Query::default());
        assert_eq!(wait("after=a.1"), ("a.1".to_owned(), 30_000));
    }

    #[test]
    fn timeout_is_a_duration_or_bare_seconds() {
        for (text, millis) in
            [("500ms", 500), ("2m", 120_000), ("30", 30_000), ("0", 0), ("5m", 300_000)]
        {
            assert_eq!(wait(&format!("after=x&timeout={text}")).1, millis, "{text}");
        }
        assert_eq!(wait("timeout=1m%2030s&after=x%2Fy"), ("x/y".to_owned(), 90_000));
    }

    #[test]
    fn refresh_is_a_number_of_seconds_that_leaves_time_to_read() {
        let refresh = |query: &str| refresh(&format!("/?{query}").parse().unwrap());
        assert_eq!(refresh("").unwrap(), None);
        assert_eq!(refresh("refresh=5").unwrap(), Some(5));
        assert_eq!(refresh("refresh=3600").unwrap(), Some(3600));
        for query in ["refresh=4", "refresh=3601", "refresh=", "refresh=10%3Burl%3D/x", "reload=5"]
        {
            let text = format!("{:?}", refresh(query).unwrap_err());
            assert!(text.contains("5 to 3600") || text.contains("takes: refresh"), "{text}");
        }
    }

    #[test]
    fn what_is_not_allowed_is_named_with_what_is() {
        for (query, named, allowed) in [
            ("stage=next", "stage", "format, after, timeout"),
            ("format=xml", "format", "`base64` and `text`"),
            ("after=x&timeout=301", "timeout", "0 to 300 seconds"),
            ("after=x&timeout=-1", "timeout", "0 to 300 seconds"),
            ("after=x&timeout=99999999999999999999", "timeout", "0 to 300 seconds"),
            ("after=x&timeout=", "timeout", "0 to 300 seconds"),
            ("timeout=1s", "timeout", "`after=<revision>`"),
            ("after=", "after", "a revision is needed"),
            ("after=a&after=b", "after", "twice"),
        ] {
            let text = format!("{:?}", parse(query).unwrap_err());
            assert!(text.contains(named) && text.contains(allowed), "{query}: {text}");
        }
    }
}
