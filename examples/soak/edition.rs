//! The contents of a volume, all of which follow from one number.

use std::collections::BTreeMap;

use secretwatch::kubelet::Payload;

/// Without this key the contents are to be rejected.
pub const REQUIRED: &str = "a";
/// Most of the bytes, so that a snapshot that is never freed weighs something.
const PADDING: &str = "padding";
/// Sixteen bytes, so many times: 25 KiB on average.
const PADDINGS: std::ops::Range<u64> = 64..3_136;
/// Keys that come and go.
pub const EXTRAS: [&str; 3] = ["extra-0", "sub/extra-1", "extra-2"];

/// What a snapshot weighs on average.
pub const MEAN_KIB: u64 = (PADDINGS.start + PADDINGS.end) / 2 * 16 / 1024;

pub type Values = BTreeMap<String, Vec<u8>>;

/// All keys with their values.
pub fn values(number: u64) -> Values {
    let text = number.to_string();
    // Any bits will do that look unlike those of the number before.
    let bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let times = PADDINGS.start + (bits >> 32) % (PADDINGS.end - PADDINGS.start);
    let fixed = [REQUIRED, "b", "sub/c", secretwatch::VERSION_KEY];
    let extras = EXTRAS.into_iter().enumerate().filter(|(at, _)| bits >> (60 + at) & 1 == 1);
    let keys = fixed.into_iter().chain(extras.map(|(_, key)| key));
    let mut values: Values = keys.map(|key| (key.to_owned(), text.clone().into_bytes())).collect();
    let padding = format!("{number:016}").repeat(usize::try_from(times).unwrap());
    values.insert(PADDING.to_owned(), padding.into_bytes());
    values
}

pub fn payload(number: u64) -> Payload {
    values(number)
        .into_iter()
        .fold(Payload::new(), |payload, (key, value)| payload.with(key, value))
}

/// The number that all of these values follow from, or what speaks against that.
pub fn number(found: &Values) -> Result<u64, String> {
    let claimed = found.get(REQUIRED).and_then(|value| std::str::from_utf8(value).ok());
    let claimed: Option<u64> = claimed.and_then(|text| text.parse().ok());
    match claimed {
        Some(number) if *found == values(number) => Ok(number),
        _ => Err(describe(found)),
    }
}

/// Whether the keys are those of the number.
pub fn has_keys<'a>(number: u64, keys: impl Iterator<Item = &'a str>) -> bool {
    keys.eq(values(number).keys().map(String::as_str))
}

/// The highest number that is in any of these values.
pub fn newest(found: &Values) -> Option<u64> {
    let texts = found
        .values()
        .filter_map(|value| std::str::from_utf8(value.get(..16).unwrap_or(value)).ok());
    texts.filter_map(|text| text.parse().ok()).max()
}

fn describe(found: &Values) -> String {
    let short =
        |value: &Vec<u8>| String::from_utf8_lossy(value.get(..16).unwrap_or(value)).into_owned();
    let all: Vec<_> = found.iter().map(|(key, value)| format!("{key}={}", short(value))).collect();
    all.join(" ")
}
