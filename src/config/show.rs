//! Shows a configuration as the file that would mean the same. It holds paths and rules, and no
//! secret: even the token is only a path here.

use std::fmt::{self, Display};
use std::path::Path;

use humantime::format_duration;

use super::{ActionConfig, Config, LogFormat, OnRotation, RunConfig, TargetConfig, VolumeConfig};
use crate::builder::Detector;
use crate::name::KeyName;
use crate::process::SignalName;
use crate::reload::Receiver;

impl Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "detector = {}", quoted(detector(self.detector)))?;
        writeln!(f, "poll_interval = {}", quoted(&format_duration(self.poll_interval)))?;
        writeln!(f, "socket = {}", path(&self.socket))?;
        writeln!(f, "socket_mode = \"{:04o}\"", self.socket_mode)?;
        writeln!(f, "allow_uid = {:?}", self.allow_uid)?;
        writeln!(f, "allow_gid = {:?}", self.allow_gid)?;
        match &self.token_file {
            Some(file) => writeln!(f, "token_file = {}", path(file))?,
            None => writeln!(f, "# token_file: no token is asked for")?,
        }
        writeln!(f, "max_connections = {}", self.max_connections)?;
        match &self.metrics_addr {
            Some(address) => writeln!(f, "metrics_addr = {}", quoted(address))?,
            None => writeln!(f, "# metrics_addr: nothing listens on TCP")?,
        }
        writeln!(f, "log_format = {}", quoted(log_format(self.log_format)))?;
        writeln!(f, "log_level = {}", quoted(&self.log_level))?;
        writeln!(f, "shutdown_timeout = {}", quoted(&format_duration(self.shutdown_timeout)))?;
        writeln!(f, "adoption_expiry = {}", quoted(&format_duration(self.adoption_expiry)))?;
        writeln!(f, "splay = {}", quoted(&format_duration(self.splay)))?;
        self.run.fmt(f)?;
        self.volumes.iter().try_for_each(|volume| volume.fmt(f))?;
        self.targets.iter().try_for_each(|target| target.fmt(f))
    }
}

impl Display for RunConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env: Vec<_> = self.env.iter().map(quoted).collect();
        let env_from: Vec<_> = self.env_from.iter().map(quoted).collect();
        writeln!(f, "\n[run]")?;
        match self.on_rotation {
            OnRotation::Nothing => writeln!(f, "# signal, restart: the command asks by itself")?,
            OnRotation::Signal(signal) => writeln!(f, "signal = {}", quoted(&SignalName(signal)))?,
            OnRotation::Restart => writeln!(f, "restart = true")?,
        }
        writeln!(f, "stop_grace = {}", quoted(&format_duration(self.stop_grace)))?;
        writeln!(f, "start_timeout = {}", quoted(&format_duration(self.start_timeout)))?;
        writeln!(f, "env = [{}]", env.join(", "))?;
        writeln!(f, "env_from = [{}]", env_from.join(", "))
    }
}

impl Display for VolumeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let require: Vec<_> = self.require.iter().map(KeyName::as_str).map(quoted).collect();
        writeln!(f, "\n[[volume]]")?;
        writeln!(f, "name = {}", quoted(&self.name))?;
        writeln!(f, "path = {}", path(&self.path))?;
        writeln!(f, "require = [{}]", require.join(", "))?;
        writeln!(f, "max_bytes = {}", self.max_bytes)?;
        writeln!(f, "allow_empty = {}", self.allow_empty)
    }
}

impl Display for TargetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = &self.rules;
        writeln!(f, "\n[[target]]")?;
        writeln!(f, "name = {}", quoted(&rules.name))?;
        writeln!(f, "volumes = {}", list(&rules.volumes))?;
        writeln!(f, "keys = {}", list(&rules.keys))?;
        for (key, time) in [
            ("splay", rules.splay),
            ("retry_min", rules.retry_min),
            ("retry_max", rules.retry_max),
            ("timeout", rules.timeout),
            ("merge", rules.merge),
        ] {
            writeln!(f, "{key} = {}", quoted(&format_duration(time)))?;
        }
        writeln!(f, "first = {}", rules.first)?;
        match &self.action {
            ActionConfig::Signal { receiver, signal } => {
                writeln!(f, "signal = {}", quoted(&SignalName(*signal)))?;
                match receiver {
                    Receiver::PidFile(file) => writeln!(f, "pid_file = {}", path(file)),
                    Receiver::Named { name, which } => {
                        writeln!(f, "process = {}", quoted(name))?;
                        writeln!(f, "which = {}", quoted(which.as_str()))
                    }
                }
            }
            ActionConfig::Http { url, method, headers_file, expect, body } => {
                writeln!(f, "http = {}", quoted(url))?;
                writeln!(f, "method = {}", quoted(method))?;
                if let Some(file) = headers_file {
                    writeln!(f, "headers_file = {}", path(file))?;
                }
                let ranges =
                    expect.iter().map(|range| format!("{}-{}", range.start(), range.end()));
                writeln!(f, "expect = {}", list(&ranges.collect::<Vec<_>>()))?;
                writeln!(f, "body = {body}")
            }
            ActionConfig::Exec { argv } => writeln!(f, "exec = {}", list(argv)),
        }
    }
}

fn list(items: &[impl Display]) -> String {
    format!("[{}]", items.iter().map(quoted).collect::<Vec<_>>().join(", "))
}

fn detector(detector: Detector) -> &'static str {
    match detector {
        Detector::Auto => "auto",
        Detector::Poll => "poll",
    }
}

fn log_format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}

/// What is not UTF-8 cannot be written in TOML and is shown approximately.
fn path(path: &Path) -> String {
    quoted(&path.display())
}

/// A TOML string. Control characters are escaped, so that no path can forge a line.
fn quoted(text: &(impl Display + ?Sized)) -> String {
    let mut quoted = String::from("\"");
    for c in text.to_string().chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
