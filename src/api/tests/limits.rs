//! Slow, silent, greedy and hostile clients, in virtual time.

use super::*;
use connection::{HEAD_TIME, IDLE_TIME, MAX_HEAD_BYTES, RESPONSE_TIME, STALL_TIME};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Waits for the other end to close, and says how long that took.
async fn closed_after(client: &mut Client) -> Duration {
    let before = Instant::now();
    assert_eq!(client.rest().await, "");
    before.elapsed()
}

fn is_about(found: Duration, wanted: Duration) -> bool {
    // Timers have a resolution of a millisecond.
    found.abs_diff(wanted) <= Duration::from_millis(3)
}

#[tokio::test(start_paused = true)]
async fn client_that_sends_nothing_is_cut_off() {
    let fixture = Fixture::ready();
    let took = closed_after(&mut fixture.connect().await).await;
    assert!(is_about(took, HEAD_TIME), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn head_that_trickles_in_is_cut_off() {
    let fixture = Fixture::ready();
    for mut client in [fixture.connect().await, {
        let mut client = fixture.connect().await;
        client.get("/livez").await;
        tokio::time::advance(IDLE_TIME / 2).await;
        client
    }] {
        let before = Instant::now();
        let mut sent = 0;
        // A byte a second: each read makes progress, the whole does not.
        while client.0.write_all(b"G").await.is_ok() && sent < 60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            sent += 1;
        }
        let took = before.elapsed();
        assert!(took <= HEAD_TIME + Duration::from_secs(2), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn partial_head_sent_ahead_with_a_long_poll_is_cut_off_as_idle() {
    let fixture = Fixture::ready();
    let mut client = fixture.connect().await;
    client
        .send("GET /v1/secrets/db?after=boot.1&timeout=60 HTTP/1.1\r\nhost: x\r\n\r\nGET /li")
        .await;
    assert_eq!(client.answer().await.code, 304);
    let took = closed_after(&mut client).await;
    assert!(is_about(took, IDLE_TIME), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_kept_and_then_closed() {
    let fixture = Fixture::ready();
    let mut client = fixture.connect().await;
    client.get("/livez").await;
    tokio::time::sleep(IDLE_TIME - Duration::from_secs(1)).await;
    assert_eq!(client.get("/livez").await.code, 200);
    let took = closed_after(&mut client).await;
    assert!(is_about(took, IDLE_TIME), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn client_that_does_not_read_is_cut_off_and_blocks_nobody() {
    let fixture = Fixture::new();
    let big = "x".repeat(4 << 20);
    fixture.publish(1, &[("big", &big), ("user", "u1")]);
    let weak = Arc::downgrade(&fixture.secrets.volume("db").unwrap().current());
    let mut slow = fixture.connect().await;
    slow.send("GET /v1/secrets/db/big HTTP/1.1\r\nhost: x\r\n\r\n").await;
    slow.0.readable().await.unwrap();
    let before = Instant::now();
    assert_eq!(fixture.get("/v1/secrets/db/user").await.text(), "u1");
    assert_eq!(before.elapsed(), Duration::ZERO);
    fixture.publish(2, &[]);
    assert!(weak.upgrade().is_some(), "the slow client holds on to its snapshot");
    tokio::time::sleep(STALL_TIME + Duration::from_secs(1)).await;
    assert!(weak.upgrade().is_none(), "and not for ever");
    assert!(slow.rest().await.len() < big.len());
}

#[tokio::test]
async fn garbage_is_answered_with_400_and_closed() {
    let fixture = Fixture::ready();
    for garbage in [
        "\0\u{1}\u{2}garbage\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "SSH-2.0-x\r\n\r\n",
    ] {
        let mut client = fixture.connect().await;
        client.send(garbage).await;
        let rest = client.rest().await;
        assert!(rest.starts_with("HTTP/1.1 400"), "{garbage:?}: {rest}");
    }
    assert_eq!(fixture.get("/livez").await.code, 200);
}

#[tokio::test]
async fn head_that_is_too_large_is_answered_with_431_and_closed() {
    let fixture = Fixture::ready();
    let long = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(MAX_HEAD_BYTES));
    let many = format!("GET /livez HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101));
    let endless = format!("GET /{}", "x".repeat(2 * MAX_HEAD_BYTES));
    for (head, code) in [(long, "431"), (many, "431"), (endless, "4")] {
        let mut client = fixture.connect().await;
        // The other end may close before all of it is written.
        let _ = client.0.write_all(head.as_bytes()).await;
        let rest = client.rest().await;
        assert!(rest.starts_with(&format!("HTTP/1.1 {code}")), "{rest}");
    }
    assert_eq!(fixture.get("/livez").await.code, 200);
}

#[tokio::test]
async fn body_is_refused_unread() {
    let fixture = Fixture::ready();
    for request in [
        "GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nxxx",
        "GET /livez HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST /v1/secrets HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
    ] {
        let mut client = fixture.connect().await;
        client.send(request).await;
        let answer = client.answer().await;
        assert_eq!((answer.code, answer.error().as_str()), (413, "body_not_allowed"));
        assert_eq!(client.rest().await, "");
    }
}

#[tokio::test(start_paused = true)]
async fn client_beyond_the_limit_is_told_and_the_others_go_on() {
    let fixture = Fixture::with(|options| options.max_connections = 2, |_| {});
    fixture.publish(1, &[("user", "u1")]);
    let (mut one, mut two) = (fixture.connect().await, fixture.connect().await);
    assert_eq!(one.get("/livez").await.code, 200);
    assert_eq!(two.get("/livez").await.code, 200);
    let mut extra = fixture.connect().await;
    let answer = extra.get("/v1/secrets/db/user").await;
    assert_eq!((answer.code, answer.error().as_str()), (503, "too_many_connections"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(extra.rest().await, "");
    assert_eq!(one.get("/v1/secrets/db/user").await.text(), "u1");
    let metrics = two.get("/metrics").await.text();
    let line = r#"secretwatch_api_denied_total{reason="connections"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    drop(one);
    until("a place is free", async || fixture.get("/livez").await.code == 200).await;
}

#[tokio::test(start_paused = true)]
async fn refused_clients_hold_nothing() {
    let fixture = Fixture::with(|options| options.max_connections = 1, |_| {});
    let mut only = fixture.connect().await;
    assert_eq!(only.get("/livez").await.code, 200);
    // They never send a request.
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(fixture.connect().await);
    }
    let before = Instant::now();
    for client in &mut silent {
        assert_eq!(client.rest().await, "");
    }
    assert!(before.elapsed() <= Duration::from_secs(1) + Duration::from_millis(3));
    assert_eq!(only.get("/livez").await.code, 200);
}

#[tokio::test]
async fn idle_clients_of_the_tcp_port_make_room_and_the_oldest_first() {
    let fixture =
        Fixture::with(|options| options.metrics_addr = Some(([127, 0, 0, 1], 0).into()), |_| {});
    let address = fixture.metrics_addr.unwrap();
    let mut idle = Vec::new();
    for place in 0..MAX_TCP_CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Some have asked, some have begun to ask, some have said nothing.
        let said: &[u8] = match place % 3 {
            0 => b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n",
            1 => b"GET /li",
            _ => b"",
        };
        stream.write_all(said).await.unwrap();
        if place % 3 == 0 {
            assert!(stream.read(&mut [0; 512]).await.unwrap() > 0);
        }
        idle.push(stream);
    }
    for _ in 0..3 {
        let answer = access::tcp_get(&fixture, "/livez").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // The one who asked last is still welcome.
    let last = idle.last_mut().unwrap();
    last.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut metrics = String::new();
    last.read_to_string(&mut metrics).await.unwrap();
    let line = r#"secretwatch_api_denied_total{reason="connections"} 1"#;
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains(line), "{metrics}");
    let mut ended = 0;
    for stream in &idle {
        let read = stream.try_read(&mut [0; 1]);
        ended += usize::from(
            !matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        );
    }
    assert_eq!(ended, 2, "the one that made room, and the one that was answered last");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let fixture = Fixture::ready();
    let mut client = fixture.connect().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    client
        .send(&(get("/v1/secrets/db/user") + &get("/nope") + &get("/v1/secrets/tls/tls.crt")))
        .await;
    assert_eq!(client.answer().await.text(), "u1");
    assert_eq!(client.answer().await.code, 404);
    assert_eq!(client.answer().await.text(), "cert");
}

#[tokio::test(start_paused = true)]
async fn client_that_takes_a_response_bit_by_bit_is_cut_off() {
    let fixture = Fixture::new();
    fixture.publish(1, &[("big", &"x".repeat(8 << 20))]);
    let snapshot = Arc::downgrade(&fixture.secrets.volume("db").unwrap().current());
    let mut slow = fixture.connect().await;
    slow.send("GET /v1/secrets/db/big HTTP/1.1\r\nhost: x\r\n\r\n").await;
    slow.0.readable().await.unwrap();
    fixture.publish(2, &[]);
    let start = Instant::now();
    let mut piece = vec![0; 64 << 10];
    // Never a pause that is too long by itself.
    while snapshot.upgrade().is_some() {
        tokio::time::sleep(STALL_TIME - Duration::from_secs(2)).await;
        let _ = slow.0.read(&mut piece).await.unwrap();
        assert!(start.elapsed() < 2 * RESPONSE_TIME, "the old snapshot is still held");
    }
}
