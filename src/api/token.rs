//! The bearer token: a mounted secret itself, so it is followed through rotations.
//!
//! How it works. Every check looks at the file's identity and times, one system call, and reads the
//! file again where they differ. What cannot be read, or holds no token, changes nothing: the last
//! good token stays, and one log line says so.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

/// The largest token file: far above any token, far below what would be worth reading.
const MAX_TOKEN_FILE_BYTES: usize = 4096;
/// A file that changed less than this ago can change again without its times telling: they are no
/// finer than the kernel's clock tick.
const SETTLED: Duration = Duration::from_secs(1);
/// The scheme of the `Authorization` header, in any case.
const SCHEME: &[u8] = b"bearer ";

/// Why a token file gives no token.
#[derive(Debug, Error)]
#[error("token file {path:?} {problem}")]
pub(crate) struct TokenError {
    path: PathBuf,
    problem: &'static str,
    #[source]
    source: Option<io::Error>,
}

/// The token, and the file it comes from.
pub(super) struct TokenFile {
    path: PathBuf,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    token: Zeroizing<Vec<u8>>,
    /// `None` where the file has to be read at the next look in any case.
    stamp: Option<Stamp>,
    is_failing: bool,
}

/// What differs where a file was replaced or written to.
#[derive(Debug, PartialEq, Eq)]
struct Stamp([i64; 4], [u64; 3]);

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self(
            [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()],
            [file.dev(), file.ino(), file.size()],
        )
    }
}

impl TokenFile {
    /// Reads the token for the first time.
    ///
    /// # Errors
    /// Where there is no token in the file.
    pub(super) fn open(path: PathBuf) -> Result<Self, TokenError> {
        match read(&path) {
            Ok(loaded) => Ok(Self { path, loaded: Mutex::new(loaded) }),
            Err((problem, source)) => Err(TokenError { path, problem, source }),
        }
    }

    /// Whether the value of an `Authorization` header carries the current token. Takes the same
    /// time for every token of the same length.
    pub(super) fn admits(&self, authorization: &[u8]) -> bool {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut loaded);
        match authorization.split_at_checked(SCHEME.len()) {
            Some((scheme, token)) => {
                scheme.eq_ignore_ascii_case(SCHEME) && token.ct_eq(&loaded.token).into()
            }
            None => false,
        }
    }

    fn refresh(&self, loaded: &mut Loaded) {
        let now = fs::metadata(&self.path).ok().map(|file| Stamp::of(&file));
        if now.is_some() && now == loaded.stamp {
            return;
        }
        match read(&self.path) {
            Ok(new) => {
                if *new.token != *loaded.token || loaded.is_failing {
                    tracing::info!(file = %self.path.display(), "the token is read again");
                }
                *loaded = new;
            }
            Err((problem, error)) if !loaded.is_failing => {
                loaded.is_failing = true;
                let error = error.map(tracing::field::display);
                tracing::warn!(
                    file = %self.path.display(), problem, error,
                    "the token file gives no token, the last one stays"
                );
            }
            Err(_) => {}
        }
    }
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenFile").field("path", &self.path).finish_non_exhaustive()
    }
}

type Problem = (&'static str, Option<io::Error>);

fn read(path: &PathBuf) -> Result<Loaded, Problem> {
    let unreadable = |e| ("cannot be read", Some(e));
    // A FIFO must not block the whole process; what it is, is looked at below.
    let flags = nix::libc::O_NONBLOCK;
    let mut options = File::options();
    let file = options.read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(("is not a regular file", None));
    }
    // With room for one byte more than is allowed it never grows, which would leave a copy behind.
    let mut token = Zeroizing::new(Vec::with_capacity(MAX_TOKEN_FILE_BYTES + 1));
    let limit = MAX_TOKEN_FILE_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut token).map_err(unreadable)?;
    if token.len() > MAX_TOKEN_FILE_BYTES {
        return Err(("is too large; at most 4096 bytes are allowed", None));
    }
    let length = token.trim_ascii_end().len();
    token.truncate(length);
    if token.is_empty() {
        return Err(("is empty; a token is needed", None));
    }
    // Anything else cannot be sent in a header, so nobody could ever be admitted.
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(("has more than a token in it; visible ASCII characters are allowed", None));
    }
    Ok(Loaded { token, stamp: settled(&metadata), is_failing: false })
}

fn settled(file: &Metadata) -> Option<Stamp> {
    let changed = file.modified().ok()?;
    let age = SystemTime::now().duration_since(changed).ok()?;
    (age >= SETTLED).then(|| Stamp::of(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
    }

    #[test]
    fn token_is_compared_whole_and_the_scheme_in_any_case() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        write(&path, "s3cret\n");
        let file = TokenFile::open(path).unwrap();
        assert!(file.admits(b"Bearer s3cret"));
        assert!(file.admits(b"bearer s3cret"));
        for wrong in ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret"] {
            assert!(!file.admits(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn rotation_by_rename_by_rewriting_and_with_the_same_length_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        write(&path, "one");
        let file = TokenFile::open(path.clone()).unwrap();
        for token in ["two", "six", "seven"] {
            write(&path, token);
            assert!(file.admits(format!("Bearer {token}").as_bytes()), "{token}");
        }
        write(&dir.path().join("new"), "renamed");
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(file.admits(b"Bearer renamed"));
        assert!(!file.admits(b"Bearer seven"));
    }

    #[test]
    fn settled_file_is_read_again_only_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        write(&path, "one");
        let old = SystemTime::now() - Duration::from_secs(60);
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        let file = TokenFile::open(path.clone()).unwrap();
        assert!(file.loaded.lock().unwrap().stamp.is_some());
        assert!(file.admits(b"Bearer one"));
        write(&path, "two");
        assert!(file.admits(b"Bearer two"));
    }

    #[test]
    fn last_good_token_stays_while_the_file_gives_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        write(&path, "good");
        let file = TokenFile::open(path.clone()).unwrap();
        for bad in ["", "\n", "two words", &"x".repeat(5000)] {
            write(&path, bad);
            assert!(file.admits(b"Bearer good"), "{bad:?}");
            assert!(!file.admits(b"Bearer "), "{bad:?}");
        }
        fs::remove_file(&path).unwrap();
        assert!(file.admits(b"Bearer good"));
        write(&path, "better");
        assert!(!file.admits(b"Bearer good"));
        assert!(file.admits(b"Bearer better"));
    }

    #[test]
    fn file_without_a_token_is_an_error_that_names_it_and_no_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        write(&path, "canary value");
        let error = TokenFile::open(path.clone()).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("token") && text.contains("visible ASCII"), "{text}");
        assert!(!text.contains("canary"), "{text}");
        assert!(TokenFile::open(dir.path().to_owned()).is_err());
        assert!(TokenFile::open(dir.path().join("absent")).is_err());
        write(&path, "canary");
        assert!(!format!("{:?}", TokenFile::open(path).unwrap()).contains("canary"));
    }

    #[test]
    fn fifo_is_refused_without_blocking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(TokenFile::open(path).is_err());
    }
}
