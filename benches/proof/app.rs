//! An app that reloads on SIGHUP: its handler writes a byte to a socket.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::libc::SIGHUP;

/// Nothing here takes as long; a measurement that hangs ends.
const DEADLINE: Duration = Duration::from_secs(30);

/// Reports until whoever listens is gone, with which it ends, whoever has started it.
pub fn run(socket: &Path) {
    let mut stream = UnixStream::connect(socket).unwrap();
    signal_hook::low_level::pipe::register(SIGHUP, stream.try_clone().unwrap()).unwrap();
    stream.write_all(b"!").unwrap();
    let _ = stream.read(&mut [0]);
}

/// Where an app reports.
pub struct Reports {
    listener: UnixListener,
    app: Option<UnixStream>,
}

impl Reports {
    pub fn new(socket: &Path) -> Self {
        Self { listener: UnixListener::bind(socket).unwrap(), app: None }
    }

    /// Waits until the app has its handler.
    pub fn accept(&mut self) {
        let (app, _) = self.listener.accept().unwrap();
        app.set_read_timeout(Some(DEADLINE)).unwrap();
        self.app = Some(app);
        self.wait();
    }

    /// Waits until the handler has run.
    pub fn wait(&mut self) {
        self.app.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }
}
