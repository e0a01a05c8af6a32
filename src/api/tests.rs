//! The API from the outside: a real socket, requests written by hand.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::gate::Accepted;
use crate::snapshot::Label;
use crate::snapshot::tests::contents;
use crate::status::{State, Status};
use crate::store::Publisher;

mod access;
mod adoption;
mod limits;
mod page;
mod reads;
mod streams;
mod waits;

/// Far above what anything here takes; with virtual time it costs nothing.
const SOON: Duration = Duration::from_secs(5);

/// A served API with one volume `db`, and the publisher that stands in for the engine.
struct Fixture {
    dir: tempfile::TempDir,
    running: Running,
    db: Publisher,
    /// The other volume stays as it is.
    _tls: Publisher,
    secrets: Secrets,
    metrics_addr: Option<SocketAddr>,
    max_connections: usize,
}

fn options(dir: &Path) -> Options {
    let socket = SocketOptions {
        path: dir.join("sock"),
        mode: 0o600,
        allow_uid: Vec::new(),
        allow_gid: Vec::new(),
        token_file: None,
    };
    Options { socket, metrics_addr: None, max_connections: 16, mode: "test" }
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {}, |_| {})
    }

    /// Changes the options before the bind, and what was bound before it is served.
    fn with(set: impl FnOnce(&mut Options), tamper: impl FnOnce(&mut Bound)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path());
        set(&mut options);
        let mut bound = bind(&options).unwrap();
        tamper(&mut bound);
        let (metrics_addr, max_connections) = (bound.metrics_addr(), bound.max_connections);
        let (secrets, mut publishers) = Secrets::for_test(&["db", "tls"]);
        let tls = publishers.pop().unwrap();
        publish(&tls, "tls", 1, &[("tls.crt", "cert")]);
        let running = bound.serve(secrets.clone()).unwrap();
        let db = publishers.pop().unwrap();
        Self { dir, running, db, _tls: tls, secrets, metrics_addr, max_connections }
    }

    /// With a first snapshot: `user` is `u1`, `db/password` is `p1`.
    fn ready() -> Self {
        let fixture = Self::new();
        fixture.publish(1, &[("user", "u1"), ("db/password", "p1")]);
        fixture
    }

    fn publish(&self, generation: u64, pairs: &[(&str, &str)]) {
        publish(&self.db, "db", generation, pairs);
    }

    async fn connect(&self) -> Client {
        Client(UnixStream::connect(self.dir.path().join("sock")).await.unwrap())
    }

    /// One GET on a connection of its own.
    async fn get(&self, path: &str) -> Answer {
        self.connect().await.get(path).await
    }

    /// Waits until exactly so many long polls and streams are waiting.
    async fn until_waiting(&self, count: usize) {
        let waiting = &self.running.api.waiting;
        let places = self.max_connections - self.max_connections / WAITING_SHARE;
        until("so many wait", async || places - waiting.available_permits() == count).await;
    }
}

/// Waits for something observable. The limit is in real time, because virtual time stands still as
/// long as somebody looks.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let since = std::time::Instant::now();
    while !is_so().await {
        assert!(since.elapsed() < SOON, "never: {what}");
        tokio::task::yield_now().await;
    }
}

fn publish(publisher: &Publisher, volume: &str, generation: u64, pairs: &[(&str, &str)]) {
    let label = Label {
        volume: volume.parse().unwrap(),
        boot: "boot".into(),
        generation,
        published_at: None,
        observed_at: SystemTime::UNIX_EPOCH,
    };
    let accepted = Accepted::for_test(contents(pairs.iter().copied()));
    let status = Status { state: State::Current, ..Status::default() };
    publisher.publish(label, accepted, &status);
}

/// A connection.
struct Client(UnixStream);

impl Client {
    async fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        self.answer().await
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads the head of an answer, and the body that it announces.
    async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
        answer.body = vec![0; length];
        self.0.read_exact(&mut answer.body).await.unwrap();
        answer
    }

    async fn head(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { code, head, body: Vec::new() }
    }

    /// Reads chunks of a chunked body up to the end of an event or comment.
    async fn event(&mut self) -> Option<String> {
        let mut event = String::new();
        while !event.ends_with("\n\n") {
            let mut size = Vec::new();
            while !size.ends_with(b"\r\n") {
                size.push(self.0.read_u8().await.ok()?);
            }
            let size = std::str::from_utf8(&size).unwrap().trim();
            let size = usize::from_str_radix(size, 16).unwrap();
            let mut chunk = vec![0; size + 2];
            self.0.read_exact(&mut chunk).await.unwrap();
            if size == 0 {
                return None;
            }
            event.push_str(std::str::from_utf8(&chunk[..size]).unwrap());
        }
        Some(event)
    }

    /// What comes until the other end closes.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = self.0.read_to_end(&mut rest).await;
        String::from_utf8(rest).unwrap()
    }
}

struct Answer {
    code: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The code of an error document, after a look at what all of them have.
    fn error(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.head);
        let error = self.json()["error"].clone();
        assert!(!error["message"].as_str().unwrap().is_empty());
        error["code"].as_str().unwrap().to_owned()
    }

    fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn stop_removes_the_socket_and_ends_idle_connections() {
    let fixture = Fixture::ready();
    let path = fixture.dir.path().join("sock");
    let (mut used, mut fresh) = (fixture.connect().await, fixture.connect().await);
    assert_eq!(used.get("/livez").await.code, 200);
    assert!(fixture.running.stop(SOON).await);
    assert!(!path.exists());
    assert_eq!(used.rest().await + &fresh.rest().await, "");
}

#[tokio::test(start_paused = true)]
async fn stop_does_not_wait_for_the_rest_of_a_request() {
    let fixture = Fixture::ready();
    let (mut first, mut second) = (fixture.connect().await, fixture.connect().await);
    assert_eq!(second.get("/livez").await.code, 200);
    for client in [&mut first, &mut second] {
        client.send("GET /li").await;
    }
    // Long enough for the halves to be read.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let before = tokio::time::Instant::now();
    assert!(fixture.running.stop(SOON).await);
    assert!(before.elapsed() < Duration::from_millis(5));
}

#[tokio::test]
async fn dropped_api_leaves_no_socket_behind() {
    let dir = tempfile::tempdir().unwrap();
    drop(bind(&options(dir.path())).unwrap());
    assert!(!dir.path().join("sock").exists());
}

#[tokio::test(start_paused = true)]
async fn stop_cuts_a_client_that_does_not_read_at_the_deadline() {
    let fixture = Fixture::new();
    let big = "x".repeat(4 << 20);
    fixture.publish(1, &[("big", &big)]);
    let mut slow = fixture.connect().await;
    slow.send("GET /v1/secrets/db/big HTTP/1.1\r\nhost: x\r\n\r\n").await;
    slow.0.readable().await.unwrap();
    let stop = tokio::spawn(fixture.running.stop(Duration::from_secs(3)));
    assert!(!stop.await.unwrap());
}

#[tokio::test]
async fn request_at_work_finishes_when_the_api_stops() {
    let fixture = Fixture::new();
    let big = "x".repeat(4 << 20);
    fixture.publish(1, &[("big", &big)]);
    let mut client = fixture.connect().await;
    client.send("GET /v1/secrets/db/big HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.0.readable().await.unwrap();
    let stop = tokio::spawn(fixture.running.stop(SOON));
    assert_eq!(client.answer().await.body.len(), big.len());
    assert!(stop.await.unwrap());
}

#[test]
fn settings_out_of_range_are_named_with_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    for max_connections in [0, MAX_MAX_CONNECTIONS + 1] {
        let error = bind(&Options { max_connections, ..options(dir.path()) }).unwrap_err();
        assert!(error.to_string().contains("1 to 65536"), "{error}");
    }
    let taken = StdTcpListener::bind("127.0.0.1:0").unwrap();
    let metrics_addr = taken.local_addr().ok();
    let error = bind(&Options { metrics_addr, ..options(dir.path()) }).unwrap_err().to_string();
    assert!(error.contains(&metrics_addr.unwrap().to_string()), "{error}");
    assert!(!dir.path().join("sock").exists());
}

#[tokio::test]
async fn second_instance_is_refused_and_the_first_one_goes_on() {
    let fixture = Fixture::ready();
    let error = bind(&options(fixture.dir.path())).unwrap_err().to_string();
    assert!(error.contains("live process"), "{error}");
    assert_eq!(fixture.get("/v1/secrets/db/user").await.text(), "u1");
}
