//! Text from elsewhere, as HTML shows it.

use std::fmt::{self, Display, Formatter, Write};

use crate::name::is_misleading;

/// Escapes what has a meaning in HTML, in an attribute as well as between tags, and shows a
/// replacement for what could mislead a reader: control characters and marks that reorder text.
pub(super) struct Text<'a>(pub(super) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if is_misleading(c) => f.write_char(char::REPLACEMENT_CHARACTER)?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_back(html: &str) -> String {
        let html = html.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        html.replace("&#39;", "'").replace("&amp;", "&")
    }

    #[test]
    fn what_reorders_or_hides_text_is_replaced() {
        assert_eq!(Text("a\u{202e}b\0c\nd").to_string(), "a\u{fffd}b\u{fffd}c\u{fffd}d");
    }

    proptest! {
        #[test]
        fn any_text_stays_text_and_reads_the_same(text in ".{0,40}|[<>&\"'a;#-]{0,20}") {
            let html = Text(&text).to_string();
            prop_assert!(!html.contains(['<', '>', '"', '\'']), "{}", html);
            let is_plain = !text.chars().any(is_misleading);
            prop_assert!(!is_plain || read_back(&html) == text, "{}", html);
        }
    }
}
