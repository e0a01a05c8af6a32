//! Long polls, in virtual time.

use super::*;
use tokio::time::Instant;

async fn poll(fixture: &Fixture, query: &str) -> Client {
    let mut client = fixture.connect().await;
    client.send(&format!("GET /v1/secrets/db?{query} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    client
}

#[tokio::test(start_paused = true)]
async fn another_revision_is_answered_at_once() {
    let fixture = Fixture::ready();
    let before = Instant::now();
    for revision in ["boot.0", "otherboot.1", "nonsense"] {
        let answer = poll(&fixture, &format!("after={revision}")).await.answer().await;
        assert_eq!((answer.code, answer.json()["revision"].as_str()), (200, Some("boot.1")));
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn change_answers_every_waiting_client() {
    let fixture = Fixture::ready();
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(poll(&fixture, "after=boot.1").await);
    }
    fixture.until_waiting(8).await;
    fixture.publish(2, &[("user", "u2")]);
    let before = Instant::now();
    for client in &mut clients {
        let answer = client.answer().await;
        assert_eq!((answer.code, answer.json()["data"]["user"].as_str()), (200, Some("dTI=")));
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nothing_new_is_304_after_the_timeout() {
    let fixture = Fixture::ready();
    for (query, seconds) in [("", 30), ("&timeout=2", 2), ("&timeout=1m", 60), ("&timeout=0", 0)] {
        let before = Instant::now();
        let answer = poll(&fixture, &format!("after=boot.1{query}")).await.answer().await;
        assert_eq!((answer.code, answer.header("etag")), (304, Some("\"boot.1\"")));
        assert_eq!(before.elapsed().as_secs(), seconds, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn longest_wait_outlives_the_idle_limit() {
    let fixture = Fixture::ready();
    let mut client = poll(&fixture, "after=boot.1&timeout=300").await;
    assert_eq!(client.answer().await.code, 304);
    assert_eq!(client.get("/livez").await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn key_is_waited_for_by_the_revision_of_its_volume() {
    let fixture = Fixture::ready();
    let mut client = fixture.connect().await;
    client.send("GET /v1/secrets/db/user?after=boot.1 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    fixture.until_waiting(1).await;
    fixture.publish(2, &[("user", "u1"), ("other", "x")]);
    let answer = client.answer().await;
    assert_eq!((answer.text().as_str(), answer.header("etag")), ("u1", Some("\"boot.2\"")));
    client.send("GET /v1/secrets/db/user?after=boot.2 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    fixture.until_waiting(1).await;
    fixture.publish(3, &[("other", "x")]);
    assert_eq!(client.answer().await.error(), "unknown_key");
}

#[tokio::test(start_paused = true)]
async fn first_snapshot_can_be_waited_for() {
    let fixture = Fixture::new();
    let mut client = poll(&fixture, "after=boot.0").await;
    fixture.until_waiting(1).await;
    fixture.publish(1, &[("user", "u1")]);
    assert_eq!(client.answer().await.code, 200);
    let fixture = Fixture::new();
    let answer = poll(&fixture, "after=x&timeout=1").await.answer().await;
    assert_eq!((answer.code, answer.error().as_str()), (503, "not_ready"));
}

#[tokio::test(start_paused = true)]
async fn stop_answers_waiting_clients_at_once() {
    let fixture = Fixture::ready();
    let mut client = poll(&fixture, "after=boot.1").await;
    fixture.until_waiting(1).await;
    let before = Instant::now();
    let stop = tokio::spawn(fixture.running.stop(SOON));
    let answer = client.answer().await;
    assert_eq!((answer.code, answer.error().as_str()), (503, "shutting_down"));
    assert!(stop.await.unwrap());
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn end_of_the_watch_answers_waiting_clients() {
    let Fixture { dir, running: _running, db, _tls, secrets: _secrets, .. } = Fixture::new();
    let mut client = Client(UnixStream::connect(dir.path().join("sock")).await.unwrap());
    client.send("GET /v1/secrets/db?after=x HTTP/1.1\r\nhost: x\r\n\r\n").await;
    // It does not matter whether the request comes before or after the end.
    drop(db);
    assert_eq!(client.answer().await.error(), "watch_ended");
}

#[tokio::test(start_paused = true)]
async fn client_that_goes_away_gives_its_place_back() {
    // Of 2 connections, both may wait.
    let fixture = Fixture::with(|options| options.max_connections = 2, |_| {});
    fixture.publish(1, &[("user", "u1")]);
    for _ in 0..8 {
        let client = poll(&fixture, "after=boot.1&timeout=300").await;
        fixture.until_waiting(1).await;
        drop(client);
        fixture.until_waiting(0).await;
    }
    let before = Instant::now();
    assert_eq!(fixture.get("/livez").await.code, 200);
    assert_eq!(poll(&fixture, "after=boot.1&timeout=1").await.answer().await.code, 304);
    assert!(before.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn an_eighth_of_the_connections_is_kept_for_quick_requests() {
    let fixture = Fixture::with(|options| options.max_connections = 8, |_| {});
    fixture.publish(1, &[("user", "u1")]);
    let mut waiting = Vec::new();
    for _ in 0..7 {
        waiting.push(poll(&fixture, "after=boot.1&timeout=300").await);
    }
    fixture.until_waiting(7).await;
    let mut last = poll(&fixture, "after=boot.1").await;
    let answer = last.answer().await;
    assert_eq!((answer.code, answer.error().as_str()), (503, "too_many_waiting"));
    assert_eq!(last.get("/v1/secrets/db/user").await.text(), "u1");
    let metrics = last.get("/metrics").await.text();
    assert!(metrics.contains(r#"secretwatch_api_denied_total{reason="waiting"} 1"#), "{metrics}");
}
