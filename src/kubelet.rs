//! A simulated kubelet, for testing code that reads or follows a mounted secret.
//!
//! Whoever mounts a Kubernetes Secret reads a directory that the kubelet's *AtomicWriter* keeps:
//!
//! ```text
//! ..2026_11_22_10_00_00.2914412291/    the real files
//! ..data -> ..2026_11_22_10_00_00.2914412291
//! password -> ..data/password
//! db -> ..data/db                      for a key `db/user`, as with `items`
//! ```
//!
//! [`AtomicWriter`] keeps such a directory without a cluster. [`write`](AtomicWriter::write) makes a
//! whole rotation at once:
//!
//! ```
//! use secretwatch::kubelet::{AtomicWriter, Payload};
//!
//! # fn main() -> std::io::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! let volume = dir.path().join("my-generic-secret");
//! let kubelet = AtomicWriter::new(&volume);
//! kubelet.write(Payload::new().with("user", "app").with("password", "one"))?;
//! assert_eq!(std::fs::read_to_string(volume.join("password"))?, "one");
//!
//! // Everything else stays as it is published now.
//! assert!(kubelet.write(kubelet.current()?.with("password", "two"))?);
//! // The kubelet does nothing where nothing has changed.
//! assert!(!kubelet.write(kubelet.current()?)?);
//! # Ok(())
//! # }
//! ```
//!
//! # Every interleaving
//!
//! [`rotation`](AtomicWriter::rotation) takes one system call at a time, so that a test can run the
//! code under test between any two of them. Readers must see the old version whole or the new one
//! whole, at every point:
//!
//! ```
//! use secretwatch::kubelet::{AtomicWriter, Payload};
//!
//! # fn main() -> std::io::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! # let volume = dir.path();
//! let kubelet = AtomicWriter::new(volume);
//! kubelet.write(Payload::new().with("user", "alice").with("password", "of-alice"))?;
//! let mut rotation =
//!     kubelet.rotation(Payload::new().with("user", "bob").with("password", "of-bob"))?;
//! let mut is_published = false;
//! while let Some(step) = rotation.step()? {
//!     is_published |= step.is_swap();
//!     let now = kubelet.current()?; // here: the code under test
//!     let user = if is_published { "bob" } else { "alice" };
//!     assert_eq!(now.get("user").map(|user| user.expose()), Some(user.as_bytes()), "after {step}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Crashes
//!
//! A [`Rotation`] that is dropped half-way leaves what a kubelet leaves that dies there. With
//! [`run_until`](Rotation::run_until) a test picks the place:
//!
//! ```
//! use secretwatch::kubelet::{AtomicWriter, Payload, Step};
//!
//! # fn main() -> std::io::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! # let volume = dir.path();
//! let kubelet = AtomicWriter::new(volume);
//! // A directory with half of the files.
//! let mut rotation = kubelet.rotation(Payload::new().with("a", "1").with("b", "1"))?;
//! rotation.run_until(|step| matches!(step, Step::Create { path, .. } if path.ends_with("b")))?;
//! drop(rotation);
//! // A `..data_tmp` that was never renamed.
//! kubelet.rotation(Payload::new().with("a", "2"))?.run_until(Step::is_swap)?;
//! assert!(volume.join("..data_tmp").is_symlink());
//! assert!(kubelet.current()?.is_empty());
//! // The next one goes through.
//! kubelet.write(Payload::new().with("a", "3"))?;
//! assert_eq!(std::fs::read_to_string(volume.join("a"))?, "3");
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! A rotation is planned as a whole and then carried out, in the order of the kubelet: a new
//! directory; for each key its parents, the file, its bytes and its mode; the modes of the whole
//! volume with [`fs_group`](AtomicWriter::fs_group); `..data_tmp`; its rename to `..data`, which
//! publishes the version; the links of new keys, the links of vanished keys, the old directory.
//! [`LinkOrder`] has the other order that is in use. Half directories and old versions of crashed
//! rotations stay for ever, and so do the links of keys that vanished in one; the kubelet leaves
//! them too.
//!
//! In one thing it is kinder than a kubelet: a left `..data_tmp` is removed at the start of the next
//! rotation, where a kubelet fails and sets the whole volume up again. In two it is stricter:
//! where `..data` leads out of the volume, or a file is where a link has to be, it refuses to touch
//! anything.

mod payload;
mod plan;
mod rotation;
mod step;
#[cfg(test)]
mod tests;
mod tree;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub use payload::Payload;
pub use rotation::Rotation;
pub use step::Step;

use plan::{Planner, Published};

/// The link to the published version.
const DATA: &str = "..data";
/// The link that becomes [`DATA`].
const DATA_TMP: &str = "..data_tmp";

/// When the links of new keys are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkOrder {
    /// After the version is published, as kubelets do today: for a moment the new version is there
    /// and its new keys have no link. A link that a crash has left out is made up for even where
    /// the payload has not changed.
    #[default]
    AfterSwap,
    /// Before it is published, as older kubelets and the Secrets Store CSI driver do: for a moment
    /// the links of new keys lead nowhere.
    BeforeSwap,
}

/// Writes a directory the way the kubelet's AtomicWriter does.
///
/// Like that, it is not made for several writers of one directory at the same time.
#[derive(Debug, Clone)]
pub struct AtomicWriter {
    dir: PathBuf,
    order: LinkOrder,
    fs_group: bool,
}

impl AtomicWriter {
    /// A writer of the volume in `dir`. Nothing is made or changed yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), order: LinkOrder::default(), fs_group: false }
    }

    /// Sets when the links of new keys are made.
    #[must_use]
    pub fn link_order(mut self, order: LinkOrder) -> Self {
        self.order = order;
        self
    }

    /// Opens the whole volume to its group before each swap, as the kubelet does where the pod has
    /// an `fsGroup`: a chmod of every file and directory, of the old version too. The group itself
    /// is not changed.
    #[must_use]
    pub fn fs_group(mut self) -> Self {
        self.fs_group = true;
        self
    }

    /// The directory of the volume.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What is published now: the keys, values and modes that `..data` leads to, or an empty
    /// payload where there is none.
    ///
    /// # Errors
    /// Where `..data` leads out of the volume, or something cannot be read. The path is named.
    pub fn current(&self) -> io::Result<Payload> {
        let Some(published) = Published::find(&self.dir)? else { return Ok(Payload::new()) };
        let mut payload = Payload::new();
        for (key, path) in published.files() {
            let key = key.to_str().ok_or_else(|| not_utf8(path))?;
            let (value, mode) = read(path).map_err(|e| tree::at("read", path, &e))?;
            payload = payload.with_mode(key, value, mode);
        }
        Ok(payload)
    }

    /// Plans the rotation to `payload` and changes nothing yet. There is nothing to do where names
    /// and values are those that are published already; modes do not count.
    ///
    /// The directory of the volume has to be there when the first step is taken.
    ///
    /// # Errors
    /// Where the payload has a name or mode that no volume could hold, `..data` leads out of the
    /// volume, a file is where a link has to be, or something cannot be read. The key or path is
    /// named, never a value.
    pub fn rotation(&self, payload: Payload) -> io::Result<Rotation> {
        payload.check()?;
        let links_first = self.order == LinkOrder::BeforeSwap;
        let planner = Planner { volume: &self.dir, links_first, fs_group: self.fs_group };
        Ok(Rotation::new(planner.plan(&payload)?, payload))
    }

    /// Makes the directory where it is missing, then the whole rotation to `payload`. Returns
    /// whether a new version was published.
    ///
    /// # Errors
    /// As [`rotation`](Self::rotation), and where a system call fails; what has been done by then
    /// stays done.
    pub fn write(&self, payload: Payload) -> io::Result<bool> {
        fs::create_dir_all(&self.dir).map_err(|e| tree::at("mkdir", &self.dir, &e))?;
        let rotation = self.rotation(payload)?;
        let is_new = rotation.steps().any(Step::is_swap);
        rotation.finish()?;
        Ok(is_new)
    }
}

fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    Ok((fs::read(path)?, mode))
}

fn not_utf8(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path:?}: the name is not UTF-8"))
}
