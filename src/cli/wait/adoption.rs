//! Waiting until every known consumer uses the current revision.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{Exit, Failure, WaitError, long_poll, persist};
use crate::client::{self, Answer, Client, ClientError};
use crate::name::{ConsumerName, VolumeName};

/// What `/v1/adoptions/{name}` answers, as far as it is used here.
#[derive(Debug, Deserialize)]
struct Adoptions {
    revision: String,
    consumers: Vec<Consumer>,
}

#[derive(Debug, Deserialize)]
struct Consumer {
    consumer: String,
    is_current: bool,
}

pub(super) struct AdoptionWaiter<'a> {
    client: &'a Client,
    name: &'a VolumeName,
    after: Option<&'a str>,
    consumers: &'a [ConsumerName],
}

impl<'a> AdoptionWaiter<'a> {
    pub(super) fn new(
        client: &'a Client,
        name: &'a VolumeName,
        after: Option<&'a str>,
        consumers: &'a [ConsumerName],
    ) -> Self {
        Self { client, name, after, consumers }
    }

    /// Gives the revision that everybody uses.
    pub(super) async fn wait(&self, timeout: Duration) -> Result<String, Failure> {
        match persist(timeout, async |deadline| self.round(deadline).await).await? {
            Ok(revision) => Ok(revision),
            Err(trouble) => Err(self.timed_out(timeout, trouble).await),
        }
    }

    async fn round(&self, deadline: Instant) -> Result<Option<String>, WaitError> {
        let seconds = long_poll(deadline);
        let mut target = format!("{}?wait=adopted&timeout={seconds}s", self.path());
        if let Some(after) = self.after {
            target.push_str(&format!("&after={}", client::escaped(after)));
        }
        for consumer in self.consumers {
            target.push_str(&format!("&consumer={consumer}"));
        }
        let poll = self.get(&target, Duration::from_secs(seconds));
        match timeout_at(deadline, poll).await {
            Ok(found) => Ok(found?.map(|adoptions| adoptions.revision)),
            Err(_) => Ok(None),
        }
    }

    async fn get(
        &self,
        target: &str,
        patience: Duration,
    ) -> Result<Option<Adoptions>, ClientError> {
        match self.client.get(target, patience).await? {
            Answer::Found { body } => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|error| ClientError::strange(&error)),
            Answer::NotModified => Ok(None),
        }
    }

    fn path(&self) -> String {
        client::path(["v1", "adoptions", self.name.as_str()])
    }

    async fn timed_out(&self, timeout: Duration, trouble: Option<ClientError>) -> Failure {
        let name = self.name;
        let timeout = humantime::format_duration(timeout);
        let why = match trouble {
            Some(error) => error.to_string(),
            None => match self.get(&self.path(), Duration::ZERO).await {
                Ok(now) => now.map(|now| self.missing(&now)).unwrap_or_default(),
                Err(error) => error.to_string(),
            },
        };
        let message = format!("volume `{name}` is not adopted within {timeout}: {why}");
        Failure::new(Exit::TimedOut, message)
    }

    /// Who is waited for.
    fn missing(&self, now: &Adoptions) -> String {
        let is_known = |name: &&ConsumerName| {
            now.consumers.iter().all(|known| known.consumer != name.as_str())
        };
        let behind = now.consumers.iter().filter(|known| !known.is_current);
        let mut missing: Vec<&str> = behind.map(|known| known.consumer.as_str()).collect();
        missing.extend(self.consumers.iter().filter(is_known).map(ConsumerName::as_str));
        if !missing.is_empty() {
            return format!("revision {} is not used by {}", now.revision, missing.join(", "));
        }
        if now.consumers.is_empty() {
            return "no consumer has said yet what it uses".to_owned();
        }
        format!("the revision is still {}", now.revision)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::client::tests::{TestServer, error, revision, text};

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(80);

    fn adoptions(consumers: &str) -> String {
        format!(r#"{{"name":"db","revision":"b.2","generation":2,"consumers":[{consumers}]}}"#)
    }

    async fn wait(
        server: &TestServer,
        after: Option<&str>,
        consumers: &[&str],
        timeout: Duration,
    ) -> Result<String, Failure> {
        let (client, name) = (server.client(), "db".parse().unwrap());
        let consumers: Vec<_> = consumers.iter().map(|name| name.parse().unwrap()).collect();
        AdoptionWaiter::new(&client, &name, after, &consumers).wait(timeout).await
    }

    #[tokio::test]
    async fn it_asks_again_until_everybody_has_adopted() {
        let asked = AtomicU64::new(0);
        let server = TestServer::new(move |request| {
            let target = request.uri().to_string();
            let expected = "/v1/adoptions/db?wait=adopted&timeout=20s&after=b%2F1&consumer=a";
            assert_eq!(target, expected);
            match asked.fetch_add(1, Ordering::Relaxed) {
                0 => revision(304, ""),
                1 => error(503, "about to end"),
                _ => text(200, &adoptions("")),
            }
        });
        assert_eq!(wait(&server, Some("b/1"), &["a"], LONG).await.unwrap(), "b.2");
    }

    #[tokio::test]
    async fn who_is_missing_is_named_when_the_time_is_over() {
        let late = r#"{"consumer":"late","is_current":false}"#;
        let done = r#"{"consumer":"done","is_current":true}"#;
        for (known, wanted, said) in [
            (format!("{done},{late}"), vec!["done", "absent"], "b.2 is not used by late, absent"),
            (done.to_owned(), vec![], "the revision is still b.2"),
            (String::new(), vec![], "no consumer has said yet"),
        ] {
            let server = TestServer::new(move |request| match request.uri().query() {
                Some(_) => revision(304, ""),
                None => text(200, &adoptions(&known)),
            });
            let failure = wait(&server, None, &wanted, SHORT).await.unwrap_err();
            assert_eq!(failure.exit, Exit::TimedOut);
            let text = failure.error.to_string();
            assert!(text.contains("within 80ms") && text.contains(said), "{text}");
        }
    }

    #[tokio::test]
    async fn unknown_volume_ends_it_at_once() {
        let server = TestServer::new(|_| error(404, "no volume is named \"db\""));
        assert_eq!(wait(&server, None, &[], LONG).await.unwrap_err().exit, Exit::NotFound);
    }
}
