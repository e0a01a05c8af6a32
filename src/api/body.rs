//! The body of a request: read whole, and only where a route takes one.

use std::time::Duration;

use axum::BoxError;
use axum::body::{Bytes, HttpBody};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use super::connection::HEAD_TIME;
use super::problem::Problem;

/// The largest body: a revision has some twenty bytes, and the JSON around it not many more.
pub(super) const MAX_BODY_BYTES: usize = 4 * 1024;
/// How long a body may take: as small as it is, it fits into one write like the head.
const BODY_TIME: Duration = HEAD_TIME;

/// Reads the whole body, for whose size and time there are limits.
pub(super) async fn read<B>(body: B) -> Result<Bytes, Problem>
where
    B: HttpBody<Error: Into<BoxError>>,
{
    // Said ahead, so that a client that asks whether to go on need not send it at all.
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(Problem::body_too_large());
    }
    match timeout(BODY_TIME, Box::pin(Limited::new(body, MAX_BODY_BYTES).collect())).await {
        Err(_) => Err(Problem::body_too_slow()),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::body_too_large()),
        Ok(Err(_)) => Err(Problem::body_broken()),
    }
}
