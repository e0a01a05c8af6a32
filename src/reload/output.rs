//! What a command prints, line by line in the log.
//!
//! Everything is read, so that no command blocks on a full pipe; only the first lines are logged.

use std::os::fd::OwnedFd;
use std::process::{ChildStderr, ChildStdout};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{Instrument, Span, info, warn};

/// The longest line that is logged; the rest of it is left out.
const MAX_LINE_BYTES: usize = 1024;
/// How many lines of each stream are logged in one attempt.
const MAX_LINES: usize = 50;
/// How much is read at a time.
const BUFFER_BYTES: usize = 8 * 1024;

/// Both streams of one command.
pub(super) struct Output(JoinSet<()>);

impl Output {
    /// Starts to read. To be called inside a tokio runtime.
    pub(super) fn start(stdout: Option<ChildStdout>, stderr: Option<ChildStderr>) -> Self {
        let mut tasks = JoinSet::new();
        let streams =
            [("stdout", stdout.map(OwnedFd::from)), ("stderr", stderr.map(OwnedFd::from))];
        for (name, fd) in streams {
            let Some(fd) = fd else { continue };
            match Receiver::from_owned_fd(fd) {
                Ok(pipe) => {
                    tasks.spawn(log(name, pipe).instrument(Span::current()));
                }
                // The command meets a closed pipe then, and everything else still works.
                Err(error) => warn!(%error, stream = name, "output cannot be read"),
            }
        }
        Self(tasks)
    }

    /// Reads the rest, but no longer than this.
    pub(super) async fn finish(mut self, patience: Duration) {
        let all = async { while self.0.join_next().await.is_some() {} };
        // Whoever still holds the pipe is not the command any more.
        let _ = timeout(patience, all).await;
    }
}

async fn log(stream: &'static str, mut pipe: Receiver) {
    let mut lines = Lines { stream, line: Vec::new(), is_cut: false, logged: 0, left_out: 0 };
    // On the heap: the buffer would make a large future.
    let mut buffer = vec![0; BUFFER_BYTES];
    // An error tells no more than the end does.
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        lines.take(buffer.get(..count).unwrap_or_default());
    }
}

/// Cuts bytes into lines. What is unfinished is logged when it is dropped, also where the reading
/// was given up.
struct Lines {
    stream: &'static str,
    line: Vec<u8>,
    is_cut: bool,
    logged: usize,
    left_out: usize,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = MAX_LINE_BYTES - self.line.len();
            self.is_cut |= piece.len() > room;
            self.line.extend_from_slice(piece.get(..room).unwrap_or(piece));
            if pieces.peek().is_some() {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        if self.logged < MAX_LINES {
            self.logged += 1;
            let text = String::from_utf8_lossy(&self.line);
            // Nothing in a line can end it, or move a terminal's cursor.
            let text: String = text
                .trim_end_matches('\r')
                .chars()
                .map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c })
                .collect();
            info!(
                stream = self.stream,
                is_cut = self.is_cut.then_some(true),
                line = text,
                "printed"
            );
        } else {
            self.left_out += 1;
        }
        self.line.clear();
        self.is_cut = false;
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
        if self.left_out > 0 {
            info!(stream = self.stream, lines = self.left_out, "more was printed and left out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_counted() {
        let mut lines =
            Lines { stream: "stdout", line: Vec::new(), is_cut: false, logged: 0, left_out: 0 };
        lines.take(b"a\nb");
        assert_eq!((lines.logged, lines.line.as_slice()), (1, &b"b"[..]));
        lines.take(&vec![b'x'; 10 * MAX_LINE_BYTES]);
        assert_eq!((lines.line.len(), lines.is_cut), (MAX_LINE_BYTES, true));
        lines.take(&b"\n".repeat(MAX_LINES + 10));
        assert_eq!((lines.logged, lines.left_out), (MAX_LINES, 11));
        assert!(lines.line.is_empty());
    }
}
