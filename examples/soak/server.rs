//! The HTTP server that the sidecar tells, with everything that such a server does wrong.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;

use crate::failure::fail;
use crate::time::pause;
use crate::world::World;

/// The target's name.
pub const TARGET: &str = "http";
const WELL: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const BROKEN: &[u8] = b"HTTP/1.1 500 Broken\r\ncontent-length: 4\r\n\r\noops";
const NONSENSE: &[u8] = b"220 smtp.example.com ready\r\n";
/// Less than the timeout of the target.
const SLOW: Duration = Duration::from_millis(400);
const OUTAGE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
pub enum Fault {
    Error,
    HangUp,
    Nonsense,
    Slow,
    Silent,
    CloseKept,
    Outage,
}

impl Fault {
    pub const ALL: &[Self] = &[
        Self::Error,
        Self::HangUp,
        Self::Nonsense,
        Self::Slow,
        Self::Silent,
        Self::CloseKept,
        Self::Outage,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Error => "http: answers 500",
            Self::HangUp => "http: hangs up",
            Self::Nonsense => "http: answers no HTTP",
            Self::Slow => "http: is slow",
            Self::Silent => "http: never answers",
            Self::CloseKept => "http: closes the kept connection",
            Self::Outage => "http: is not there",
        }
    }
}

pub fn socket(world: &World) -> PathBuf {
    world.directory.join("http.sock")
}

pub fn start(world: &'static World) {
    let listener = UnixListener::bind(socket(world)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            // An error is the caller's, who may go away at any time.
            std::thread::spawn(move || serve(world, &stream));
        }
    });
}

fn serve(world: &World, mut stream: &UnixStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(body) = request(&mut reader)? {
        let fault = world.server.draw();
        if let Some(fault) = fault {
            world.tally.count(fault.title());
        }
        match fault {
            None => note(world, &body),
            Some(Fault::Error) => {
                stream.write_all(BROKEN)?;
                continue;
            }
            Some(Fault::HangUp) => return Ok(()),
            Some(Fault::Nonsense) => return stream.write_all(NONSENSE),
            Some(Fault::Slow) => {
                pause(SLOW);
                note(world, &body);
            }
            Some(Fault::Silent) => {
                // The caller gives up.
                let _ = reader.read(&mut [0])?;
                return Ok(());
            }
            Some(Fault::CloseKept) => {
                note(world, &body);
                return stream.write_all(WELL);
            }
            Some(Fault::Outage) => {
                outage(world);
                return Ok(());
            }
        }
        stream.write_all(WELL)?;
    }
    Ok(())
}

/// The body of the next request; `None` at the end of the connection.
fn request(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let (mut length, mut line) = (0, String::new());
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(body))
}

fn note(world: &World, body: &[u8]) {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    for change in document["changes"].as_array().into_iter().flatten() {
        let (Some(volume), Some(revision)) =
            (change["volume"].as_str(), change["revision"].as_str())
        else {
            fail(&format!("the body of a call is not what it should be: {document}"))
        };
        world.tell(TARGET, volume, revision, 0);
    }
}

/// Nobody can connect for some time.
fn outage(world: &World) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    let (here, away) = (socket(world), world.directory.join("http.away"));
    fs::rename(&here, &away).unwrap();
    pause(OUTAGE);
    fs::rename(&away, &here).unwrap();
}
