//! Who may ask: peers, tokens, and what the TCP port does not know.

use super::*;
use std::fs;

use tokio::net::TcpStream;

#[tokio::test]
async fn peer_of_another_user_is_told_what_would_admit_it() {
    let own = nix::unistd::geteuid().as_raw();
    let deny = |bound: &mut Bound| bound.policy = Policy::for_test(own + 1, vec![], vec![]);
    let fixture =
        Fixture::with(|options| options.metrics_addr = Some(([127, 0, 0, 1], 0).into()), deny);
    for path in ["/v1/secrets/tls/tls.crt", "/livez"] {
        let mut client = fixture.connect().await;
        let answer = client.get(path).await;
        assert_eq!((answer.code, answer.error().as_str()), (403, "forbidden_peer"));
        assert!(answer.message().contains(&format!("--allow-uid {own}")), "{}", answer.message());
        assert_eq!(client.rest().await, "");
    }
    let metrics = tcp_get(&fixture, "/metrics").await;
    assert!(metrics.contains(r#"secretwatch_api_denied_total{reason="peer"} 2"#), "{metrics}");
}

#[tokio::test]
async fn peer_is_admitted_by_its_user_or_group() {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    for policy in
        [Policy::for_test(uid + 1, vec![uid], vec![]), Policy::for_test(uid + 1, vec![], vec![gid])]
    {
        let fixture = Fixture::with(|_| {}, |bound| bound.policy = policy);
        assert_eq!(fixture.get("/livez").await.code, 200);
    }
}

#[tokio::test]
async fn token_is_asked_for_and_followed_through_a_rotation() {
    let tokens = tempfile::tempdir().unwrap();
    let path = tokens.path().join("token");
    fs::write(&path, "one\n").unwrap();
    let fixture = Fixture::with(|options| options.socket.token_file = Some(path.clone()), |_| {});
    fixture.publish(1, &[("user", "u1")]);
    let mut client = fixture.connect().await;
    let request = |token: &str| {
        format!(
            "GET /v1/secrets/db/user HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
        )
    };
    client.send(&request("one")).await;
    assert_eq!(client.answer().await.text(), "u1");
    fs::write(&path, "two\n").unwrap();
    client.send(&request("one")).await;
    let answer = client.answer().await;
    assert_eq!((answer.code, answer.error().as_str()), (401, "bad_token"));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    client.send(&request("two")).await;
    assert_eq!(client.answer().await.text(), "u1");
    for path in ["/v1/secrets", "/v1/secrets/db", "/v1/events", "/v1", "/v1/nothing"] {
        assert_eq!(client.get(path).await.code, 401, "{path}");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(client.get(path).await.code, 200, "{path}");
    }
    let metrics = client.get("/metrics").await.text();
    assert!(metrics.contains(r#"secretwatch_api_denied_total{reason="token"} 6"#), "{metrics}");
}

#[test]
fn token_file_without_a_token_fails_the_bind() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.socket.token_file = Some(dir.path().join("absent"));
    let error = bind(&options).unwrap_err().to_string();
    assert!(error.contains("absent") && error.contains("cannot be read"), "{error}");
    assert!(!options.socket.path.exists());
}

pub(super) async fn tcp_get(fixture: &Fixture, path: &str) -> String {
    let mut stream = TcpStream::connect(fixture.metrics_addr.unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn tcp_port_serves_health_and_metrics_and_never_values() {
    let fixture =
        Fixture::with(|options| options.metrics_addr = Some(([127, 0, 0, 1], 0).into()), |_| {});
    fixture.publish(1, &[("user", "canary")]);
    for path in ["/", "/livez", "/readyz", "/metrics"] {
        let text = tcp_get(&fixture, path).await;
        assert!(text.starts_with("HTTP/1.1 200") && !text.contains("canary"), "{path}: {text}");
    }
    for path in ["/v1/secrets", "/v1/secrets/db", "/v1/secrets/db/user", "/v1/events"] {
        let text = tcp_get(&fixture, path).await;
        assert!(text.starts_with("HTTP/1.1 404") && text.contains("unknown_path"), "{text}");
        assert!(!text.contains("canary"));
    }
}
