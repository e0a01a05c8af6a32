//! `secretwatch demo`: rotations picked up before your eyes.
//!
//! Everything in it is real but the kubelet: the engine, the socket, and a client that waits on it
//! the way an app does.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{Exit, Failure, connect};
use crate::api;
use crate::client::{self, Answer, Client};
use crate::kubelet::{AtomicWriter, Payload, Step};
use crate::secret::Secret;
use crate::secrets::{Secrets, Volume};
use crate::shutdown::Signals;
use crate::snapshot::{Snapshot, VERSION_KEY};

const ROTATIONS: u32 = 5;
/// Long enough to read a line, short enough to stay.
const BETWEEN: Duration = Duration::from_millis(800);
/// What the demo waits for takes less than a millisecond; past this something is broken.
const PATIENCE: Duration = Duration::from_secs(5);
const VOLUME: &str = "my-generic-secret";
const KEY: &str = "some-credential";

const EXAMPLES: &str = "\
Examples:
  secretwatch demo
  secretwatch demo --keep";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Demo {
    /// Keep running afterwards, so that you can try the socket; interrupt it to end
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(crate) fn run(&self) -> Result<Exit, Failure> {
        let place = Place::new()?;
        let runtime = connect::runtime()?;
        let entered = runtime.enter();
        let signals = Signals::new()?;
        let bound = api::bind(&place.options()).map_err(|e| Failure::new(Exit::Negative, e))?;
        drop(entered);
        let stage = Stage::open(&place)?;
        runtime.block_on(async {
            let running =
                bound.serve(stage.secrets.clone()).map_err(|e| Failure::new(Exit::Negative, e))?;
            let outcome = stage.play(self.keep, signals).await;
            running.stop(PATIENCE).await;
            outcome
        })?;
        let path = place.0.clone();
        fs::remove_dir_all(&path)?;
        writeln!(io::stdout(), "\nCleaned up: {} is gone.", path.display())?;
        Ok(Exit::Done)
    }
}

/// The temporary directory; it goes away with everything in it.
struct Place(PathBuf);

impl Place {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("secretwatch-demo-{}", std::process::id()));
        // Only for this user, and an error where somebody has put something there.
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot make {}: {error}", path.display()))
        })?;
        Ok(Self(path))
    }

    fn mount(&self) -> PathBuf {
        self.0.join(VOLUME)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("secretwatch.sock")
    }

    fn options(&self) -> api::Options {
        api::Options {
            socket: api::SocketOptions {
                path: self.socket(),
                mode: 0o600,
                allow_uid: Vec::new(),
                allow_gid: Vec::new(),
                token_file: None,
            },
            metrics_addr: None,
            max_connections: 64,
            mode: "demo",
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // For the ways out that are failures already; the other one has removed it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Everything that takes part.
struct Stage {
    kubelet: AtomicWriter,
    secrets: Secrets,
    volume: Volume,
    client: Client,
    socket: PathBuf,
}

impl Stage {
    fn open(place: &Place) -> Result<Self, Failure> {
        let kubelet = AtomicWriter::new(place.mount());
        kubelet.write(payload(1))?;
        let secrets = Secrets::builder().volume(place.mount()).require(KEY).open()?;
        let volume = secrets.volume(VOLUME)?;
        let client = Client::new(place.socket(), None)?;
        Ok(Self { kubelet, secrets, volume, client, socket: place.socket() })
    }

    async fn play(&self, keep: bool, mut signals: Signals) -> Result<(), Failure> {
        let mut out = io::stdout();
        introduce(&mut out, self.kubelet.dir(), &self.socket, keep)?;
        tokio::select! {
            outcome = self.rotations(&mut out) => outcome?,
            () = interrupted(&mut signals) => return Ok(()),
        }
        self.metrics(&mut out).await?;
        try_next(&mut out, self.kubelet.dir(), &self.socket, keep)?;
        if keep {
            interrupted(&mut signals).await;
        }
        Ok(())
    }

    async fn rotations(&self, out: &mut impl Write) -> Result<(), Failure> {
        for number in 2..=ROTATIONS + 1 {
            tokio::time::sleep(BETWEEN).await;
            self.rotate(number, out).await?;
        }
        Ok(())
    }

    /// One rotation, timed from the kubelet's rename.
    async fn rotate(&self, number: u32, out: &mut impl Write) -> Result<(), Failure> {
        let before = self.volume.current();
        let in_process = wait_in_process(&self.volume);
        let waiting = self.wait_on_the_socket(before.revision());
        tokio::pin!(waiting);
        // Up to its first wait, so that the request is on its way before the rotation.
        tokio::select! {
            biased;
            early = &mut waiting => { early?; }
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        let mut rotation = self.kubelet.rotation(payload(number))?;
        rotation.run_until(Step::is_swap)?;
        let start = Instant::now();
        rotation.step()?;
        let (value, on_the_socket) = waiting.await?;
        rotation.finish()?;
        let (snapshot, seen_at) = in_process
            .recv_timeout(PATIENCE)
            .map_err(|_| Failure::new(Exit::Negative, "the engine did not see the rotation"))?;
        if snapshot.get(KEY).map(Secret::len) != Ok(value) {
            let error = "the socket and the library do not agree on the value";
            return Err(Failure::new(Exit::Negative, error));
        }
        writeln!(
            out,
            "  rotation {:>2}   version {:<3}  in process after {:>7.3} ms   the app, on the socket, after {:>7.3} ms",
            number - 1,
            snapshot.version().unwrap_or("-"),
            millis(seen_at, start),
            millis(on_the_socket, start),
        )?;
        Ok(())
    }

    /// What an app does: asks for the value once it differs from the one it has.
    async fn wait_on_the_socket(&self, revision: &str) -> Result<(usize, Instant), Failure> {
        let path = client::path(["v1", "secrets", VOLUME, KEY]);
        let target = format!("{path}?after={revision}&timeout=5s");
        match self.client.get(&target, PATIENCE).await? {
            Answer::Found { body, .. } => Ok((body.len(), Instant::now())),
            Answer::NotModified => {
                Err(Failure::new(Exit::TimedOut, "the socket did not report the rotation"))
            }
        }
    }

    async fn metrics(&self, out: &mut impl Write) -> Result<(), Failure> {
        let Answer::Found { body, .. } = self.client.get("/metrics", Duration::ZERO).await? else {
            return Ok(());
        };
        writeln!(out, "\nWhat the operator sees, from /metrics:")?;
        let text = String::from_utf8_lossy(&body);
        let shown = [
            "secretwatch_generation{",
            "secretwatch_secret_info{",
            "secretwatch_snapshots_total{",
            "secretwatch_holding_last_good{",
            "secretwatch_watch_up{",
            "secretwatch_detection_latency_seconds_count{",
            "secretwatch_detection_latency_seconds_sum{",
        ];
        for line in text.lines().filter(|line| shown.iter().any(|name| line.starts_with(name))) {
            writeln!(out, "  {line}")?;
        }
        Ok(())
    }
}

/// A value whose length tells the versions apart, so that no value has to be shown.
fn payload(number: u32) -> Payload {
    let value = "x".repeat(16 + usize::try_from(number).unwrap_or(0));
    Payload::new().with(KEY, value).with(VERSION_KEY, format!("v{number}"))
}

/// A thread of an app that links the crate.
fn wait_in_process(volume: &Volume) -> Receiver<(Arc<Snapshot>, Instant)> {
    let (sender, receiver) = channel();
    let mut changes = volume.changes();
    thread::spawn(move || {
        if let Ok(Some(snapshot)) = changes.changed_timeout(2 * PATIENCE) {
            // Nobody listens any more where the demo has failed already.
            let _ = sender.send((snapshot, Instant::now()));
        }
    });
    receiver
}

fn millis(later: Instant, start: Instant) -> f64 {
    later.saturating_duration_since(start).as_secs_f64() * 1e3
}

/// Any signal ends it, also that of a terminal that goes away.
async fn interrupted(signals: &mut Signals) {
    signals.next().await;
}

fn introduce(out: &mut impl Write, mount: &Path, socket: &Path, keep: bool) -> io::Result<()> {
    let until = if keep { "until you interrupt it" } else { "for a few seconds" };
    writeln!(
        out,
        "A simulated kubelet keeps a mounted secret in  {}\n\
         secretwatch watches it and serves it on        {}\n\
         \n\
         While this runs ({until}), in another terminal:\n\
         \x20 curl --unix-socket {} http://localhost/v1/secrets\n\
         \n\
         Now the secret is rotated {ROTATIONS} times. No restart, and no polling:",
        mount.display(),
        socket.display(),
        socket.display(),
    )
}

fn try_next(out: &mut impl Write, mount: &Path, socket: &Path, keep: bool) -> io::Result<()> {
    // As it was called: after `cargo run` there is no such command on the path.
    let me = std::env::args().next().unwrap_or_else(|| "secretwatch".to_owned());
    if !keep {
        return writeln!(
            out,
            "\nWhat to try next:\n\
             \x20 {me} demo --keep                      the same, and it stays for you to play with\n\
             \x20 {me} simulate /tmp/db password=one    make a mount of your own, and rotate it\n\
             \x20 {me} serve --volume /tmp/db --socket /tmp/sw.sock\n\
             \x20 {me} --help"
        );
    }
    let (mount, socket) = (mount.display(), socket.display());
    writeln!(
        out,
        "\nStill running. What to try, in another terminal:\n\
         \x20 curl --unix-socket {socket} http://localhost/v1/secrets/{VOLUME}/{KEY}\n\
         \x20 curl --unix-socket {socket} http://localhost/metrics\n\
         \x20 curl -N --unix-socket {socket} http://localhost/v1/events\n\
         \x20 {me} follow --socket {socket}\n\
         \x20 {me} simulate {mount} {KEY}=changed-by-hand\n\
         Interrupt it (Ctrl-C) to clean up and end."
    )
}
