//! (c) A keep-alive GET of one key, compared with a bare hyper server that answers a constant of
//! the same size.
//!
//! With eight connections every connection always has a request under way, so that the server is
//! what is waited for. The time on the processor is what the server itself costs, whatever the
//! client and the kernel's scheduler do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;

use crate::connection::{Connection, request};
use crate::mount::{KEY, Mount};
use crate::ratio::{Goal, Pair, Question, Side, Table};
use crate::server::Server;

/// Requests in a sample.
const REQUESTS: u32 = 2_000;

pub fn run(criterion: &mut Criterion, table: &mut Table) {
    let time = Duration::from_secs(5);
    let goal = Goal::Speed(0.7);
    let question =
        Question { id: "serve/1", what: "GET of one key, 1 connection; bare hyper", goal, time };
    table.compare(criterion, &question, || pair(1, wall));
    let question =
        Question { id: "serve/8", what: "GET of one key, 8 connections; bare hyper", goal, time };
    table.compare(criterion, &question, || pair(8, wall));
    let question = Question {
        id: "serve/cpu",
        what: "the server's time on a processor for it, 8 connections; bare hyper",
        goal: Goal::None,
        time,
    };
    table.compare(criterion, &question, || pair(8, on_cpu));
}

type Clock = fn(&Server, &mut dyn FnMut()) -> Duration;

fn wall(_: &Server, work: &mut dyn FnMut()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn on_cpu(server: &Server, work: &mut dyn FnMut()) -> Duration {
    let before = server.cpu_time();
    work();
    server.cpu_time() - before
}

fn pair(connections: usize, clock: Clock) -> Pair {
    let mount = Arc::new(Mount::new());
    let bare = mount.path().with_file_name("bare");
    Pair {
        subject: side(Server::sidecar(&mount), &mount, connections, clock),
        baseline: side(Server::bare(&bare), &mount, connections, clock),
    }
}

fn side(server: Server, mount: &Arc<Mount>, connections: usize, clock: Clock) -> Side {
    let mount = Arc::clone(mount);
    let mut clients: Vec<_> = (0..connections).map(|_| server.connect()).collect();
    let request = request(&format!("/v1/secrets/db/{KEY}"));
    Side::new(REQUESTS, move || {
        // Kept, so that the volume is there.
        let _ = &mount;
        clock(&server, &mut || exchange(&mut clients, &request))
    })
}

fn exchange(clients: &mut [Connection], request: &[u8]) {
    let rounds = REQUESTS as usize / clients.len();
    clients.iter_mut().for_each(|client| client.send(request));
    for round in 1..=rounds {
        for client in &mut *clients {
            assert!(client.receive().starts_with(b"HTTP/1.1 200"));
            if round < rounds {
                client.send(request);
            }
        }
    }
}
