//! (d) A thousand clients wait, and one rotation answers them all: the time until the last one has
//! it. The baseline wakes as many waiting requests of the bare server with one notification, and
//! has nothing to detect, to read or to look up.

use std::time::{Duration, Instant};

use criterion::Criterion;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::bare;
use crate::connection::{Connection, request, revision};
use crate::mount::{KEY, Mount};
use crate::ratio::{Goal, Pair, Question, Side, Table};
use crate::server::Server;

const CLIENTS: usize = 1_000;
/// Both herds at the same time, and room for the rest.
const DESCRIPTORS: u64 = 4_096;

pub fn run(criterion: &mut Criterion, table: &mut Table) {
    let question = Question {
        id: "herd",
        what: "rename of `..data` → the last of 1,000 long polls has it; bare hyper, one notify",
        goal: Goal::OnlyTime,
        time: Duration::from_secs(8),
    };
    table.compare(criterion, &question, || {
        raise_descriptor_limit();
        Pair { subject: sidecar(), baseline: hyper() }
    });
}

fn sidecar() -> Side {
    let mut mount = Mount::new();
    let server = Server::sidecar(&mount);
    let mut herd = Herd::new(&server);
    let path = format!("/v1/secrets/db/{KEY}");
    Side::new(1, move || {
        let _ = &server;
        let known = revision(herd.other.ask(&path));
        herd.wait(&format!("{path}?after={known}"), &path);
        mount.rotate(|start, value| herd.end(start, value))
    })
}

fn hyper() -> Side {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::bare(&directory.path().join("bare"));
    let mut herd = Herd::new(&server);
    Side::new(1, move || {
        let _ = (&server, &directory);
        herd.wait(bare::WAIT, "/");
        let start = Instant::now();
        let value = herd.other.ask(bare::WAKE).last_chunk::<{ crate::mount::VALUE_BYTES }>();
        let value = *value.unwrap();
        herd.end(start, &value)
    })
}

struct Herd {
    clients: Vec<Connection>,
    /// One that does not wait.
    other: Connection,
}

impl Herd {
    fn new(server: &Server) -> Self {
        let clients = (0..CLIENTS).map(|_| server.connect()).collect();
        Self { clients, other: server.connect() }
    }

    /// Lets all clients ask and wait.
    fn wait(&mut self, target: &str, at_once: &str) {
        let request = request(target);
        self.clients.iter_mut().for_each(|client| client.send(&request));
        // Servers of one thread answer in the order in which they are asked: when this one has its
        // answer, all others wait.
        self.other.ask(at_once);
    }

    /// How long after `start` the last one has its answer.
    fn end(&mut self, start: Instant, value: &[u8]) -> Duration {
        for client in &mut self.clients {
            assert!(client.receive().ends_with(value));
        }
        start.elapsed()
    }
}

/// Many shells start programs with room for 1,024 descriptors and allow more.
fn raise_descriptor_limit() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft < DESCRIPTORS {
        setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard).unwrap();
    }
}
