//! The template for Docker Compose.

use serde_yaml_ng::Value;

use super::command::Call;
use super::manifest::{items, read, words};
use super::{checked, text};

fn services() -> Vec<(String, Value)> {
    let document = read(&text("compose/compose.yaml")).unwrap();
    let services = document["services"].as_mapping().unwrap().clone();
    services.into_iter().map(|(name, value)| (name.as_str().unwrap().to_owned(), value)).collect()
}

/// Entry point and command together, as Compose runs them.
pub fn call(service: &Value) -> Call {
    let line = [words(&service["entrypoint"]), words(&service["command"])].concat();
    Call::of_line(&line).expect("secretwatch is the entry point")
}

#[test]
fn every_setting_in_the_services_exists() {
    let services = services();
    assert_eq!(services.len(), 2);
    for (name, service) in services {
        let call = call(&service);
        checked(&call).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(call.args.iter().any(|arg| arg == "--"), "{name} has an app");
        let health = Call::of_line(&words(&service["healthcheck"]["test"])[1..]).unwrap();
        assert_eq!(health.args, ["healthcheck"], "{name}");
    }
}

#[test]
fn services_are_hardened_and_can_make_their_socket() {
    for (name, service) in services() {
        assert_eq!(service["user"], "65534:65534", "{name}");
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(words(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(words(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        let socket = "/run/secretwatch:uid=65534,gid=65534,mode=0700".to_owned();
        assert!(words(&service["tmpfs"]).contains(&socket), "{name}");
        assert_eq!(call(&service).socket(), "/run/secretwatch/secretwatch.sock", "{name}");
    }
}

#[test]
fn watched_directories_are_what_compose_mounts() {
    for (name, service) in services() {
        let mounted: Vec<_> = match items(&service["secrets"]) {
            [] => items(&service["volumes"])
                .iter()
                .filter(|volume| volume["read_only"] == true)
                .map(|volume| volume["target"].as_str().unwrap().to_owned())
                .collect(),
            secrets => {
                // A file mounted by itself is no news to inotify, as the README says.
                assert_eq!(call(&service).values("detector"), ["poll"], "{name}");
                let keys: Vec<_> = secrets.iter().map(|s| s["target"].as_str().unwrap()).collect();
                assert_eq!(keys, ["password"], "{name}");
                vec!["/run/secrets".to_owned()]
            }
        };
        assert_eq!(call(&service).directories(), mounted, "{name}");
    }
}

#[test]
fn published_ports_are_for_this_machine_only() {
    for (name, service) in services() {
        for port in words(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
}
