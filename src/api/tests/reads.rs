//! Lists, documents, raw values, probes, and what is wrong with a request.

use super::*;

#[tokio::test]
async fn list_tells_how_volumes_do_and_no_value() {
    let fixture = Fixture::new();
    let answer = fixture.get("/v1/secrets").await;
    let expected = serde_json::json!({"secrets": [
        {"name": "db", "revision": "boot.0", "generation": 0, "keys": [],
         "state": "waiting", "watch": "poll", "path": "/etc/db"},
        {"name": "tls", "revision": "boot.1", "generation": 1, "keys": ["tls.crt"],
         "observed_at": "1970-01-01T00:00:00.000Z",
         "state": "current", "watch": "poll", "path": "/etc/tls"},
    ], "targets": []});
    assert_eq!((answer.code, answer.json()), (200, expected));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn document_has_all_values_of_one_revision() {
    let fixture = Fixture::ready();
    let answer = fixture.get("/v1/secrets/db").await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("etag"), Some("\"boot.1\""));
    assert_eq!(answer.header("secretwatch-revision"), Some("boot.1"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.json()["data"], serde_json::json!({"db/password": "cDE=", "user": "dTE="}));
    let answer = fixture.get("/v1/secrets/db?format=text").await;
    let text = serde_json::json!({"db/password": "p1", "user": "u1"});
    assert_eq!(answer.json()["stringData"], text);
    assert_eq!(answer.json()["data"], serde_json::json!({}));
}

#[tokio::test]
async fn value_is_exactly_its_bytes() {
    let fixture = Fixture::ready();
    for (path, value) in [
        ("/v1/secrets/db/user", "u1"),
        ("/v1/secrets/db/db/password", "p1"),
        ("/v1/secrets/db/db%2Fpassword", "p1"),
        ("/v1/secrets/tls/tls.crt", "cert"),
    ] {
        let answer = fixture.get(path).await;
        assert_eq!((answer.code, answer.text().as_str()), (200, value), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    }
}

#[tokio::test]
async fn known_revision_is_not_sent_again() {
    let fixture = Fixture::ready();
    let mut client = fixture.connect().await;
    for path in ["/v1/secrets/db", "/v1/secrets/db/user"] {
        client
            .send(&format!(
                "GET {path} HTTP/1.1\r\nhost: x\r\nif-none-match: \"x\", W/\"boot.1\"\r\n\r\n"
            ))
            .await;
        let answer = client.answer().await;
        assert_eq!((answer.code, answer.header("etag")), (304, Some("\"boot.1\"")));
        client
            .send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nif-none-match: \"boot.0\"\r\n\r\n"))
            .await;
        assert_eq!(client.answer().await.code, 200);
    }
}

#[tokio::test]
async fn head_is_a_get_without_the_body() {
    let fixture = Fixture::ready();
    let mut client = fixture.connect().await;
    let is_read = |route: &route::Route| route.methods().contains(&axum::http::Method::HEAD);
    for route in route::Route::ALL.into_iter().filter(is_read) {
        let path = route.template().replace("{name}", "db").replace("{*key}", "user");
        client.send(&format!("HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert_eq!(client.head().await.code, 200, "{path}");
    }
    client.send("HEAD /v1/secrets/db/user HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.head().await.header("content-length"), Some("2"));
    assert_eq!(client.get("/livez").await.text(), "ok\n");
}

#[tokio::test]
async fn what_is_not_there_is_a_404_that_helps() {
    let fixture = Fixture::ready();
    let answer = fixture.get("/v1/secrets/nope").await;
    assert_eq!((answer.code, answer.error().as_str()), (404, "unknown_volume"));
    assert!(answer.message().contains("db, tls"), "{}", answer.message());
    let answer = fixture.get("/v1/secrets/db/nope").await;
    assert_eq!((answer.code, answer.error().as_str()), (404, "unknown_key"));
    assert!(answer.message().contains("nope"), "{}", answer.message());
    for path in ["//", "/v1", "/v1/", "/v2/secrets", "/v1/secrets/", "/v1/secrets/db/", "/metrics/"]
    {
        let answer = fixture.get(path).await;
        assert_eq!((answer.code, answer.error().as_str()), (404, "unknown_path"), "{path}");
    }
    assert_eq!(fixture.get("/v1/x").await.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn bad_request_names_the_parameter() {
    let fixture = Fixture::ready();
    for (path, named) in [
        ("/v1/secrets?x=1", "\"x\""),
        ("/v1/secrets/db?stage=previous", "\"stage\""),
        ("/v1/secrets/db?format=xml", "`format`"),
        ("/v1/secrets/db/user?format=text", "\"format\""),
        ("/v1/secrets/db?timeout=1s", "`timeout`"),
        ("/v1/secrets/db?after=x&timeout=10m", "0 to 300 seconds"),
        ("/v1/events?names=db", "\"names\""),
    ] {
        let answer = fixture.get(path).await;
        assert_eq!((answer.code, answer.error().as_str()), (400, "bad_query"), "{path}");
        assert!(answer.message().contains(named), "{path}: {}", answer.message());
    }
    let answer = fixture.get("/v1/secrets/%ff").await;
    assert_eq!((answer.code, answer.error().as_str()), (400, "bad_path"));
}

#[tokio::test]
async fn other_methods_are_refused_with_those_that_are_allowed() {
    let fixture = Fixture::ready();
    let mut client = fixture.connect().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        for path in ["/v1/secrets/db/user", "/metrics"] {
            client.send(&format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
            let answer = client.answer().await;
            assert_eq!((answer.code, answer.error().as_str()), (405, "method_not_allowed"));
            assert!(answer.header("allow").unwrap().contains("GET"), "{}", answer.head);
            assert_eq!(answer.head.matches("allow: ").count(), 1, "{}", answer.head);
        }
    }
}

#[tokio::test]
async fn volume_without_a_snapshot_is_not_ready_and_says_why() {
    let fixture = Fixture::new();
    for path in ["/v1/secrets/db", "/v1/secrets/db/user"] {
        let answer = fixture.get(path).await;
        assert_eq!((answer.code, answer.error().as_str()), (503, "not_ready"));
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(answer.message().contains("`db`"), "{}", answer.message());
    }
    let trouble = crate::status::Trouble {
        reason: crate::status::Reason::Absent,
        detail: "/etc/db is not there".to_owned(),
    };
    fixture.db.set_status(Status { trouble: Some(trouble), ..Status::default() });
    assert!(fixture.get("/v1/secrets/db").await.message().contains("absent: /etc/db"));
    let ready = fixture.get("/readyz").await;
    assert_eq!(ready.code, 503);
    assert_eq!(ready.text(), "volume `db` is not ready: absent: /etc/db is not there\n");
    fixture.publish(1, &[]);
    assert_eq!(fixture.get("/readyz").await.text(), "ok\n");
}

#[tokio::test]
async fn liveness_is_that_of_the_engine() {
    let fixture = Fixture::new();
    assert_eq!(fixture.get("/livez").await.code, 200);
    fixture.secrets.health().end();
    let answer = fixture.get("/livez").await;
    assert_eq!(answer.code, 503);
    assert!(answer.text().contains("engine"));
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_code() {
    let fixture = Fixture::ready();
    for path in ["/v1/secrets/db/user", "/v1/secrets/db/user", "/v1/secrets/db/nope", "/nope"] {
        fixture.get(path).await;
    }
    let answer = fixture.get("/metrics").await;
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = answer.text();
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        r#"secretwatch_api_requests_total{code="200",route="/v1/secrets/{name}/{*key}"} 2"#,
        r#"secretwatch_api_requests_total{code="404",route="/v1/secrets/{name}/{*key}"} 1"#,
        r#"secretwatch_api_requests_total{code="404",route="unmatched"} 1"#,
        r#"secretwatch_api_denied_total{reason="peer"} 0"#,
        &format!(r#"secretwatch_build_info{{mode="test",version="{version}"}} 1"#),
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
