//! The unit for systemd. What systemd itself says to it is asked in `tests/ship/systemd.sh`.

use super::command::Call;
use super::{checked, text};

const UNIT: &str = "systemd/app.service";

/// The values of a setting of the unit, with continued lines joined.
pub fn values(setting: &str) -> Vec<String> {
    let text = text(UNIT).replace("\\\n", " ");
    let lines = text.lines().filter_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    lines.map(str::to_owned).collect()
}

/// What the unit runs, with this directory of credentials.
pub fn call(credentials: &str) -> Call {
    let [line] = values("ExecStart").try_into().expect("one ExecStart");
    let line = line.replace("${CREDENTIALS_DIRECTORY}", credentials);
    let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    Call::of_line(&words).expect("secretwatch is run")
}

#[test]
fn every_setting_in_the_unit_exists() {
    let call = call("/run/credentials/app.service");
    checked(&call).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(call.args.iter().filter(|arg| *arg == "--").count(), 1);
}

#[test]
fn required_credential_is_loaded() {
    let required = call("/c").values("require");
    for credential in values("LoadCredential") {
        let (name, _) = credential.split_once(':').unwrap();
        assert!(required.contains(&format!("start:{name}")), "{required:?}");
    }
    assert_eq!(values("LoadCredential").len(), 1);
}

#[test]
fn unit_makes_the_directory_of_the_socket() {
    let [directory] = values("RuntimeDirectory").try_into().unwrap();
    let socket: String = directory;
    assert_eq!(call("/c").socket(), format!("/run/{socket}/secretwatch.sock"));
}
