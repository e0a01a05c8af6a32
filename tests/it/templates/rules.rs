//! What a platform refuses, or what would not work there: one function a rule. A rule gives what is
//! wrong, so nothing where all is well.

use super::manifest::{Manifest, Pod};

pub mod ai_core;
pub mod kubernetes;
pub mod mount;
pub mod parameter;

/// A rule, by the name that its negative test uses.
pub type Rule = (&'static str, fn(&Manifest) -> Vec<String>);

pub const PROBES: [&str; 3] = ["startupProbe", "readinessProbe", "livenessProbe"];

/// What is wrong with a template, each with the name of its rule.
pub fn broken(rules: &[Rule], manifest: &Manifest) -> Vec<(&'static str, String)> {
    let found = |&(name, rule): &Rule| rule(manifest).into_iter().map(move |what| (name, what));
    rules.iter().flat_map(found).collect()
}

/// What is wrong with any of the pods.
fn in_pods(manifest: &Manifest, check: impl Fn(&Pod) -> Vec<String>) -> Vec<String> {
    match manifest.pods() {
        Ok(pods) => pods.iter().flat_map(check).collect(),
        // The rules about parameters say why.
        Err(_) => Vec::new(),
    }
}

/// One complaint, where there is a reason for it.
fn when(is_wrong: bool, what: impl Into<String>) -> Vec<String> {
    if is_wrong { vec![what.into()] } else { Vec::new() }
}
