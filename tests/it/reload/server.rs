//! Small HTTP servers, each connection on a thread of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::fixture::eventually;

/// What a server does with a request.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// Answers with this head and keeps the connection.
    Answer(&'static str),
    /// Answers and closes the connection a moment later, as one with a short keep-alive does.
    AnswerAndClose,
    /// Never answers.
    Silence,
    /// Answers 200 with a body that never ends.
    Endless,
}

#[derive(Debug, Clone)]
pub struct Received {
    pub head: String,
    pub body: String,
    /// Counts the connections from 1.
    pub connection: usize,
}

pub struct Server {
    pub addr: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    behaviour: Arc<Mutex<Behaviour>>,
}

pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

impl Server {
    pub fn start(behaviour: Behaviour) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), behaviour)
    }

    pub fn on(listener: TcpListener, behaviour: Behaviour) -> Self {
        let addr = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let behaviour = Arc::new(Mutex::new(behaviour));
        let (log, how) = (Arc::clone(&received), Arc::clone(&behaviour));
        std::thread::spawn(move || {
            for (at, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                let (log, how) = (Arc::clone(&log), Arc::clone(&how));
                std::thread::spawn(move || serve(&stream, at + 1, &log, &how));
            }
        });
        Self { addr, received, behaviour }
    }

    pub fn silent() -> Self {
        Self::start(Behaviour::Silence)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub fn until_requests(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} requests"), || {
            Some(self.received()).filter(|received| received.len() >= count)
        })
    }
}

fn serve(
    mut stream: &TcpStream,
    connection: usize,
    log: &Mutex<Vec<Received>>,
    behaviour: &Mutex<Behaviour>,
) {
    let mut reader = BufReader::new(stream);
    while let Some((head, body)) = request(&mut reader) {
        let behaviour = behaviour.lock().unwrap().clone();
        log.lock().unwrap().push(Received { head, body, connection });
        let sent = match behaviour {
            Behaviour::Answer(text) => stream.write_all(text.as_bytes()),
            Behaviour::AnswerAndClose => {
                let sent = stream.write_all(OK.as_bytes());
                let _ = stream.shutdown(Shutdown::Both);
                sent
            }
            Behaviour::Silence => Ok(()),
            Behaviour::Endless => {
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                let mut sent = stream.write_all(head.as_bytes());
                while sent.is_ok() {
                    sent = stream.write_all(b"4\r\nxxxx\r\n");
                }
                sent
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn request(reader: &mut impl BufRead) -> Option<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head
        .to_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}
