//! What is at the top: whether all is well, and if not, what to look at.

use std::fmt::{self, Display, Formatter};

use super::{Badge, Facts, Page, Text, Tone};

/// How many of everything there are, and how they are doing.
pub(super) struct Summary<'a> {
    page: &'a Page,
    current: usize,
}

impl<'a> Summary<'a> {
    pub(super) fn of(page: &'a Page) -> Self {
        let current = page.volumes.iter().filter(|facts| facts.tone() == Tone::Good).count();
        Self { page, current }
    }

    /// For the tab: fits where there is room for three words.
    pub(super) fn title(&self) -> String {
        format!("{}/{} current", self.current, self.page.volumes.len())
    }

    /// That of the worst there is.
    pub(super) fn tone(&self) -> Tone {
        if !self.page.is_alive {
            return Tone::Bad;
        }
        let volumes =
            self.page.volumes.iter().flat_map(|facts| [facts.tone(), facts.expiry(self.page.now)]);
        volumes.chain([self.page.targets.tone()]).max().unwrap_or(Tone::Good)
    }
}

/// One kind of thing that wants attention, and how many there are.
fn write_count(
    f: &mut Formatter<'_>,
    tone: Tone,
    count: usize,
    one: &str,
    many: &str,
) -> fmt::Result {
    match count {
        0 => Ok(()),
        1 => writeln!(f, "<li>{}</li>", Badge(tone, format_args!("1 {one}"))),
        _ => writeln!(f, "<li>{}</li>", Badge(tone, format_args!("{count} {many}"))),
    }
}

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Page { volumes, targets, now, is_alive, .. } = self.page;
        f.write_str("<ul class=\"summary\">\n")?;
        if !is_alive {
            let text = "the engine is stuck or has ended; restart secretwatch";
            writeln!(f, "<li>{}</li>", Badge(Tone::Bad, text))?;
        }
        let tone = if self.current == volumes.len() { Tone::Good } else { Tone::Quiet };
        let (current, all) = (self.current, volumes.len());
        writeln!(
            f,
            "<li>{}</li>",
            Badge(tone, format_args!("{current} of {all} volumes current"))
        )?;
        for (place, facts) in volumes.iter().enumerate() {
            if facts.tone() != Tone::Good {
                let state = facts.status.state.as_str();
                let name = Text(facts.name());
                let tone = facts.tone();
                write!(f, "<li>")?;
                write!(
                    f,
                    "{}",
                    Badge(tone, format_args!(r##"<a href="#v{place}">{name}</a> is {state}"##))
                )?;
                f.write_str("</li>\n")?;
            }
        }
        for tone in [Tone::Bad, Tone::Warn] {
            let word = if tone == Tone::Bad { "failing" } else { "held" };
            let (one, many) = (format!("target {word}"), format!("targets {word}"));
            write_count(f, tone, targets.count(tone), &one, &many)?;
        }
        let behind = volumes.iter().map(Facts::consumers_behind).sum();
        write_count(f, Tone::Warn, behind, "consumer behind", "consumers behind")?;
        for (tone, what) in [(Tone::Bad, "expired"), (Tone::Warn, "expiring soon")] {
            let count = volumes.iter().map(|facts| facts.certificates_of(tone, *now)).sum();
            let (one, many) = (format!("certificate {what}"), format!("certificates {what}"));
            write_count(f, tone, count, &one, &many)?;
        }
        f.write_str("</ul>\n")
    }
}
