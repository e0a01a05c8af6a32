//! Webhooks, and everything that can be wrong with them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use super::Stage;
use super::server::{Behaviour, OK, Server};
use crate::fixture::eventually;

fn table(url: &str, more: &str) -> String {
    format!("[[target]]\nhttp = \"{url}\"\nretry_min = \"20ms\"\nretry_max = \"50ms\"\n{more}")
}

fn with(url: &str, more: &str) -> Stage {
    Stage::with_file(tempfile::tempdir().unwrap(), &table(url, more))
}

#[test]
fn connection_is_kept_between_rotations_and_its_end_survived() {
    let server = Server::start(Behaviour::Answer(OK));
    let stage = Stage::start(&["--notify-http", &server.url("/-/reload?a=b")]);
    for value in ["1", "2", "3"] {
        stage.rotate(value);
        stage.until_told(value);
    }
    let received = server.received();
    assert!(received[0].head.starts_with("POST /-/reload?a=b HTTP/1.1\r\n"), "{received:?}");
    assert!(received.iter().all(|r| r.connection == 1 && r.body.is_empty()), "{received:?}");
    server.behave(Behaviour::AnswerAndClose);
    for value in ["4", "5", "6"] {
        stage.rotate(value);
        stage.until_told(value);
    }
    assert_eq!(stage.metric("reloads_failed_total"), 0.0);
    assert_eq!(stage.metric("reloads_total"), 6.0);
}

#[test]
fn server_that_refuses_and_comes_back_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let stage = with(&format!("http://{addr}/"), "");
    stage.rotate("1");
    let target = stage.until_state("failing");
    assert!(target["detail"].as_str().unwrap().contains("cannot be connected to"), "{target}");
    assert!(stage.metric("reload_pending") == 1.0 && stage.metric("last_reload_successful") == 0.0);
    let server = Server::on(TcpListener::bind(addr).unwrap(), Behaviour::Answer(OK));
    stage.until_told("1");
    server.until_requests(1);
    assert_eq!(stage.metric("reload_pending"), 0.0);
    assert_eq!(stage.metric("last_reload_successful"), 1.0);
    let observed = "secretwatch_snapshot_observed_timestamp_seconds{volume=\"db\"}";
    let observed = stage.sidecar.metric(observed).unwrap();
    let waited = stage.metric("last_reload_success_timestamp_seconds") - observed;
    let lag = stage.metric("last_reload_lag_seconds");
    assert!((lag - waited).abs() < 0.001 && lag > 0.0, "{lag} and {waited}");
}

#[test]
fn answers_that_are_no_success_say_so_and_are_tried_again() {
    let server = Server::start(Behaviour::Answer(OK));
    let stage = with(&server.url("/"), "timeout = \"200ms\"\n");
    for (value, behaviour, expected) in [
        ("1", Behaviour::Answer("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"), "answered 500"),
        (
            "2",
            Behaviour::Answer(
                "HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            ),
            "answered 302, a redirect, which is not followed",
        ),
        ("3", Behaviour::Silence, "did not answer within 200ms"),
        ("4", Behaviour::Answer("nonsense\r\n\r\n"), "broke the connection off"),
    ] {
        server.behave(behaviour);
        stage.rotate(value);
        eventually(expected, || {
            stage.target()["detail"].as_str().is_some_and(|d| d.contains(expected)).then_some(())
        });
        server.behave(Behaviour::Answer(OK));
        stage.until_told(value);
    }
}

#[test]
fn endless_body_is_not_read_to_its_end() {
    let server = Server::start(Behaviour::Endless);
    let stage = with(&server.url("/"), "");
    stage.rotate("1");
    stage.until_told("1");
    assert_eq!(stage.metric("reloads_failed_total"), 0.0);
}

#[test]
fn body_headers_method_and_expected_status_are_as_asked_for() {
    let server = Server::start(Behaviour::Answer("HTTP/1.1 418 X\r\ncontent-length: 0\r\n\r\n"));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("headers"), "Authorization: Bearer t\n").unwrap();
    let more =
        "method = \"PUT\"\nheaders_file = \"{dir}/headers\"\nexpect = [\"418\"]\nbody = true\n";
    let stage = Stage::with_file(directory, &table(&server.url("/x"), more));
    // Told of once, so that the next call is surely about what has changed since.
    stage.rotate("0.1");
    stage.until_told("0.1");
    stage.mount.rotate(&[("password", "1"), ("user", "u")]);
    stage.until_told("1");
    let received = server.received().pop().unwrap();
    assert!(received.head.starts_with("PUT /x "), "{received:?}");
    assert!(received.head.to_lowercase().contains("authorization: bearer t\r\n"), "{received:?}");
    let body: serde_json::Value = serde_json::from_str(&received.body).unwrap();
    let change = &body["changes"][0];
    assert_eq!(change["volume"], "db");
    assert_eq!(change["revision"], stage.sidecar.get("/v1/secrets/db").revision());
    assert_eq!(change["added"], serde_json::json!(["user"]));
    assert_eq!(change["modified"], serde_json::json!(["password"]));
}

#[test]
fn unix_socket_is_told_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let url = format!("unix:{}:/reload", path.display());
    let stage = Stage::start(&["--notify-http", &url]);
    stage.rotate("1");
    let (mut stream, _) = listener.accept().unwrap();
    let mut buffer = [0; 1024];
    let count = stream.read(&mut buffer).unwrap();
    let head = String::from_utf8_lossy(&buffer[..count]).into_owned();
    assert!(head.starts_with("POST /reload HTTP/1.1\r\n"), "{head}");
    stream.write_all(OK.as_bytes()).unwrap();
    stage.until_told("1");
}
