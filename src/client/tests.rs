//! A sidecar that answers what a test wants, and the tests of the client against it.

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use http_body_util::Full;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use tokio::net::UnixListener;
use tokio::task::{JoinHandle, JoinSet};

use super::*;

pub(crate) type TestResponse = Response<Full<Bytes>>;
type Respond = dyn Fn(&Request<Incoming>) -> TestResponse + Send + Sync;

/// Answers every request with what `respond` returns, until it is dropped.
pub(crate) struct TestServer {
    dir: Arc<tempfile::TempDir>,
    task: JoinHandle<()>,
}

impl TestServer {
    pub(crate) fn new(
        respond: impl Fn(&Request<Incoming>) -> TestResponse + Send + Sync + 'static,
    ) -> Self {
        Self::in_directory(Arc::new(tempfile::tempdir().unwrap()), respond)
    }

    /// Starts in the place of another one that has ended.
    pub(crate) fn in_directory(
        dir: Arc<tempfile::TempDir>,
        respond: impl Fn(&Request<Incoming>) -> TestResponse + Send + Sync + 'static,
    ) -> Self {
        let path = dir.path().join("s");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        let task = tokio::spawn(serve(listener, Arc::new(respond)));
        Self { dir, task }
    }

    pub(crate) fn client(&self) -> Client {
        client_in(&self.dir)
    }

    pub(crate) fn directory(&self) -> Arc<tempfile::TempDir> {
        Arc::clone(&self.dir)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client of the sidecar that is, or will be, in `dir`.
pub(crate) fn client_in(dir: &tempfile::TempDir) -> Client {
    Client::new(dir.path().join("s"), None).unwrap()
}

async fn serve(listener: UnixListener, respond: Arc<Respond>) {
    // Dropped with this task, and the connections with it, as when a sidecar is killed.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let respond = Arc::clone(&respond);
        let service = service_fn(move |request| {
            let response = respond(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        connections.spawn(server::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

pub(crate) fn text(status: u16, body: &str) -> TestResponse {
    Response::builder()
        .status(status)
        .header("content-type", "text/plain; charset=utf-8")
        .body(Full::from(body.to_owned()))
        .unwrap()
}

/// What the sidecar lists while the volume `db` is in its n-th generation.
pub(crate) fn listing(generation: u64) -> String {
    format!(
        r#"{{"secrets":[{{"name":"db","revision":"b.{generation}","generation":{generation},
        "keys":[],"state":"current","watch":"poll","path":"/db"}}]}}"#
    )
}

pub(crate) fn bytes(body: Vec<u8>) -> TestResponse {
    Response::new(Full::from(body))
}

pub(crate) fn error(status: u16, message: &str) -> TestResponse {
    let body = serde_json::json!({"error": {"code": "test", "message": message}});
    Response::builder().status(status).body(Full::from(body.to_string())).unwrap()
}

pub(crate) fn revision(status: u16, revision: &str) -> TestResponse {
    let response = Response::builder().status(status).header(ETAG, format!("\"{revision}\""));
    response.body(Full::default()).unwrap()
}

async fn failure(client: &Client) -> ClientError {
    client.get("/livez", Duration::ZERO).await.unwrap_err()
}

#[tokio::test]
async fn missing_socket_says_how_to_start_a_sidecar() {
    let dir = tempfile::tempdir().unwrap();
    let error = failure(&client_in(&dir)).await;
    assert!(error.is_unreachable());
    assert!(error.to_string().contains("secretwatch serve"), "{error}");
    assert!(error.to_string().contains("--socket"), "{error}");
}

#[tokio::test]
async fn stale_socket_and_other_files_say_that_nobody_answers() {
    let dir = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap());
    let error = failure(&client_in(&dir)).await;
    assert!(matches!(error, ClientError::NobodyThere { .. }), "{error}");
    fs::remove_file(dir.path().join("s")).unwrap();
    fs::write(dir.path().join("s"), "").unwrap();
    let error = failure(&client_in(&dir)).await;
    assert!(matches!(error, ClientError::NobodyThere { .. }), "{error}");
}

#[tokio::test]
async fn connection_that_is_closed_is_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    tokio::spawn(async move { drop(listener.accept().await) });
    let error = failure(&client_in(&dir)).await;
    assert!(matches!(error, ClientError::Broken { .. }) && error.is_passing(), "{error}");
}

#[tokio::test]
async fn silent_sidecar_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let client = Client { request_timeout: Duration::from_millis(20), ..client_in(&dir) };
    let error = failure(&client).await;
    assert!(matches!(error, ClientError::Hangs { .. }) && error.is_passing(), "{error}");
}

#[test]
fn permission_of_the_socket_is_an_error_of_its_own() {
    let error = io::Error::from(io::ErrorKind::PermissionDenied);
    let error = ClientError::connect(Path::new("/run/s"), error);
    assert!(error.is_denied() && error.to_string().contains("--socket-mode"), "{error}");
}

#[tokio::test]
async fn token_is_sent_and_never_shown() {
    let server = TestServer::new(|request| {
        let sent = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        if sent == Some(b"Bearer canary-7") { text(200, "ok") } else { error(401, "no") }
    });
    let file = server.directory().path().join("token");
    fs::write(&file, "canary-7\n").unwrap();
    let client = Client::new(server.directory().path().join("s"), Some(&file)).unwrap();
    assert!(client.get("/v1/secrets", Duration::ZERO).await.is_ok());
    assert!(!format!("{client:?}").contains("canary"));
    assert!(failure(&server.client()).await.is_denied());
}

#[test]
fn unusable_token_file_is_named_without_its_contents() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    for contents in [&b"canary\ncanary"[..], b"", b"\n", b"canary\xff"] {
        fs::write(&file, contents).unwrap();
        let error = Client::new("/run/s".into(), Some(&file)).unwrap_err();
        let chain = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(chain.contains("token") && !chain.contains("canary"), "{chain}");
    }
    fs::remove_file(&file).unwrap();
    assert!(Client::new("/run/s".into(), Some(&file)).is_err());
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(Client::new("/run/s".into(), Some(&file)).is_ok());
}

#[tokio::test]
async fn reason_of_an_error_is_shown_only_where_it_is_meant_to_be() {
    let cases = [
        (error(500, "one\ntwo"), "(500): one\\ntwo"),
        (text(503, "not ready\nmore"), "(503): not ready"),
        (Response::builder().status(500).body(Full::from("canary")).unwrap(), "no reason given"),
    ];
    for (response, expected) in cases {
        let server = TestServer::new(move |_| response.clone());
        let error = failure(&server.client()).await.to_string();
        assert!(error.contains(expected) && !error.contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn not_modified_is_an_answer() {
    let server = TestServer::new(|_| revision(304, "b.1"));
    let answer = server.client().get("/v1/secrets/db", Duration::ZERO).await.unwrap();
    assert!(matches!(answer, Answer::NotModified));
}

#[test]
fn append_keeps_what_is_there() {
    let mut bytes = Zeroizing::new(Vec::new());
    for _ in 0..100 {
        append(&mut bytes, b"abc");
    }
    assert_eq!(*bytes, b"abc".repeat(100));
}
