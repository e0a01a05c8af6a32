//! A volume on the page: a card.

use std::fmt::{self, Formatter};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::time::{Ago, Hop, Span, Stamp};
use super::{Badge, Text, Tone};
use crate::adoption::{Adoption, Adoptions};
use crate::certificate::Certificate;
use crate::secrets::Volume;
use crate::snapshot::Snapshot;
use crate::status::{State, Status, Watch};

/// A certificate with less time left than this is shown as one that expires soon: those who renew
/// by themselves do so earlier.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// As many names as are worth reading on a page; `secretwatch list` has all of them.
const MAX_NAMES: usize = 200;
/// Up to so many names are shown without a click.
const OPEN_NAMES: usize = 8;

/// What is known of a volume at one moment.
pub(super) struct Facts {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) status: Arc<Status>,
    pub(super) adoptions: Adoptions,
}

/// Less time left is worse.
fn tone_of(certificate: &Certificate, now: SystemTime) -> Tone {
    match certificate.not_after.duration_since(now) {
        Ok(left) if left >= SOON => Tone::Good,
        Ok(left) if !left.is_zero() => Tone::Warn,
        _ => Tone::Bad,
    }
}

impl Facts {
    pub(super) fn of(volume: &Volume) -> Self {
        let (snapshot, status) = (volume.current(), volume.status());
        Self { snapshot, status, adoptions: volume.adoptions() }
    }

    pub(super) fn name(&self) -> &str {
        self.snapshot.volume().as_str()
    }

    pub(super) fn tone(&self) -> Tone {
        match self.status.state {
            State::Current => Tone::Good,
            State::Holding => Tone::Warn,
            State::Waiting => Tone::Bad,
        }
    }

    pub(super) fn consumers_behind(&self) -> usize {
        self.adoptions.consumers.len() - self.adoptions.adopted()
    }

    /// The tone of the certificate with the least time left.
    pub(super) fn expiry(&self, now: SystemTime) -> Tone {
        let tones = self.snapshot.certificates().iter().map(|found| tone_of(found, now));
        tones.max().unwrap_or(Tone::Good)
    }

    pub(super) fn certificates_of(&self, tone: Tone, now: SystemTime) -> usize {
        let certificates = self.snapshot.certificates().iter();
        certificates.filter(|found| tone_of(found, now) == tone).count()
    }

    fn is_ready(&self) -> bool {
        self.snapshot.generation() > 0
    }

    /// Writes the card.
    pub(super) fn write(
        &self,
        f: &mut Formatter<'_>,
        place: usize,
        now: SystemTime,
    ) -> fmt::Result {
        let (tone, state) = (self.tone(), self.status.state.as_str());
        writeln!(
            f,
            "<section class=\"card {}\" aria-labelledby=\"v{place}\">\n\
             <h2 id=\"v{place}\">{} {}</h2>",
            tone.class(),
            Text(self.name()),
            Badge(tone, state)
        )?;
        self.write_trouble(f, now)?;
        self.write_list(f, now)?;
        self.write_certificates(f, now)?;
        self.write_consumers(f, now)?;
        self.write_names(f)?;
        f.write_str("</section>\n")
    }

    fn write_trouble(&self, f: &mut Formatter<'_>, now: SystemTime) -> fmt::Result {
        let Some(trouble) = &self.status.trouble else { return Ok(()) };
        let (reason, detail) = (trouble.reason, Text(&trouble.detail));
        write!(f, "<p class=\"why\"><strong>{reason}</strong> {detail}")?;
        if let Some(age) = self.status.since.and_then(|since| now.duration_since(since).ok()) {
            write!(f, " <small>for {}</small>", Span(age))?;
        }
        let serving = match self.status.state {
            State::Holding => "The last good snapshot is served.",
            _ => "Nothing is served yet.",
        };
        writeln!(f, "<br>{serving}</p>")
    }

    fn write_list(&self, f: &mut Formatter<'_>, now: SystemTime) -> fmt::Result {
        let (snapshot, is_ready) = (&self.snapshot, self.is_ready());
        f.write_str("<dl>\n")?;
        if is_ready {
            let (generation, revision) = (snapshot.generation(), Text(snapshot.revision()));
            writeln!(f, "<dt>Generation</dt><dd>{generation}</dd>")?;
            writeln!(f, "<dt>Revision</dt><dd><code>{revision}</code></dd>")?;
        }
        if let Some(version) = snapshot.version() {
            writeln!(f, "<dt>Version</dt><dd>{}</dd>", Text(version))?;
        }
        if let Some(published_at) = snapshot.published_at() {
            writeln!(f, "<dt>Written</dt><dd>{}</dd>", Ago(published_at, now))?;
        }
        if is_ready {
            writeln!(f, "<dt>Accepted</dt><dd>{}", Ago(snapshot.observed_at(), now))?;
            if let Some(hop) = self.detection() {
                write!(f, " <small>{hop} after it was written</small>")?;
            }
            f.write_str("</dd>\n")?;
        }
        let watch = match self.status.watch {
            Watch::Inotify => "inotify",
            Watch::Poll => "polling",
        };
        writeln!(f, "<dt>Watch</dt><dd>{watch}</dd>\n</dl>")
    }

    /// From the write to the acceptance. What was there at the start was not detected: it may have
    /// been there for weeks.
    fn detection(&self) -> Option<Hop> {
        let snapshot = &self.snapshot;
        let published_at = snapshot.published_at().filter(|_| snapshot.generation() > 1)?;
        Hop::between(published_at, snapshot.observed_at())
    }

    fn write_certificates(&self, f: &mut Formatter<'_>, now: SystemTime) -> fmt::Result {
        if self.snapshot.certificates().is_empty() {
            return Ok(());
        }
        f.write_str(
            "<table>\n<caption>Certificates</caption>\n<thead><tr><th scope=\"col\">Key</th>\
             <th scope=\"col\">Expires in</th></tr></thead>\n<tbody>\n",
        )?;
        for certificate in self.snapshot.certificates() {
            let (key, tone) = (Text(certificate.key.as_str()), tone_of(certificate, now));
            let stamp = Stamp(certificate.not_after);
            write!(f, "<tr><th scope=\"row\"><code>{key}</code></th><td>")?;
            match certificate.not_after.duration_since(now) {
                Ok(left) if tone != Tone::Bad => write!(f, "{}", Badge(tone, Span(left)))?,
                _ => write!(f, "{}", Badge(tone, "expired"))?,
            }
            writeln!(f, " <small>{stamp}</small></td></tr>")?;
        }
        f.write_str("</tbody>\n</table>\n")
    }

    fn write_consumers(&self, f: &mut Formatter<'_>, now: SystemTime) -> fmt::Result {
        let Adoptions { consumers, lag, .. } = &self.adoptions;
        if consumers.is_empty() {
            return Ok(());
        }
        let (adopted, all) = (self.adoptions.adopted(), consumers.len());
        write!(f, "<table>\n<caption>Consumers <small>{adopted} of {all} use this revision")?;
        if self.consumers_behind() > 0 {
            write!(f, ", behind for {}", Span(*lag))?;
        }
        f.write_str(
            "</small></caption>\n<thead><tr><th scope=\"col\">Consumer</th>\
             <th scope=\"col\">Uses</th><th scope=\"col\">Since</th></tr></thead>\n<tbody>\n",
        )?;
        consumers.iter().try_for_each(|consumer| self.write_consumer(f, consumer, now))?;
        f.write_str("</tbody>\n</table>\n")
    }

    fn write_consumer(
        &self,
        f: &mut Formatter<'_>,
        consumer: &Adoption,
        now: SystemTime,
    ) -> fmt::Result {
        let (tone, word) =
            if consumer.is_current { (Tone::Good, "current") } else { (Tone::Warn, "behind") };
        let (name, generation) = (Text(consumer.consumer.as_str()), consumer.generation);
        let age = now.duration_since(consumer.adopted_at).unwrap_or_default();
        write!(
            f,
            "<tr><th scope=\"row\">{name}</th><td>{} <small>generation {generation}</small></td>\
             <td>{} ago",
            Badge(tone, word),
            Span(age)
        )?;
        let hop = Hop::between(self.snapshot.observed_at(), consumer.adopted_at);
        if let Some(hop) = hop.filter(|_| consumer.is_current) {
            write!(f, " <small>{hop} after acceptance</small>")?;
        }
        f.write_str("</td></tr>\n")
    }

    fn write_names(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (count, skipped) = (self.snapshot.len(), &self.status.skipped);
        if self.is_ready() {
            let open = if count <= OPEN_NAMES { " open" } else { "" };
            let noun = if count == 1 { "key" } else { "keys" };
            write!(f, "<details{open}>\n<summary>{count} {noun}</summary>\n<ul class=\"names\">")?;
            for key in self.snapshot.keys().take(MAX_NAMES) {
                write!(f, "<li><code>{}</code></li>", Text(key.as_str()))?;
            }
            if count > MAX_NAMES {
                write!(f, "<li>and {} more</li>", count - MAX_NAMES)?;
            }
            f.write_str("</ul>\n</details>\n")?;
        }
        if !skipped.is_empty() {
            f.write_str("<p class=\"skipped\">Left out, because they cannot be keys:")?;
            for entry in skipped {
                write!(f, " <code>{}</code>", Text(entry))?;
            }
            f.write_str("</p>\n")?;
        }
        Ok(())
    }
}
