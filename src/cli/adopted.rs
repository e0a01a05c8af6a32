//! `secretwatch adopted`: says which revision an app uses.

use std::io::{self, Write};

use hyper::Method;

use super::connect::{self, Connect};
use super::listing::Listing;
use super::{Exit, Failure};
use crate::client::{self, Client};
use crate::name::{ConsumerName, VolumeName};

const EXAMPLES: &str = "\
Examples:
  secretwatch adopted db --revision 5f2c9a.3
  secretwatch adopted db --revision 5f2c9a.3 --consumer web
  secretwatch adopted db
  secretwatch adopted db --consumer web --leave

It prints the revision. Say it when the app uses the new values and no longer the old ones. Without
--revision it is the one that is current now, which may be newer than what the app has loaded: a
rotation in between would count as adopted although it is not. Give the revision that came with the
values (`secretwatch-revision` in an answer, SECRETWATCH_REVISION in a hook) wherever there is one.
To say it again keeps the consumer from being forgotten (see serve --adoption-expiry).";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Adopted {
    #[command(flatten)]
    connect: Connect,

    /// The volume
    #[arg(value_parser = connect::volume)]
    name: VolumeName,

    /// The revision that the app has loaded; without it, the one that is current now
    #[arg(long, value_name = "REVISION", conflicts_with = "leave")]
    revision: Option<String>,

    /// Who uses it, 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-` [default: the host name]
    #[arg(long, value_name = "NAME", value_parser = connect::consumer)]
    consumer: Option<ConsumerName>,

    /// Have the consumer forgotten instead, so that nobody waits for it
    #[arg(long)]
    leave: bool,
}

impl Adopted {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let consumer = self.consumer.map_or_else(host_name, Ok)?;
        let client = self.connect.client()?;
        let speaker = Speaker { client: &client, name: &self.name, consumer: &consumer };
        let runtime = connect::runtime()?;
        if self.leave {
            runtime.block_on(speaker.leave())?;
        } else {
            let revision = runtime.block_on(speaker.adopt(self.revision))?;
            writeln!(io::stdout(), "{revision}")?;
        }
        Ok(Exit::Done)
    }
}

fn host_name() -> Result<ConsumerName, Failure> {
    let unusable = |why: String| {
        let message =
            format!("the host name is no consumer name ({why}); give one with --consumer");
        Failure::new(Exit::Usage, message)
    };
    let name = nix::unistd::gethostname().map_err(|error| unusable(error.to_string()))?;
    name.to_string_lossy().parse().map_err(|error: crate::NameError| unusable(error.to_string()))
}

struct Speaker<'a> {
    client: &'a Client,
    name: &'a VolumeName,
    consumer: &'a ConsumerName,
}

impl Speaker<'_> {
    /// Gives the revision that was adopted.
    async fn adopt(&self, revision: Option<String>) -> Result<String, Failure> {
        let revision = match revision {
            Some(revision) => revision,
            None => self.current().await?,
        };
        let body = serde_json::json!({ "revision": revision }).to_string();
        self.client.say(Method::PUT, &self.path(), body).await?;
        Ok(revision)
    }

    async fn leave(&self) -> Result<(), Failure> {
        self.client.say(Method::DELETE, &self.path(), String::new()).await?;
        Ok(())
    }

    async fn current(&self) -> Result<String, Failure> {
        let listing = Listing::get(self.client).await?;
        let entry = listing.volume(self.name)?;
        if entry.is_ready() {
            return Ok(entry.revision.clone());
        }
        let message = format!("volume `{}` has no snapshot yet, so nobody can use it", self.name);
        Err(Failure::new(Exit::Negative, message))
    }

    fn path(&self) -> String {
        client::path(["v1", "adoptions", self.name.as_str(), self.consumer.as_str()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{TestServer, error, listing, text};

    async fn adopt(server: &TestServer, revision: Option<&str>) -> Result<String, Failure> {
        let (client, name) = (server.client(), "db".parse().unwrap());
        let consumer = "web".parse().unwrap();
        let speaker = Speaker { client: &client, name: &name, consumer: &consumer };
        speaker.adopt(revision.map(str::to_owned)).await
    }

    #[tokio::test]
    async fn current_revision_is_said_where_none_is_given() {
        let server = TestServer::new(|request| match request.method() {
            &Method::GET => text(200, &listing(3)),
            method => {
                assert_eq!((method, request.uri().path()), (&Method::PUT, "/v1/adoptions/db/web"));
                assert_eq!(
                    request.headers()["content-length"],
                    r#"{"revision":"b.3"}"#.len().to_string()
                );
                text(200, "{}")
            }
        });
        assert_eq!(adopt(&server, None).await.unwrap(), "b.3");
        assert_eq!(adopt(&server, Some("b.1")).await.unwrap(), "b.1");
    }

    #[tokio::test]
    async fn refusal_and_a_volume_that_is_not_ready_end_with_one() {
        let server = TestServer::new(|request| match request.method() {
            &Method::GET => text(200, &listing(0)),
            _ => error(409, "the current one is `b.9`"),
        });
        let failure = adopt(&server, None).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Negative);
        let failure = adopt(&server, Some("old")).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Negative);
        assert!(failure.error.to_string().contains("b.9"), "{}", failure.error);
    }

    #[test]
    fn host_name_is_the_default_or_the_way_out_is_named() {
        match host_name() {
            Ok(name) => assert!(!name.as_str().is_empty()),
            Err(failure) => assert!(failure.error.to_string().contains("--consumer")),
        }
    }
}
