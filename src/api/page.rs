//! `GET /`: the status page, for people. It says what `secretwatch status` says.
//!
//! One document, without scripts and without anything to load: it works in any browser, through any
//! port forwarding, and nothing in it can send anything anywhere. All text from elsewhere (names of
//! keys, versions, errors) goes through [`Text`]; the policy in the header is the second wall, and
//! allows no style but the page's own. No value is near.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::{Api, query};

mod summary;
mod target;
mod text;
mod time;
mod volume;

use summary::Summary;
use target::Targets;
use text::Text;
use time::Stamp;
use volume::Facts;

const STYLE: &str = include_str!("page/style.css");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// Names the style by its hash; a test compares the two. The image is the one in the tab.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'sha256-aDgrOmFqL5L9N7U2003hzY/d6U4meWvcUltWLTEv2CY='; \
     img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CONTENT_TYPE, HTML),
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];
/// What the page offers to whoever wants to keep it open: as often as a poll, seldom enough to read.
const OFFERED_REFRESH: u32 = 10;

/// `GET /`
pub(super) async fn page(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    let refresh = query::refresh(request.uri())?;
    let page = Page::of(&api, SystemTime::now(), refresh);
    Ok((HEADERS, page.to_string()).into_response())
}

/// How good or bad something is: a colour, and a sign for those who see none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tone {
    Good,
    Quiet,
    Warn,
    Bad,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Quiet => "quiet",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }

    /// The colour of the image in the tab, as a URL has it.
    fn colour(self) -> &'static str {
        match self {
            Self::Good => "%232e9e5b",
            Self::Quiet => "%23808893",
            Self::Warn => "%23d99000",
            Self::Bad => "%23d3382f",
        }
    }
}

/// A word in the colour of its tone.
struct Badge<T>(Tone, T);

impl<T: Display> Display for Badge<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, r#"<span class="badge {}">{}</span>"#, self.0.class(), self.1)
    }
}

/// Everything that is shown, of one moment.
struct Page {
    now: SystemTime,
    is_alive: bool,
    refresh: Option<u32>,
    volumes: Vec<Facts>,
    targets: Targets,
}

impl Page {
    fn of(api: &Api, now: SystemTime, refresh: Option<u32>) -> Self {
        Self {
            now,
            is_alive: api.secrets.is_alive(),
            refresh,
            volumes: api.volumes().map(Facts::of).collect(),
            targets: Targets::of(&api.boards),
        }
    }
}

impl Display for Page {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let summary = Summary::of(self);
        f.write_str(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n",
        )?;
        if let Some(seconds) = self.refresh {
            writeln!(f, r#"<meta http-equiv="refresh" content="{seconds}">"#)?;
        }
        writeln!(f, "<title>{} · secretwatch</title>", summary.title())?;
        writeln!(
            f,
            "<link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' \
             viewBox='0 0 8 8'%3E%3Ccircle cx='4' cy='4' r='4' fill='{}'/%3E%3C/svg%3E\">",
            summary.tone().colour()
        )?;
        write!(f, "<style>{STYLE}</style>\n</head>\n<body>\n<header>\n")?;
        writeln!(f, "<h1>secretwatch <small>{}</small></h1>", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "<p class=\"asof\">As of {} · {}</p>", Stamp(self.now), Reload(self.refresh))?;
        write!(f, "{summary}</header>\n<main>\n<div class=\"cards\">\n")?;
        for (place, facts) in self.volumes.iter().enumerate() {
            facts.write(f, place, self.now)?;
        }
        f.write_str("</div>\n")?;
        self.targets.write(f, &self.volumes, self.now)?;
        f.write_str(
            "</main>\n<footer>No secret value is on this page. For programs: \
             <a href=\"/metrics\">metrics</a>, <a href=\"/readyz\">readiness</a>, \
             <a href=\"/livez\">liveness</a>.</footer>\n</body>\n</html>\n",
        )
    }
}

/// The link that makes the page load itself again, or no longer.
struct Reload(Option<u32>);

impl Display for Reload {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(seconds) => {
                write!(f, r#"reloads every {seconds} s, <a href="/">stop</a>"#)
            }
            None => write!(
                f,
                r#"<a href="/?refresh={OFFERED_REFRESH}">reload every {OFFERED_REFRESH} s</a>"#
            ),
        }
    }
}
