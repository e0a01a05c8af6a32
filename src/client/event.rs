//! Server-sent events, as far as the sidecar writes them: `event`, `data`, comments.

use super::Stream;

/// The longest event: one names the keys of a volume, and no values.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
}

/// The events of a stream.
#[derive(Debug)]
pub(crate) struct Events {
    stream: Stream,
    lines: Lines,
    event: Event,
}

impl Events {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, lines: Lines::default(), event: Event::default() }
    }

    /// The next event; `None` once the stream has ended or is no stream of events. Nothing is lost
    /// when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(line) = self.lines.next() {
                if let Some(event) = self.take(&line) {
                    return Some(event);
                }
            }
            let piece = self.stream.next().await?;
            let length = self.lines.buffer.len() + self.event.data.len() + piece.len();
            if length > MAX_EVENT_BYTES {
                return None;
            }
            self.lines.buffer.extend_from_slice(&piece);
        }
    }

    /// Takes a line; the empty one ends an event.
    fn take(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return (!event.data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // A comment (nothing before the colon), or a field that is not needed.
            _ => {}
        }
        None
    }
}

/// Cuts pieces into lines, wherever the pieces end.
#[derive(Debug, Default)]
struct Lines {
    buffer: Vec<u8>,
}

impl Iterator for Lines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let end = self.buffer.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        let line = String::from_utf8_lossy(&line);
        Some(line.trim_end_matches(['\n', '\r']).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{TestServer, text};
    use super::*;

    #[tokio::test]
    async fn events_are_cut_at_empty_lines_and_comments_are_skipped() {
        let server = TestServer::new(|_| {
            text(
                200,
                ": hello\r\n\r\nevent: snapshot\r\nid: b.1\r\ndata: {\ndata:}\n\n:\n\ndata: x\n\ndata: cut",
            )
        });
        let mut events = Events::new(server.client().stream("/v1/events").await.unwrap());
        let first = Event { name: "snapshot".into(), data: "{\n}".into() };
        assert_eq!(events.next().await, Some(first));
        let second = Event { name: String::new(), data: "x".into() };
        assert_eq!(events.next().await, Some(second));
        assert_eq!(events.next().await, None);
    }

    #[test]
    fn lines_may_arrive_in_pieces() {
        let mut lines = Lines::default();
        for byte in b"ab\nc" {
            lines.buffer.push(*byte);
        }
        assert_eq!(lines.next().as_deref(), Some("ab"));
        assert_eq!(lines.next(), None);
        lines.buffer.extend_from_slice(b"d\r\n");
        assert_eq!(lines.next().as_deref(), Some("cd"));
    }
}
