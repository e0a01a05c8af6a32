//! Snapshots as structs of the application.
//!
//! How it works. A snapshot is given to serde as a map of its keys. Every value is text or bytes,
//! so what it becomes is decided by the type that asks: a number is parsed where a number is asked
//! for. All errors pass through [`Failure`], which keeps nothing that a value could have got into:
//! only the key, words from this file, and names that are compiled into the type.

use std::fmt;
use std::str::FromStr;

use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::error::MissingKey;
use crate::name::{KeyName, VolumeName};
use crate::secret::Secret;
use crate::snapshot::Snapshot;

impl Snapshot {
    /// Turns the snapshot into a serde struct with one field per key.
    ///
    /// * Text is taken exactly as it is, with a trailing newline if there is one. `Vec<u8>`,
    ///   `[u8; N]` and types that ask serde for bytes get the bytes, which need not be UTF-8.
    /// * Numbers, `bool` (`true` or `false`), `char` and enums without data (the name of the
    ///   variant) are parsed from the text, without ASCII whitespace around it.
    /// * An `Option` is `None` where the key is absent. Keys that the type does not know are
    ///   ignored, unless it denies them.
    /// * A map gets all keys. So does a field with `#[serde(flatten)]`, but serde shows it every
    ///   value as text: a flattened struct can have text fields only.
    ///
    /// ```no_run
    /// #[derive(serde::Deserialize)]
    /// #[serde(rename_all = "kebab-case")]
    /// struct Database {
    ///     user_name: String,            // the key `user-name`
    ///     port: u16,
    ///     use_tls: Option<bool>,
    ///     #[serde(rename = "db/password")]
    ///     password: String,
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let secrets = secretwatch::Secrets::builder().volume("/etc/db").open()?;
    /// let database: Database = secrets.volume("db")?.current().deserialize()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`DeserializeError`], which names the key and never shows a value.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, DeserializeError> {
        T::deserialize(Keys(self)).map_err(|failure| DeserializeError {
            volume: self.volume().clone(),
            is_waiting: self.generation() == 0,
            failure,
        })
    }
}

/// A snapshot does not fit the type that was asked for.
///
/// It says which key and what was expected. It holds neither the value nor the message of the
/// type's own error, which might quote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeserializeError {
    volume: VolumeName,
    is_waiting: bool,
    failure: Failure,
}

impl DeserializeError {
    /// The key it is about; `None` where that is not known, as with flattened fields.
    pub fn key(&self) -> Option<&str> {
        self.failure.key.as_deref()
    }

    /// Whether the key is not there.
    pub fn is_missing_key(&self) -> bool {
        self.failure.problem == Problem::Missing
    }
}

impl fmt::Display for DeserializeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(key) = self.key() else {
            return write!(f, "the values of volume `{}` do not fit the type", self.volume);
        };
        if self.is_missing_key() {
            return MissingKey::new(self.volume.clone(), key, self.is_waiting).fmt(f);
        }
        write!(f, "key `{}` of volume `{}` ", key.escape_debug(), self.volume)?;
        match self.failure.problem {
            // Said above.
            Problem::Missing => Ok(()),
            Problem::Expected(what) => write!(f, "is not {what}"),
            Problem::OneOf(names) => write!(f, "is not one of: {}", names.join(", ")),
            Problem::NoParts(what) => write!(f, "cannot become {what}: a value has no parts"),
            Problem::Refused => f.write_str("is refused by its type"),
            Problem::UnknownKey => f.write_str("is not known to the type"),
            Problem::Twice => f.write_str("is there under more than one of its names"),
        }
    }
}

impl std::error::Error for DeserializeError {}

/// What serde is given as its error.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    key: Option<Box<str>>,
    problem: Problem,
}

/// Nothing in here has seen a value: every text is `'static`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    Missing,
    Expected(&'static str),
    OneOf(&'static [&'static str]),
    NoParts(&'static str),
    Refused,
    UnknownKey,
    Twice,
}

impl Failure {
    fn new(problem: Problem) -> Self {
        Self { key: None, problem }
    }

    fn expected(what: &'static str) -> Self {
        Self::new(Problem::Expected(what))
    }

    /// Says which value it was that failed. What a type takes for its fields is then inside a
    /// value, and says nothing about the keys of the volume.
    fn in_value(self, key: &KeyName) -> Self {
        let problem = match self.problem {
            Problem::Missing | Problem::UnknownKey | Problem::Twice => Problem::Refused,
            problem => problem,
        };
        Self { key: Some(key.as_str().into()), problem }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value does not fit")
    }
}

impl std::error::Error for Failure {}

/// Types may put the value into the message, into "unexpected …" and even into "expected …", so
/// all of these are dropped unformatted.
impl de::Error for Failure {
    fn custom<M: fmt::Display>(_: M) -> Self {
        Self::new(Problem::Refused)
    }

    fn invalid_type(_: de::Unexpected<'_>, _: &dyn de::Expected) -> Self {
        Self::new(Problem::Refused)
    }

    fn invalid_value(_: de::Unexpected<'_>, _: &dyn de::Expected) -> Self {
        Self::new(Problem::Refused)
    }

    fn invalid_length(_: usize, _: &dyn de::Expected) -> Self {
        Self::new(Problem::Refused)
    }

    // The "variant" is the value.
    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Problem::OneOf(expected))
    }

    // The field may be text from inside a value; [`KeysAccess`] knows the key.
    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownKey)
    }

    fn missing_field(field: &'static str) -> Self {
        Self { key: Some(field.into()), problem: Problem::Missing }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self { key: Some(field.into()), problem: Problem::Twice }
    }
}

/// A snapshot as serde's map.
struct Keys<'a>(&'a Snapshot);

impl<'de> Deserializer<'de> for Keys<'de> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_map(KeysAccess { rest: self.0.iter(), current: None })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct KeysAccess<'a, I> {
    rest: I,
    current: Option<(&'a KeyName, &'a Secret)>,
}

impl<'de, I> MapAccess<'de> for KeysAccess<'de, I>
where
    I: ExactSizeIterator<Item = (&'de KeyName, &'de Secret)>,
{
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failure> {
        self.current = self.rest.next();
        let Some((key, _)) = self.current else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(key.as_str()))
            .map(Some)
            .map_err(|failure: Failure| Failure { key: Some(key.as_str().into()), ..failure })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        // Only a visitor that breaks serde's rules asks for a value without a key.
        let (key, secret) = self.current.take().ok_or(Failure::new(Problem::Refused))?;
        seed.deserialize(Value(secret)).map_err(|failure| failure.in_value(key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// One value. It is lent, not copied, as far as the type allows: a copy would not be wiped.
struct Value<'a>(&'a Secret);

impl<'a> Value<'a> {
    fn text(&self) -> Result<&'a str, Failure> {
        self.0.expose_str().map_err(|_| Failure::expected("UTF-8 text"))
    }

    /// The text without the newline that many tools leave at the end of a file.
    fn word(&self) -> Result<&'a str, Failure> {
        Ok(self.text()?.trim_matches(|c: char| c.is_ascii_whitespace()))
    }

    fn parse<T: FromStr>(&self, what: &'static str) -> Result<T, Failure> {
        self.word()?.parse().map_err(|_| Failure::expected(what))
    }

    /// A single character may be a whitespace itself.
    fn character(&self) -> Result<char, Failure> {
        let (text, word) = (self.text()?, self.word()?);
        text.parse().or_else(|_| word.parse()).map_err(|_| Failure::expected("one character"))
    }

    fn bytes<V: Visitor<'a>>(&self, visitor: V) -> Result<V::Value, Failure> {
        let mut bytes = SeqDeserializer::new(self.0.expose().iter().copied());
        let value = visitor.visit_seq(&mut bytes);
        let value = value.and_then(|value| bytes.end().map(|()| value));
        value.map_err(|_: Failure| Failure::expected("a list of bytes that fits its type"))
    }
}

/// Numbers, each named by its own type.
macro_rules! parsed {
    ($($method:ident => $visit:ident: $type:ty, $what:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            visitor.$visit(self.parse::<$type>(concat!($what, " (", stringify!($type), ")"))?)
        }
    )*};
}

/// What would need parts that a value does not have.
macro_rules! without_parts {
    ($($method:ident($($argument:ty),*), $what:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $argument,)* _: V) -> Result<V::Value, Failure> {
            Err(Failure::new(Problem::NoParts($what)))
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Failure;

    parsed! {
        deserialize_i8 => visit_i8: i8, "a whole number in range";
        deserialize_i16 => visit_i16: i16, "a whole number in range";
        deserialize_i32 => visit_i32: i32, "a whole number in range";
        deserialize_i64 => visit_i64: i64, "a whole number in range";
        deserialize_i128 => visit_i128: i128, "a whole number in range";
        deserialize_u8 => visit_u8: u8, "a whole number in range";
        deserialize_u16 => visit_u16: u16, "a whole number in range";
        deserialize_u32 => visit_u32: u32, "a whole number in range";
        deserialize_u64 => visit_u64: u64, "a whole number in range";
        deserialize_u128 => visit_u128: u128, "a whole number in range";
        deserialize_f32 => visit_f32: f32, "a number";
        deserialize_f64 => visit_f64: f64, "a number";
    }

    without_parts! {
        deserialize_unit(), "a unit";
        deserialize_unit_struct(&'static str), "a unit struct";
        deserialize_tuple_struct(&'static str, usize), "a tuple struct";
        deserialize_map(), "a map";
        deserialize_struct(&'static str, &'static [&'static str]), "a struct";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.0.expose_str() {
            Ok(text) => visitor.visit_borrowed_str(text),
            Err(_) => self.deserialize_bytes(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_bool(self.parse("`true` or `false`")?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_char(self.character()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_borrowed_bytes(self.0.expose())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_bytes(visitor)
    }

    /// A key that is there is `Some`, even if the value is empty.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.bytes(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.bytes(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_enum(BorrowedStrDeserializer::new(self.word()?))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }
}

#[cfg(test)]
mod tests;
