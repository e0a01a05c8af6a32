//! The routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use secretwatch::Volume;
use serde_json::json;

use crate::database::{Database, Failure, describe};

pub(crate) struct App {
    pub(crate) database: Arc<Database>,
    pub(crate) volume: Volume,
    pub(crate) registry: Registry,
}

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/", get(answer))
        .route("/adoption", get(adoption))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(app))
}

/// Whom the database takes this app for.
async fn answer(State(app): State<Arc<App>>) -> Response {
    // One pool for the whole request, also when it is swapped meanwhile.
    let generation = app.database.current();
    match generation.query().await {
        Ok(answer) => json!({"user": answer.user, "connection": answer.connection})
            .to_string()
            .into_response(),
        Err(failure) => unavailable(&failure),
    }
}

/// For the operator: which version the mount has, and whether the app uses nothing else.
async fn adoption(State(app): State<Arc<App>>) -> String {
    let (current, adoptions) = (app.volume.current(), app.volume.adoptions());
    // A rotation may come between the two.
    let is_adopted = adoptions.all_adopted() && *adoptions.revision == *current.revision();
    json!({"version": current.version(), "adopted": is_adopted}).to_string()
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    match TextEncoder::new().encode_to_string(&app.registry.gather()) {
        Ok(text) => text.into_response(),
        Err(error) => unavailable(&error.into()),
    }
}

fn unavailable(failure: &Failure) -> Response {
    println!("app: a request has failed: {}", describe(failure));
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}
