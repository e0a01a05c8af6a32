//! Where a request goes: `http://host[:port]/path`, or `unix:/run/app.sock:/path`.

use std::fmt;
use std::path::PathBuf;

use hyper::Uri;
use hyper::header::HeaderValue;

const HTTP_PORT: u16 = 80;
/// What `sockaddr_un` has room for, without the NUL at its end.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    text: String,
    address: Address,
    /// Path and query.
    target: Uri,
    host: HeaderValue,
}

impl Url {
    /// # Errors
    /// Where it is none of the two forms. No error repeats the text, whose query may have a token.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err("https is not supported: give http:// to a port of the same pod, or \
                        unix:/path/of.sock:/path"
                .to_owned());
        }
        let parsed = match text.strip_prefix("unix:") {
            Some(rest) => unix(rest),
            None => tcp(text),
        };
        let (address, target, host) = parsed.ok_or(
            "expected http://host:port/path without user and fragment, or \
             unix:/path/of.sock:/path",
        )?;
        Ok(Self { text: text.to_owned(), address, target, host })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn target(&self) -> &Uri {
        &self.target
    }

    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The URL without its query, which may have a token.
    pub(super) fn shown(&self) -> &str {
        self.text.split('?').next().unwrap_or_default()
    }
}

/// As it was given.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn tcp(text: &str) -> Option<(Address, Uri, HeaderValue)> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority().filter(|a| !a.as_str().contains('@'))?;
    let is_plain = uri.scheme_str() == Some("http") && !text.contains('#');
    let host = uri.host().filter(|host| !host.is_empty())?;
    // Read here, because for the parser a port out of range is silently none.
    let port = match authority.as_str().strip_prefix(host)? {
        "" => HTTP_PORT,
        rest => rest.strip_prefix(':')?.parse().ok()?,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let target = uri.path_and_query()?.as_str().parse().ok()?;
    let header = HeaderValue::from_str(authority.as_str()).ok()?;
    is_plain.then_some((Address::Tcp { host, port }, target, header))
}

fn unix(rest: &str) -> Option<(Address, Uri, HeaderValue)> {
    let (socket, path) = rest.split_once(":/").unwrap_or((rest, ""));
    let is_socket = socket.starts_with('/')
        && !socket.ends_with('/')
        && !socket.ends_with(':')
        && socket.len() <= MAX_SOCKET_PATH_BYTES;
    let target = format!("/{path}").parse().ok().filter(|_| !path.contains('#'))?;
    let header = HeaderValue::from_static("localhost");
    is_socket.then(|| (Address::Unix(socket.into()), target, header))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_taken_apart() {
        let tcp = |host: &str, port| Address::Tcp { host: host.to_owned(), port };
        for (text, address, target) in [
            ("http://127.0.0.1:8080/-/reload?a=b", tcp("127.0.0.1", 8080), "/-/reload?a=b"),
            ("http://localhost", tcp("localhost", 80), "/"),
            ("http://[::1]:81/", tcp("::1", 81), "/"),
            ("unix:/run/a.sock:/x/y?z", Address::Unix("/run/a.sock".into()), "/x/y?z"),
            ("unix:/run/a.sock", Address::Unix("/run/a.sock".into()), "/"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.address(), url.target().to_string().as_str()), (&address, target));
            assert_eq!(url.to_string(), text);
            assert!(!url.shown().contains('?'));
        }
    }

    #[test]
    fn anything_else_is_refused_without_being_repeated() {
        for text in [
            "",
            "canary",
            "canary:80/",
            "/canary",
            "ftp://canary/",
            "http://",
            "http://user:canary@host/",
            "http://host:99999/canary",
            "http://host/#canary",
            "unix:canary",
            "unix:/",
            "https://canary/",
        ] {
            let error = Url::parse(text).unwrap_err();
            assert!(error.contains("unix:/path/of.sock:/path"), "{text}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
