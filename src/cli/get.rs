//! `secretwatch get`: the current values, for shells and for images without curl.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use super::connect::{self, Connect};
use super::{Exit, Failure};
use crate::client::{self, Answer, Client};
use crate::name::{KeyName, VolumeName};

const EXAMPLES: &str = "\
Examples:
  secretwatch get db password | psql-login
  PASSWORD=\"$(secretwatch get db password)\"
  secretwatch get db
  secretwatch get db --text

A value is printed as it is, without a line break after it. Values are not printed to a terminal
(exit code 6), where they would stay on the screen and in its history, unless --show is given.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Get {
    #[command(flatten)]
    connect: Connect,

    /// The volume
    #[arg(value_parser = connect::volume)]
    name: VolumeName,

    /// The key; without it, the JSON document of the volume with its values in base64
    #[arg(value_parser = parse_key)]
    key: Option<KeyName>,

    /// Give UTF-8 values as text in `stringData`; all others stay in `data`, in base64
    #[arg(long, conflicts_with = "key")]
    text: bool,

    /// Print to a terminal too
    #[arg(long)]
    show: bool,
}

fn parse_key(text: &str) -> Result<KeyName, crate::NameError> {
    text.parse()
}

impl Get {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        if !self.show && io::stdout().is_terminal() {
            let error = "not printing a value to a terminal; send it to a file or a program, or \
                         add --show";
            return Err(Failure::new(Exit::Terminal, error));
        }
        let target = target(&self.name, self.key.as_ref(), self.text);
        let client = self.connect.client()?;
        // Unbuffered, because the buffer of `io::stdout` would keep a copy of the value.
        let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        connect::runtime()?.block_on(get(&client, &target, &mut out))
    }
}

fn target(name: &VolumeName, key: Option<&KeyName>, text: bool) -> String {
    let segments = ["v1", "secrets", name.as_str()];
    let key = key.into_iter().flat_map(|key| key.as_str().split('/'));
    let path = client::path(segments.into_iter().chain(key));
    if text { path + "?format=text" } else { path }
}

async fn get(client: &Client, target: &str, out: &mut impl Write) -> Result<Exit, Failure> {
    if let Answer::Found { body, .. } = client.get(target, Duration::ZERO).await? {
        out.write_all(&body)?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{TestServer, bytes, error};

    #[test]
    fn target_keeps_the_directories_of_a_key_and_escapes_the_rest() {
        let name = "db".parse().unwrap();
        let key = |text: &str| target(&name, Some(&text.parse().unwrap()), false);
        assert_eq!(key("a/b c?#%.txt"), "/v1/secrets/db/a/b%20c%3F%23%25.txt");
        assert_eq!(key("ü"), "/v1/secrets/db/%C3%BC");
        assert_eq!(target(&name, None, true), "/v1/secrets/db?format=text");
    }

    #[tokio::test]
    async fn value_arrives_byte_for_byte() {
        let value: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let served = value.clone();
        let server = TestServer::new(move |request| {
            assert_eq!(request.uri().path(), "/v1/secrets/db/key");
            bytes(served.clone())
        });
        let mut out = Vec::new();
        get(&server.client(), "/v1/secrets/db/key", &mut out).await.unwrap();
        assert!(out == value);
    }

    #[tokio::test]
    async fn each_refusal_has_its_exit_code_and_says_why() {
        for (status, exit, expected) in [
            (404, Exit::NotFound, "volume `db` has no key `x`"),
            (401, Exit::Denied, "--token-file"),
            (403, Exit::Denied, "refuses this user"),
            (503, Exit::Negative, "cannot answer now (503): volume"),
            (500, Exit::Negative, "refuses the request (500): volume"),
        ] {
            let server = TestServer::new(move |_| error(status, "volume `db` has no key `x`"));
            let mut out = Vec::new();
            let failure = get(&server.client(), "/v1/secrets/db/x", &mut out).await.unwrap_err();
            assert_eq!(failure.exit, exit, "{status}");
            assert!(failure.error.to_string().contains(expected), "{}", failure.error);
            assert!(out.is_empty());
        }
    }
}
