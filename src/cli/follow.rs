//! `secretwatch follow`: one line for each rotation.

use std::collections::HashMap;
use std::future;
use std::io::{self, Write};
use std::os::fd::AsFd;

use serde::Deserialize;
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::time::sleep;

use super::connect::{self, Connect};
use super::listing;
use super::table::plain;
use super::{Exit, Failure, note};
use crate::client::{self, Backoff, Client, ClientError, Event, Events};
use crate::name::VolumeName;

const EXAMPLES: &str = "\
Examples:
  secretwatch follow
  secretwatch follow db
  secretwatch follow db --json | while read -r line; do ./on-rotation \"$line\"; done

The first line of a volume is its current state. A line gives the time, the volume, generation and
revision, how long after the write it was picked up, and the keys added (+), removed (-) and
modified (~). When the sidecar is restarted, the stream goes on by itself.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Follow {
    #[command(flatten)]
    connect: Connect,

    /// The volume; without it, all of them
    #[arg(value_parser = connect::volume)]
    name: Option<VolumeName>,

    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
}

impl Follow {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let client = self.connect.client()?;
        connect::runtime()?.block_on(async {
            let mut out = io::stdout();
            let mut follower = Follower::new(self.name.as_ref(), self.json, &mut out);
            tokio::select! {
                failure = follower.follow(&client) => Err(failure),
                () = nobody_reads() => Ok(Exit::Done),
            }
        })
    }
}

/// Waits until the reader of the output has gone, so that `follow | head -1` ends before the next
/// rotation. Files and terminals cannot be watched like this, and have no reader that goes.
async fn nobody_reads() {
    let watched = io::stdout().as_fd().try_clone_to_owned();
    // The name says that neither the kind of file nor its blocking mode is looked at; nothing is
    // ever written this way.
    match watched.and_then(pipe::Sender::from_owned_fd_unchecked) {
        Ok(out) => drop(out.ready(Interest::ERROR).await),
        Err(_) => future::pending().await,
    }
}

/// What an event says, as far as it is printed.
#[derive(Debug, Deserialize)]
struct Rotation {
    name: String,
    revision: String,
    generation: u64,
    version: Option<String>,
    published_at: Option<String>,
    observed_at: String,
    #[serde(default)]
    added: Vec<String>,
    #[serde(default)]
    removed: Vec<String>,
    #[serde(default)]
    modified: Vec<String>,
    #[serde(default)]
    initial: bool,
    #[serde(default)]
    keys: Vec<String>,
}

struct Follower<'a, W> {
    target: String,
    is_json: bool,
    /// The last revision printed of each volume.
    seen: HashMap<String, String>,
    out: &'a mut W,
}

impl<'a, W: Write> Follower<'a, W> {
    fn new(name: Option<&VolumeName>, is_json: bool, out: &'a mut W) -> Self {
        let query = name.map(|name| format!("?name={}", client::escaped(name.as_str())));
        let target = client::path(["v1", "events"]) + query.as_deref().unwrap_or_default();
        Self { target, is_json, seen: HashMap::new(), out }
    }

    /// Prints rotations until something fails that time cannot heal. The first connection has to
    /// succeed: whoever has mistyped the path should be told.
    async fn follow(&mut self, client: &Client) -> Failure {
        match self.try_follow(client).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    async fn try_follow(&mut self, client: &Client) -> Result<std::convert::Infallible, Failure> {
        let mut backoff = Backoff::new();
        let mut events = Events::new(client.stream(&self.target).await?);
        loop {
            while let Some(event) = events.next().await {
                backoff.reset();
                self.print(&event)?;
            }
            note("the stream of the sidecar has ended; connecting again");
            events = self.reconnect(client, &mut backoff).await?;
        }
    }

    async fn reconnect(&self, client: &Client, backoff: &mut Backoff) -> Result<Events, Failure> {
        loop {
            // Before every attempt: a sidecar that ends each stream at once must not be flooded.
            sleep(backoff.step()).await;
            match client.stream(&self.target).await {
                Ok(stream) => return Ok(Events::new(stream)),
                Err(error) if error.is_passing() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn print(&mut self, event: &Event) -> Result<(), Failure> {
        if event.name != "snapshot" {
            return Ok(());
        }
        let rotation: Rotation =
            serde_json::from_str(&event.data).map_err(|e| ClientError::strange(&e))?;
        let before = self.seen.insert(rotation.name.clone(), rotation.revision.clone());
        // The first event of a new connection repeats what was current before it broke.
        if before.as_deref() == Some(rotation.revision.as_str()) {
            return Ok(());
        }
        let line = if self.is_json { event.data.replace('\n', " ") } else { line(&rotation) };
        writeln!(self.out, "{line}")?;
        self.out.flush()?;
        Ok(())
    }
}

fn line(rotation: &Rotation) -> String {
    let Rotation { name, revision, generation, observed_at, .. } = rotation;
    let mut line = format!("{observed_at} {name} generation={generation} revision={revision}");
    if let Some(version) = &rotation.version {
        line.push_str(&format!(" version={version:?}"));
    }
    if rotation.initial {
        line.push_str(&format!(" current keys={}", rotation.keys.join(",")));
        return plain(&line);
    }
    if let Some(pickup) = pickup(rotation) {
        line.push_str(&format!(" pickup={pickup}"));
    }
    for (mark, keys) in
        [('+', &rotation.added), ('-', &rotation.removed), ('~', &rotation.modified)]
    {
        keys.iter().for_each(|key| line.push_str(&format!(" {mark}{key}")));
    }
    plain(&line)
}

/// From the write to the volume until it was accepted.
fn pickup(rotation: &Rotation) -> Option<String> {
    let published = listing::time(rotation.published_at.as_deref()?)?;
    let pickup = listing::time(&rotation.observed_at)?.duration_since(published).ok()?;
    let millis = pickup.as_secs_f64() * 1000.0;
    Some(if millis < 1000.0 {
        format!("{millis:.1}ms")
    } else {
        format!("{:.1}s", millis / 1000.0)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::client::tests::{TestResponse, TestServer, client_in, error, text};

    /// Hands every line to the test that waits for it.
    struct Sink(mpsc::UnboundedSender<String>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.0.send(text).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn event(generation: u64, rest: &str) -> String {
        format!(
            "event: snapshot\nid: b.{generation}\ndata: {{\"name\":\"db\",\
             \"revision\":\"b.{generation}\",\"generation\":{generation},\
             \"published_at\":\"2026-11-22T10:00:00.000Z\",\
             \"observed_at\":\"2026-11-22T10:00:00.0025Z\",\"state\":\"current\",{rest}}}\n\n"
        )
    }

    fn initial(generation: u64) -> String {
        event(
            generation,
            r#""initial":true,"keys":["a","b"],"added":[],"removed":[],"modified":[]"#,
        )
    }

    fn stream(events: &str) -> TestResponse {
        text(200, events)
    }

    async fn read(lines: &mut mpsc::UnboundedReceiver<String>) -> String {
        let mut line = String::new();
        while !line.ends_with('\n') {
            line.push_str(&lines.recv().await.unwrap());
        }
        line
    }

    #[tokio::test]
    async fn rotations_are_printed_once_across_a_restart() {
        let changed = event(2, r#""added":["new"],"removed":["old"],"modified":["a"]"#);
        let first = initial(1) + &changed;
        let server = TestServer::new(move |_| stream(&first));
        let dir = server.directory();
        let client = server.client();
        let (sender, mut lines) = mpsc::unbounded_channel();
        let mut out = Sink(sender);
        let name = "db".parse().unwrap();
        let mut follower = Follower::new(Some(&name), false, &mut out);
        assert_eq!(follower.target, "/v1/events?name=db");
        let script = async {
            let line = read(&mut lines).await;
            let expected =
                "2026-11-22T10:00:00.0025Z db generation=1 revision=b.1 current keys=a,b\n";
            assert_eq!(line, expected);
            let expected = "2026-11-22T10:00:00.0025Z db generation=2 revision=b.2 pickup=2.5ms \
                            +new -old ~a\n";
            assert_eq!(read(&mut lines).await, expected);
            drop(server);
            let second = initial(2) + &initial(3);
            let _server = TestServer::in_directory(Arc::clone(&dir), move |_| stream(&second));
            assert!(read(&mut lines).await.contains("revision=b.3 current"));
            drop(_server);
            let _server = TestServer::in_directory(dir, |_| error(403, "no"));
            future::pending::<()>().await;
        };
        let failure = tokio::select! {
            failure = follower.follow(&client) => failure,
            () = script => unreachable!(),
        };
        assert_eq!(failure.exit, Exit::Denied);
    }

    #[tokio::test]
    async fn json_is_passed_on_line_by_line() {
        let served = initial(1);
        let server = TestServer::new(move |_| stream(&served));
        let (sender, mut lines) = mpsc::unbounded_channel();
        let (mut out, client) = (Sink(sender), server.client());
        let mut follower = Follower::new(None, true, &mut out);
        let line = tokio::select! {
            failure = follower.follow(&client) => panic!("{failure:?}"),
            line = read(&mut lines) => line,
        };
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["revision"], "b.1");
    }

    #[tokio::test]
    async fn first_connection_has_to_succeed() {
        let dir = tempfile::tempdir().unwrap();
        let mut out = Vec::new();
        let failure = Follower::new(None, false, &mut out).follow(&client_in(&dir)).await;
        assert_eq!(failure.exit, Exit::Unreachable);
    }

    #[tokio::test]
    async fn reader_that_has_gone_ends_it() {
        let served = initial(1);
        let server = TestServer::new(move |_| stream(&served));
        let (sender, lines) = mpsc::unbounded_channel();
        drop(lines);
        let mut out = Sink(sender);
        let failure = Follower::new(None, false, &mut out).follow(&server.client()).await;
        assert!(super::super::is_broken_pipe(failure.error.as_ref()));
    }
}
