//! The routes under `/v1/adoptions`: what consumers say they use.
//!
//! The only routes that change anything, and what they change is a note of who uses what; no secret
//! is read or written here.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::problem::Problem;
use super::query::{self, AdoptedWait};
use super::{Api, json};
use crate::adoption::Adoptions;
use crate::name::ConsumerName;
use crate::secrets::Volume;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

type Shared = State<Arc<Api>>;
type Answer = Result<Response, Problem>;

/// What a consumer says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    revision: String,
}

/// `GET /v1/adoptions`
pub(super) async fn list(State(api): Shared, request: Request) -> Answer {
    query::none(request.uri())?;
    let entries = api.volumes().map(|volume| json::adoptions(volume, &volume.adoptions()));
    let entries: Result<Vec<String>, _> = entries.collect();
    let entries = entries.map_err(|_| unwritable())?;
    Ok(respond(format!(r#"{{"adoptions":[{}]}}"#, entries.join(","))))
}

/// `GET /v1/adoptions/{name}`
pub(super) async fn get(
    State(api): Shared,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answer {
    let Path(name) = name.map_err(|rejection| Problem::path(&rejection))?;
    let wait = AdoptedWait::parse(request.uri())?;
    let volume = &api.volume(&name)?.volume;
    let adoptions = match wait {
        None => Some(volume.adoptions()),
        Some(wait) => adopted(&api, volume, &wait).await?,
    };
    match adoptions {
        Some(now) => json::adoptions(volume, &now).map(respond).map_err(|_| unwritable()),
        None => Ok(StatusCode::NOT_MODIFIED.into_response()),
    }
}

/// `PUT /v1/adoptions/{name}/{consumer}`
pub(super) async fn put(
    State(api): Shared,
    path: Result<Path<(String, String)>, PathRejection>,
    uri: axum::http::Uri,
    body: Bytes,
) -> Answer {
    let Path((name, consumer)) = path.map_err(|rejection| Problem::path(&rejection))?;
    query::none(&uri)?;
    let volume = &api.volume(&name)?.volume;
    let consumer = parse(&consumer)?;
    let revision = said(&body)?;
    let adoption = volume.adopt_revision(&consumer, &revision);
    let adoption = adoption.map_err(|error| Problem::adoption(volume, error))?;
    json::adoption(&adoption).map(respond).map_err(|_| unwritable())
}

/// `DELETE /v1/adoptions/{name}/{consumer}`
pub(super) async fn delete(
    State(api): Shared,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Answer {
    let Path((name, consumer)) = path.map_err(|rejection| Problem::path(&rejection))?;
    query::none(request.uri())?;
    let volume = &api.volume(&name)?.volume;
    if volume.leave(&parse(&consumer)?) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(Problem::unknown_consumer(&name, &consumer))
}

fn parse(consumer: &str) -> Result<ConsumerName, Problem> {
    consumer.parse().map_err(|error| Problem::consumer(consumer, &error))
}

/// The revision in a body. What is wrong is said without what stands there.
fn said(body: &[u8]) -> Result<String, Problem> {
    use serde_json::error::Category;
    if body.is_empty() {
        return Err(Problem::bad_body("is empty"));
    }
    let said: Result<Said, _> = serde_json::from_slice(body);
    said.map(|said| said.revision).map_err(|error| match error.classify() {
        Category::Eof => Problem::bad_body("ends in the middle of a JSON document"),
        Category::Data => Problem::bad_body("is another JSON document"),
        Category::Io | Category::Syntax => {
            let (line, column) = (error.line(), error.column());
            Problem::bad_body(&format!("is not JSON (line {line}, column {column})"))
        }
    })
}

/// The adoptions, once they are what is waited for; `None` where they are not until the timeout.
async fn adopted(
    api: &Api,
    volume: &Volume,
    wait: &AdoptedWait,
) -> Result<Option<Adoptions>, Problem> {
    let deadline = Instant::now() + wait.timeout;
    let mut permit = None;
    loop {
        let changed = volume.reader().ledger().listen();
        let now = volume.adoptions();
        if is_met(wait, &now) {
            return Ok(Some(now));
        }
        if permit.is_none() {
            permit = Some(api.waiting.try_acquire().map_err(|_| api.denied.waiting())?);
        }
        // The last one who is behind may expire, and nothing else happens then.
        let expiry = async {
            match now.next_expiry {
                Some(left) => sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = api.stopped() => return Err(Problem::shutting_down()),
            () = changed => {}
            () = expiry => {}
            () = sleep_until(deadline) => return Ok(None),
        }
    }
}

fn is_met(wait: &AdoptedWait, now: &Adoptions) -> bool {
    wait.after.as_deref() != Some(&*now.revision)
        && now.all_adopted()
        && wait.consumers.iter().all(|consumer| now.is_adopted_by(consumer))
}

fn respond(document: String) -> Response {
    let mut response = Response::new(Body::from(document));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

fn unwritable() -> Problem {
    Problem::internal("the adoptions cannot be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_is_taken_from_the_body_and_nothing_else_is_believed() {
        assert_eq!(said(br#" {"revision":"b.1"} "#).unwrap(), "b.1");
        for (body, wrong) in [
            ("", "is empty"),
            ("canary", "is not JSON (line 1"),
            (r#"{"revision":"#, "ends in the middle"),
            (r#"{"revision":1}"#, "is another JSON document"),
            (r#"{"canary":"b.1"}"#, "is another JSON document"),
            (r#"{"revision":"b.1","canary":1}"#, "is another JSON document"),
            (r#""canary""#, "is another JSON document"),
        ] {
            let problem = format!("{:?}", said(body.as_bytes()).unwrap_err());
            assert!(problem.contains(wrong) && problem.contains("revision"), "{body}: {problem}");
            assert!(!problem.contains("canary"), "{problem}");
        }
    }
}
