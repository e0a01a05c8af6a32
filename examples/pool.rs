//! A connection pool that is swapped when its password rotates, while requests go on.
//!
//! Everything runs in this process: the database that knows which passwords are good, the pool, and
//! the kubelet that rotates the mounted secret. Run it with
//! `cargo run --example pool --features test-util`; it ends by itself.
//!
//! The order is the point. The new pool is opened and swapped in; requests that have begun keep the
//! old one until they are done; only when the last of them is done is the new revision adopted. The
//! operator revokes the old password when everybody has adopted, and not one request fails.
//! `examples/axum_pool` does the same with a web server and a real PostgreSQL.

#![allow(clippy::print_stdout, reason = "to print is what an example is for")]

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use arc_swap::ArcSwap;
use secretwatch::kubelet::{AtomicWriter, Payload};
use secretwatch::{ConsumerName, Secrets, Snapshot, Volume};

/// What is waited for here takes milliseconds; past this something is broken.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a request keeps its connection.
const REQUEST: Duration = Duration::from_millis(2);
const WORKERS: usize = 4;
const PASSWORDS: [&str; 3] = ["first-password", "second-password", "third-password"];

/// A database: it lets in whoever has a password that is not revoked.
#[derive(Default)]
struct Database(Mutex<BTreeSet<Vec<u8>>>);

impl Database {
    fn allow(&self, password: &str) {
        self.users().insert(password.as_bytes().to_vec());
    }

    fn revoke(&self, password: &str) {
        self.users().remove(password.as_bytes());
    }

    fn lets_in(&self, password: &[u8]) -> bool {
        self.users().contains(password)
    }

    fn users(&self) -> std::sync::MutexGuard<'_, BTreeSet<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pool of connections that were opened with one password: that of its snapshot.
struct Pool {
    database: Arc<Database>,
    snapshot: Arc<Snapshot>,
}

impl Pool {
    fn open(database: &Arc<Database>, snapshot: Arc<Snapshot>) -> Result<Self, Refused> {
        let pool = Self { database: Arc::clone(database), snapshot };
        // As a real pool does: opening it fails where the password is not good.
        if pool.query() { Ok(pool) } else { Err(Refused) }
    }

    /// One round trip; the database looks at the password again.
    fn query(&self) -> bool {
        let password = self.snapshot.get("password");
        password.is_ok_and(|password| self.database.lets_in(password.expose()))
    }
}

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database refuses the password")
    }
}

impl Error for Refused {}

fn main() -> Result<(), Box<dyn Error>> {
    let mount = tempfile::tempdir()?;
    let kubelet = AtomicWriter::new(mount.path().join("db"));
    let database = Arc::new(Database::default());
    database.allow(PASSWORDS[0]);
    kubelet.write(Payload::new().with("password", PASSWORDS[0]))?;

    let secrets = Secrets::builder().volume(kubelet.dir()).require("password").open()?;
    let volume = secrets.volume("db")?;
    let consumer: ConsumerName = "pool-example".parse()?;

    // The changes are followed from before the first pool on, so that none falls in between.
    let changes = volume.changes();
    let first = volume.current();
    let pool = Arc::new(ArcSwap::from_pointee(Pool::open(&database, Arc::clone(&first))?));
    volume.adopt(&consumer, &first)?;
    println!("app: the pool is open with generation {}", first.generation());

    let guard = changes.on_change({
        let (pool, database, volume) = (Arc::clone(&pool), Arc::clone(&database), volume.clone());
        move |snapshot| match Pool::open(&database, Arc::clone(&snapshot)) {
            Ok(new) => {
                let old = pool.swap(Arc::new(new));
                println!("app: the pool is swapped to generation {}", snapshot.generation());
                if !is_unused(old) {
                    println!("app: requests still use the old pool; not adopted");
                } else if let Err(error) = volume.adopt(&consumer, &snapshot) {
                    println!("app: not adopted: {error}");
                } else {
                    println!(
                        "app: the old pool is closed, generation {} is adopted",
                        snapshot.generation()
                    );
                }
            }
            // The old pool stays, and the operator sees that the new generation is not adopted.
            Err(error) => println!("app: the old pool stays: {error}"),
        }
    })?;

    let traffic = Traffic::start(&pool);
    for (at, password) in PASSWORDS.iter().enumerate().skip(1) {
        let before = volume.current().generation();
        println!(
            "\noperator: a new password is allowed beside the old one, and the secret rotates"
        );
        database.allow(password);
        kubelet.write(Payload::new().with("password", *password))?;
        // On the command line: secretwatch wait db --after REVISION --adopted
        wait_until_adopted(&volume, before + 1)?;
        database.revoke(PASSWORDS[at - 1]);
        println!("operator: everybody has adopted, the old password is revoked");
        traffic.go_on()?;
    }
    let (served, failed) = traffic.stop()?;
    drop(guard);
    println!("\n{} rotations during {served} requests", PASSWORDS.len() - 1);
    println!("requests that failed: {failed}");
    if failed == 0 { Ok(()) } else { Err("a rotation has cost requests".into()) }
}

/// Waits until nobody holds on to what was swapped out.
fn is_unused(mut pool: Arc<Pool>) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Arc::get_mut(&mut pool).is_none() {
        if Instant::now() > deadline {
            return false;
        }
        thread::park_timeout(REQUEST);
    }
    true
}

fn wait_until_adopted(volume: &Volume, generation: u64) -> Result<(), Box<dyn Error>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = volume.adoptions();
        if now.generation >= generation && now.all_adopted() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("generation {generation} is not adopted").into());
        }
        thread::park_timeout(REQUEST);
    }
}

/// Requests that never pause for a rotation.
struct Traffic {
    counts: Arc<Counts>,
    workers: Vec<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    is_over: AtomicBool,
    served: AtomicU64,
    failed: AtomicU64,
}

impl Traffic {
    fn start(pool: &Arc<ArcSwap<Pool>>) -> Self {
        let counts = Arc::new(Counts::default());
        let worker = |_| {
            let (pool, counts) = (Arc::clone(pool), Arc::clone(&counts));
            thread::spawn(move || {
                while !counts.is_over.load(Ordering::Relaxed) {
                    // One pool for the whole request, also when it is swapped meanwhile.
                    let pool = pool.load_full();
                    thread::park_timeout(REQUEST);
                    let count = if pool.query() { &counts.served } else { &counts.failed };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        Self { workers: (0..WORKERS).map(worker).collect(), counts }
    }

    /// Waits until more requests were answered.
    fn go_on(&self) -> Result<(), Box<dyn Error>> {
        let (counts, deadline) = (&self.counts, Instant::now() + PATIENCE);
        let all = || counts.served.load(Ordering::Relaxed) + counts.failed.load(Ordering::Relaxed);
        let wanted = all() + 2 * WORKERS as u64;
        while all() < wanted {
            if Instant::now() > deadline {
                return Err("no request is answered".into());
            }
            thread::park_timeout(REQUEST);
        }
        Ok(())
    }

    fn stop(self) -> Result<(u64, u64), Box<dyn Error>> {
        self.counts.is_over.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.join().map_err(|_| "a worker has panicked")?;
        }
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok((count(&self.counts.served), count(&self.counts.failed)))
    }
}
