//! `secretwatch healthcheck`: for exec probes and images without curl.

use std::time::Duration;

use super::connect::{self, Connect};
use super::{Exit, Failure};
use crate::client::Client;

const EXAMPLES: &str = "\
Examples:
  secretwatch healthcheck
  secretwatch healthcheck --live --socket /run/secretwatch/secretwatch.sock

It ends with 0 where all is well, otherwise with 1, whatever the reason.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Healthcheck {
    #[command(flatten)]
    connect: Connect,

    /// Ask whether the first whole snapshot of every volume is served (the default)
    #[arg(long, conflicts_with = "live")]
    ready: bool,

    /// Ask whether the sidecar is doing its work
    #[arg(long)]
    live: bool,
}

impl Healthcheck {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let route = if self.live { "/livez" } else { "/readyz" };
        let checked = (|| {
            let client = self.connect.client()?;
            connect::runtime()?.block_on(check(&client, route))
        })();
        // Probes know healthy and unhealthy; Docker reserves every code but 0 and 1.
        checked.map_err(|failure: Failure| Failure { exit: Exit::Negative, ..failure })
    }
}

async fn check(client: &Client, route: &str) -> Result<Exit, Failure> {
    client.get(route, Duration::ZERO).await?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{TestServer, text};

    #[tokio::test]
    async fn probe_follows_the_status_of_its_route() {
        let server = TestServer::new(|request| match request.uri().path() {
            "/livez" => text(200, "ok"),
            _ => text(503, "not ready: db is waiting\n"),
        });
        let client = server.client();
        assert_eq!(check(&client, "/livez").await.unwrap(), Exit::Done);
        let failure = check(&client, "/readyz").await.unwrap_err();
        let expected = "the sidecar cannot answer now (503): not ready: db is waiting";
        assert_eq!(failure.error.to_string(), expected);
    }
}
