//! Which volumes are watched, and by which rules.
//!
//! Flags or the variable, where given, replace the volumes of the file as a whole. A rule given so
//! replaces that rule of the file for the volumes it names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Purpose;
use super::file::{File, FileTable};
use super::given::{Given, Place, Problem};
use super::setting::{ALLOW_EMPTY, EVERY_VOLUME, MAX_BYTES, REQUIRE, Raw, VOLUME};
use super::value::{self, Parsed};
use crate::builder::MAX_VOLUMES;
use crate::name::{KeyName, VolumeName};
use crate::volume::MAX_VOLUME_BYTES;

/// One volume and its rules, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeConfig {
    pub(crate) name: VolumeName,
    /// Absolute.
    pub(crate) path: PathBuf,
    pub(crate) require: Vec<KeyName>,
    pub(crate) max_bytes: usize,
    pub(crate) allow_empty: bool,
}

/// Checks volumes and rules, and collects what is wrong with them.
pub(super) fn check(
    raw: &Raw,
    file: &File,
    purpose: Purpose,
    problems: &mut Vec<Problem>,
) -> Vec<VolumeConfig> {
    let before = problems.len();
    let path: ParsePath = match purpose {
        Purpose::Start => directory,
        Purpose::Examine => value::path,
    };
    let mut volumes = listed(raw, file, path, problems);
    if purpose == Purpose::Start {
        check_set(&volumes, before, problems);
    }
    // Rules cannot be matched to volumes that are themselves wrong.
    if problems.len() == before {
        apply_rules(raw, &mut volumes, problems);
    }
    volumes.into_iter().map(|(_, volume)| volume).collect()
}

/// Checks how many volumes there are, and whether they are different ones.
fn check_set(volumes: &Listed, before: usize, problems: &mut Vec<Problem>) {
    if volumes.is_empty() && problems.len() == before {
        problems.push(Problem::new(format!(
            "no volume to watch: give the directory where the secret is mounted, with \
             --{} [NAME=]DIR, with {}, or as a [[volume]] table in the file of --config",
            VOLUME.flag, VOLUME.variable
        )));
    }
    if volumes.len() > MAX_VOLUMES {
        let message = format!("{} volumes; at most {MAX_VOLUMES} can be watched", volumes.len());
        problems.push(Problem::new(message));
    }
    check_distinct(volumes, problems);
}

type Listed = Vec<(Place, VolumeConfig)>;

/// How the path of a volume is read.
type ParsePath = fn(&OsStr) -> Parsed<PathBuf>;

fn listed(raw: &Raw, file: &File, path: ParsePath, problems: &mut Vec<Problem>) -> Listed {
    let Some(given) = raw.given(&VOLUME) else {
        let tables = file.volumes.iter();
        return tables.filter_map(|table| from_table(table, path, problems)).collect();
    };
    let mut volumes = Listed::new();
    for value in &given.values {
        match volume(value, path) {
            Ok(volume) => volumes.push((given.place.clone(), volume)),
            Err(message) => problems.push(Problem::at(&given.place, message)),
        }
    }
    volumes
}

/// `[NAME=]DIR`. What stands before the first `=` is a name only if it has no `/`, so that
/// directories with `=` in their path need no escaping.
fn volume(value: &OsStr, path: ParsePath) -> Parsed<VolumeConfig> {
    let bytes = value.as_bytes();
    let split = bytes.iter().position(|&byte| byte == b'=');
    match split.map(|at| (&bytes[..at], OsStr::from_bytes(&bytes[at + 1..]))) {
        Some((name, dir)) if !name.contains(&b'/') => {
            let name = value::text(OsStr::from_bytes(name))?;
            new(Some(name), path(dir)?)
        }
        _ => new(None, path(value)?),
    }
}

fn new(name: Option<&str>, path: PathBuf) -> Parsed<VolumeConfig> {
    let name = match name {
        Some(name) => name.parse(),
        None => VolumeName::from_directory(&path),
    };
    let name =
        name.map_err(|e| format!("the volume cannot be named so ({e}); give it as NAME=DIR"))?;
    Ok(VolumeConfig {
        name,
        path,
        require: Vec::new(),
        max_bytes: MAX_VOLUME_BYTES,
        allow_empty: false,
    })
}

/// A directory may be absent: it is waited for. What is there and is no directory never becomes a
/// volume.
fn directory(value: &OsStr) -> Parsed<PathBuf> {
    let path = value::path(value)?;
    match fs::metadata(&path) {
        Ok(found) if !found.is_dir() => {
            let parent = path.parent().unwrap_or(Path::new("/")).display();
            Err(format!(
                "{} is not a directory; a watch on one file would see one change at most, so give \
                 the directory: {parent}",
                path.display()
            ))
        }
        _ => Ok(path),
    }
}

fn from_table(
    table: &FileTable,
    parse: ParsePath,
    problems: &mut Vec<Problem>,
) -> Option<(Place, VolumeConfig)> {
    let Some(path) = table.given("path") else {
        problems.push(Problem::at(&table.place, "the table has no `path`"));
        return None;
    };
    let name = table.given("name");
    let place = name.map_or(&path.place, |name| &name.place);
    let parsed =
        single(path, parse).map_err(|message| Problem::at(&path.place, message)).and_then(|path| {
            let name = name.map(|name| single(name, |text| value::text(text).map(str::to_owned)));
            let name = name.transpose().map_err(|message| Problem::at(place, message))?;
            new(name.as_deref(), path).map_err(|message| Problem::at(place, message))
        });
    let mut volume = parsed.map_err(|problem| problems.push(problem)).ok()?;
    table_rules(table, &mut volume, problems);
    Some((table.place.clone(), volume))
}

fn single<T>(given: &Given, parse: impl Fn(&OsStr) -> Parsed<T>) -> Parsed<T> {
    parse(given.values.first().map_or(OsStr::new(""), |value| value.as_os_str()))
}

fn table_rules(table: &FileTable, volume: &mut VolumeConfig, problems: &mut Vec<Problem>) {
    if let Some(given) = table.given("require") {
        match given.values.iter().map(|value| key(value::text(value)?)).collect() {
            Ok(keys) => volume.require = keys,
            Err(message) => problems.push(Problem::at(&given.place, message)),
        }
    }
    if let Some(given) = table.given("max_bytes") {
        match single(given, max_bytes) {
            Ok(bytes) => volume.max_bytes = bytes,
            Err(message) => problems.push(Problem::at(&given.place, message)),
        }
    }
    volume.allow_empty =
        table.given("allow_empty").is_some_and(|given| given.values.iter().any(|v| v == "true"));
}

fn apply_rules(raw: &Raw, volumes: &mut Listed, problems: &mut Vec<Problem>) {
    if let Some(given) = raw.given(&REQUIRE) {
        let required = given.values.iter().map(|value| requirement(value, volumes));
        match required.collect::<Parsed<Vec<_>>>() {
            Ok(required) => replace_required(volumes, &required),
            Err(message) => problems.push(Problem::at(&given.place, message)),
        }
    }
    if let Some(given) = raw.given(&MAX_BYTES) {
        match single(given, max_bytes) {
            Ok(bytes) => volumes.iter_mut().for_each(|(_, volume)| volume.max_bytes = bytes),
            Err(message) => problems.push(Problem::at(&given.place, message)),
        }
    }
    if let Some(given) = raw.given(&ALLOW_EMPTY) {
        for name in &given.values {
            if !allow_empty(name, volumes) {
                problems.push(Problem::at(&given.place, unknown(volumes)));
            }
        }
    }
}

/// Allows it for the named volume, or says that there is none.
fn allow_empty(name: &OsStr, volumes: &mut Listed) -> bool {
    let is_meant = |volume: &VolumeConfig| name == EVERY_VOLUME || name == volume.name.as_str();
    let mut is_known = false;
    for (_, volume) in volumes.iter_mut().filter(|(_, volume)| is_meant(volume)) {
        volume.allow_empty = true;
        is_known = true;
    }
    is_known
}

/// A key, and the volume it is required in; in every volume where `None`.
type Requirement = (Option<VolumeName>, KeyName);

/// `[VOLUME:]KEY`. A key that itself has a `:` is written with its volume.
fn requirement(value: &OsStr, volumes: &Listed) -> Parsed<Requirement> {
    let text = value::text(value)?;
    let Some((name, rest)) = text.split_once(':') else {
        return Ok((None, key(text)?));
    };
    let found = volumes.iter().find(|(_, volume)| volume.name.as_str() == name);
    let (_, volume) = found.ok_or_else(|| unknown(volumes))?;
    Ok((Some(volume.name.clone()), key(rest)?))
}

fn replace_required(volumes: &mut Listed, required: &[Requirement]) {
    for (_, volume) in volumes {
        let of_volume = |(name, _): &&Requirement| name.as_ref().is_none_or(|n| *n == volume.name);
        let keys: Vec<_> = required.iter().filter(of_volume).map(|(_, key)| key.clone()).collect();
        if !keys.is_empty() {
            volume.require = keys;
        }
    }
}

fn key(text: &str) -> Parsed<KeyName> {
    text.parse().map_err(|e| format!("a required key cannot be named so: {e}"))
}

fn max_bytes(value: &OsStr) -> Parsed<usize> {
    value::number(value, &(1..=MAX_VOLUME_BYTES))
}

fn unknown(volumes: &Listed) -> String {
    let names: Vec<_> = volumes.iter().map(|(_, volume)| volume.name.as_str()).collect();
    format!("it names a volume that is not configured; there are: {}", names.join(", "))
}

/// Two volumes of one name could not be told apart, and one directory needs no two watches.
fn check_distinct(volumes: &Listed, problems: &mut Vec<Problem>) {
    // Asked for once for each volume and not for each pair, as every answer takes system calls.
    let real: Vec<_> = volumes.iter().map(|(_, volume)| real(&volume.path)).collect();
    for (at, (place, volume)) in volumes.iter().enumerate() {
        let earlier = volumes.iter().zip(&real).take(at);
        for ((_, other), other_real) in earlier {
            if other.name == volume.name {
                let message = format!(
                    "two volumes are named `{}`: {} and {}; give one another name with NAME=DIR",
                    volume.name,
                    other.path.display(),
                    volume.path.display()
                );
                problems.push(Problem::at(place, message));
            } else if *other_real == real[at] {
                let message = format!(
                    "volumes `{}` and `{}` are the same directory {}",
                    other.name,
                    volume.name,
                    volume.path.display()
                );
                problems.push(Problem::at(place, message));
            }
        }
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(value: &str) -> (String, String) {
        let volume = volume(OsStr::new(value), directory).unwrap();
        (volume.name.as_str().to_owned(), volume.path.display().to_string())
    }

    #[test]
    fn name_ends_at_the_first_equals_sign_and_has_no_slash() {
        for (value, name, path) in [
            ("/etc/db", "db", "/etc/db"),
            ("/etc/db/", "db", "/etc/db/"),
            ("db=/etc/x", "db", "/etc/x"),
            ("db=/etc/a=b", "db", "/etc/a=b"),
            ("my-db=/a=b/c", "my-db", "/a=b/c"),
            ("/a=b/c", "c", "/a=b/c"),
        ] {
            assert_eq!(named(value), (name.to_owned(), path.to_owned()), "{value}");
        }
        assert!(named("db=relative/dir").1.ends_with("/relative/dir"));
    }

    #[test]
    fn impossible_volumes_say_what_to_do() {
        for (value, expected) in [
            ("", "expected a path, not nothing"),
            ("db=", "expected a path, not nothing"),
            ("=/etc/db", "give it as NAME=DIR"),
            ("/", "give it as NAME=DIR"),
            ("a b=/etc/db", "A-Z, a-z, 0-9"),
            ("/etc/a=b", "give it as NAME=DIR"),
        ] {
            let error = volume(OsStr::new(value), directory).unwrap_err();
            assert!(error.contains(expected), "{value:?}: {error}");
        }
    }

    #[test]
    fn file_in_place_of_a_directory_names_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        fs::write(&file, "x").unwrap();
        let error = volume(file.as_os_str(), directory).unwrap_err();
        assert!(error.contains("is not a directory"), "{error}");
        assert!(error.ends_with(&format!("give the directory: {}", dir.path().display())));
        assert!(volume(dir.path().join("later").as_os_str(), directory).is_ok());
    }
}
