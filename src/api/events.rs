//! `GET /v1/events`: server-sent events about which keys changed, and never a value.
//!
//! How it works. Each volume is followed by a stream of its own; they are merged in turn, so that
//! one volume that changes all the time does not hide the others. A stream remembers the snapshot
//! it has sent last, and the next event is the difference to that one: a client that is slow skips
//! snapshots and no change is lost. The first event of a volume is its current state.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderValue};
use axum::response::Response;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::timeout;

use super::problem::Problem;
use super::{Api, json, query};
use crate::changes::Changes;
use crate::secrets::Volume;
use crate::snapshot::Snapshot;

/// How often a quiet stream shows that it is alive: below the idle limit of common proxies, and of
/// the connections here.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A comment, which clients skip.
const COMMENT: &[u8] = b": keep-alive\n\n";

/// `GET /v1/events`
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    let volumes = chosen(&api, query::repeated(request.uri(), "name")?)?;
    let no_place = |_| api.denied.waiting();
    let permits = (
        Arc::clone(&api.waiting).try_acquire_owned().map_err(no_place)?,
        Arc::clone(&api.streams).try_acquire_owned().map_err(no_place)?,
    );
    let changes = stream::select_all(volumes.iter().map(|volume| Box::pin(follow(volume))));
    let body = stream::unfold((changes, permits, api), async |(mut changes, permits, api)| {
        let chunk = tokio::select! {
            biased;
            () = api.stopped() => return None,
            next = timeout(KEEP_ALIVE, changes.next()) => match next {
                Ok(event) => event?,
                Err(_) => Bytes::from_static(COMMENT),
            },
        };
        Some((Ok::<_, std::convert::Infallible>(chunk), (changes, permits, api)))
    });
    let mut response = Response::new(Body::from_stream(body));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// The volumes of these names, each once; all where there are none.
fn chosen(api: &Api, mut names: Vec<String>) -> Result<Vec<Volume>, Problem> {
    if names.is_empty() {
        return Ok(api.volumes().cloned().collect());
    }
    names.sort_unstable();
    names.dedup();
    names.iter().map(|name| Ok(api.volume(name)?.volume.clone())).collect()
}

struct Follow {
    volume: Volume,
    changes: Changes,
    sent: Option<Arc<Snapshot>>,
}

/// The events of one volume, from its current state on.
fn follow(volume: &Volume) -> impl Stream<Item = Bytes> + Send + use<> {
    let changes = volume.changes_and_current();
    let follow = Follow { volume: volume.clone(), changes, sent: None };
    stream::unfold(follow, async |mut follow| {
        // Both errors end the stream: nothing more can come of it.
        let snapshot = follow.changes.changed().await.ok()?;
        let event = event(&follow.volume, &snapshot, follow.sent.as_deref()).ok()?;
        follow.sent = Some(snapshot);
        Some((event, follow))
    })
}

fn event(
    volume: &Volume,
    snapshot: &Snapshot,
    sent: Option<&Snapshot>,
) -> Result<Bytes, serde_json::Error> {
    let changes = sent.map(|sent| snapshot.changes_since(sent));
    let data = json::event(snapshot, volume.status().state.as_str(), changes.as_ref())?;
    Ok(format!("event: snapshot\nid: {}\ndata: {data}\n\n", snapshot.revision()).into())
}
