//! JSON in the dialect of nats-server: whole numbers without `.0`, and `<`, `>`, `&` and two line separators escaped.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// Writes a value, indented by `indent` for each level.
pub(crate) fn pretty(value: &impl Serialize, indent: &[u8]) -> Vec<u8> {
    write(value, Dialect(PrettyFormatter::with_indent(indent)))
}

/// Writes a value on one line without blanks.
pub fn compact(value: &impl Serialize) -> Vec<u8> {
    write(value, Dialect(CompactFormatter))
}

fn write(value: &impl Serialize, dialect: impl Formatter) -> Vec<u8> {
    let mut body = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut body, dialect);
    // Only a map with keys that are not text can fail, and there is none; what was written then is still the truth.
    let written = value.serialize(&mut serializer);
    debug_assert!(written.is_ok(), "{written:?}");
    body
}

/// Another formatter with texts and numbers in the dialect.
struct Dialect<F>(F);

impl<F: Formatter> Formatter for Dialect<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = special.chars();
            if let Some(char) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(char))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        if size != 0.0 && !(1e-6..1e21).contains(&size) {
            // Go writes the sign of a positive exponent.
            let text = format!("{value:e}");
            let signed = if text.contains("e-") { text } else { text.replace('e', "e+") };
            return writer.write_all(signed.as_bytes());
        }
        write!(writer, "{value}")
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

/// For `skip_serializing_if`: whether a value is what Go calls empty.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_are_in_the_dialect() {
        let compact = |value: serde_json::Value| String::from_utf8(compact(&value)).unwrap();
        for (value, expected) in [
            (serde_json::json!(2.0), "2"),
            (serde_json::json!(0.0), "0"),
            (serde_json::json!(-0.5), "-0.5"),
            (serde_json::json!(0.2857142857142857), "0.2857142857142857"),
            (serde_json::json!(1e21), "1e+21"),
            (serde_json::json!(1.5e-7), "1.5e-7"),
            (serde_json::json!(123456789012.0), "123456789012"),
            (serde_json::json!("a.>"), r#""a.\u003e""#),
            (serde_json::json!("<&>\u{2028}ü\"\n"), r#""\u003c\u0026\u003e\u2028ü\"\n""#),
            (serde_json::json!({"a": [1, {}], "b": []}), r#"{"a":[1,{}],"b":[]}"#),
        ] {
            assert_eq!(compact(value), expected);
        }
        let nested = String::from_utf8(pretty(&serde_json::json!({"a": [1, {}], "b": []}), b"  ")).unwrap();
        assert_eq!(nested, "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}");
    }
}
