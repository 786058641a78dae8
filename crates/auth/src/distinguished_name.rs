//! Names of certificates' subjects: read, compared and printed.
//!
//! A [`DistinguishedName`] is a list of relative names, the most specific first as RFC 4514 writes it, each a set of
//! attributes. Users may be configured under such a name; [`DistinguishedName::parse`] reads it leniently, and two
//! names are compared with their relative names in the same order or in any.

/// A name such as `CN=alice,OU=staff+L=Zürich,O=acme`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistinguishedName {
    relative: Vec<RelativeName>,
}

/// A set of attributes. The order of its attributes means nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RelativeName {
    pub(crate) attributes: Vec<Attribute>,
}

/// A type such as `CN` and its value. The case of a type means nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) kind: String,
    pub(crate) value: String,
}

impl DistinguishedName {
    pub(crate) fn new(relative: Vec<RelativeName>) -> Self {
        Self { relative }
    }

    /// Reads a name as RFC 4514 writes it; none if it is not one. Spaces around types and values do not count unless
    /// they are escaped. A value in BER (`#04…`) is not supported.
    pub fn parse(text: &str) -> Option<Self> {
        let mut relative = Vec::new();
        let mut current = RelativeName::default();
        for part in parts(text) {
            current.attributes.push(attribute(part.text)?);
            if part.ends_relative_name {
                relative.push(std::mem::take(&mut current));
            }
        }
        (!relative.is_empty()).then_some(Self { relative })
    }

    /// Whether both have the same relative names in the same order.
    pub fn equals(&self, other: &Self) -> bool {
        self.relative.len() == other.relative.len()
            && self.relative.iter().zip(&other.relative).all(|(one, two)| one.equals(two))
    }

    /// Whether both have the same relative names, in whatever order.
    pub fn equals_in_any_order(&self, other: &Self) -> bool {
        if self.relative.len() != other.relative.len() {
            return false;
        }
        let mut unmatched: Vec<&RelativeName> = other.relative.iter().collect();
        self.relative.iter().all(|one| {
            let found = unmatched.iter().position(|two| one.equals(two));
            found.map(|place| unmatched.swap_remove(place)).is_some()
        })
    }
}

impl RelativeName {
    fn equals(&self, other: &Self) -> bool {
        self.attributes.len() == other.attributes.len() && self.includes(other) && other.includes(self)
    }

    fn includes(&self, other: &Self) -> bool {
        other.attributes.iter().all(|wanted| {
            self.attributes
                .iter()
                .any(|have| have.kind.eq_ignore_ascii_case(&wanted.kind) && have.value == wanted.value)
        })
    }
}

/// The text of one attribute, still escaped.
struct Part<'a> {
    text: &'a str,
    /// A comma or the end of the text follows, not a plus.
    ends_relative_name: bool,
}

/// Cuts at every comma and plus that is not escaped. What follows a final comma is no part if it is blank.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' | b'+' => {
                parts.push(Part { text: &text[start..at], ends_relative_name: byte == b',' });
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = &text[start..];
    if parts.last().is_none_or(|part| !part.ends_relative_name) || !last.trim_matches(' ').is_empty() {
        parts.push(Part { text: last, ends_relative_name: true });
    }
    parts
}

fn attribute(text: &str) -> Option<Attribute> {
    let (kind, value) = text.split_once('=')?;
    let kind = unescape(kind)?;
    let ber = value.starts_with('#');
    (!kind.is_empty() && !ber).then_some(())?;
    Some(Attribute { kind, value: unescape(value)? })
}

/// Resolves escapes (`\,` and `\2C` alike) and drops unescaped spaces at both ends.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = text.trim_start_matches(' ').bytes();
    let mut plain = Vec::with_capacity(text.len());
    // As many bytes are kept whatever spaces follow.
    let mut kept = 0;
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'\\' => match bytes.next()? {
                special @ (b' ' | b'"' | b'#' | b'+' | b',' | b';' | b'<' | b'=' | b'>' | b'\\') => special,
                high => hex(high)? << 4 | hex(bytes.next()?)?,
            },
            b' ' => {
                plain.push(b' ');
                continue;
            }
            byte => byte,
        };
        plain.push(byte);
        kept = plain.len();
    }
    plain.truncate(kept);
    String::from_utf8(plain).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Writes relative names, the last one first, as RFC 2253 escapes them.
pub(crate) fn write_reversed(relative: &[RelativeName]) -> String {
    let mut text = String::new();
    for (place, name) in relative.iter().rev().enumerate() {
        if place > 0 {
            text.push(',');
        }
        for (place, attribute) in name.attributes.iter().enumerate() {
            if place > 0 {
                text.push('+');
            }
            text.push_str(&attribute.kind);
            text.push('=');
            escape_onto(&mut text, &attribute.value);
        }
    }
    text
}

fn escape_onto(text: &mut String, value: &str) {
    for (at, char) in value.char_indices() {
        let escape = match char {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => at == 0 || at + 1 == value.len(),
            '#' => at == 0,
            _ => false,
        };
        if escape {
            text.push('\\');
        }
        text.push(char);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, printed with `|` between relative names and `&` between attributes.
    fn read(text: &str) -> String {
        let Some(name) = DistinguishedName::parse(text) else { return "-".into() };
        let attribute = |a: &Attribute| format!("{}={}", a.kind, a.value);
        let relative = |r: &RelativeName| r.attributes.iter().map(attribute).collect::<Vec<_>>().join("&");
        name.relative.iter().map(relative).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn names_are_read() {
        for (text, expected) in [
            ("CN=alice,OU=staff,O=acme", "CN=alice|OU=staff|O=acme"),
            (" CN = alice , OU = my staff  ", "CN=alice|OU=my staff"),
            ("CN=alice+L=Zürich,O=acme", "CN=alice&L=Zürich|O=acme"),
            (r"CN=Smith\, John,O=a\2Cb", "CN=Smith, John|O=a,b"),
            (r"CN=\ alice\ ,O=a\ \ ", "CN= alice |O=a  "),
            (r"CN=Z\C3\BCrich", "CN=Zürich"),
            ("CN=a=b", "CN=a=b"),
            ("CN=,O=x", "CN=|O=x"),
            ("CN=x,", "CN=x"),
            ("CN=x, ", "CN=x"),
            ("", "-"),
            ("alice", "-"),
            ("CN=x,alice", "-"),
            ("CN=x,,O=y", "-"),
            ("CN=x+", "-"),
            ("=x", "-"),
            ("CN=#0405", "-"),
            (r"CN=\", "-"),
            (r"CN=\4", "-"),
            (r"CN=\zz", "-"),
            (r"CN=\é", "-"),
            (r"CN=\ff", "-"),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn names_are_compared() {
        for (one, two, same, any_order) in [
            ("CN=a,O=b", "cn=a,o=b", true, true),
            ("CN=a,O=b", "O=b,CN=a", false, true),
            ("CN=a+L=c,O=b", "L=c+CN=a,O=b", true, true),
            ("CN=a,O=b", "CN=A,O=b", false, false),
            ("CN=a,O=b", "CN=a,O=b,C=c", false, false),
            ("CN=a,CN=a,O=b", "CN=a,O=b,O=b", false, false),
            ("CN=a+CN=a", "CN=a+CN=b", false, false),
        ] {
            let (left, right) =
                (DistinguishedName::parse(one).unwrap(), DistinguishedName::parse(two).unwrap());
            assert_eq!(
                (left.equals(&right), left.equals_in_any_order(&right)),
                (same, any_order),
                "{one} {two}"
            );
            assert_eq!(
                (right.equals(&left), right.equals_in_any_order(&left)),
                (same, any_order),
                "{two} {one}"
            );
        }
    }

    #[test]
    fn what_is_printed_is_read_as_the_same() {
        for value in ["alice", " a ", "#a#", "a,b+c\"d\\e<f>g;h", "Zürich ", "a=b", " "] {
            let attributes = vec![Attribute { kind: "CN".into(), value: value.into() }];
            let name = DistinguishedName::new(vec![RelativeName { attributes }]);
            let printed = write_reversed(&name.relative);
            assert_eq!(DistinguishedName::parse(&printed), Some(name), "{printed}");
        }
    }
}
