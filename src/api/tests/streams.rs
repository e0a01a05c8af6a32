//! Server-sent events, in virtual time.

use super::*;
use serde_json::{Value, json};
use tokio::time::Instant;

async fn open(fixture: &Fixture, query: &str) -> Client {
    let mut client = fixture.connect().await;
    client.send(&format!("GET /v1/events{query} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    let answer = client.head().await;
    assert_eq!(answer.code, 200, "{}", answer.head);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    client
}

fn data(event: &str) -> Value {
    let mut lines = event.lines();
    assert_eq!(lines.next(), Some("event: snapshot"));
    let id = lines.next().unwrap().strip_prefix("id: ").unwrap();
    let data: Value =
        serde_json::from_str(lines.next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(data["revision"], id);
    data
}

async fn next(client: &mut Client) -> Value {
    data(&client.event().await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn first_event_is_the_state_and_the_next_ones_are_differences() {
    let fixture = Fixture::ready();
    let mut client = open(&fixture, "?name=db").await;
    let first = json!({
        "name": "db", "revision": "boot.1", "generation": 1, "state": "current",
        "observed_at": "1970-01-01T00:00:00.000Z", "initial": true, "keys": ["db/password", "user"],
    });
    assert_eq!(next(&mut client).await, first);
    fixture.publish(2, &[("user", "canary"), ("new", "canary")]);
    let text = client.event().await.unwrap();
    let second = json!({
        "name": "db", "revision": "boot.2", "generation": 2, "state": "current",
        "observed_at": "1970-01-01T00:00:00.000Z",
        "added": ["new"], "removed": ["db/password"], "modified": ["user"],
    });
    assert_eq!(data(&text), second);
    assert!(!text.contains("canary"));
}

#[tokio::test(start_paused = true)]
async fn slow_client_skips_revisions_and_misses_no_change() {
    let fixture = Fixture::ready();
    let mut client = open(&fixture, "?name=db").await;
    next(&mut client).await;
    // Nobody reads between these.
    fixture.publish(2, &[("user", "u1"), ("db/password", "p2")]);
    fixture.publish(3, &[("user", "u1")]);
    fixture.publish(4, &[("user", "u1"), ("late", "x")]);
    let event = next(&mut client).await;
    assert_eq!(event["generation"], 4);
    assert_eq!(
        (&event["added"], &event["removed"], &event["modified"]),
        (&json!(["late"]), &json!(["db/password"]), &json!([]))
    );
}

#[tokio::test(start_paused = true)]
async fn names_filter_and_all_volumes_come_without_them() {
    let fixture = Fixture::ready();
    for (query, names) in [
        ("", vec!["db", "tls"]),
        ("?name=tls", vec!["tls"]),
        ("?name=tls&name=db&name=tls", vec!["db", "tls"]),
    ] {
        let mut client = open(&fixture, query).await;
        let mut found = Vec::new();
        for _ in &names {
            found.push(next(&mut client).await["name"].as_str().unwrap().to_owned());
        }
        found.sort();
        assert_eq!(found, names, "{query}");
        assert_eq!(client.event().await.as_deref(), Some(": keep-alive\n\n"), "{query}");
    }
    let answer = fixture.get("/v1/events?name=nope").await;
    assert_eq!((answer.code, answer.error().as_str()), (404, "unknown_volume"));
}

#[tokio::test(start_paused = true)]
async fn volume_that_is_not_ready_begins_with_its_first_snapshot() {
    let fixture = Fixture::new();
    let mut client = open(&fixture, "?name=db").await;
    assert_eq!(client.event().await.as_deref(), Some(": keep-alive\n\n"));
    fixture.publish(1, &[("user", "u1")]);
    assert_eq!(next(&mut client).await["initial"], true);
}

#[tokio::test(start_paused = true)]
async fn quiet_stream_is_kept_alive_for_longer_than_the_idle_limit() {
    let fixture = Fixture::ready();
    let mut client = open(&fixture, "?name=db").await;
    next(&mut client).await;
    let before = Instant::now();
    while before.elapsed() < 2 * connection::IDLE_TIME {
        let since = Instant::now();
        assert_eq!(client.event().await.as_deref(), Some(": keep-alive\n\n"));
        assert!(since.elapsed() <= events::KEEP_ALIVE + Duration::from_millis(1));
    }
    fixture.publish(2, &[]);
    assert_eq!(next(&mut client).await["generation"], 2);
}

#[tokio::test(start_paused = true)]
async fn stop_ends_streams_properly() {
    let fixture = Fixture::ready();
    let mut client = open(&fixture, "?name=db").await;
    next(&mut client).await;
    let stop = tokio::spawn(fixture.running.stop(SOON));
    assert_eq!(client.event().await, None);
    assert_eq!(client.rest().await, "");
    assert!(stop.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn end_of_the_watch_ends_the_stream() {
    let Fixture { dir, running: _running, db, _tls, secrets: _secrets, .. } = Fixture::ready();
    let mut client = Client(UnixStream::connect(dir.path().join("sock")).await.unwrap());
    client.send("GET /v1/events?name=db HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.head().await.code, 200);
    next(&mut client).await;
    drop(db);
    assert_eq!(client.event().await, None);
}

#[tokio::test(start_paused = true)]
async fn streams_are_bounded_and_a_closed_one_frees_its_place() {
    let fixture = Fixture::with(|options| options.max_connections = MAX_STREAMS * 2, |_| {});
    fixture.publish(1, &[]);
    let mut clients = Vec::new();
    for _ in 0..MAX_STREAMS {
        clients.push(open(&fixture, "?name=db").await);
    }
    let answer = fixture.get("/v1/events").await;
    assert_eq!((answer.code, answer.error().as_str()), (503, "too_many_waiting"));
    clients.pop();
    fixture.until_waiting(MAX_STREAMS - 1).await;
    let _again = open(&fixture, "").await;
}
