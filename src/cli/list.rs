//! `secretwatch list`: which volumes and keys there are.

use std::io::{self, Write};

use super::connect::{self, Connect};
use super::listing::{self, Listing};
use super::table::Table;
use super::{Exit, Failure};
use crate::client::Client;

const EXAMPLES: &str = "\
Examples:
  secretwatch list
  secretwatch list --json | jq -r '.secrets[].name'";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct List {
    #[command(flatten)]
    connect: Connect,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let client = self.connect.client()?;
        connect::runtime()?.block_on(list(&client, self.json, &mut io::stdout()))
    }
}

async fn list(client: &Client, json: bool, out: &mut impl Write) -> Result<Exit, Failure> {
    if json {
        out.write_all(listing::json(client).await?.trim_ascii_end())?;
        writeln!(out)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["NAME", "REVISION", "KEYS"]);
    for entry in Listing::get(client).await?.secrets {
        table.row([entry.name, entry.revision, entry.keys.join(", ")]);
    }
    table.print(out)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{TestServer, text};

    const LISTING: &str = r#"{"secrets":[{"name":"db","revision":"b.2","generation":2,
        "keys":["password","user"],"state":"current","watch":"inotify","path":"/etc/db"}]}"#;

    #[tokio::test]
    async fn keys_are_named_and_json_is_passed_on() {
        let server = TestServer::new(|_| text(200, LISTING));
        let mut out = Vec::new();
        list(&server.client(), false, &mut out).await.unwrap();
        let expected = "NAME  REVISION  KEYS\ndb    b.2       password, user\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        list(&server.client(), true, &mut out).await.unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("{LISTING}\n"));
    }
}
