//! The secretwatch commands in a template, and what their settings say.

use std::collections::BTreeMap;

use serde_yaml_ng::Value;

use super::manifest::{items, words};

/// One call of secretwatch: subcommand, arguments and variables.
#[derive(Debug, Clone)]
pub struct Call {
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
}

impl Call {
    /// What a container runs, where that is secretwatch.
    pub fn of_container(container: &Value) -> Option<Self> {
        let image = container["image"].as_str().unwrap_or_default();
        let mut line = words(&container["command"]);
        if line.is_empty() && image.contains("/secretwatch:") {
            line.push("/secretwatch".to_owned());
        }
        line.extend(words(&container["args"]));
        if line.starts_with(&["/bin/sh".to_owned(), "-c".to_owned()]) {
            line = line.get(2)?.split_whitespace().map(str::to_owned).collect();
            line.retain(|word| word != "exec");
        }
        Some(Self { env: variables(container), ..Self::of_line(&line)? })
    }

    /// A command line that begins with a path of secretwatch.
    pub fn of_line(line: &[String]) -> Option<Self> {
        let (program, args) = line.split_first()?;
        let is_secretwatch = program.rsplit('/').next() == Some("secretwatch");
        is_secretwatch.then(|| Self { args: args.to_vec(), env: BTreeMap::new() })
    }

    pub fn subcommand(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    /// The arguments between the subcommand and the command of the app.
    pub fn settings(&self) -> Vec<String> {
        self.args.iter().skip(1).take_while(|arg| *arg != "--").cloned().collect()
    }

    /// The values of a setting, from flags and the variable.
    pub fn values(&self, flag: &str) -> Vec<String> {
        let prefix = format!("--{flag}=");
        let flags = self.settings().into_iter();
        let mut values: Vec<_> =
            flags.filter_map(|arg| arg.strip_prefix(&prefix).map(str::to_owned)).collect();
        let variable = format!("SECRETWATCH_{}", flag.to_uppercase().replace('-', "_"));
        if let Some(list) = self.env.get(&variable) {
            values.extend(list.split(',').map(str::to_owned));
        }
        values
    }

    /// The watched directories.
    pub fn directories(&self) -> Vec<String> {
        let volumes = self.values("volume").into_iter();
        volumes.map(|v| v.rsplit('=').next().unwrap_or_default().to_owned()).collect()
    }

    /// The port of `--metrics-addr`.
    pub fn metrics_port(&self) -> Option<u64> {
        self.values("metrics-addr").first()?.rsplit(':').next()?.parse().ok()
    }

    pub fn socket(&self) -> String {
        let given = self.values("socket").pop();
        given.unwrap_or_else(|| "/run/secretwatch/secretwatch.sock".to_owned())
    }
}

/// The variables of secretwatch that a container has.
fn variables(container: &Value) -> BTreeMap<String, String> {
    let pairs = items(&container["env"]).iter().filter_map(|variable| {
        Some((variable["name"].as_str()?.to_owned(), variable["value"].as_str()?.to_owned()))
    });
    pairs.filter(|(name, _)| name.starts_with("SECRETWATCH_")).collect()
}

/// The commands of the probes of a container.
pub fn probes(container: &Value) -> Vec<Call> {
    let probes =
        super::rules::PROBES.iter().map(|probe| words(&container[*probe]["exec"]["command"]));
    probes.filter_map(|line| Call::of_line(&line)).collect()
}
