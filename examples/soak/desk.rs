//! Where all other processes report, and are told what to do.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use crate::app;
use crate::failure::fail;
use crate::line::NAME;
use crate::world::World;

/// Listens, and answers from threads of its own until the end of the process.
pub fn open(world: &'static World) {
    let listener = UnixListener::bind(world.directory.join(NAME)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || attend(world, &stream));
        }
    });
}

/// Serves one process until it ends, which it may do at any time.
fn attend(world: &World, mut stream: &UnixStream) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(hello)) = lines.next() else { return };
    let answer = answer(world, &hello);
    if stream.write_all(format!("{answer}\n").as_bytes()).is_err() {
        return;
    }
    while let Some(Ok(line)) = lines.next() {
        note(world, &line);
    }
}

fn answer(world: &World, hello: &str) -> String {
    match hello {
        "hook" => {
            let fault = world.hook.draw();
            if let Some(fault) = fault {
                world.tally.count(fault.title());
            }
            fault.map_or("", |fault| fault.word()).to_owned()
        }
        "independent" | "supervised" => {
            let delay = late(world);
            if !delay.is_zero() {
                world.tally.count(app::LATE_HANDLER);
            }
            delay.as_millis().to_string()
        }
        _ => String::new(),
    }
}

/// How long an app takes to install its handler: half of them are quick.
fn late(world: &World) -> Duration {
    let mut delays = world.delays.lock().unwrap();
    let longest = if delays.bool() { 0 } else { 800 };
    Duration::from_millis(delays.u64(0..=longest))
}

fn note(world: &World, line: &str) {
    let words: Vec<_> = line.splitn(5, ' ').collect();
    match words[..] {
        ["told", target, volume, revision, number] => {
            world.tell(target, volume, revision, number.parse().unwrap());
        }
        _ => fail(line),
    }
}
