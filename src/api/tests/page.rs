//! The status page: the facts, and nothing else.

use std::process::{Command, Stdio};

use super::access::tcp_get;
use super::*;
use crate::reload::{Standing, TargetState};
use crate::snapshot::VERSION_KEY;
use crate::status::{Reason, Trouble};

const CERTIFICATE: &str = include_str!("../../certificate/data/ec-2059.pem");
/// Ends every context that the page has: text, an attribute in either quotes, the style, a comment.
const HOSTILE: &str = r#"--></style></td><script>alert(1)</script><img src=x onerror='x' a="&lt;"#;

/// Every tag that the page is made of.
const TAGS: [&str; 37] = [
    "!DOCTYPE", "a", "body", "br", "caption", "code", "dd", "details", "div", "dl", "dt", "footer",
    "h1", "h2", "head", "header", "html", "li", "link", "main", "meta", "p", "section", "small",
    "span", "strong", "style", "summary", "table", "tbody", "td", "th", "thead", "time", "title",
    "tr", "ul",
];

fn assert_harmless(html: &str) {
    for tag in html.split('<').skip(1) {
        let tag = tag.strip_prefix('/').unwrap_or(tag);
        let name = tag.split([' ', '>', '\n']).next().unwrap();
        assert!(TAGS.contains(&name), "{name:?} in {html}");
        let inside = tag.split('>').next().unwrap();
        assert!(!inside.contains(" on") && !inside.contains("javascript:"), "{inside}");
    }
}

fn board(standing: Standing) -> Arc<Board> {
    Arc::new(Board::for_test(HOSTILE, vec!["db".parse().unwrap()], standing))
}

#[tokio::test]
async fn page_says_what_there_is_to_know() {
    let standing = Standing {
        state: TargetState::Held,
        since: Some(SystemTime::UNIX_EPOCH),
        attempts: 7,
        detail: Some("it has no handler".to_owned()),
        ..Standing::default()
    };
    let fixture = Fixture::with(|_| {}, |bound| bound.boards = vec![board(standing)]);
    fixture.publish(1, &[("user", "canary"), ("tls.crt", CERTIFICATE), (VERSION_KEY, "v-7")]);
    let db = fixture.secrets.volume("db").unwrap();
    db.adopt_revision(&"web".parse().unwrap(), "boot.1").unwrap();
    fixture.publish(2, &[("user", "canary"), ("tls.crt", CERTIFICATE), (VERSION_KEY, "v-7")]);
    db.adopt_revision(&"worker".parse().unwrap(), "boot.2").unwrap();
    let answer = fixture.get("/").await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let html = answer.text();
    for fact in [
        "<title>2/2 current · secretwatch</title>",
        "2 of 2 volumes current",
        r#"db <span class="badge good">current</span>"#,
        "<code>boot.2</code>",
        "<dt>Version</dt><dd>v-7</dd>",
        "<dt>Watch</dt><dd>polling</dd>",
        "<summary>3 keys</summary>",
        "<code>user</code>",
        "2059-10-01 03:31:51 UTC",
        "1 of 2 use this revision",
        r#"<span class="badge warn">behind</span> <small>generation 1</small>"#,
        "1 consumer behind",
        "1 target held",
        "attempts: 7",
        "it has no handler",
    ] {
        assert!(html.contains(fact), "{fact} is not in {html}");
    }
    assert!(!html.contains("canary"), "{html}");
    assert_harmless(&html);
}

#[tokio::test]
async fn hostile_text_stays_text() {
    let standing = Standing {
        state: TargetState::Failing,
        revision: Some(HOSTILE.to_owned()),
        detail: Some(HOSTILE.to_owned()),
        ..Standing::default()
    };
    let fixture = Fixture::with(|_| {}, |bound| bound.boards = vec![board(standing)]);
    let version = &HOSTILE[..60];
    let certificate = format!("crt{HOSTILE}");
    fixture.publish(1, &[(HOSTILE, "x"), (&certificate, CERTIFICATE), (VERSION_KEY, version)]);
    fixture.db.set_status(Status {
        state: State::Holding,
        trouble: Some(Trouble::new(Reason::MissingKey, HOSTILE)),
        since: Some(SystemTime::UNIX_EPOCH),
        skipped: vec![HOSTILE.to_owned()],
        ..Status::default()
    });
    let html = fixture.get("/").await.text();
    assert_harmless(&html);
    assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
    // The key, the certificate's key twice, the version, the reason, the left-out entry, the target
    // and why.
    assert_eq!(html.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count(), 8, "{html}");
}

#[tokio::test]
async fn page_warns_of_what_is_wrong() {
    let fixture = Fixture::new();
    fixture.db.set_status(Status {
        trouble: Some(Trouble::new(Reason::Absent, "there is nothing")),
        ..Status::default()
    });
    let html = fixture.get("/").await.text();
    for fact in [
        "1 of 2 volumes current",
        r##"<a href="#v0">db</a> is waiting"##,
        "absent",
        "there is nothing",
    ] {
        assert!(html.contains(fact), "{fact} is not in {html}");
    }
    let expired = include_str!("../../certificate/data/ec-v1.pem");
    fixture.publish(1, &[("tls.crt", expired)]);
    let html = fixture.get("/").await.text();
    let has_expired = SystemTime::now()
        >= fixture.secrets.volume("db").unwrap().current().certificates()[0].not_after;
    assert_eq!(html.contains("1 certificate expired"), has_expired, "{html}");
}

#[tokio::test]
async fn policy_allows_the_style_by_its_hash_and_nothing_else() {
    let answer = Fixture::ready().get("/").await;
    let policy = answer.header("content-security-policy").unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let html = answer.text();
    let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    let hash = "import sys, hashlib, base64\n\
                print(base64.b64encode(hashlib.sha256(sys.stdin.buffer.read()).digest()).decode())";
    let mut python = Command::new("python3")
        .args(["-c", hash])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is needed; install the Debian package python3");
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), style.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    let hash = String::from_utf8(output.stdout).unwrap();
    assert!(policy.contains(&format!("'sha256-{}'", hash.trim())), "{hash} is not in {policy}");
}

#[tokio::test]
async fn page_reloads_itself_only_where_it_is_asked_to() {
    let fixture = Fixture::ready();
    assert!(!fixture.get("/").await.text().contains("http-equiv"));
    let html = fixture.get("/?refresh=30").await.text();
    assert!(html.contains(r#"<meta http-equiv="refresh" content="30">"#), "{html}");
    assert_eq!(fixture.get("/?refresh=1").await.error(), "bad_query");
    assert_eq!(fixture.get("/?name=db").await.error(), "bad_query");
}

#[tokio::test]
async fn page_needs_the_token_on_the_socket_and_not_on_the_port() {
    let tokens = tempfile::tempdir().unwrap();
    let file = tokens.path().join("token");
    std::fs::write(&file, "canary").unwrap();
    let fixture = Fixture::with(
        |options| {
            options.socket.token_file = Some(file);
            options.metrics_addr = Some(([127, 0, 0, 1], 0).into());
        },
        |_| {},
    );
    assert_eq!(fixture.get("/").await.error(), "bad_token");
    let mut client = fixture.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer canary\r\n\r\n").await;
    assert_eq!(client.answer().await.code, 200);
    assert!(tcp_get(&fixture, "/").await.starts_with("HTTP/1.1 200"));
}
