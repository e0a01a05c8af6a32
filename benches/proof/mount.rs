//! A mounted secret that rotates.

use std::path::PathBuf;
use std::time::Instant;

use secretwatch::kubelet::{AtomicWriter, Payload, Step};
use tempfile::TempDir;

/// The key whose value rotates.
pub const KEY: &str = "password";
/// The bytes of that value: a usual password, always of the same length.
pub const VALUE_BYTES: usize = 32;

/// A volume `db` with three keys, on the file system of temporary files.
pub struct Mount {
    parent: TempDir,
    writer: AtomicWriter,
    rotations: u64,
}

impl Mount {
    pub fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let writer = AtomicWriter::new(parent.path().join("db"));
        let mut mount = Self { parent, writer, rotations: 0 };
        mount.rotate(|_, _| ());
        mount
    }

    pub fn path(&self) -> PathBuf {
        self.parent.path().join("db")
    }

    /// A path for a socket beside the volume.
    pub fn socket(&self) -> PathBuf {
        self.parent.path().join("socket")
    }

    /// Makes a rotation. As soon as `..data` is renamed, `wait` gets the time just before that and
    /// the new value; what the kubelet cleans up comes after it.
    pub fn rotate<T>(&mut self, wait: impl FnOnce(Instant, &[u8]) -> T) -> T {
        self.rotations += 1;
        let value = format!("{:0VALUE_BYTES$}", self.rotations).into_bytes();
        let payload = Payload::new()
            .with("user", "app")
            .with("host", "db.example.com")
            .with(KEY, value.clone());
        std::fs::create_dir_all(self.path()).unwrap();
        let mut rotation = self.writer.rotation(payload).unwrap();
        assert!(rotation.run_until(Step::is_swap).unwrap());
        let start = Instant::now();
        rotation.step().unwrap();
        let outcome = wait(start, &value);
        rotation.finish().unwrap();
        outcome
    }
}
