//! The routes under `/v1/secrets`: the list, a volume with its values, one value.
//!
//! A value goes out of the memory in which it was read: the response holds on to the snapshot until
//! the kernel has taken the bytes.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::document::Share;
use super::problem::Problem;
use super::query::{self, Query};
use super::wait::{self, Waited};
use super::{Api, json};
use crate::secret::Secret;
use crate::snapshot::Snapshot;

/// The revision without the quotes of an `ETag`, for clients such as shell scripts.
const REVISION: HeaderName = HeaderName::from_static("secretwatch-revision");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

type Shared = State<Arc<Api>>;
type Answer = Result<Response, Problem>;

/// `GET /v1/secrets`
pub(super) async fn list(State(api): Shared, request: Request) -> Answer {
    query::none(request.uri())?;
    let entries: Result<Vec<String>, _> = api.volumes().map(json::entry).collect();
    let entries = entries.map_err(|_| Problem::internal("the list cannot be written"))?;
    let targets: Result<Vec<String>, _> = api.boards.iter().map(|b| json::target(b)).collect();
    let targets = targets.map_err(|_| Problem::internal("the list cannot be written"))?;
    let (entries, targets) = (entries.join(","), targets.join(","));
    let document = format!(r#"{{"secrets":[{entries}],"targets":[{targets}]}}"#);
    let mut response = Response::new(Body::from(document));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    Ok(response)
}

/// `GET /v1/secrets/{name}`
pub(super) async fn get(
    State(api): Shared,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answer {
    let Path(name) = name.map_err(|rejection| Problem::path(&rejection))?;
    let (head, _) = request.into_parts();
    let query = Query::parse(&head.uri, &["format", "after", "timeout"])?;
    let volume = api.volume(&name)?;
    let snapshot = match wait::snapshot(&api, &volume.volume, query.wait.as_ref()).await? {
        Waited::Snapshot(snapshot) => snapshot,
        Waited::Unchanged(snapshot) => return Ok(not_modified(&snapshot)),
    };
    if is_known(&head.headers, &snapshot) {
        return Ok(not_modified(&snapshot));
    }
    let document = volume.documents.of(&snapshot, query.format);
    let document = document.map_err(|_| Problem::internal("the document cannot be written"))?;
    Ok(respond(&snapshot, JSON, Bytes::from_owner(Share(document))))
}

/// `GET /v1/secrets/{name}/{key…}`
pub(super) async fn key(
    State(api): Shared,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Answer {
    let Path((name, key)) = path.map_err(|rejection| Problem::path(&rejection))?;
    let (head, _) = request.into_parts();
    let query = Query::parse(&head.uri, &["after", "timeout"])?;
    let volume = api.volume(&name)?;
    let snapshot = match wait::snapshot(&api, &volume.volume, query.wait.as_ref()).await? {
        Waited::Snapshot(snapshot) => snapshot,
        Waited::Unchanged(snapshot) => return Ok(not_modified(&snapshot)),
    };
    if snapshot.get(&key).is_err() {
        return Err(Problem::unknown_key(&name, &key));
    }
    if is_known(&head.headers, &snapshot) {
        return Ok(not_modified(&snapshot));
    }
    let value = Value { snapshot: Arc::clone(&snapshot), key };
    Ok(respond(&snapshot, BYTES, Bytes::from_owner(value)))
}

/// A value where it lies in its snapshot.
struct Value {
    snapshot: Arc<Snapshot>,
    key: String,
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.snapshot.get(&self.key).map_or(&[], Secret::expose)
    }
}

fn respond(snapshot: &Snapshot, content_type: HeaderValue, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    tag(&mut response, snapshot);
    response
}

fn not_modified(snapshot: &Snapshot) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    tag(&mut response, snapshot);
    response
}

fn tag(response: &mut Response, snapshot: &Snapshot) {
    // One piece of memory for both headers: the tag is the revision in quotes.
    let tag = Bytes::from(["\"", snapshot.revision(), "\""].concat());
    let revision = tag.slice(1..tag.len() - 1);
    let headers = response.headers_mut();
    for (name, value) in [(header::ETAG, tag), (REVISION, revision)] {
        // A revision is a boot id and a number, which every header can carry.
        if let Ok(value) = HeaderValue::from_maybe_shared(value) {
            headers.insert(name, value);
        }
    }
}

/// Whether `If-None-Match` names this revision. Weak or strong makes no difference to a GET.
fn is_known(headers: &HeaderMap, snapshot: &Snapshot) -> bool {
    let lists = headers.get_all(header::IF_NONE_MATCH);
    let mut tags = lists.iter().filter_map(|list| list.to_str().ok()).flat_map(|l| l.split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        let strong = tag.strip_prefix("W/").unwrap_or(tag);
        let opaque = strong.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        tag == "*" || opaque == Some(snapshot.revision())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::snapshot;

    fn is_known_by(list: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, list.parse().unwrap());
        is_known(&headers, &snapshot(2, [("a", "1")]))
    }

    #[test]
    fn if_none_match_knows_lists_weak_tags_and_the_star() {
        for list in [r#""boot.2""#, r#"W/"boot.2""#, r#""x", "boot.2""#, "*"] {
            assert!(is_known_by(list), "{list}");
        }
        for list in [r#""boot.20""#, "boot.2", r#""boot.1""#, "", r#"""#] {
            assert!(!is_known_by(list), "{list}");
        }
    }

    #[test]
    fn value_goes_out_of_the_memory_of_its_snapshot() {
        let snapshot = Arc::new(snapshot(1, [("a", "bytes")]));
        let at = snapshot.get("a").unwrap().expose().as_ptr();
        let value = Value { snapshot: Arc::clone(&snapshot), key: "a".to_owned() };
        let bytes = Bytes::from_owner(value);
        assert_eq!((bytes.as_ptr(), &bytes[..]), (at, &b"bytes"[..]));
        drop(bytes);
        assert_eq!(Arc::strong_count(&snapshot), 1);
    }
}
