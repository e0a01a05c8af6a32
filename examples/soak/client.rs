//! A client of the socket: HTTP written by hand, blocking.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::edition::Values;
use crate::time::DEADLINE;

pub struct Client(BufReader<UnixStream>);

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// One snapshot.
pub struct Set {
    pub revision: String,
    pub generation: u64,
    pub values: Values,
}

impl Client {
    pub fn open(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        // Even a stream without events says something every 15 seconds.
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self(BufReader::new(stream)))
    }

    pub fn ask(&mut self, method: &str, target: &str, body: &str) -> io::Result<Answer> {
        let length = body.len();
        let head = format!("{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}");
        self.0.get_mut().write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
        let (status, length) = self.head()?;
        let mut body = vec![0; if status == 304 { 0 } else { length }];
        self.0.read_exact(&mut body)?;
        Ok(Answer { status, body })
    }

    /// Asks for a stream; each line of it is then a line of [`line`](Self::line).
    pub fn follow(&mut self, target: &str) -> io::Result<u16> {
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        Ok(self.head()?.0)
    }

    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }

    fn head(&mut self) -> io::Result<(u16, usize)> {
        let status = self.line()?.get(9..12).and_then(|code| code.parse().ok());
        let mut length = 0;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse().map_err(io::Error::other)?;
            }
            if line.trim_end().is_empty() {
                return Ok((status.ok_or(ErrorKind::InvalidData)?, length));
            }
        }
    }

    /// A document that has to be there.
    pub fn document(&mut self, target: &str) -> io::Result<Value> {
        let answer = self.ask("GET", target, "")?;
        match answer.status {
            200 => Ok(serde_json::from_slice(&answer.body)?),
            other => Err(io::Error::other(format!("{target}: {other}"))),
        }
    }

    /// A volume; `None` where it has not changed, or has nothing yet.
    pub fn set(&mut self, target: &str) -> io::Result<Option<Set>> {
        let answer = self.ask("GET", target, "")?;
        match answer.status {
            200 => {
                let document: Value = serde_json::from_slice(&answer.body)?;
                set(&document).ok_or_else(|| ErrorKind::InvalidData.into()).map(Some)
            }
            304 | 503 => Ok(None),
            other => {
                let body = String::from_utf8_lossy(&answer.body);
                Err(io::Error::other(format!("{target}: {other} {body}")))
            }
        }
    }

    /// Says that `consumer` uses this revision; `false` where it is too old to be known.
    pub fn adopt(&mut self, volume: &str, consumer: &str, revision: &str) -> io::Result<bool> {
        let body = format!(r#"{{"revision":"{revision}"}}"#);
        let answer = self.ask("PUT", &format!("/v1/adoptions/{volume}/{consumer}"), &body)?;
        match answer.status {
            200 => Ok(true),
            409 => Ok(false),
            other => Err(io::Error::other(format!("adoption: {other}"))),
        }
    }
}

/// The snapshot that a document holds.
pub fn set(document: &Value) -> Option<Set> {
    let mut values = Values::new();
    for (key, value) in document["data"].as_object()? {
        values.insert(key.clone(), STANDARD.decode(value.as_str()?).ok()?);
    }
    let revision = document["revision"].as_str()?.to_owned();
    Some(Set { revision, generation: document["generation"].as_u64()?, values })
}
