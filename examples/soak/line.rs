//! A role's connection to the soak. The process ends when the soak does.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::{Signal, raise};

/// Where the soak listens.
pub const NAME: &str = "desk.sock";

pub struct Line {
    stream: UnixStream,
    /// What the soak has answered.
    pub answer: String,
}

impl Line {
    /// Says who this is, and waits for the answer.
    pub fn open(directory: &Path, hello: &str) -> Self {
        let Ok(stream) = UnixStream::connect(directory.join(NAME)) else { end() };
        let mut line = Self { stream, answer: String::new() };
        line.say(hello);
        let mut reader = BufReader::new(line.stream.try_clone().unwrap());
        // Without an answer the thread below meets the end as well.
        let _ = reader.read_line(&mut line.answer);
        line.answer.truncate(line.answer.trim_end().len());
        std::thread::spawn(move || {
            let _ = reader.read(&mut [0]);
            end();
        });
        line
    }

    /// Says something that is not answered.
    pub fn say(&mut self, text: &str) {
        if self.stream.write_all(format!("{text}\n").as_bytes()).is_err() {
            end();
        }
    }
}

/// Nothing has to be put in order: whoever would look at it is gone.
fn end() -> ! {
    loop {
        let _ = raise(Signal::SIGKILL);
    }
}
