//! What the client commands have in common: the way to the sidecar.

use std::io;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use tokio::runtime::{Builder, Runtime};

use crate::client::{Client, ClientError};
use crate::config::DEFAULT_SOCKET;
use crate::name::{ConsumerName, VolumeName};

// Where the sidecar is, and what to show it. A documentation comment would become the description
// of every subcommand that has these arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Connect {
    /// Unix socket of the sidecar.
    #[arg(
        long,
        value_name = "PATH",
        env = "SECRETWATCH_SOCKET",
        hide_env = true,
        hide_env_values = true,
        help = "Unix socket of the sidecar (or SECRETWATCH_SOCKET)\n\
                [default: /run/secretwatch/secretwatch.sock]",
        value_parser = any_path()
    )]
    socket: Option<PathBuf>,

    /// File with the bearer token.
    #[arg(
        long,
        value_name = "PATH",
        env = "SECRETWATCH_TOKEN_FILE",
        hide_env = true,
        hide_env_values = true,
        help = "File with the bearer token that the sidecar asks for (or SECRETWATCH_TOKEN_FILE)",
        value_parser = any_path()
    )]
    token_file: Option<PathBuf>,
}

impl Connect {
    /// The client that was asked for; an empty variable counts as absent, as for the sidecar.
    pub(crate) fn client(self) -> Result<Client, ClientError> {
        let given = |path: &PathBuf| !path.as_os_str().is_empty();
        let socket = self.socket.filter(given).unwrap_or_else(|| DEFAULT_SOCKET.into());
        Client::new(socket, self.token_file.filter(given).as_deref())
    }
}

/// Takes an empty path, too: an empty variable is one that is not there.
fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// One thread is enough to wait for one sidecar.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Parses the name of a volume given as an argument.
pub(crate) fn volume(text: &str) -> Result<VolumeName, crate::NameError> {
    text.parse()
}

/// Parses the name of a consumer given as an argument.
pub(crate) fn consumer(text: &str) -> Result<ConsumerName, crate::NameError> {
    text.parse()
}
