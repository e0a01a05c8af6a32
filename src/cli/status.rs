//! `secretwatch status`: how the volumes are doing.

use std::io::{self, Write};
use std::time::SystemTime;

use super::connect::{self, Connect};
use super::listing::{self, Counts, Entry, Listing};
use super::table::Table;
use super::{Exit, Failure};
use crate::client::{Client, ClientError};
use crate::status::State;

const EXAMPLES: &str = "\
Examples:
  secretwatch status
  secretwatch status --json

States: `current` serves what the directory holds, `holding` keeps the last good contents because
the directory holds something that is not acceptable, `waiting` has had nothing acceptable yet.
It ends with 0 where every volume is current, otherwise with 1. WRITTEN is how long ago the
contents were written to the volume, ADOPTED how many of the known consumers use them.

Certificates, where there are any: EXPIRES and LEFT are of the first one under each key.

Targets, where there are any: `idle` knows of every rotation, `pending` is about to be told, `held`
cannot take the signal yet, `failing` is tried again. REVISION and TOLD are of the last success.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Status {
    #[command(flatten)]
    connect: Connect,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let client = self.connect.client()?;
        let now = SystemTime::now();
        connect::runtime()?.block_on(status(&client, self.json, now, &mut io::stdout()))
    }
}

async fn status(
    client: &Client,
    is_json: bool,
    now: SystemTime,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let json = listing::json(client).await?;
    let listing: Listing = serde_json::from_slice(&json).map_err(|e| ClientError::strange(&e))?;
    if is_json {
        out.write_all(json.trim_ascii_end())?;
        writeln!(out)?;
    } else {
        table(&listing, now).print(out)?;
        if listing.secrets.iter().any(|entry| !entry.certificates.is_empty()) {
            writeln!(out)?;
            certificates(&listing, now).print(out)?;
        }
        if !listing.targets.is_empty() {
            writeln!(out)?;
            targets(&listing, now).print(out)?;
        }
    }
    let is_current = |entry: &Entry| entry.state == State::Current.as_str();
    Ok(if listing.secrets.iter().all(is_current) { Exit::Done } else { Exit::Negative })
}

fn table(listing: &Listing, now: SystemTime) -> Table<9> {
    let headings = [
        "NAME",
        "STATE",
        "GENERATION",
        "VERSION",
        "WRITTEN",
        "KEYS",
        "WATCH",
        "ADOPTED",
        "TROUBLE",
    ];
    let mut table = Table::new(headings);
    for entry in &listing.secrets {
        table.row([
            entry.name.clone(),
            entry.state.clone(),
            entry.generation.to_string(),
            entry.version.clone().unwrap_or_default(),
            listing::age(entry.published_at.as_deref(), now),
            entry.keys.len().to_string(),
            entry.watch.clone(),
            adopted(entry),
            trouble(entry, now),
        ]);
    }
    table
}

/// Nothing where nobody has ever said what it uses.
fn adopted(entry: &Entry) -> String {
    let Some(Counts { adopted, consumers }) = &entry.adoption else { return String::new() };
    format!("{adopted}/{consumers}")
}

fn certificates(listing: &Listing, now: SystemTime) -> Table<3> {
    let mut table = Table::new(["CERTIFICATE", "EXPIRES", "LEFT"]);
    for entry in &listing.secrets {
        for certificate in &entry.certificates {
            let field = |name| certificate.get(name).map_or("", String::as_str);
            let (key, not_after) = (field("key"), field("not_after"));
            let name = [&entry.name, "/", key].concat();
            table.row([name, not_after.to_owned(), listing::left(not_after, now)]);
        }
    }
    table
}

fn targets(listing: &Listing, now: SystemTime) -> Table<7> {
    let headings = ["TARGET", "KIND", "STATE", "REVISION", "TOLD", "ATTEMPTS", "WHY"];
    let mut table = Table::new(headings);
    for target in &listing.targets {
        let age = listing::age(target.since.as_deref(), now);
        let since = if age.is_empty() { age } else { format!(" (for {age})") };
        let why = target.detail.as_ref().map(|detail| format!("{detail}{since}"));
        table.row([
            target.name.clone(),
            target.kind.clone(),
            target.state.clone(),
            target.revision.clone().unwrap_or_default(),
            listing::age(target.last_success.as_deref(), now),
            target.attempts.to_string(),
            why.unwrap_or_default(),
        ]);
    }
    table
}

fn trouble(entry: &Entry, now: SystemTime) -> String {
    let Some(reason) = &entry.reason else { return String::new() };
    let detail = entry.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    let age = listing::age(entry.since.as_deref(), now);
    let since = if age.is_empty() { age } else { format!(" (for {age})") };
    format!("{reason}{detail}{since}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{TestServer, text};

    const GOOD: &str = r#"{"name":"db","revision":"b.2","generation":2,"version":"2026-11",
        "keys":["password","user"],"published_at":"2026-11-22T09:54:59.25Z",
        "observed_at":"2026-11-22T09:55:00.3Z","state":"current","watch":"inotify",
        "path":"/etc/db","skipped":["fifo"],
        "adoption":{"adopted":2,"consumers":3,"all_adopted":false}}"#;
    const HELD: &str = r#"{"name":"web","revision":"b.1","generation":1,"keys":[],
        "state":"holding","since":"2026-11-22T09:59:50Z","reason":"missing_key",
        "detail":"required but not there: tls.crt","watch":"poll","path":"/etc/web"}"#;

    async fn shown(entries: &[&str]) -> (Exit, String) {
        let listing = format!("{{\"secrets\":[{}]}}", entries.join(","));
        let server = TestServer::new(move |_| text(200, &listing));
        let now = listing::time("2026-11-22T10:00:00Z").unwrap();
        let mut out = Vec::new();
        let exit = status(&server.client(), false, now, &mut out).await.unwrap();
        (exit, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn current_volumes_end_with_zero() {
        let (exit, out) = shown(&[GOOD]).await;
        assert_eq!(exit, Exit::Done);
        let row: Vec<_> = out.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["db", "current", "2", "2026-11", "5m", "2", "inotify", "2/3", "-"]);
    }

    #[tokio::test]
    async fn volume_in_trouble_says_why_and_ends_with_one() {
        let (exit, out) = shown(&[GOOD, HELD]).await;
        assert_eq!(exit, Exit::Negative);
        let expected = "poll     -        missing_key: required but not there: tls.crt (for 10s)\n";
        assert!(out.ends_with(expected), "{out}");
    }

    #[tokio::test]
    async fn certificates_stand_in_a_table_of_their_own_where_there_are_any() {
        let (_, out) = shown(&[GOOD]).await;
        assert!(!out.contains("CERTIFICATE"), "{out}");
        let with = HELD.replace(
            r#""watch""#,
            r#""certificates":[{"key":"tls.crt","not_after":"2027-02-21T03:31:50.000Z"}],"watch""#,
        );
        let (_, out) = shown(&[GOOD, &with]).await;
        let expected = "\n\nCERTIFICATE  EXPIRES                   LEFT\n\
                        web/tls.crt  2027-02-21T03:31:50.000Z  90d\n";
        assert!(out.ends_with(expected), "{out}");
    }

    #[tokio::test]
    async fn targets_stand_in_a_table_of_their_own_and_say_why() {
        let listing = format!(
            r#"{{"secrets":[{GOOD}],"targets":[{{"name":"app","kind":"signal","volumes":["db"],
            "state":"held","since":"2026-11-22T09:59:50Z","attempts":3,"revision":"b.1",
            "last_success":"2026-11-22T09:00:00Z","detail":"no handler"}}]}}"#
        );
        let server = TestServer::new(move |_| text(200, &listing));
        let now = listing::time("2026-11-22T10:00:00Z").unwrap();
        let mut out = Vec::new();
        let exit = status(&server.client(), false, now, &mut out).await.unwrap();
        assert_eq!(exit, Exit::Done);
        let out = String::from_utf8(out).unwrap();
        let expected = "app     signal  held   b.1       1h    3         no handler (for 10s)\n";
        assert!(out.ends_with(expected), "{out}");
    }

    #[tokio::test]
    async fn foreign_answer_is_an_error_without_its_contents() {
        let server = TestServer::new(|_| text(200, "canary"));
        let now = SystemTime::UNIX_EPOCH;
        let failure = status(&server.client(), false, now, &mut Vec::new()).await.unwrap_err();
        assert!(!failure.error.to_string().contains("canary"), "{}", failure.error);
    }
}
