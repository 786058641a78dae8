//! Writing.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

/// The JSON text of `value`.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut text = Vec::with_capacity(512);
    append(&mut text, value);
    text
}

/// Appends the JSON text of `value`.
pub fn append<T: Serialize + ?Sized>(text: &mut Vec<u8>, value: &T) {
    let mut serializer = serde_json::Serializer::with_formatter(text, Escaping);
    let written = value.serialize(&mut serializer);
    // Our types have text keys and a vector takes every byte, so nothing can fail.
    assert!(written.is_ok(), "a reply can always be written");
}

/// Compact, with the escapes that keep a text harmless inside a web page.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, escape, length)) = first_to_escape(rest) {
            writer.write_all(&rest.as_bytes()[..at])?;
            writer.write_all(escape)?;
            rest = &rest[at + length..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Place, replacement and length of the first character that is not written as it is.
fn first_to_escape(text: &str) -> Option<(usize, &'static [u8], usize)> {
    text.char_indices().find_map(|(at, character)| {
        let escape: &[u8] = match character {
            '<' => b"\\u003c",
            '>' => b"\\u003e",
            '&' => b"\\u0026",
            '\u{2028}' => b"\\u2028",
            '\u{2029}' => b"\\u2029",
            _ => return None,
        };
        Some((at, escape, character.len_utf8()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_web_page_would_read_is_escaped() {
        assert_eq!(
            encode("a.> <&\u{2028}\u{2029}é\u{1}\"\n"),
            "\"a.\\u003e \\u003c\\u0026\\u2028\\u2029é\\u0001\\\"\\n\"".as_bytes()
        );
    }
}
