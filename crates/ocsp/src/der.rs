//! DER, as far as this protocol needs it: reading one element after the other from a slice that somebody else bounds, and
//! writing short ones. Only single-byte tags and definite lengths, which is all that certificates and responses use.

/// The tags that occur.
pub mod tag {
    #![allow(missing_docs, reason = "the names of ASN.1")]
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OID: u8 = 0x06;
    pub const ENUMERATED: u8 = 0x0a;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;

    /// A context-specific tag of a constructed element.
    pub const fn constructed(number: u8) -> u8 {
        0xa0 | number
    }

    /// A context-specific tag of a primitive element.
    pub const fn primitive(number: u8) -> u8 {
        0x80 | number
    }
}

/// The bytes are not the element that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// Class, form and number.
    pub tag: u8,
    /// What is in it.
    pub contents: &'a [u8],
    /// All of it, header included.
    pub whole: &'a [u8],
}

/// What is left to be read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from the start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, whatever it is.
    ///
    /// # Errors
    /// There is none, it is longer than what is left, or its header is not DER.
    pub fn any(&mut self) -> Result<Element<'a>, Malformed> {
        let (&tag, rest) = self.0.split_first().ok_or(Malformed)?;
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (&first, rest) = rest.split_first().ok_or(Malformed)?;
        let (length, rest) = match first {
            0x00..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(Malformed)?;
                let length = digits.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit));
                let is_shortest = length >= 0x80 && digits.first() != Some(&0);
                (is_shortest.then_some(length).ok_or(Malformed)?, rest)
            }
            _ => return Err(Malformed),
        };
        let (contents, after) = rest.split_at_checked(length).ok_or(Malformed)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Ok(Element { tag, contents, whole })
    }

    /// The next element, which has this tag.
    ///
    /// # Errors
    /// It has another, or there is none.
    pub fn expect(&mut self, tag: u8) -> Result<Element<'a>, Malformed> {
        self.any().and_then(|element| if element.tag == tag { Ok(element) } else { Err(Malformed) })
    }

    /// The next element if it has this tag.
    ///
    /// # Errors
    /// It is broken.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Malformed> {
        if self.0.first() == Some(&tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    /// What is in the next element, which has this tag.
    ///
    /// # Errors
    /// It has another, or there is none.
    pub fn enter(&mut self, tag: u8) -> Result<Reader<'a>, Malformed> {
        self.expect(tag).map(|element| Reader(element.contents))
    }

    /// Nothing is left.
    ///
    /// # Errors
    /// Something is.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// The one element that the bytes are, and what is in it.
///
/// # Errors
/// It has another tag, or something follows it.
pub fn only(bytes: &[u8], tag: u8) -> Result<Reader<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let inner = reader.enter(tag)?;
    reader.end()?;
    Ok(inner)
}

/// The bytes of a bit string that is made of whole bytes.
///
/// # Errors
/// It is not.
pub fn whole_bytes(contents: &[u8]) -> Result<&[u8], Malformed> {
    match contents.split_first() {
        Some((0, bytes)) => Ok(bytes),
        _ => Err(Malformed),
    }
}

/// Writes an element. Contents are below 2^32 bytes.
pub fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut written = vec![tag];
    if let Ok(short @ 0x00..=0x7f) = u8::try_from(length) {
        written.push(short);
    } else {
        let digits = length.to_be_bytes();
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        written.push(0x80 | (digits.len() - zeros) as u8);
        written.extend_from_slice(&digits[zeros..]);
    }
    written.extend_from_slice(contents);
    written
}

/// Writes a sequence of written elements.
pub fn sequence(elements: &[&[u8]]) -> Vec<u8> {
    element(tag::SEQUENCE, &elements.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_all_sizes_are_read_as_written() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let written = element(tag::OCTET_STRING, &vec![7; length]);
            let mut reader = Reader::new(&written);
            let read = reader.any().expect("it was written");
            assert_eq!((read.tag, read.contents.len(), read.whole.len()), (4, length, written.len()));
            assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn what_is_not_der_is_refused() {
        let cases: [&[u8]; 8] = [
            b"",
            b"\x04",
            b"\x04\x02a",
            b"\x04\x80aa",
            b"\x04\x81\x01a",
            b"\x04\x82\x00\x80a",
            b"\x04\x85\x00\x00\x00\x00\x01a",
            b"\x1f\x81\x00",
        ];
        for bytes in cases {
            assert_eq!(Reader::new(bytes).any(), Err(Malformed), "{bytes:x?}");
        }
    }
}
