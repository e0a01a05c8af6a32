//! A pool of connections that were all opened with one credential.

use std::convert::Infallible;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use secretwatch::Snapshot;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio_postgres::{Config, NoTls};

use crate::database::Failure;

/// The same for opening a connection and for waiting for a free one.
const PATIENCE: Duration = Duration::from_secs(30);
/// Fewer than the users of the demonstration, so that requests wait for a free one at any time.
const CONNECTIONS: usize = 8;

/// What the app makes of the secret. Not `Debug`, so that it cannot be printed by accident.
#[derive(Deserialize)]
struct Credential {
    host: String,
    port: u16,
    dbname: String,
    user: String,
    password: String,
}

/// The connections of one revision.
pub(crate) struct Generation {
    pool: Pool,
    label: String,
    // Dropped with the last request that holds this generation, which `Drained` then sees.
    _in_use: oneshot::Sender<Infallible>,
}

/// Ends when nobody uses the generation any more.
pub(crate) struct Drained(oneshot::Receiver<Infallible>);

/// What a query has answered.
pub(crate) struct Answer {
    pub(crate) user: String,
    pub(crate) connection: String,
}

impl Generation {
    /// Opens all connections: so the credential is proven before a request depends on it, and the
    /// pool need not open another one while the old password is no longer good and the new one is
    /// not there yet.
    pub(crate) async fn open(snapshot: &Snapshot) -> Result<(Self, Drained), Failure> {
        let credential: Credential = snapshot.deserialize()?;
        let version = snapshot.version().unwrap_or("unknown");
        let connection = format!("axum_pool/{version}");
        let mut config = Config::new();
        config
            .host(credential.host)
            .port(credential.port)
            .dbname(credential.dbname)
            .user(&credential.user)
            .password(credential.password)
            .application_name(connection)
            .connect_timeout(PATIENCE);
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(config, NoTls, recycling))
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .build()?;
        fill(&pool).await?;

        let label = format!("version {version}, user {}", credential.user);
        let (in_use, drained) = oneshot::channel();
        Ok((Self { pool, label, _in_use: in_use }, Drained(drained)))
    }

    /// Which version and user it is for.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Does some work, and asks the database who it takes this app for.
    pub(crate) async fn query(&self) -> Result<Answer, Failure> {
        let client = self.pool.get().await?;
        let sql = "SELECT count(*), current_user::text, current_setting('application_name') \
                   FROM item";
        let row = client.query_one(sql, &[]).await?;
        Ok(Answer { user: row.try_get(1)?, connection: row.try_get(2)? })
    }
}

async fn fill(pool: &Pool) -> Result<(), Failure> {
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        clients.push(pool.get().await?);
    }
    Ok(())
}

impl Drained {
    pub(crate) async fn wait(self) {
        // Nothing is ever sent: the error is that the sender is gone.
        let Err(_) = self.0.await;
    }
}
