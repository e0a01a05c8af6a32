//! Values of every kind, and errors that must not show them.

use super::*;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU16;

use proptest::prelude::*;
use serde::Deserialize;

use crate::snapshot::tests::snapshot;
use crate::snapshot::{Contents, Label};

/// Long and unlike anything else, so that no part of it turns up by chance.
const CANARY: &str = "canary-7f3a9d51c0e84b26";

fn of_bytes(key: &str, value: &[u8]) -> Snapshot {
    let mut contents = Contents::default();
    contents.insert(key.parse().unwrap(), Secret::new(value.to_vec()));
    let label = Label {
        volume: "db".parse().unwrap(),
        boot: "boot".into(),
        generation: 1,
        published_at: None,
        observed_at: std::time::SystemTime::UNIX_EPOCH,
    };
    Snapshot::new(label, contents)
}

/// A struct with the one key `x`.
#[derive(Debug, Deserialize)]
struct Just<T> {
    x: T,
}

fn just<T: DeserializeOwned>(value: impl AsRef<[u8]>) -> Result<T, DeserializeError> {
    of_bytes("x", value.as_ref()).deserialize::<Just<T>>().map(|just| just.x)
}

fn error<T: DeserializeOwned + fmt::Debug>(value: impl AsRef<[u8]>) -> String {
    let error = just::<T>(value).unwrap_err();
    assert_eq!(error.key(), Some("x"));
    error.to_string()
}

#[test]
fn keys_become_fields_of_their_types() {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Database {
        user_name: String,
        port: u16,
        use_tls: bool,
        ratio: Option<f64>,
        absent: Option<String>,
        #[serde(default)]
        retries: u8,
        #[serde(rename = "db/password")]
        password: String,
    }
    let all = [
        ("db/password", "p w\n"),
        ("ignored", "x"),
        ("port", "5432\n"),
        ("ratio", " -1.5e3 "),
        ("use-tls", "true\r\n"),
        ("user-name", "app"),
    ];
    let database: Database = snapshot(1, all).deserialize().unwrap();
    assert_eq!(database.user_name, "app");
    assert_eq!((database.port, database.use_tls), (5432, true));
    assert_eq!(database.ratio, Some(-1500.0));
    assert_eq!((database.absent, database.retries), (None, 0));
    assert_eq!(database.password, "p w\n", "text is not trimmed");
}

#[test]
fn bytes_need_not_be_text() {
    struct Bytes(Vec<u8>);
    impl<'de> Deserialize<'de> for Bytes {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Own;
            impl Visitor<'_> for Own {
                type Value = Bytes;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("bytes")
                }
                fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                    Ok(Bytes(bytes.to_vec()))
                }
            }
            deserializer.deserialize_byte_buf(Own)
        }
    }
    let value = [0xff, 0x00, b'x'];
    assert_eq!(just::<Bytes>(value).unwrap().0, value);
    assert_eq!(just::<Vec<u8>>(value).unwrap(), value);
    assert_eq!(just::<[u8; 3]>(value).unwrap(), value);
    assert_eq!(just::<Option<Vec<u8>>>(value).unwrap(), Some(value.to_vec()));
    assert_eq!(just::<Vec<u8>>("").unwrap(), Vec::<u8>::new());
    let text = "key `x` of volume `db` is not a list of bytes that fits its type";
    assert_eq!(error::<[u8; 2]>(value), text);
    assert_eq!(error::<[u8; 4]>(value), text);
    assert_eq!(error::<Vec<String>>("a,b"), text);
}

#[test]
fn enums_without_data_newtypes_and_characters_are_read() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Mode {
        Prefer,
        VerifyFull,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Port(u16);
    assert_eq!(just::<Mode>("verify-full\n").unwrap(), Mode::VerifyFull);
    assert_eq!(just::<Option<Mode>>("prefer").unwrap(), Some(Mode::Prefer));
    assert_eq!(just::<Port>("1\n").unwrap(), Port(1));
    assert_eq!(just::<char>("ü\n").unwrap(), 'ü');
    assert_eq!(just::<char>("\n").unwrap(), '\n');
    assert_eq!(error::<Mode>(CANARY), "key `x` of volume `db` is not one of: prefer, verify-full");
}

#[test]
fn maps_and_flattened_fields_get_what_is_left() {
    #[derive(Deserialize)]
    struct Login {
        user: String,
        token: Option<String>,
    }
    #[derive(Deserialize)]
    struct All {
        port: u16,
        #[serde(flatten)]
        login: Login,
        #[serde(flatten)]
        rest: HashMap<String, String>,
    }
    let source = snapshot(1, [("a/b", "1"), ("port", "5432"), ("user", "app")]);
    let all: All = source.deserialize().unwrap();
    assert_eq!((all.port, all.login.user.as_str(), all.login.token), (5432, "app", None));
    assert_eq!(all.rest["a/b"], "1");
    let map: BTreeMap<String, String> = source.deserialize().unwrap();
    assert_eq!(map.len(), 3);
    let numbers: BTreeMap<String, u16> =
        snapshot(1, [("a", "1"), ("b", "2")]).deserialize().unwrap();
    assert_eq!(numbers["b"], 2);
}

#[test]
fn errors_name_the_key_and_what_was_expected() {
    #[derive(Debug, Deserialize)]
    struct Inner {
        #[expect(dead_code, reason = "it is never made")]
        y: String,
    }
    let key = "key `x` of volume `db`";
    assert_eq!(error::<u16>("65536"), format!("{key} is not a whole number in range (u16)"));
    assert_eq!(error::<i8>(""), format!("{key} is not a whole number in range (i8)"));
    assert_eq!(error::<f64>("1,5"), format!("{key} is not a number (f64)"));
    assert_eq!(error::<bool>("yes"), format!("{key} is not `true` or `false`"));
    assert_eq!(error::<char>("ab"), format!("{key} is not one character"));
    assert_eq!(error::<String>([0xff]), format!("{key} is not UTF-8 text"));
    assert_eq!(error::<NonZeroU16>("0"), format!("{key} is refused by its type"));
    assert_eq!(error::<Inner>("{}"), format!("{key} cannot become a struct: a value has no parts"));
    assert_eq!(
        error::<HashMap<String, String>>(""),
        format!("{key} cannot become a map: a value has no parts")
    );
    assert_eq!(error::<()>(""), format!("{key} cannot become a unit: a value has no parts"));
}

#[test]
fn absent_unknown_and_doubled_keys_are_named() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(rename = "user", alias = "login")]
        _user: String,
    }
    let failed = |pairs: &[(&'static str, &'static str)], generation| {
        let error =
            snapshot(generation, pairs.iter().copied()).deserialize::<Strict>().unwrap_err();
        (error.key().unwrap().to_owned(), error.is_missing_key(), error.to_string())
    };
    let (key, is_missing, text) = failed(&[], 1);
    assert_eq!((key.as_str(), is_missing), ("user", true));
    assert_eq!(text, "volume `db` has no key `user`");
    assert!(failed(&[], 0).2.ends_with("nothing has been accepted yet"));
    let (key, is_missing, text) = failed(&[("other", CANARY)], 1);
    assert_eq!((key.as_str(), is_missing), ("other", false));
    assert_eq!(text, "key `other` of volume `db` is not known to the type");
    let (_, _, text) = failed(&[("login", "a"), ("user", "b")], 1);
    assert_eq!(text, "key `user` of volume `db` is there under more than one of its names");
}

/// Puts the value into every error that serde lets a type make.
#[derive(Debug)]
struct Hostile<const HOW: usize>;

impl<'de, const HOW: usize> Deserialize<'de> for Hostile<HOW> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use de::Error;
        let value = String::deserialize(deserializer)?;
        let text = value.as_str();
        Err(match HOW {
            0 => D::Error::custom(text),
            1 => D::Error::invalid_type(de::Unexpected::Str(text), &text),
            2 => D::Error::invalid_value(de::Unexpected::Other(text), &text),
            3 => D::Error::invalid_length(1, &text),
            4 => D::Error::unknown_variant(text, &["a"]),
            5 => D::Error::unknown_field(text, &["a"]),
            6 => D::Error::missing_field("field"),
            _ => D::Error::duplicate_field("field"),
        })
    }
}

/// The same for errors that are made where no key is known: after the whole map was read.
#[derive(Debug)]
struct HostileMap<const HOW: usize>;

impl<'de, const HOW: usize> Deserialize<'de> for HostileMap<HOW> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, String>::deserialize(deserializer)?;
        let value = BorrowedStrDeserializer::<D::Error>::new(&map["x"]);
        Hostile::<HOW>::deserialize(value).map(|_| Self)
    }
}

fn shown<T: DeserializeOwned + fmt::Debug>(source: &Snapshot) -> Option<String> {
    let error = source.deserialize::<T>().err()?;
    let sources = std::iter::successors(std::error::Error::source(&error), |e| e.source());
    Some(format!("{error} {error:?} {error:#?} {}", sources.count()))
}

#[test]
fn hostile_type_cannot_put_a_value_into_the_error() {
    fn check<const HOW: usize>() {
        let source = of_bytes("x", CANARY.as_bytes());
        for text in [shown::<Just<Hostile<HOW>>>(&source), shown::<HostileMap<HOW>>(&source)] {
            let text = text.expect("a hostile type always fails");
            assert!(!text.contains("canary") && !text.contains("7f3a"), "{HOW}: {text}");
        }
        assert_eq!(source.deserialize::<Just<Hostile<HOW>>>().unwrap_err().key(), Some("x"));
    }
    check::<0>();
    check::<1>();
    check::<2>();
    check::<3>();
    check::<4>();
    check::<5>();
    check::<6>();
    check::<7>();
}

#[derive(Debug, Deserialize)]
enum Any {
    #[serde(rename = "unit")]
    _Unit,
    #[serde(rename = "data")]
    #[expect(dead_code, reason = "it is never made")]
    Data(String),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "x")]
enum Tagged {
    #[serde(rename = "one")]
    _One { _y: String },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Untagged {
    _Number { _x: u16 },
    _List { _x: Vec<u16> },
}

#[derive(Debug, Deserialize)]
struct Flat {
    #[serde(flatten)]
    _just: Just<u16>,
}

/// What a value can be asked to become: as a field, and as the whole.
fn all_errors(source: &Snapshot) -> Vec<String> {
    macro_rules! fields {
        ($($type:ty),* $(,)?) => { [$(shown::<Just<$type>>(source)),*] };
    }
    let fields = fields![
        bool, i8, i16, i32, i64, i128, u8, u16, u32, u64, u128, f32, f64, char, String, (),
        Vec<u8>, Vec<String>, Vec<Vec<u8>>, [u8; 4], (u8, u8), Option<u8>, Option<Vec<u8>>, Any,
        Tagged, Untagged, Flat, Just<String>, HashMap<String, String>, std::path::PathBuf,
        std::ffi::CString, std::net::IpAddr, std::net::SocketAddr, std::time::Duration, NonZeroU16,
        std::num::Wrapping<u8>, Result<u8, u8>, std::ops::Range<u8>, de::IgnoredAny, Hostile<0>,
        Hostile<4>,
    ];
    let wholes = [
        shown::<Flat>(source),
        shown::<Tagged>(source),
        shown::<Untagged>(source),
        shown::<Any>(source),
        shown::<String>(source),
        shown::<Vec<u8>>(source),
        shown::<Option<Just<u8>>>(source),
        shown::<HashMap<String, u8>>(source),
        shown::<HashMap<u8, String>>(source),
        shown::<()>(source),
    ];
    fields.into_iter().chain(wholes).flatten().collect()
}

#[test]
fn no_type_at_all_shows_a_text() {
    let errors = all_errors(&of_bytes("x", CANARY.as_bytes()));
    assert!(errors.len() > 35, "{}", errors.len());
    for text in errors {
        assert!(!text.contains("canary") && !text.contains("7f3a"), "{text}");
    }
}

proptest! {
    #[test]
    fn numbers_round_trip(signed: i64, unsigned: u128, port: u16, float in proptest::num::f64::NORMAL) {
        prop_assert_eq!(just::<i64>(format!("{signed}\n")).unwrap(), signed);
        prop_assert_eq!(just::<u128>(unsigned.to_string()).unwrap(), unsigned);
        prop_assert_eq!(just::<u16>(format!(" {port} ")).unwrap(), port);
        prop_assert_eq!(just::<f64>(format!("{float:?}")).unwrap(), float);
        prop_assert_eq!(just::<u16>(signed.to_string()).ok(), u16::try_from(signed).ok());
    }

    #[test]
    fn booleans_are_two_words(text in "[ \n]?(true|false|[a-zA-Z01]{0,5})[ \n]?") {
        prop_assert_eq!(just::<bool>(&text).ok(), text.trim().parse().ok());
    }

    #[test]
    fn text_is_taken_as_it_is(text in any::<String>()) {
        prop_assert_eq!(just::<String>(&text).unwrap(), text.as_str());
        prop_assert_eq!(just::<Option<String>>(&text).unwrap(), Some(text));
    }

    #[test]
    fn bytes_are_taken_as_they_are(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        prop_assert_eq!(just::<Vec<u8>>(&bytes).unwrap(), bytes);
    }

    #[test]
    fn no_value_panics_or_shows_itself(
        before in proptest::collection::vec(any::<u8>(), 0..8),
        after in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let value = [&before[..], CANARY.as_bytes(), &after].concat();
        for text in all_errors(&of_bytes("x", &value)) {
            prop_assert!(!text.contains("canary") && !text.contains("7f3a"), "{text}");
        }
        // Without the canary nothing can be looked for, but nothing may panic either.
        all_errors(&of_bytes("x", &before));
    }

    #[test]
    fn number_never_shows_itself(number in 10_000_000_000_000_000_000u128..) {
        let digits = number.to_string();
        for text in all_errors(&of_bytes("x", digits.as_bytes())) {
            prop_assert!(!text.contains(&digits), "{text}");
        }
    }
}
