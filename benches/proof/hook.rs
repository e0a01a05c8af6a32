//! An app's webhook: keeps its connection, and answers after the measurement.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Nothing here takes as long; a measurement that hangs ends.
const DEADLINE: Duration = Duration::from_secs(30);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

pub struct Hook {
    listener: TcpListener,
    caller: Option<TcpStream>,
}

impl Hook {
    pub fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap(), caller: None }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Waits for the caller's one connection.
    pub fn accept(&mut self) {
        let (caller, _) = self.listener.accept().unwrap();
        caller.set_read_timeout(Some(DEADLINE)).unwrap();
        caller.set_nodelay(true).unwrap();
        self.caller = Some(caller);
    }

    /// Waits for a whole request. It has no body.
    pub fn receive(&mut self) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut part = [0; 1024];
            let count = self.caller.as_mut().unwrap().read(&mut part).unwrap();
            assert_ne!(count, 0, "the caller has closed its connection");
            request.extend_from_slice(&part[..count]);
        }
        assert!(request.starts_with(b"POST "), "{}", String::from_utf8_lossy(&request));
    }

    pub fn answer(&mut self) {
        self.caller.as_mut().unwrap().write_all(ANSWER).unwrap();
    }
}
