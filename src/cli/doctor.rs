//! `secretwatch doctor`: what will never update, why, and what to do about it.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::table::plain;
use super::{Exit, Failure};
use crate::config::{Draft, RawRun};
use crate::doctor::{self, Finding, Report, Severity, Socket, Subject, Volume};
use crate::duration;

pub(super) mod start;

const EXAMPLES: &str = "\
Examples:
  secretwatch doctor
  secretwatch doctor --volume db=/etc/my-generic-secret --require db:password
  secretwatch doctor --config secretwatch.toml --older-than 90d
  secretwatch doctor --volume /etc/db --restart --env-from db
  secretwatch doctor --json | jq -r '.findings[].code'

In a pod, in the container that is meant:
  kubectl exec POD -c secretwatch -- /secretwatch doctor

Without --volume it examines every mounted Secret that this container can see. It takes the
settings of serve and run, and examines what they would use: mounts by subPath, directories, links,
rights of this user, inotify and its limits, the place of the socket. It opens no key and writes
into no volume. serve and run print its warnings and errors once, when they have started.

Each finding has a code that stays the same, and a section in examples/troubleshooting/README.md.
An error never updates or cannot be used, a warning will bite, a note is good to know.
It ends with 0 where there is nothing but notes, with 7 after warnings, with 1 after errors.

What it cannot see: how other containers mount the Secret, what the app does with it, the Secret
itself (`immutable: true` looks like one that nobody changes), other pods of the node.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Doctor {
    #[command(flatten)]
    raw: RawRun,

    /// Warn of a secret that was written longer ago, such as 90d; otherwise age is no matter
    #[arg(long, value_name = "TIME", value_parser = age)]
    older_than: Option<Duration>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn age(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| "a time such as 90d or 12h is expected".to_owned())
}

impl Doctor {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let draft = Draft::load(&self.raw.0)?;
        let mut subject = Subject::new(draft.volumes().iter().map(Volume::from).collect());
        subject.socket = draft.socket().map(|path| Socket {
            path: path.to_owned(),
            is_shared: subject.is_in_pod && !draft.is_for_run(),
        });
        subject.inotify = draft.wants_inotify();
        subject.has_stale_environment = draft.has_stale_environment();
        subject.older_than = self.older_than;
        let report = doctor::examine(&subject);
        if self.json {
            json(&report, &mut io::stdout())?;
        } else {
            text(&report, &mut io::stdout())?;
        }
        Ok(exit(&report))
    }
}

fn exit(report: &Report) -> Exit {
    match report.worst() {
        None | Some(Severity::Note) => Exit::Done,
        Some(Severity::Warning) => Exit::Warned,
        Some(Severity::Error) => Exit::Negative,
    }
}

fn text(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for finding in &report.findings {
        let volume = finding.volume.as_ref().map(|name| format!(" (volume {name})"));
        let line = format!(
            "{}: {}{}\n  what: {}\n  why:  {}\n  do:   {}\n\n",
            finding.severity.as_str(),
            finding.code.as_str(),
            plain(&volume.unwrap_or_default()),
            plain(&finding.message),
            finding.code.why(),
            finding.code.advice(),
        );
        out.write_all(line.as_bytes())?;
    }
    let volumes = report.volumes.iter().map(|v| format!("{}={}", v.name, v.path.display()));
    let volumes = volumes.collect::<Vec<_>>().join(", ");
    writeln!(
        out,
        "{}, {}, {}; volumes examined: {}",
        count(report, Severity::Error),
        count(report, Severity::Warning),
        count(report, Severity::Note),
        if volumes.is_empty() { "none".to_owned() } else { plain(&volumes) },
    )
}

/// `1 error`, `2 errors`.
fn count(report: &Report, severity: Severity) -> String {
    let count = report.count(severity);
    format!("{count} {}{}", severity.as_str(), if count == 1 { "" } else { "s" })
}

#[derive(Serialize)]
struct Document<'a> {
    worst: Option<&'static str>,
    volumes: Vec<Examined<'a>>,
    findings: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Examined<'a> {
    name: &'a str,
    path: String,
}

#[derive(Serialize)]
struct Entry<'a> {
    code: &'static str,
    severity: &'static str,
    volume: Option<&'a str>,
    path: Option<String>,
    message: &'a str,
    why: &'static str,
    advice: &'static str,
}

impl<'a> From<&'a Finding> for Entry<'a> {
    fn from(finding: &'a Finding) -> Self {
        Self {
            code: finding.code.as_str(),
            severity: finding.severity.as_str(),
            volume: finding.volume.as_deref(),
            path: finding.path.as_ref().map(|path| path.display().to_string()),
            message: &finding.message,
            why: finding.code.why(),
            advice: finding.code.advice(),
        }
    }
}

/// One line, so that it can be collected like a log.
fn json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let examined = |v: &'_ Volume| v.path.display().to_string();
    let document = Document {
        worst: report.worst().map(Severity::as_str),
        volumes: report
            .volumes
            .iter()
            .map(|v| Examined { name: &v.name, path: examined(v) })
            .collect(),
        findings: report.findings.iter().map(Entry::from).collect(),
    };
    writeln!(out, "{}", serde_json::to_string(&document)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Code;

    fn report(codes: &[Code]) -> Report {
        let found = |code: &Code| Finding::new(*code, "It\nis so.").of("db").at("/etc/db");
        Report { volumes: Vec::new(), findings: codes.iter().map(found).collect() }
    }

    #[test]
    fn worst_finding_decides_the_exit_code() {
        assert_eq!(exit(&report(&[])), Exit::Done);
        assert_eq!(exit(&report(&[Code::PlainDirectory])), Exit::Done);
        assert_eq!(exit(&report(&[Code::ClockSkew, Code::PlainDirectory])), Exit::Warned);
        assert_eq!(exit(&report(&[Code::SubPath, Code::ClockSkew])), Exit::Negative);
    }

    #[test]
    fn json_has_the_documented_fields() {
        let mut out = Vec::new();
        json(&report(&[Code::SubPath]), &mut out).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(document["worst"], "error");
        let finding = document["findings"][0].as_object().unwrap();
        let fields: Vec<_> = finding.keys().map(String::as_str).collect();
        assert_eq!(fields, ["advice", "code", "message", "path", "severity", "volume", "why"]);
        assert_eq!((&finding["code"], &finding["path"]), (&"sub-path".into(), &"/etc/db".into()));
    }

    #[test]
    fn every_command_in_the_page_on_troubleshooting_is_a_valid_command_line() {
        let page = include_str!("../../examples/troubleshooting/README.md");
        let mut count = 0;
        for line in page.lines().filter(|line| line.starts_with("secretwatch ")) {
            let line = line.split(['|', '&', '#']).next().unwrap_or_default();
            let parsed = super::super::command().try_get_matches_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            count += 1;
        }
        assert!(count >= 20, "{count} commands");
    }

    #[test]
    fn nothing_in_a_message_can_forge_a_line() {
        let mut out = Vec::new();
        text(&report(&[Code::Empty]), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("warning: empty (volume db)\n  what: It\u{fffd}is so.\n"),
            "{text}"
        );
        assert!(text.ends_with("0 errors, 1 warning, 0 notes; volumes examined: none\n"), "{text}");
    }
}
