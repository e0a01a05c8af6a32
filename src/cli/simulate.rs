//! `secretwatch simulate`: rotate a directory the way the kubelet does, to try out what follows it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Exit, Failure};
use crate::duration;
use crate::kubelet::{AtomicWriter, LinkOrder, Payload};
use crate::name::KeyName;
use crate::volume::{DATA_LINK, MAX_VOLUME_BYTES};

/// The key that `--every` counts in.
const COUNTER: &str = "counter";
/// The longest line of `--stdin`: a full volume in base64, and as much again for everything else.
const MAX_LINE_BYTES: usize = 2 * MAX_VOLUME_BYTES / 3 * 4;

const EXAMPLES: &str = "\
Examples:
  secretwatch simulate /tmp/db user=app password=one
  secretwatch simulate /tmp/db password=two
  secretwatch simulate /tmp/db --file tls.crt=/tmp/new.crt --remove password
  secretwatch simulate /tmp/db --every 1s --count 10
  cat rotations.jsonl | secretwatch simulate /tmp/db --stdin

Each rotation keeps the keys that are there, changes those that are given and removes those that
are to be removed. A line of --stdin, {\"key\":\"<base64>\"}, is the whole of the next rotation. Values
on the command line can be seen by every user of the machine: give real ones with --file or --stdin.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Simulate {
    /// The directory to rotate
    dir: PathBuf,

    /// Give a key this value
    #[arg(value_name = "KEY=VALUE", value_parser = pair::<String>)]
    set: Vec<(KeyName, String)>,

    /// Give a key the contents of a file
    #[arg(long, value_name = "KEY=PATH", value_parser = pair::<PathBuf>)]
    file: Vec<(KeyName, PathBuf)>,

    /// Remove a key
    #[arg(long, value_name = "KEY", value_parser = key)]
    remove: Vec<KeyName>,

    /// Read rotations from standard input, one a line: {"key":"<base64>"}
    #[arg(long, conflicts_with_all = ["set", "file", "remove", "every"])]
    stdin: bool,

    /// Rotate again and again at this interval, counting in the key `counter`
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    every: Option<Duration>,

    /// Stop after so many rotations; without it, go on until interrupted
    #[arg(long, value_name = "N", requires = "every")]
    count: Option<NonZeroU64>,

    /// When links of new keys are made: `after` the swap or `before` it
    ///
    /// Kubelets make them after it today; older ones, and the Secrets Store CSI driver, before.
    #[arg(long, value_name = "ORDER", default_value = "after", value_parser = link_order)]
    links: LinkOrder,

    /// Change the modes of the whole volume before each swap, as a kubelet does with `fsGroup`
    #[arg(long)]
    fs_group: bool,
}

fn key(text: &str) -> Result<KeyName, String> {
    text.parse().map_err(|error| format!("{text:?} is no key: {error}"))
}

fn pair<T: From<String>>(text: &str) -> Result<(KeyName, T), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("KEY=… is expected, with the name of the key before the `=`".to_owned());
    };
    Ok((key(name)?, T::from(value.to_owned())))
}

fn interval(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| "a time such as 500ms or 2s is expected".to_owned())
}

fn link_order(text: &str) -> Result<LinkOrder, String> {
    match text {
        "after" => Ok(LinkOrder::AfterSwap),
        "before" => Ok(LinkOrder::BeforeSwap),
        _ => Err("`after` or `before` is expected".to_owned()),
    }
}

impl Simulate {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        check_directory(&self.dir)?;
        let mut writer = AtomicWriter::new(&self.dir).link_order(self.links);
        if self.fs_group {
            writer = writer.fs_group();
        }
        let mut out = io::stdout().lock();
        if self.stdin {
            from_lines(&writer, io::stdin().lock(), &mut out)?;
        } else if let Some(every) = self.every {
            self.count_up(&writer, every, &mut out)?;
        } else {
            rotate(&writer, self.payload(writer.current()?)?, &mut out)?;
        }
        Ok(Exit::Done)
    }

    /// What is there, changed as the command line says.
    fn payload(&self, mut payload: Payload) -> Result<Payload, Failure> {
        for (key, value) in &self.set {
            payload = payload.with(key.as_str(), value.as_str());
        }
        for (key, path) in &self.file {
            let value = fs::read(path).map_err(|error| {
                Failure::new(Exit::Negative, format!("the value of `{key}`, {path:?}: {error}"))
            })?;
            payload = payload.with(key.as_str(), value);
        }
        for key in &self.remove {
            if payload.get(key.as_str()).is_none() {
                let error = format!("cannot remove `{key}`: there is no such key");
                return Err(Failure::new(Exit::NotFound, error));
            }
            payload = payload.without(key.as_str());
        }
        Ok(payload)
    }

    fn count_up(
        &self,
        writer: &AtomicWriter,
        every: Duration,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        // Keys are removed once; the rest is the same each time.
        let base = self.payload(writer.current()?)?;
        let keys: Vec<String> = base.keys().map(str::to_owned).collect();
        let mut number: u64 = 0;
        loop {
            number += 1;
            let payload = keys.iter().fold(Payload::new(), |payload, key| {
                let value = base.get(key).map_or(&[][..], |value| value.expose());
                payload.with(key.as_str(), value)
            });
            rotate(writer, payload.with(COUNTER, number.to_string()), out)?;
            if self.count.is_some_and(|count| number >= count.get()) {
                return Ok(());
            }
            pause(every);
        }
    }
}

/// A directory of something else is not turned into a volume by mistake.
fn check_directory(dir: &Path) -> Result<(), Failure> {
    let entries = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(Failure::new(Exit::Negative, format!("{dir:?}: {error}"))),
    };
    if entries && dir.join(DATA_LINK).symlink_metadata().is_err() {
        let error = format!(
            "{dir:?} holds other things and no `..data`; give a directory that is empty, absent, \
             or was made by `secretwatch simulate`"
        );
        return Err(Failure::new(Exit::Usage, error));
    }
    Ok(())
}

fn rotate(writer: &AtomicWriter, payload: Payload, out: &mut impl Write) -> Result<(), Failure> {
    let keys = payload.keys().collect::<Vec<_>>().join(", ");
    let keys = if keys.is_empty() { "no keys".to_owned() } else { keys };
    let is_changed = writer.write(payload)?;
    let dir = writer.dir().display();
    if is_changed {
        writeln!(out, "rotated {dir}: {keys}")?;
    } else {
        writeln!(out, "unchanged {dir}: the kubelet does nothing then")?;
    }
    out.flush()?;
    Ok(())
}

fn from_lines(
    writer: &AtomicWriter,
    mut input: impl BufRead,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut number = 0;
    loop {
        let mut line = Zeroizing::new(Vec::new());
        number += 1;
        let limit = MAX_LINE_BYTES as u64 + 1;
        if io::Read::take(&mut input, limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let refuse = |reason: &str| {
            Failure::new(Exit::Usage, format!("line {number} of standard input: {reason}"))
        };
        if line.len() > MAX_LINE_BYTES {
            return Err(refuse(&format!("more than {MAX_LINE_BYTES} bytes")));
        }
        if !line.trim_ascii().is_empty() {
            rotate(writer, decode(&line).map_err(|reason| refuse(&reason))?, out)?;
        }
    }
}

/// Reads `{"key":"<base64>"}`. What it says of a mistake names the key and never shows a value.
fn decode(line: &[u8]) -> Result<Payload, String> {
    let values: BTreeMap<String, String> = serde_json::from_slice(line).map_err(|error| {
        format!("{{\"key\":\"<base64>\"}} is expected (column {})", error.column())
    })?;
    let mut payload = Payload::new();
    for (name, value) in values {
        let name = key(&name)?;
        let base64 = Zeroizing::new(value);
        let value = STANDARD
            .decode(base64.as_bytes())
            .map_err(|_| format!("the value of `{name}` is not base64"))?;
        payload = payload.with(name.as_str(), value);
    }
    Ok(payload)
}

/// Lets time pass. A parked thread may be woken early, so it looks at the clock.
fn pause(time: Duration) {
    let start = Instant::now();
    while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        simulate: Simulate,
    }

    fn run(dir: &Path, words: &[&str]) -> Result<Exit, Failure> {
        let line = ["simulate", dir.to_str().unwrap()].into_iter().chain(words.iter().copied());
        Line::try_parse_from(line).unwrap().simulate.run()
    }

    fn value(dir: &Path, key: &str) -> String {
        fs::read_to_string(dir.join(key)).unwrap()
    }

    #[test]
    fn rotation_keeps_changes_adds_and_removes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("db");
        let file = root.path().join("cert");
        fs::write(&file, "certificate").unwrap();
        run(&dir, &["user=app", "password=a=b", "gone=x"]).unwrap();
        let cert = format!("tls/crt={}", file.display());
        run(&dir, &["password=two", "--file", &cert, "--remove", "gone"]).unwrap();
        assert_eq!(value(&dir, "user"), "app");
        assert_eq!(value(&dir, "password"), "two");
        assert_eq!(value(&dir, "tls/crt"), "certificate");
        assert!(!dir.join("gone").exists());
    }

    #[test]
    fn directory_of_something_else_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("precious"), "x").unwrap();
        let failure = run(root.path(), &["k=v"]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.error.to_string().contains("holds other things"));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn removing_what_is_not_there_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        run(root.path(), &["k=v"]).unwrap();
        let failure = run(root.path(), &["k=w", "--remove", "x"]).unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        assert_eq!(value(root.path(), "k"), "v");
    }

    #[test]
    fn counting_rotates_as_often_as_asked() {
        let root = tempfile::tempdir().unwrap();
        run(root.path(), &["k=v", "--every", "1ms", "--count", "3"]).unwrap();
        assert_eq!(value(root.path(), "counter"), "3");
        assert_eq!(value(root.path(), "k"), "v");
    }

    #[test]
    fn lines_are_whole_rotations_in_turn() {
        let root = tempfile::tempdir().unwrap();
        let writer = AtomicWriter::new(root.path());
        let mut out = Vec::new();
        let lines = b"{\"a\":\"MQ==\"}\n\n{\"b\":\"Mg==\"}\n{\"b\":\"Mg==\"}";
        from_lines(&writer, &lines[..], &mut out).unwrap();
        assert_eq!(value(root.path(), "b"), "2");
        assert!(!root.path().join("a").exists());
        let out = String::from_utf8(out).unwrap();
        let words: Vec<_> = out.lines().map(|l| l.split(' ').next().unwrap()).collect();
        assert_eq!(words, ["rotated", "rotated", "unchanged"]);
    }

    #[test]
    fn bad_line_is_refused_by_number_and_without_its_values() {
        let root = tempfile::tempdir().unwrap();
        let writer = AtomicWriter::new(root.path());
        for (line, said) in [
            (
                "{\"a\":\"MQ==\"}\n{\"a\":\"canary!\"}",
                "line 2 of standard input: the value of `a` is not",
            ),
            ("{\"a\":\"canary\"", "line 1 of standard input: {\"key\":\"<base64>\"} is expected"),
            ("[\"canary\"]", "line 1 of standard input"),
            ("{\"../a\":\"MQ==\"}", "is no key"),
        ] {
            let failure = from_lines(&writer, line.as_bytes(), &mut Vec::new()).unwrap_err();
            let text = failure.error.to_string();
            assert!(text.contains(said) && !text.contains("canary"), "{text}");
        }
    }

    #[test]
    fn words_that_are_no_pair_are_refused() {
        for word in ["novalue", "=x", "../k=v", "..data=v"] {
            assert!(Line::try_parse_from(["simulate", "/tmp/x", word]).is_err(), "{word}");
        }
    }
}
