//! What this program is when it is started anew, to be measured or compared with.

use std::path::PathBuf;
use std::process::Command;

use crate::{app, bare, teller};

/// The name of the role, and what it needs to know: an address and a directory.
const ROLE: &str = "PROOF_ROLE";
const ADDRESS: &str = "PROOF_ADDRESS";
const DIRECTORY: &str = "PROOF_DIRECTORY";

pub enum Role {
    /// Answers HTTP requests on a socket, with a constant.
    Server { socket: PathBuf },
    /// Reports every SIGHUP on a socket.
    App { socket: PathBuf },
    /// Signals an app of its own when the directory is rotated.
    Signaller { socket: PathBuf, directory: PathBuf },
    /// Tells an HTTP server when the directory is rotated.
    Poster { address: String, directory: PathBuf },
}

impl Role {
    pub fn of_this_process() -> Option<Self> {
        let role = std::env::var(ROLE).ok()?;
        let address = std::env::var(ADDRESS).unwrap();
        let directory = std::env::var_os(DIRECTORY).map(PathBuf::from);
        let socket = PathBuf::from(&address);
        Some(match role.as_str() {
            "server" => Self::Server { socket },
            "app" => Self::App { socket },
            "signaller" => Self::Signaller { socket, directory: directory.unwrap() },
            "poster" => Self::Poster { address, directory: directory.unwrap() },
            _ => panic!("{ROLE}={role:?} is unknown"),
        })
    }

    pub fn run(self) {
        match self {
            Self::Server { socket } => bare::run(&socket),
            Self::App { socket } => app::run(&socket),
            Self::Signaller { socket, directory } => teller::signal(&socket, &directory),
            Self::Poster { address, directory } => teller::post(&address, &directory),
        }
    }

    /// Makes `command`, which is this program or starts it, take this role.
    pub fn give_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        match self {
            Self::Server { socket } => command.env(ROLE, "server").env(ADDRESS, socket),
            Self::App { socket } => command.env(ROLE, "app").env(ADDRESS, socket),
            Self::Signaller { socket, directory } => {
                command.env(ROLE, "signaller").env(ADDRESS, socket).env(DIRECTORY, directory)
            }
            Self::Poster { address, directory } => {
                command.env(ROLE, "poster").env(ADDRESS, address).env(DIRECTORY, directory)
            }
        }
    }

    /// This program in this role.
    pub fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        self.give_to(&mut command);
        command
    }
}
