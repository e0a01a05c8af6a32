//! Why the sidecar could not be asked, or did not give what was asked for, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use hyper::StatusCode;
use thiserror::Error;

/// What can go wrong between a client command and the sidecar.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error(
        "there is no socket {}: start the sidecar with `secretwatch serve`, mount its directory \
         here too, or give another path with --socket (or SECRETWATCH_SOCKET)",
        .socket.display()
    )]
    NoSocket { socket: PathBuf },
    #[error(
        "nobody answers on {}: the sidecar has ended without removing its socket, or this is \
         another file; see whether `secretwatch serve` is running",
        .socket.display()
    )]
    NobodyThere { socket: PathBuf },
    #[error(
        "this user (uid {uid}) may not connect to {}: run as the sidecar's user, or open the \
         socket with --socket-mode and --allow-uid on the sidecar",
        .socket.display()
    )]
    SocketPermission { socket: PathBuf, uid: u32 },
    #[error("cannot connect to {}", .socket.display())]
    Connect { socket: PathBuf, source: io::Error },
    #[error("the connection to {} broke", .socket.display())]
    Broken { socket: PathBuf, source: hyper::Error },
    #[error("the sidecar on {} does not answer in time", .socket.display())]
    Hangs { socket: PathBuf },
    #[error("the answer has more than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the request cannot be written")]
    Request(#[source] hyper::http::Error),
    #[error("the answer is not what a sidecar of this version gives: {0}")]
    Strange(String),
    #[error("the token in {} cannot be used", .path.display())]
    TokenFile { path: PathBuf, source: io::Error },
    #[error(
        "the sidecar on {} asks for a token: {message}; give its file with --token-file (or \
         SECRETWATCH_TOKEN_FILE)",
        .socket.display()
    )]
    Unauthorized { socket: PathBuf, message: String },
    #[error(
        "the sidecar on {} refuses this user (uid {uid}): {message}",
        .socket.display()
    )]
    Forbidden { socket: PathBuf, uid: u32, message: String },
    #[error("{message}")]
    NotFound { message: String },
    #[error("the sidecar cannot answer now ({code}): {message}")]
    Unavailable { code: u16, message: String },
    #[error("the sidecar refuses the request ({code}): {message}")]
    Refused { code: u16, message: String },
}

impl ClientError {
    pub(super) fn connect(socket: &Path, error: io::Error) -> Self {
        let socket = socket.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NoSocket { socket },
            io::ErrorKind::ConnectionRefused => Self::NobodyThere { socket },
            io::ErrorKind::PermissionDenied => Self::SocketPermission { socket, uid: own_uid() },
            _ => Self::Connect { socket, source: error },
        }
    }

    pub(super) fn answer(socket: &Path, status: StatusCode, message: String) -> Self {
        let socket = socket.to_owned();
        let code = status.as_u16();
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized { socket, message },
            StatusCode::FORBIDDEN => Self::Forbidden { socket, uid: own_uid(), message },
            StatusCode::NOT_FOUND => Self::NotFound { message },
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable { code, message },
            _ => Self::Refused { code, message },
        }
    }

    /// An answer that is not the JSON it should be. Without the message of the parser, which would
    /// show a part of the answer.
    pub(crate) fn strange(error: &serde_json::Error) -> Self {
        Self::Strange(format!(
            "{:?} error in line {}, column {}",
            error.classify(),
            error.line(),
            error.column()
        ))
    }

    /// Whether the sidecar was not there, or went away in the middle.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::NoSocket { .. }
                | Self::NobodyThere { .. }
                | Self::Connect { .. }
                | Self::Broken { .. }
                | Self::Hangs { .. }
        )
    }

    /// Whether the same request may well succeed later, as after a restart of the sidecar.
    pub(crate) fn is_passing(&self) -> bool {
        self.is_unreachable() || matches!(self, Self::Unavailable { .. })
    }

    /// Whether the sidecar, or the socket's permissions, keep this user out.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(
            self,
            Self::SocketPermission { .. } | Self::Unauthorized { .. } | Self::Forbidden { .. }
        )
    }
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}
