//! A client that costs next to nothing: blocking, keep-alive, requests written by hand.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// More than any answer here has.
const MAX_ANSWER_BYTES: usize = 2048;
/// Nothing here takes as long; a measurement that hangs ends.
const DEADLINE: Duration = Duration::from_secs(60);

pub struct Connection {
    stream: UnixStream,
    buffer: Box<[u8; MAX_ANSWER_BYTES]>,
}

/// The request for a path.
pub fn request(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

impl Connection {
    /// `None` where nobody listens yet.
    pub fn try_open(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Some(Self { stream, buffer: Box::new([0; MAX_ANSWER_BYTES]) })
    }

    pub fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).unwrap();
    }

    /// Reads one whole answer, head and body.
    pub fn receive(&mut self) -> &[u8] {
        let mut filled = 0;
        loop {
            let count = self.stream.read(&mut self.buffer[filled..]).unwrap();
            assert_ne!(count, 0, "the server has closed the connection");
            filled += count;
            if let Some(length) = length(&self.buffer[..filled])
                && length <= filled
            {
                assert_eq!(length, filled, "more than one answer");
                return &self.buffer[..filled];
            }
        }
    }

    pub fn ask(&mut self, target: &str) -> &[u8] {
        self.send(&request(target));
        self.receive()
    }
}

/// The bytes of an answer, once its head is there.
fn length(answer: &[u8]) -> Option<usize> {
    const FIELD: &[u8] = b"content-length: ";
    let head = find(answer, b"\r\n\r\n")?;
    let field = find(&answer[..head], FIELD).expect("an answer tells its length");
    let digits = answer[field + FIELD.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    let body = digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    Some(head + b"\r\n\r\n".len() + body)
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// The revision of an answer of the sidecar.
pub fn revision(answer: &[u8]) -> String {
    let text = std::str::from_utf8(answer).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("secretwatch-revision: "));
    line.unwrap().to_owned()
}
