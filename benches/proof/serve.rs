//! (c) A keep-alive GET of one key, compared with a bare hyper server that answers a constant of
//! the same size.
//!
//! Each connection belongs to a client thread of its own that waits for its answers, as workers of
//! an application do. The time on the processor is what the server itself costs, its system calls
//! with it, whatever the clients do.

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
        goal: Goal::OnlyTime,
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

/// Shares the requests among the clients, who work at the same time.
fn exchange(clients: &mut [Connection], request: &[u8]) {
    let each = REQUESTS as usize / clients.len();
    std::thread::scope(|scope| {
        for client in clients {
            scope.spawn(move || {
                for _ in 0..each {
                    client.send(request);
                    assert!(client.receive().starts_with(b"HTTP/1.1 200"));
                }
            });
        }
    });
}
