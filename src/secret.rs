//! The bytes of a secret, behind the one audited door.
//!
//! Every other module passes [`Secret`]s around without being able to look inside. Search for
//! `expose` to see each place where bytes leave.

use std::fmt;

use zeroize::Zeroizing;

/// One value of a secret. Its memory is wiped when the last snapshot that holds it is dropped.
///
/// It cannot be cloned, printed, serialized or dereferenced by accident:
///
/// ```compile_fail,E0599
/// # fn show(secret: &secretwatch::Secret) {
/// let copy: secretwatch::Secret = secret.clone();
/// let copy = (*secret).clone();
/// # }
/// ```
/// ```compile_fail,E0277
/// # fn show(secret: &secretwatch::Secret) -> String {
/// secret.to_string() + &format!("{secret}")
/// # }
/// ```
/// ```compile_fail,E0277
/// # fn needs_serialize(value: &impl serde::Serialize) {}
/// # fn show(secret: &secretwatch::Secret) {
/// needs_serialize(secret);
/// # }
/// ```
/// ```compile_fail,E0614
/// # fn show(secret: secretwatch::Secret) {
/// let bytes = *secret;
/// # }
/// ```
/// ```compile_fail,E0308
/// # fn show(secret: &secretwatch::Secret) {
/// let bytes: &[u8] = secret;
/// # }
/// ```
///
/// `Debug` is there, so that structures that hold one can derive it, and shows nothing:
///
/// ```
/// # use secretwatch::Secret;
/// let secret = Secret::new(b"hunter2".to_vec());
/// assert_eq!(format!("{secret:?}"), "Secret([redacted])");
/// assert_eq!(secret.expose(), b"hunter2");
/// ```
pub struct Secret(Zeroizing<Vec<u8>>);

/// A value that was asked for as text is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value is not UTF-8 text")]
pub struct NotText;

impl Secret {
    /// Takes over `bytes` without copying them; their whole capacity is wiped on drop.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes. This is the only way out: whoever calls it answers for where they go.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text.
    ///
    /// # Errors
    /// [`NotText`] where they are not UTF-8.
    pub fn expose_str(&self) -> Result<&str, NotText> {
        std::str::from_utf8(self.expose()).map_err(|_| NotText)
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether two values are the same. Not in constant time: both come from the same volume, and
    /// nobody outside can choose one of them.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_other_bytes_is_an_error_without_the_bytes() {
        let secret = Secret::new(vec![0xff, b'x']);
        let error = secret.expose_str().unwrap_err();
        assert_eq!(error.to_string(), "the value is not UTF-8 text");
    }

    #[test]
    fn same_bytes_are_the_same_value() {
        let one = Secret::new(b"a".to_vec());
        assert!(one.is_same(&Secret::new(b"a".to_vec())));
        assert!(!one.is_same(&Secret::new(b"b".to_vec())));
    }
}
