//! The file with headers, such as one with a token.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use hyper::header::{HeaderName, HeaderValue};

/// The largest file: more than any server takes as headers.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// Reads lines of `Name: value`; empty lines and lines that begin with `#` are left out. No error
/// shows what stands in the file.
pub(super) fn read(path: &Path) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let wrong = |what: &str| format!("the headers file {}: {what}", path.display());
    let mut text = zeroize::Zeroizing::new(String::new());
    let file = File::open(path).map_err(|e| wrong(&format!("cannot be opened: {e}")))?;
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    let length = read.map_err(|e| wrong(&format!("cannot be read: {e}")))?;
    if length as u64 > MAX_FILE_BYTES {
        return Err(wrong(&format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(at, line)| {
            parse(line).ok_or_else(|| wrong(&format!("line {}: expected `Name: value`", at + 1)))
        })
        .collect()
}

fn parse(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    Some((name.trim().parse().ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_mistakes_do_not_show_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("headers");
        std::fs::write(&path, "# a comment\n\nAuthorization: Bearer canary\nX-A:b: c\n").unwrap();
        let headers = read(&path).unwrap();
        assert_eq!(headers[0].0, "authorization");
        assert_eq!(headers[0].1, "Bearer canary");
        assert_eq!(headers[1].1, "b: c");
        assert!(!format!("{headers:?}").contains("canary"));
        for text in ["a: b\ncanary\n", "a: b\ncan ary: x\n", "a: b\nx: canary\u{7f}\n"] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.ends_with("line 2: expected `Name: value`"), "{error}");
        }
        assert!(read(Path::new("/nowhere")).unwrap_err().contains("/nowhere"));
    }
}
