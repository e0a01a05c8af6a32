//! What consumers say, and waiting until all of them have.

use super::body::MAX_BODY_BYTES;
use super::connection::{HEAD_TIME, IDLE_TIME};
use super::*;
use crate::adoption::MAX_CONSUMERS;

impl Client {
    async fn say(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n");
        self.send(&format!("{head}\r\n{body}")).await;
        self.answer().await
    }
}

impl Fixture {
    async fn adopt(&self, consumer: &str, revision: &str) -> Answer {
        let path = format!("/v1/adoptions/db/{consumer}");
        let body = format!(r#"{{"revision":"{revision}"}}"#);
        self.connect().await.say("PUT", &path, &body).await
    }

    /// Asks without waiting for the answer.
    async fn ask(&self, path: &str) -> Client {
        let mut client = self.connect().await;
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        client
    }
}

#[tokio::test]
async fn adoption_is_recorded_listed_and_removed() {
    let fixture = Fixture::ready();
    let answer = fixture.adopt("web", "boot.1").await;
    assert_eq!((answer.code, answer.header("cache-control")), (200, Some("no-store")));
    let record = answer.json();
    assert_eq!(record["consumer"], "web");
    assert_eq!((&record["revision"], &record["generation"]), (&"boot.1".into(), &1.into()));
    assert_eq!((&record["is_current"], &record["adopted_at"]), (&true.into(), &record["seen_at"]));
    fixture.publish(2, &[("user", "canary")]);
    fixture.adopt("job", "boot.2").await;
    let listed = fixture.get("/v1/adoptions").await;
    let (db, tls) = (&listed.json()["adoptions"][0], &listed.json()["adoptions"][1]);
    assert_eq!((&db["name"], &db["revision"]), (&"db".into(), &"boot.2".into()));
    assert_eq!((&db["generation"], &db["all_adopted"]), (&2.into(), &false.into()));
    assert!(db["lag_seconds"].as_f64().unwrap() > 0.0);
    let consumer =
        |at: usize| [&db["consumers"][at]["consumer"], &db["consumers"][at]["is_current"]];
    assert_eq!(consumer(0), [&serde_json::json!("job"), &true.into()]);
    assert_eq!(consumer(1), [&serde_json::json!("web"), &false.into()]);
    assert_eq!((&tls["name"], &tls["all_adopted"]), (&"tls".into(), &false.into()));
    assert_eq!(&fixture.get("/v1/adoptions/db").await.json()["consumers"], &db["consumers"]);
    let counts = fixture.get("/v1/secrets").await.json()["secrets"][0]["adoption"].clone();
    let expected = serde_json::json!({"adopted": 1, "consumers": 2, "all_adopted": false});
    assert_eq!(counts, expected);
    let mut client = fixture.connect().await;
    let gone = client.say("DELETE", "/v1/adoptions/db/web", "").await;
    assert_eq!((gone.code, gone.body.len()), (204, 0));
    let again = client.say("DELETE", "/v1/adoptions/db/web", "").await;
    assert_eq!((again.code, again.error().as_str()), (404, "unknown_consumer"));
    assert_eq!(fixture.get("/v1/adoptions/db").await.json()["all_adopted"], true);
}

#[tokio::test]
async fn unknown_revision_is_answered_with_the_current_one() {
    let fixture = Fixture::ready();
    fixture.publish(2, &[("user", "u2")]);
    let answer = fixture.adopt("web", "otherboot.2").await;
    assert_eq!((answer.code, answer.error().as_str()), (409, "unknown_revision"));
    assert_eq!(answer.json()["error"]["current"], "boot.2");
    assert_eq!(fixture.adopt("web", "boot.1").await.json()["is_current"], false);
}

#[tokio::test]
async fn volume_without_a_snapshot_cannot_be_adopted() {
    let fixture = Fixture::new();
    let answer = fixture.adopt("web", "boot.0").await;
    assert_eq!((answer.code, answer.error().as_str()), (503, "not_ready"));
}

#[tokio::test]
async fn what_is_wrong_is_said_without_repeating_the_body() {
    let fixture = Fixture::ready();
    let long = format!("/v1/adoptions/db/{}", "x".repeat(65));
    let good = r#"{"revision":"boot.1"}"#;
    for (path, body, code, error) in [
        ("/v1/adoptions/db/web", "canary", 400, "bad_body"),
        ("/v1/adoptions/db/web", r#"{"canary":"boot.1"}"#, 400, "bad_body"),
        ("/v1/adoptions/db/web", r#"{"revision":"canary"}"#, 409, "unknown_revision"),
        ("/v1/adoptions/db/web?x=y", good, 400, "bad_query"),
        ("/v1/adoptions/db/a%20b", good, 400, "bad_consumer"),
        (&long, good, 400, "bad_consumer"),
        ("/v1/adoptions/nope/web", good, 404, "unknown_volume"),
        ("/v1/adoptions/db/web/x", "", 404, "unknown_path"),
    ] {
        let answer = fixture.connect().await.say("PUT", path, body).await;
        assert_eq!((answer.code, answer.error().as_str()), (code, error), "{path} {body}");
        assert!(!answer.text().contains("canary"), "{}", answer.text());
    }
    for (query, code, error) in [
        ("wait=changed", 400, "bad_query"),
        ("timeout=1s", 400, "bad_query"),
        ("wait=adopted&timeout=301", 400, "bad_query"),
        ("wait=adopted&consumer=a/b", 400, "bad_consumer"),
    ] {
        let answer = fixture.get(&format!("/v1/adoptions/db?{query}")).await;
        assert_eq!((answer.code, answer.error().as_str()), (code, error), "{query}");
    }
}

#[tokio::test]
async fn wrong_method_is_told_which_ones_there_are() {
    let fixture = Fixture::ready();
    let mut client = fixture.connect().await;
    for (method, path, allow) in [
        ("GET", "/v1/adoptions/db/web", "PUT, DELETE"),
        ("POST", "/v1/adoptions/db/web", "PUT, DELETE"),
        ("PUT", "/v1/adoptions/db", "GET, HEAD"),
        ("DELETE", "/v1/secrets/db/user", "GET, HEAD"),
    ] {
        let answer = client.say(method, path, "").await;
        assert_eq!((answer.code, answer.error().as_str()), (405, "method_not_allowed"), "{path}");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
}

#[tokio::test]
async fn body_beyond_the_limit_is_refused_and_one_at_the_limit_is_read() {
    let fixture = Fixture::ready();
    let body = r#"{"revision":"boot.1"}"#;
    let full = format!("{body}{}", " ".repeat(MAX_BODY_BYTES - body.len()));
    let mut client = fixture.connect().await;
    assert_eq!(client.say("PUT", "/v1/adoptions/db/web", &full).await.code, 200);
    let path = "/v1/adoptions/db/web";
    let head = format!("PUT {path} HTTP/1.1\r\nhost: x\r\n");
    let chunked =
        format!("transfer-encoding: chunked\r\n\r\n1000\r\n{full}\r\n1\r\n \r\n0\r\n\r\n");
    for rest in ["content-length: 4097\r\nexpect: 100-continue\r\n\r\n", &chunked] {
        let mut client = fixture.connect().await;
        client.send(&(head.clone() + rest)).await;
        let answer = client.answer().await;
        assert_eq!((answer.code, answer.error().as_str()), (413, "body_too_large"));
        assert_eq!(client.rest().await, "");
    }
    // A body elsewhere is refused as ever.
    let answer = client.say("DELETE", path, body).await;
    assert_eq!((answer.code, answer.error().as_str()), (413, "body_not_allowed"));
}

#[tokio::test(start_paused = true)]
async fn body_that_does_not_arrive_is_cut_off() {
    let fixture = Fixture::ready();
    let mut client = fixture.connect().await;
    let before = tokio::time::Instant::now();
    let head = "PUT /v1/adoptions/db/web HTTP/1.1\r\nhost: x\r\ncontent-length: 21\r\n\r\n{";
    client.send(head).await;
    let answer = client.answer().await;
    assert_eq!((answer.code, answer.error().as_str()), (408, "body_too_slow"));
    assert!(before.elapsed().abs_diff(HEAD_TIME) <= Duration::from_millis(3));
    assert_eq!(client.rest().await, "");
}

#[tokio::test(start_paused = true)]
async fn connection_is_kept_after_a_body_that_came_in_pieces() {
    let fixture = Fixture::ready();
    let mut client = fixture.connect().await;
    client.send("PUT /v1/adoptions/db/web HTTP/1.1\r\nhost: x\r\ncontent-length: 21\r\n\r\n").await;
    // Once this is answered, the head before it has been read as well.
    fixture.get("/livez").await;
    client.send(r#"{"revision":"boot.1"}"#).await;
    assert_eq!(client.answer().await.code, 200);
    tokio::time::sleep(IDLE_TIME - Duration::from_secs(1)).await;
    assert_eq!(client.get("/livez").await.code, 200);
}

#[tokio::test]
async fn consumers_beyond_the_limit_are_refused_until_one_leaves() {
    let fixture = Fixture::ready();
    for n in 0..MAX_CONSUMERS {
        assert_eq!(fixture.adopt(&format!("c{n}"), "boot.1").await.code, 200);
    }
    let answer = fixture.adopt("late", "boot.1").await;
    assert_eq!((answer.code, answer.error().as_str()), (507, "too_many_consumers"));
    fixture.connect().await.say("DELETE", "/v1/adoptions/db/c0", "").await;
    assert_eq!(fixture.adopt("late", "boot.1").await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn wait_answers_once_everybody_has_adopted_and_follows_a_further_rotation() {
    let fixture = Fixture::ready();
    fixture.adopt("a", "boot.1").await;
    fixture.adopt("b", "boot.1").await;
    fixture.publish(2, &[("user", "u2")]);
    let mut waiting = fixture.ask("/v1/adoptions/db?wait=adopted&timeout=60").await;
    fixture.until_waiting(1).await;
    fixture.adopt("a", "boot.2").await;
    fixture.publish(3, &[("user", "u3")]);
    // Too late: it is the revision of before.
    fixture.adopt("b", "boot.2").await;
    fixture.adopt("a", "boot.3").await;
    assert_eq!(fixture.get("/v1/adoptions/db?wait=adopted&timeout=0").await.code, 304);
    fixture.until_waiting(1).await;
    let before = tokio::time::Instant::now();
    fixture.adopt("b", "boot.3").await;
    let answer = waiting.answer().await;
    assert_eq!((answer.code, answer.json()["revision"].as_str()), (200, Some("boot.3")));
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn wait_ends_when_the_last_one_behind_leaves() {
    let fixture = Fixture::ready();
    fixture.adopt("a", "boot.1").await;
    fixture.adopt("gone", "boot.1").await;
    fixture.publish(2, &[]);
    fixture.adopt("a", "boot.2").await;
    let mut waiting = fixture.ask("/v1/adoptions/db?wait=adopted").await;
    fixture.until_waiting(1).await;
    fixture.connect().await.say("DELETE", "/v1/adoptions/db/gone", "").await;
    assert_eq!(waiting.answer().await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn wait_for_nobody_times_out() {
    let fixture = Fixture::ready();
    let before = tokio::time::Instant::now();
    let answer = fixture.get("/v1/adoptions/db?wait=adopted&timeout=2").await;
    assert_eq!((answer.code, before.elapsed().as_secs()), (304, 2));
}

#[tokio::test(start_paused = true)]
async fn wait_can_ask_for_another_revision_and_for_consumers_by_name() {
    let fixture = Fixture::ready();
    fixture.adopt("a", "boot.1").await;
    let path = "/v1/adoptions/db?wait=adopted&after=boot.1&consumer=b";
    let mut waiting = fixture.ask(path).await;
    fixture.until_waiting(1).await;
    fixture.adopt("b", "boot.1").await;
    fixture.publish(2, &[]);
    fixture.adopt("a", "boot.2").await;
    assert_eq!(fixture.get(&format!("{path}&timeout=0")).await.code, 304);
    fixture.until_waiting(1).await;
    fixture.adopt("b", "boot.2").await;
    assert_eq!(waiting.answer().await.json()["revision"], "boot.2");
}

#[tokio::test(start_paused = true)]
async fn stop_answers_those_who_wait_for_adoption() {
    let fixture = Fixture::ready();
    let mut waiting = fixture.ask("/v1/adoptions/db?wait=adopted").await;
    fixture.until_waiting(1).await;
    let stop = tokio::spawn(fixture.running.stop(SOON));
    assert_eq!(waiting.answer().await.error(), "shutting_down");
    assert!(stop.await.unwrap());
}

#[tokio::test]
async fn metrics_tell_who_uses_what_and_forget_who_has_left() {
    let fixture = Fixture::ready();
    let has = async |line: &str| {
        let text = fixture.get("/metrics").await.text();
        text.lines().any(|found| found == line)
    };
    assert!(has(r#"secretwatch_adopted_all{volume="db"} 0"#).await, "nobody is not everybody");
    fixture.adopt("a", "boot.1").await;
    fixture.adopt("b", "boot.1").await;
    assert!(has(r#"secretwatch_adopted_all{volume="db"} 1"#).await);
    assert!(has(r#"secretwatch_adopted_generation{consumer="a",volume="db"} 1"#).await);
    assert!(has(r#"secretwatch_adoption_lag_seconds{volume="db"} 0"#).await);
    fixture.publish(2, &[]);
    assert!(has(r#"secretwatch_adopted_all{volume="db"} 0"#).await);
    assert!(!has(r#"secretwatch_adoption_lag_seconds{volume="db"} 0"#).await);
    fixture.connect().await.say("DELETE", "/v1/adoptions/db/b", "").await;
    fixture.adopt("a", "boot.2").await;
    assert!(has(r#"secretwatch_adopted_generation{consumer="a",volume="db"} 2"#).await);
    assert!(has(r#"secretwatch_adopted_all{volume="db"} 1"#).await);
    assert!(!fixture.get("/metrics").await.text().contains(r#"consumer="b""#));
}

#[tokio::test]
async fn adoptions_need_the_token_like_secrets() {
    let tokens = tempfile::tempdir().unwrap();
    let path = tokens.path().join("token");
    std::fs::write(&path, "one").unwrap();
    let fixture = Fixture::with(|options| options.socket.token_file = Some(path), |_| {});
    fixture.publish(1, &[]);
    assert_eq!(fixture.adopt("web", "boot.1").await.code, 401);
    assert_eq!(fixture.get("/v1/adoptions").await.code, 401);
}
