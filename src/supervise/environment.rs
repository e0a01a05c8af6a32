//! Environment variables from keys, for apps that read nothing else.
//!
//! A value is copied into the command that starts the child, and the command is dropped right after
//! it. These copies are the standard library's: they cannot be wiped, and stay in freed memory of
//! the supervisor until it is used again. The child's own copy is in its memory and in
//! `/proc/<pid>/environ` for as long as it lives, readable for its user: that is what asking for
//! environment variables means.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::Arc;

use thiserror::Error;

use crate::config::{EnvKey, RunConfig, is_variable};
use crate::error::MissingKey;
use crate::name::{KeyName, VolumeName};
use crate::secret::Secret;
use crate::snapshot::Snapshot;

/// Where a variable comes from.
type Source<'a> = (&'a VolumeName, &'a KeyName);

/// Why an environment cannot be made. Names only, no value.
#[derive(Debug, Error)]
pub(crate) enum EnvironmentError {
    #[error("variable `{0}`")]
    Missing(String, #[source] MissingKey),
    #[error(
        "the value of key `{key}` of volume `{volume}` has a NUL byte, which no variable can hold"
    )]
    Nul { volume: String, key: String },
    #[error(
        "variable `{name}` would come from key `{one}` and from key `{other}`; name one of them \
         with --env instead of --env-from"
    )]
    Clash { name: String, one: String, other: String },
    #[error(
        "key `{key}` of volume `{volume}` would become the variable `{name}`, which {why}; give the \
         keys that the app needs with --env"
    )]
    Name { volume: String, key: String, name: String, why: &'static str },
}

/// Which keys become which variables.
#[derive(Debug)]
pub(super) struct Environment {
    keys: Vec<EnvKey>,
    from: Vec<VolumeName>,
}

impl Environment {
    pub(super) fn new(config: &RunConfig) -> Self {
        Self { keys: config.env.clone(), from: config.env_from.clone() }
    }

    /// Whether these snapshots make an environment.
    ///
    /// # Errors
    /// Where they do not.
    pub(super) fn check(&self, snapshots: &[Arc<Snapshot>]) -> Result<(), EnvironmentError> {
        self.variables(snapshots).map(drop)
    }

    /// Gives the values to a command.
    ///
    /// # Errors
    /// Where the snapshots do not make an environment.
    pub(super) fn apply(
        &self,
        snapshots: &[Arc<Snapshot>],
        command: &mut Command,
    ) -> Result<(), EnvironmentError> {
        for (name, (_, value)) in self.variables(snapshots)? {
            command.env(name, OsStr::from_bytes(value.expose()));
        }
        Ok(())
    }

    fn variables<'a>(
        &'a self,
        snapshots: &'a [Arc<Snapshot>],
    ) -> Result<BTreeMap<String, (Source<'a>, &'a Secret)>, EnvironmentError> {
        let mut variables = BTreeMap::new();
        for EnvKey { name, volume, key } in &self.keys {
            let Some(snapshot) = find(snapshots, volume) else { continue };
            let value = snapshot.get(key.as_str());
            let value = value.map_err(|error| EnvironmentError::Missing(name.clone(), error))?;
            add(&mut variables, name.clone(), (volume, key), value)?;
        }
        for volume in &self.from {
            let Some(snapshot) = find(snapshots, volume) else { continue };
            for (key, value) in snapshot.iter() {
                let name = conventional(key.as_str());
                check_name(&name, volume, key)?;
                add(&mut variables, name, (volume, key), value)?;
            }
        }
        Ok(variables)
    }
}

/// Every configured volume has a snapshot.
fn find<'a>(snapshots: &'a [Arc<Snapshot>], volume: &VolumeName) -> Option<&'a Arc<Snapshot>> {
    snapshots.iter().find(|snapshot| snapshot.volume() == volume)
}

fn add<'a>(
    variables: &mut BTreeMap<String, (Source<'a>, &'a Secret)>,
    name: String,
    source: Source<'a>,
    value: &'a Secret,
) -> Result<(), EnvironmentError> {
    let (volume, key) = source;
    if value.expose().contains(&0) {
        return Err(EnvironmentError::Nul { volume: volume.to_string(), key: key.to_string() });
    }
    match variables.insert(name.clone(), (source, value)) {
        // The same key under the same name twice is the same wish twice.
        Some((other, _)) if other != source => {
            let show = |(volume, key): Source<'_>| format!("{volume}/{key}");
            Err(EnvironmentError::Clash { name, one: show(other), other: show(source) })
        }
        _ => Ok(()),
    }
}

/// The documented convention: upper case, and no hyphens.
fn conventional(key: &str) -> String {
    let character =
        |c: char| if matches!(c, '-' | '.' | '/') { '_' } else { c.to_ascii_uppercase() };
    key.chars().map(character).collect()
}

/// Whoever writes the secret chooses the names of its keys, and must not choose what code the app
/// runs.
fn check_name(name: &str, volume: &VolumeName, key: &KeyName) -> Result<(), EnvironmentError> {
    let why = match name {
        "PATH" | "IFS" | "ENV" | "BASH_ENV" => "decides what code the app runs",
        name if name.starts_with("LD_") => "decides what code the app runs",
        name if !is_variable(name) => "is no name of a variable",
        _ => return Ok(()),
    };
    let (volume, key, name) = (volume.to_string(), key.to_string(), name.to_owned());
    Err(EnvironmentError::Name { volume, key, name, why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::snapshot;

    fn from(pairs: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let environment = Environment { keys: vec![], from: vec!["db".parse().unwrap()] };
        names(&environment, pairs)
    }

    fn names(environment: &Environment, pairs: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let snapshots = [Arc::new(snapshot(1, pairs.iter().copied()))];
        let variables = environment.variables(&snapshots).map_err(|error| error.to_string())?;
        Ok(variables.into_keys().collect())
    }

    fn key(name: &str, key: &str) -> EnvKey {
        EnvKey { name: name.into(), volume: "db".parse().unwrap(), key: key.parse().unwrap() }
    }

    #[test]
    fn names_follow_the_convention() {
        let names = from(&[("some-credential", "x"), ("tls.crt", "y"), ("UP_9", "z")]).unwrap();
        assert_eq!(names, ["SOME_CREDENTIAL", "TLS_CRT", "UP_9"]);
    }

    #[test]
    fn two_keys_of_one_name_are_refused() {
        let error = from(&[("a-b", "canary"), ("a.b", "canary")]).unwrap_err();
        assert!(error.starts_with("variable `A_B` would come from key `db/a-b` and"), "{error}");
        assert!(!error.contains("canary"), "{error}");
        let keys = vec![key("A", "b"), key("B", "a")];
        let both = Environment { keys, from: vec!["db".parse().unwrap()] };
        assert!(names(&both, &[("a", "1"), ("b", "2")]).unwrap_err().contains("variable `A`"));
        let same = Environment { keys: vec![key("A", "a")], from: vec!["db".parse().unwrap()] };
        assert_eq!(names(&same, &[("a", "1")]).unwrap(), ["A"]);
    }

    #[test]
    fn names_that_choose_code_or_are_none_are_refused() {
        for name in ["path", "ld-preload", "LD_LIBRARY_PATH", "bash.env"] {
            assert!(from(&[(name, "x")]).unwrap_err().contains("what code the app runs"), "{name}");
        }
        assert!(from(&[("9lives", "x")]).unwrap_err().contains("no name of a variable"));
    }

    #[test]
    fn value_that_no_variable_can_hold_names_its_key() {
        let error = from(&[("k", "canary\0")]).unwrap_err();
        assert_eq!(
            error,
            "the value of key `k` of volume `db` has a NUL byte, which no variable can hold"
        );
    }

    #[test]
    fn missing_key_is_named() {
        let environment = Environment { keys: vec![key("PASSWORD", "password")], from: vec![] };
        assert_eq!(names(&environment, &[("user", "x")]).unwrap_err(), "variable `PASSWORD`");
    }
}
