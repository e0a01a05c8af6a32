//! Those whom secretwatch tells of changes, on the page: one table.

use std::fmt::{self, Formatter};
use std::sync::Arc;
use std::time::SystemTime;

use super::time::{Hop, Span};
use super::volume::Facts;
use super::{Badge, Text, Tone};
use crate::name::VolumeName;
use crate::reload::{Board, Standing, TargetState};

/// All targets at one moment.
pub(super) struct Targets(Vec<(Arc<Board>, Standing)>);

fn tone_of(standing: &Standing) -> Tone {
    match standing.state {
        TargetState::Idle => Tone::Good,
        TargetState::Pending => Tone::Quiet,
        TargetState::Held => Tone::Warn,
        TargetState::Failing => Tone::Bad,
    }
}

impl Targets {
    pub(super) fn of(boards: &[Arc<Board>]) -> Self {
        Self(boards.iter().map(|board| (Arc::clone(board), board.standing())).collect())
    }

    pub(super) fn count(&self, tone: Tone) -> usize {
        self.0.iter().filter(|(_, standing)| tone_of(standing) == tone).count()
    }

    /// That of the worst.
    pub(super) fn tone(&self) -> Tone {
        self.0.iter().map(|(_, standing)| tone_of(standing)).max().unwrap_or(Tone::Good)
    }

    /// Writes the table, if there is anything to write.
    pub(super) fn write(
        &self,
        f: &mut Formatter<'_>,
        volumes: &[Facts],
        now: SystemTime,
    ) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_str(
            "<section class=\"card targets\" aria-labelledby=\"targets\">\n\
             <h2 id=\"targets\">Targets</h2>\n<table>\n<thead><tr><th scope=\"col\">Target</th>\
             <th scope=\"col\">State</th><th scope=\"col\">Told</th></tr></thead>\n<tbody>\n",
        )?;
        for (board, standing) in &self.0 {
            write_target(f, board, standing, volumes, now)?;
        }
        f.write_str("</tbody>\n</table>\n</section>\n")
    }
}

fn write_target(
    f: &mut Formatter<'_>,
    board: &Board,
    standing: &Standing,
    volumes: &[Facts],
    now: SystemTime,
) -> fmt::Result {
    let (name, kind) = (Text(&board.name), board.kind);
    write!(f, "<tr><th scope=\"row\">{name} <small>{kind} for ")?;
    for (place, volume) in board.volumes.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        write!(f, "{comma}{}", Text(volume.as_str()))?;
    }
    let badge = Badge(tone_of(standing), standing.state.as_str());
    write!(f, "</small></th><td>{badge}")?;
    if let Some(age) = standing.since.and_then(|since| now.duration_since(since).ok()) {
        write!(f, " <small>for {}, attempts: {}</small>", Span(age), standing.attempts)?;
    }
    f.write_str("</td><td>")?;
    match standing.last_success {
        None => f.write_str("never")?,
        Some(time) => {
            write!(f, "{} ago", Span(now.duration_since(time).unwrap_or_default()))?;
            if let Some(hop) = hop(&board.volumes, standing, volumes, time) {
                write!(f, " <small>{hop} after acceptance</small>")?;
            }
        }
    }
    f.write_str("</td></tr>\n")?;
    if let Some(detail) = &standing.detail {
        writeln!(f, "<tr class=\"detail\"><td colspan=\"3\">{}</td></tr>", Text(detail))?;
    }
    Ok(())
}

/// From the acceptance of what the target was told last; known where it is still the current one,
/// of a single volume.
fn hop(
    names: &[VolumeName],
    standing: &Standing,
    volumes: &[Facts],
    told_at: SystemTime,
) -> Option<Hop> {
    let [name] = names else { return None };
    let facts = volumes.iter().find(|facts| facts.name() == name.as_str())?;
    let is_current = standing.revision.as_deref() == Some(facts.snapshot.revision());
    is_current.then(|| Hop::between(facts.snapshot.observed_at(), told_at)).flatten()
}
