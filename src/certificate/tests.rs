//! Certificates as openssl makes them, and what could be taken for one.
//!
//! The data were made once: `openssl req -x509` for the authority, `openssl x509 -req` with `-days`
//! for the rest; without extensions that gives version 1.

use super::*;
use proptest::prelude::*;

/// Served as it is: a leaf with an RSA key, then the authority, which expires years later.
const RSA_CHAIN: &str = include_str!("data/rsa-chain.pem");
const EC_V3: &str = include_str!("data/ec-v3.pem");
const EC_V1: &str = include_str!("data/ec-v1.pem");
/// From 2050 on the time has another type.
const EC_2059: &str = include_str!("data/ec-2059.pem");
const EC_9999: &str = include_str!("data/ec-9999.pem");
/// With 3 KiB of description before it.
const EC_TEXT: &str = include_str!("data/ec-text.pem");

fn expiry(value: impl AsRef<[u8]>) -> Option<Result<String, Unreadable>> {
    let not_after = not_after(pem(value.as_ref())?);
    Some(not_after.map(|time| humantime::format_rfc3339_seconds(time).to_string()))
}

fn found(values: &[(&str, &str)]) -> Vec<Certificate> {
    let values: Vec<_> = values
        .iter()
        .map(|(key, value)| (key.parse().unwrap(), Secret::new(value.as_bytes().to_vec())))
        .collect();
    find(&"tls".parse().unwrap(), values.iter().map(|(key, value)| (key, value)))
}

#[test]
fn expiry_is_that_of_the_first_certificate() {
    for (value, expected) in [
        (RSA_CHAIN, "2027-02-21T03:31:50Z"),
        (EC_V3, "2027-11-23T03:31:50Z"),
        (EC_V1, "2026-12-23T03:31:50Z"),
        (EC_2059, "2059-10-01T03:31:51Z"),
        (EC_9999, "9999-09-06T03:31:51Z"),
        (EC_TEXT, "2027-11-23T03:31:50Z"),
        (&format!("\n  {EC_V3}"), "2027-11-23T03:31:50Z"),
        (&EC_V3.replace('\n', "\r\n"), "2027-11-23T03:31:50Z"),
        (EC_V3.trim_end(), "2027-11-23T03:31:50Z"),
        (&format!("-----BEGIN X-----\nAAAA\n-----END X-----\n{EC_V1}"), "2026-12-23T03:31:50Z"),
    ] {
        assert_eq!(expiry(value), Some(Ok(expected.to_owned())), "{value}");
    }
}

#[test]
fn other_values_are_not_looked_into() {
    let far = format!("{}\n{EC_V3}", "x".repeat(SEARCHED_BYTES));
    let quoted = format!("see \"{EC_V3}\"");
    for value in ["", "-", "hunter2", "-----BEGIN PRIVATE KEY-----\nAAAA\n", &far, &quoted] {
        assert_eq!(expiry(value), None, "{value}");
    }
}

#[test]
fn broken_certificate_has_no_expiry() {
    let (first, rest) = EC_V3.split_at(BEGIN.len() + 40);
    let long = format!("{first}{}{rest}", "\n".repeat(MAX_PEM_BYTES));
    let body = |base64: &str| {
        format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
    };
    for (value, expected) in [
        (first.to_owned(), Unreadable::End),
        (long, Unreadable::End),
        (EC_V3.replace("END CERTIFICATE", "END X"), Unreadable::End),
        (body("Proc-Type: 4,ENCRYPTED"), Unreadable::End),
        (body("!"), Unreadable::Base64),
        (body("MII"), Unreadable::Base64),
        (body(""), Unreadable::Der),
        // Lengths of 2 GiB and of 16 EiB, and no definite one.
        (body("MIR/////"), Unreadable::Der),
        (body("MIj//////////w=="), Unreadable::Der),
        (body("MIAwgAAAAAA="), Unreadable::Der),
    ] {
        assert_eq!(expiry(&value), Some(Err(expected)), "{value}");
    }
}

#[test]
fn certificates_are_listed_by_key_and_the_others_left_out() {
    let broken = &EC_V3[..200];
    let found = found(&[("a", "x"), ("b.crt", EC_V1), ("c.crt", broken), ("d", RSA_CHAIN)]);
    let keys: Vec<_> = found.iter().map(|certificate| certificate.key.as_str()).collect();
    assert_eq!(keys, ["b.crt", "d"]);
    assert!(found[0].not_after < found[1].not_after);
}

#[test]
fn number_of_certificates_is_bounded() {
    let keys: Vec<_> = (100..100 + 2 * MAX_CERTIFICATES).map(|n| n.to_string()).collect();
    let values: Vec<_> = keys.iter().map(|key| (key.as_str(), EC_V1)).collect();
    assert_eq!(found(&values[..MAX_CERTIFICATES]).len(), MAX_CERTIFICATES);
    let found = found(&values);
    assert_eq!(found.len(), MAX_CERTIFICATES);
    assert_eq!(found.last().unwrap().key.as_str(), keys[MAX_CERTIFICATES - 1]);
}

fn der_of(pem: &str) -> Vec<u8> {
    let lines = pem.lines().skip(1).take_while(|line| !line.starts_with('-'));
    BASE64.decode(lines.collect::<String>()).unwrap()
}

#[test]
fn certificate_cut_off_anywhere_has_no_expiry() {
    let der = der_of(EC_V1);
    for length in 0..der.len() {
        assert!(validity_end(&der[..length]).is_err(), "{length}");
    }
    assert!(validity_end(&der).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = validity_end(&bytes);
        let base64 = BASE64.encode(&bytes);
        let pem = [BEGIN, b"\n", base64.as_bytes(), b"\n", END].concat();
        prop_assert!(!matches!(expiry(&pem), None | Some(Err(Unreadable::End | Unreadable::Base64))));
        let _ = expiry([BEGIN, &bytes, END].concat());
        let _ = expiry(&bytes);
    }

    #[test]
    fn certificate_with_other_bytes_in_it_is_survived(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut der = der_of(EC_2059);
        for (place, byte) in changes {
            let place = place.index(der.len());
            der[place] = byte;
        }
        // Whatever it says, it is a time that can be shown.
        if let Ok(since) = validity_end(&der) {
            prop_assert!(since < Duration::from_secs(253_402_300_800));
        }
    }
}
