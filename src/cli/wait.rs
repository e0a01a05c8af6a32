//! `secretwatch wait`: until a volume is ready, has changed, or is adopted.

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::connect::{self, Connect};
use super::listing::Listing;
use super::{Exit, Failure};
use crate::client::{self, Backoff, Client, ClientError};
use crate::duration;
use crate::name::{ConsumerName, VolumeName};

mod adoption;

use adoption::AdoptionWaiter;

/// How long one request may ask the sidecar to wait: the sidecar's own limit.
const MAX_LONG_POLL: Duration = Duration::from_secs(300);
/// The longest timeout: one that is longer is a mistake in the unit.
const MAX_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

const EXAMPLES: &str = "\
Examples:
  secretwatch wait db
  secretwatch wait db --timeout 2m && exec my-app
  secretwatch wait db --after 5f2c9a.3 --timeout 10m
  secretwatch wait db --after 5f2c9a.3 --adopted --timeout 10m && revoke-the-old-credential
  secretwatch wait db --adopted --consumer web --consumer worker

With --adopted it waits until every consumer that is known uses the current revision, through
further rotations, too. Known is who has said so since the sidecar started: name with --consumer
those who must be among them. A rotation takes its time to arrive: with --after, the revision that
was adopted before does not count.

It prints the revision that is current then. A sidecar that is not there yet, or is restarted, is
waited for. Where the time is over, it ends with 124.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Wait {
    #[command(flatten)]
    connect: Connect,

    /// The volume
    #[arg(value_parser = connect::volume)]
    name: VolumeName,

    /// The revision that is known; without it, any will do
    #[arg(long, value_name = "REVISION")]
    after: Option<String>,

    /// Wait until every known consumer uses the current revision, and there is at least one
    #[arg(long)]
    adopted: bool,

    /// A consumer that has to be among them; may be given several times
    #[arg(long, value_name = "NAME", requires = "adopted", value_parser = connect::consumer)]
    consumer: Vec<ConsumerName>,

    /// How long to wait at most, from 0s to 7days
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = timeout)]
    timeout: Duration,
}

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration::parse(text).filter(|timeout| *timeout <= MAX_TIMEOUT);
    timeout
        .ok_or_else(|| "a time such as 500ms, 30s or 2m is expected, from 0s to 7days".to_owned())
}

impl Wait {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let client = self.connect.client()?;
        let (name, after) = (&self.name, self.after.as_deref());
        let runtime = connect::runtime()?;
        let revision = if self.adopted {
            let waiter = AdoptionWaiter::new(&client, name, after, &self.consumer);
            runtime.block_on(waiter.wait(self.timeout))?
        } else {
            runtime.block_on(Waiter { client: &client, name, after }.wait(self.timeout))?
        };
        writeln!(io::stdout(), "{revision}")?;
        Ok(Exit::Done)
    }
}

/// What one look may take even where no time is left: it takes about a millisecond.
const LOOK_TIME: Duration = Duration::from_millis(500);

struct Waiter<'a> {
    client: &'a Client,
    name: &'a VolumeName,
    after: Option<&'a str>,
}

/// What one look at the sidecar found.
enum Look {
    /// What was waited for.
    Revision(String),
    /// Still the revision that is known, or that of the empty snapshot at the start.
    Same(String),
}

/// Looks until something is found, also at a sidecar that comes and goes; `Err` is what was wrong
/// with the sidecar last, if anything was, when the time was over.
async fn persist(
    timeout: Duration,
    mut round: impl AsyncFnMut(Instant) -> Result<Option<String>, WaitError>,
) -> Result<Result<String, Option<ClientError>>, Failure> {
    let deadline = Instant::now() + timeout;
    let mut backoff = Backoff::new();
    loop {
        // A sidecar that hangs must not hold up the end.
        let patience = deadline.max(Instant::now() + LOOK_TIME);
        let outcome = match timeout_at(patience, round(deadline)).await {
            Ok(outcome) => outcome,
            Err(_) => return Ok(Err(None)),
        };
        let trouble = match outcome {
            Ok(Some(found)) => return Ok(Ok(found)),
            Ok(None) => None,
            Err(failure) => Some(failure.passing()?),
        };
        // Also after an answer that has brought nothing: a sidecar that is just ending gives
        // such answers at once. What happens during the pause is seen after it.
        let again = Instant::now() + backoff.step();
        if again >= deadline {
            sleep_until(deadline).await;
            return Ok(Err(trouble));
        }
        if trouble.is_none() {
            backoff.reset();
        }
        sleep_until(again).await;
    }
}

/// How long a long poll may take, in whole seconds, rounded up; the deadline ends it where that is
/// too long.
fn long_poll(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now()).min(MAX_LONG_POLL);
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

impl Waiter<'_> {
    async fn wait(&self, timeout: Duration) -> Result<String, Failure> {
        let found = persist(timeout, async |deadline| {
            Ok(match self.round(deadline).await? {
                Look::Revision(revision) => Some(revision),
                Look::Same(_) => None,
            })
        });
        found.await?.map_err(|trouble| self.timed_out(timeout, trouble))
    }

    async fn round(&self, deadline: Instant) -> Result<Look, WaitError> {
        let revision = match self.look().await? {
            Look::Same(revision) => revision,
            found @ Look::Revision(_) => return Ok(found),
        };
        let seconds = long_poll(deadline);
        let path = client::path(["v1", "secrets", self.name.as_str()]);
        let after = client::escaped(&revision);
        let target = format!("{path}?after={after}&timeout={seconds}s");
        let poll = self.client.revision(&target, Duration::from_secs(seconds));
        match timeout_at(deadline, poll).await {
            Ok(Ok(Some(found))) if found != revision => Ok(Look::Revision(found)),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(_)) | Err(_) => Ok(Look::Same(revision)),
        }
    }

    /// Reads the listing, which has no values, and tells also where nothing is accepted yet.
    async fn look(&self) -> Result<Look, WaitError> {
        let listing = Listing::get(self.client).await?;
        let entry = listing.volume(self.name).map_err(WaitError::Final)?;
        let revision = entry.revision.clone();
        let is_found = entry.is_ready() && self.after != Some(revision.as_str());
        Ok(if is_found { Look::Revision(revision) } else { Look::Same(revision) })
    }

    fn timed_out(&self, timeout: Duration, trouble: Option<ClientError>) -> Failure {
        let name = self.name;
        let timeout = humantime::format_duration(timeout);
        let wish = if self.after.is_some() { "changed" } else { "become ready" };
        let trouble = trouble.map(|error| format!(": {error}")).unwrap_or_default();
        let message = format!("volume `{name}` has not {wish} within {timeout}{trouble}");
        Failure::new(Exit::TimedOut, message)
    }
}

/// Why a look found nothing.
enum WaitError {
    Client(ClientError),
    Final(Failure),
}

impl From<ClientError> for WaitError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl WaitError {
    /// The error, where it is worth trying again.
    fn passing(self) -> Result<ClientError, Failure> {
        match self {
            Self::Client(error) if error.is_passing() => Ok(error),
            Self::Client(error) => Err(error.into()),
            Self::Final(failure) => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::client::tests::{TestServer, client_in, error, listing, revision, text};

    async fn wait(
        client: &Client,
        after: Option<&str>,
        timeout: Duration,
    ) -> Result<String, Failure> {
        let name = "db".parse().unwrap();
        Waiter { client, name: &name, after }.wait(timeout).await
    }

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(80);

    #[tokio::test]
    async fn ready_volume_and_unknown_revision_answer_at_once() {
        let server = TestServer::new(|_| text(200, &listing(3)));
        assert_eq!(wait(&server.client(), None, LONG).await.unwrap(), "b.3");
        assert_eq!(wait(&server.client(), Some("old.9"), LONG).await.unwrap(), "b.3");
    }

    #[tokio::test]
    async fn known_revision_is_long_polled_until_it_changes() {
        let polls = AtomicU64::new(0);
        let server = TestServer::new(move |request| match request.uri().query() {
            None => text(200, &listing(3)),
            Some(query) => {
                assert!(query.starts_with("after=b.3&timeout="), "{query}");
                let first = polls.fetch_add(1, Ordering::Relaxed) == 0;
                if first { revision(304, "b.3") } else { revision(200, "b.4") }
            }
        });
        assert_eq!(wait(&server.client(), Some("b.3"), LONG).await.unwrap(), "b.4");
    }

    #[tokio::test]
    async fn volume_that_is_not_ready_is_waited_for() {
        let server = TestServer::new(|request| match request.uri().query() {
            None => text(200, &listing(0)),
            Some(_) => revision(200, "b.1"),
        });
        assert_eq!(wait(&server.client(), None, LONG).await.unwrap(), "b.1");
    }

    #[tokio::test]
    async fn sidecar_that_starts_later_and_then_is_not_ready_is_waited_for() {
        let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
        let client = client_in(&dir);
        let looks = AtomicU64::new(0);
        let (found, _server) = tokio::join!(wait(&client, None, LONG), async move {
            // Runs after the first attempt, which has met no socket.
            TestServer::in_directory(dir, move |request| {
                let is_ready = looks.fetch_add(1, Ordering::Relaxed) > 3;
                match request.uri().query() {
                    None => text(200, &listing(u64::from(is_ready))),
                    Some(_) => error(503, "waiting"),
                }
            })
        });
        assert_eq!(found.unwrap(), "b.1");
    }

    #[tokio::test]
    async fn unchanged_volume_times_out() {
        let server = TestServer::new(|request| match request.uri().query() {
            None => text(200, &listing(3)),
            Some(_) => revision(304, "b.3"),
        });
        let failure = wait(&server.client(), Some("b.3"), SHORT).await.unwrap_err();
        assert_eq!(failure.exit, Exit::TimedOut);
        assert_eq!(failure.error.to_string(), "volume `db` has not changed within 80ms");
    }

    #[tokio::test]
    async fn absent_sidecar_times_out_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let failure = wait(&client_in(&dir), None, SHORT).await.unwrap_err();
        assert_eq!(failure.exit, Exit::TimedOut);
        assert!(failure.error.to_string().contains("there is no socket"), "{}", failure.error);
    }

    #[tokio::test]
    async fn what_no_time_can_heal_ends_at_once() {
        let server = TestServer::new(|_| text(200, r#"{"secrets":[]}"#));
        let failure = wait(&server.client(), None, LONG).await.unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        let server = TestServer::new(|_| error(403, "no"));
        let failure = wait(&server.client(), None, LONG).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Denied);
    }

    #[test]
    fn timeout_is_in_seconds_or_a_unit_and_has_a_limit() {
        assert_eq!(timeout("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(timeout("60"), Ok(Duration::from_secs(60)));
        assert!(timeout("soon").is_err());
        assert!(timeout("8days").unwrap_err().contains("7days"));
    }
}
