//! Targets with real programs at their other end.

mod exec;
mod http;
pub mod server;
mod signal;

use std::path::PathBuf;

use tempfile::TempDir;

use crate::fixture::{Mount, eventually};
use crate::sidecar::{Sidecar, volume};

/// A sidecar with one volume and some targets.
pub struct Stage {
    pub mount: Mount,
    pub sidecar: Sidecar,
    pub directory: TempDir,
}

impl Stage {
    /// Starts one with flags.
    pub fn start(args: &[&str]) -> Self {
        Self::make(tempfile::tempdir().unwrap(), args, None)
    }

    /// Starts one with a file; `{dir}` in it is a directory of the test's own.
    pub fn with_file(directory: TempDir, text: &str) -> Self {
        let text = text.replace("{dir}", directory.path().to_str().unwrap());
        Self::make(directory, &[], Some(&text))
    }

    fn make(directory: TempDir, args: &[&str], text: Option<&str>) -> Self {
        let mount = Mount::new();
        mount.rotate(&[("password", "0")]);
        let volume = format!("--volume={}", volume("db", &mount.path()));
        let mut args: Vec<_> = args.iter().map(ToString::to_string).collect();
        args.push(volume);
        if let Some(text) = text {
            let path = directory.path().join("sw.toml");
            std::fs::write(&path, text).unwrap();
            args.push(format!("--config={}", path.display()));
        }
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let sidecar = Sidecar::start(&args);
        sidecar.until("db/password", "0");
        Self { mount, sidecar, directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes one rotation.
    pub fn rotate(&self, value: &str) {
        self.mount.rotate(&[("password", value)]);
    }

    /// The only target, as the list shows it.
    pub fn target(&self) -> serde_json::Value {
        self.sidecar.get("/v1/secrets").json()["targets"][0].clone()
    }

    /// Waits until the target is so, and knows the revision that is served where it is idle.
    pub fn until_state(&self, state: &str) -> serde_json::Value {
        eventually(&format!("the target is {state}"), || {
            let target = self.target();
            (target["state"] == state).then_some(target)
        })
    }

    /// Waits until the target has been told the revision that is served, which has this value.
    pub fn until_told(&self, value: &str) {
        self.sidecar.until("db/password", value);
        let revision = self.sidecar.get("/v1/secrets/db").revision();
        eventually(&format!("{value} is told"), || {
            (self.target()["revision"] == revision.as_str()).then_some(())
        });
    }

    pub fn metric(&self, family: &str) -> f64 {
        let name = self.target()["name"].as_str().unwrap().to_owned();
        let line = format!("secretwatch_{family}{{target=\"{name}\"}}");
        self.sidecar.metric(&line).unwrap()
    }
}

#[test]
fn newer_rotation_in_the_middle_of_a_retry_is_the_one_that_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[[target]]\nexec = [\"sh\", \"-c\", \"echo $SECRETWATCH_REVISION \
                $SECRETWATCH_CHANGED_KEYS >> {dir}/told; test -e {dir}/works\"]\n\
                retry_min = \"50ms\"\nretry_max = \"100ms\"\n";
    let stage = Stage::with_file(directory, text);
    stage.mount.rotate(&[("password", "1"), ("user", "a")]);
    stage.until_state("failing");
    stage.mount.rotate(&[("password", "2"), ("user", "a")]);
    stage.sidecar.until("db/password", "2");
    std::fs::write(stage.path("works"), "").unwrap();
    stage.until_told("2");
    let told = std::fs::read_to_string(stage.path("told")).unwrap();
    let last = told.lines().last().unwrap();
    let revision = stage.sidecar.get("/v1/secrets/db").revision();
    // The key that changed only in the rotation that failed is still named.
    assert_eq!(last, format!("{revision} password user"), "{told}");
    assert_eq!(stage.until_state("idle")["attempts"], 0);
    assert!(stage.metric("reloads_failed_total") >= 1.0);
}

#[test]
fn rotations_in_a_row_become_few_calls_and_the_last_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[[target]]\nexec = [\"sh\", \"-c\", \"cat {path}/password >> {dir}/told; echo >> {dir}/told\"]\n";
    let stage = Stage::with_file(directory, text);
    let start = std::time::Instant::now();
    for n in 1..=200 {
        stage.rotate(&format!("v{n}"));
    }
    let took = start.elapsed();
    stage.until_told("v200");
    let told = std::fs::read_to_string(stage.path("told")).unwrap();
    assert_eq!(told.lines().last(), Some("v200"));
    // One call in a tenth of a second, one at the start and one at the end.
    let most = took.as_millis() / 100 + 3;
    assert!(told.lines().count() as u128 <= most, "{} calls in {took:?}", told.lines().count());
}

#[test]
fn target_is_told_only_of_the_keys_it_asks_for_and_not_of_the_first_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[[target]]\nname = \"tls\"\nkeys = [\"tls.*\"]\n\
                exec = [\"sh\", \"-c\", \"echo $SECRETWATCH_VOLUME \
                $SECRETWATCH_CHANGED_KEYS >> {dir}/tls\"]\n\
                [[target]]\nname = \"first\"\nfirst = true\nexec = [\"touch\", \"{dir}/first\"]\n";
    let stage = Stage::with_file(directory, text);
    eventually("the first snapshot is told", || stage.path("first").exists().then_some(()));
    stage.rotate("1");
    stage.sidecar.until("db/password", "1");
    stage.mount.rotate(&[("password", "2"), ("tls.crt", "x"), ("tls.key", "x")]);
    stage.until_told("2");
    let told = std::fs::read_to_string(stage.path("tls")).unwrap();
    assert_eq!(told, "db tls.crt tls.key\n");
}

#[test]
fn volumes_that_change_together_are_merged_where_asked_for() {
    let (mount, other) = (Mount::new(), Mount::new());
    let directory = tempfile::tempdir().unwrap();
    for mount in [&mount, &other] {
        mount.rotate(&[("k", "0")]);
    }
    let told = directory.path().join("told");
    let text = format!(
        "[[target]]\nmerge = \"2s\"\nexec = [\"sh\", \"-c\", \"echo $SECRETWATCH_VOLUME \
         $SECRETWATCH_CHANGED_KEYS >> {}\"]\n",
        told.display()
    );
    let config = directory.path().join("sw.toml");
    std::fs::write(&config, text).unwrap();
    let config = format!("--config={}", config.display());
    let volumes = [("a", &mount), ("b", &other)];
    let volumes = volumes.map(|(name, mount)| format!("--volume={}", volume(name, &mount.path())));
    let sidecar = Sidecar::start(&[&volumes[0], &volumes[1], &config]);
    sidecar.until("a/k", "0");
    sidecar.until("b/k", "0");
    mount.rotate(&[("k", "1")]);
    other.rotate(&[("k", "1")]);
    eventually("both are told", || std::fs::read_to_string(&told).ok().filter(|t| !t.is_empty()));
    assert_eq!(std::fs::read_to_string(&told).unwrap(), "a,b a/k b/k\n");
}

#[test]
fn end_in_the_middle_of_everything_is_orderly() {
    let server = server::Server::silent();
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "shutdown_timeout = \"1s\"\n\
         [[target]]\nexec = [\"sh\", \"-c\", \"echo $$ > {{dir}}/pid; sleep 600\"]\n\
         [[target]]\nhttp = \"{}\"\n\
         [[target]]\nprocess = \"no-such-process\"\n\
         [[target]]\nexec = [\"false\"]\n",
        server.url("/")
    );
    let stage = Stage::with_file(directory, &text);
    stage.rotate("1");
    let pid = eventually("the hook runs", || {
        let text = std::fs::read_to_string(stage.path("pid")).ok()?;
        text.trim().parse::<i32>().ok()
    });
    server.until_requests(1);
    let Stage { sidecar, directory: _directory, .. } = stage;
    let (status, log) = sidecar.stop();
    assert!(status.success(), "{log}");
    assert!(log.contains("stopped"), "{log}");
    // The hook does not outlive the deadline.
    eventually("the hook is gone", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z")).then_some(())
    });
}
