//! Certificates among the values of a volume, and when they expire.
//!
//! A value that has a certificate in PEM is recognised by what is in it, whatever its key is called.
//! Where there are several, as in a chain, the first one counts: servers send their own certificate
//! before those of the authorities.
//!
//! How it works. Values are files from elsewhere, so nothing in them is believed: only the first
//! [`SEARCHED_BYTES`] are searched for the line that begins a certificate, at most
//! [`MAX_PEM_BYTES`] after it are decoded, and at most [`MAX_CERTIFICATES`] keys of a volume are
//! looked into. Of the certificate, only the path to the end of its validity is walked. No byte of a
//! value gets further than the stack and two buffers that are wiped.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, SliceReader, Tag, Tagged};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::name::{KeyName, VolumeName};
use crate::secret::Secret;

#[cfg(test)]
mod tests;

/// The most keys of a volume that are looked at as certificates, in the order of their names: each
/// is a metric series. Those beyond have none, and a line of the log says so.
pub const MAX_CERTIFICATES: usize = 32;

/// How far into a value its first certificate may begin: behind the private key that some servers
/// want in the same file, or behind the description that tools write before it.
const SEARCHED_BYTES: usize = 8 * 1024;
/// The longest certificate in PEM. Usual ones have 2 KiB, those with hundreds of names 30.
const MAX_PEM_BYTES: usize = 64 * 1024;

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// The version of a certificate, which comes first where there is one: `[0]`.
const VERSION: Tag = Tag::ContextSpecific { constructed: true, number: der::TagNumber(0) };

/// A key whose value has a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// The name of the key.
    pub key: KeyName,
    /// When the first certificate of the value expires.
    pub not_after: SystemTime,
}

/// Why a value that seems to have a certificate has no expiry. Nothing of the value is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
enum Unreadable {
    #[error("its last line is missing, or more than {MAX_PEM_BYTES} bytes away from its first one")]
    End,
    #[error("what is between its first and last line is not base64")]
    Base64,
    #[error("it is not a certificate as RFC 5280 has it")]
    Der,
}

/// The certificates among these values.
pub(crate) fn find<'a>(
    volume: &VolumeName,
    values: impl IntoIterator<Item = (&'a KeyName, &'a Secret)>,
) -> Vec<Certificate> {
    let mut certificates = Vec::new();
    let pems = values.into_iter().filter_map(|(key, value)| Some((key, pem(value.expose())?)));
    for (place, (key, pem)) in pems.enumerate() {
        if place == MAX_CERTIFICATES {
            tracing::warn!(
                %volume,
                first_left_out = %key,
                "more than {MAX_CERTIFICATES} keys have a certificate; those beyond show no expiry"
            );
            break;
        }
        match not_after(pem) {
            Ok(not_after) => certificates.push(Certificate { key: key.clone(), not_after }),
            Err(error) => tracing::debug!(%volume, %key, %error, "a certificate cannot be read"),
        }
    }
    certificates
}

/// What follows the line that begins the first certificate of a value.
fn pem(value: &[u8]) -> Option<&[u8]> {
    let searched = &value[..value.len().min(SEARCHED_BYTES)];
    let is_begin = |&at: &usize| {
        let is_line = at == 0 || searched[at - 1].is_ascii_whitespace();
        is_line && searched[at..].starts_with(BEGIN)
    };
    let at = dashes(searched).find(is_begin)?;
    Some(&value[at + BEGIN.len()..])
}

/// Where there is a hyphen. All that is searched for begins with one, and base64 has none, so long
/// values cost one comparison a byte.
fn dashes(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'-').map(|(at, _)| at)
}

fn not_after(pem: &[u8]) -> Result<SystemTime, Unreadable> {
    let pem = &pem[..pem.len().min(MAX_PEM_BYTES)];
    let end = dashes(pem).next().filter(|&at| pem[at..].starts_with(END));
    let text = &pem[..end.ok_or(Unreadable::End)?];
    let mut base64 = Zeroizing::new(Vec::with_capacity(text.len()));
    base64.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(Vec::with_capacity(base64::decoded_len_estimate(base64.len())));
    BASE64.decode_vec(&*base64, &mut der).map_err(|_| Unreadable::Base64)?;
    let since_1970 = validity_end(&der).map_err(|_| Unreadable::Der)?;
    Ok(SystemTime::UNIX_EPOCH + since_1970)
}

/// Walks from a certificate to the end of its validity, over what lies before it.
fn validity_end(der: &[u8]) -> der::Result<Duration> {
    let mut outside = SliceReader::new(der)?;
    let mut certificate = enter(&mut outside)?;
    let mut body = enter(&mut certificate)?;
    let mut serial = AnyRef::decode(&mut body)?;
    if serial.tag() == VERSION {
        serial = AnyRef::decode(&mut body)?;
    }
    serial.tag().assert_eq(Tag::Integer)?;
    let _signature = enter(&mut body)?;
    let _issuer = enter(&mut body)?;
    let mut validity = enter(&mut body)?;
    let _not_before = AnyRef::decode(&mut validity)?;
    let not_after = AnyRef::decode(&mut validity)?;
    match not_after.tag() {
        Tag::UtcTime => Ok(not_after.decode_as::<UtcTime>()?.to_unix_duration()),
        _ => Ok(not_after.decode_as::<GeneralizedTime>()?.to_unix_duration()),
    }
}

/// Reads over a sequence, and gives what is in it.
fn enter<'a>(reader: &mut SliceReader<'a>) -> der::Result<SliceReader<'a>> {
    let sequence = AnyRef::decode(reader)?;
    sequence.tag().assert_eq(Tag::Sequence)?;
    SliceReader::new(sequence.value())
}
