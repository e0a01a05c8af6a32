//! A web app whose database password rotates without a request being lost.
//!
//! `axum_pool MOUNT ADDRESS` takes the credential from a mounted secret with the keys `host`, `port`,
//! `dbname`, `user`, `password` and `secretwatch.version`. `demo.sh` beside this file runs it with a
//! real PostgreSQL, under load; the README there says what happens and why.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

mod database;
mod pool;
mod rotation;
mod web;

use std::sync::Arc;

use prometheus::Registry;
use secretwatch::{ConsumerName, Secrets};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::database::{Database, Failure};
use crate::rotation::Rotation;
use crate::web::App;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let (Some(mount), Some(address)) = (args.next(), args.next()) else {
        return Err("usage: axum_pool MOUNT ADDRESS, such as /etc/db 127.0.0.1:8080".into());
    };
    let secrets = Secrets::builder().volume_named("db", mount).require("password").open()?;
    let volume = secrets.volume("db")?;
    let consumer: ConsumerName = "axum_pool".parse()?;
    let registry = Registry::new();
    secrets.register_metrics(&registry)?;

    // The changes are followed from before the first pool on, so that none falls in between.
    let changes = volume.changes();
    let first = volume.current();
    let (database, drained) = Database::open(&first).await?;
    let database = Arc::new(database);
    volume.adopt(&consumer, &first)?;
    let pool = (Arc::clone(&database), drained);
    let rotation = Rotation::new(pool, volume.clone(), consumer, changes);
    tokio::spawn(rotation.run(first));

    let listener = TcpListener::bind(address).await?;
    println!("app: listening on {}", listener.local_addr()?);
    let router = web::router(App { database, volume, registry });
    let mut terminate = signal(SignalKind::terminate())?;
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await?;
    println!("app: stopped");
    Ok(())
}
