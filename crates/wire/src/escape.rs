//! Bytes as one readable line and back: `\r \n \t \\ \xHH`, and `\{text*N}` for N repetitions of a text.
//!
//! Writing keeps printable ASCII as it is and folds long runs of one character, so a message of 64 KiB is still one
//! short line; reading accepts repetitions of any text. `decode(encode(bytes)) == bytes` for all bytes.

/// Runs of at least this many equal printable bytes are written as a repetition.
const FOLD_MIN: usize = 64;

/// Largest text one line may decode to, so that a slip in a script cannot take all memory.
pub const DECODED_BYTES_MAX: usize = 256 << 20;

/// The readable form of `bytes`.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().min(1 << 16));
    let mut rest = bytes;
    while let Some(&first) = rest.first() {
        let run = rest.iter().take_while(|&&byte| byte == first).count();
        let plain =
            (first.is_ascii_graphic() && !matches!(first, b'\\' | b'*' | b'{' | b'}')) || first == b' ';
        if run >= FOLD_MIN && plain {
            text.push_str(&format!("\\{{{}*{run}}}", char::from(first)));
            rest = rest.get(run..).unwrap_or_default();
        } else {
            encode_byte(&mut text, first);
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    text
}

fn encode_byte(text: &mut String, byte: u8) {
    match byte {
        b'\r' => text.push_str("\\r"),
        b'\n' => text.push_str("\\n"),
        b'\t' => text.push_str("\\t"),
        b'\\' => text.push_str("\\\\"),
        b' '..=b'~' => text.push(char::from(byte)),
        other => text.push_str(&format!("\\x{other:02x}")),
    }
}

/// The bytes a readable text stands for.
///
/// # Errors
/// A sentence when an escape is unknown or unfinished, or the result would exceed [`DECODED_BYTES_MAX`].
pub fn decode(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        bytes.extend_from_slice(plain.as_bytes());
        let escape = escape.strip_prefix('\\').unwrap_or_default();
        rest = decode_escape(escape, &mut bytes)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Decodes what follows a backslash and returns the text behind it.
fn decode_escape<'a>(escape: &'a str, bytes: &mut Vec<u8>) -> Result<&'a str, String> {
    let mut chars = escape.chars();
    match chars.next() {
        Some('r') => bytes.push(b'\r'),
        Some('n') => bytes.push(b'\n'),
        Some('t') => bytes.push(b'\t'),
        Some('\\') => bytes.push(b'\\'),
        Some('x') => {
            let digits = escape.get(1..3).ok_or("\\x needs two hexadecimal digits")?;
            bytes
                .push(u8::from_str_radix(digits, 16).map_err(|_| format!("\\x{digits} is not hexadecimal"))?);
            return Ok(escape.get(3..).unwrap_or_default());
        }
        Some('{') => return decode_repetition(chars.as_str(), bytes),
        other => return Err(format!("unknown escape \\{}", other.unwrap_or(' '))),
    }
    Ok(chars.as_str())
}

/// Decodes `text*N}`, where the text may hold repetitions itself: the star that closes this one ends the text.
fn decode_repetition<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Result<&'a str, String> {
    let mut inner = 0;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some(escaped) = rest.strip_prefix('\\') {
            inner += usize::from(escaped.starts_with('{'));
            at += 1 + escaped.chars().next().map_or(0, char::len_utf8);
        } else if let Some((times, behind)) = repetition_end(rest) {
            if inner == 0 {
                let unit = decode(text.get(..at).unwrap_or_default())?;
                if unit.len().saturating_mul(times).saturating_add(bytes.len()) > DECODED_BYTES_MAX {
                    return Err(format!("more than {DECODED_BYTES_MAX} bytes"));
                }
                bytes.extend_from_slice(&unit.repeat(times));
                return Ok(behind);
            }
            inner -= 1;
            at = text.len() - behind.len();
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    Err("\\{ without *N}".to_owned())
}

/// The number of times and the text behind it, if the text begins with `*N}`.
fn repetition_end(text: &str) -> Option<(usize, &str)> {
    let (number, behind) = text.strip_prefix('*')?.split_once('}')?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|_| digits)?, behind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_stand_for_their_bytes() {
        for (text, bytes) in [
            ("PING\\r\\n", b"PING\r\n".as_slice()),
            ("a\\tb\\\\c\\x00\\xff", b"a\tb\\c\x00\xff"),
            ("\\{ab*3}!", b"ababab!"),
            ("\\{PUB a 0\\r\\n\\r\\n*2}", b"PUB a 0\r\n\r\nPUB a 0\r\n\r\n"),
            ("\\{\\{a*2}-\\{b*3}*2}.", b"aa-bbbaa-bbb."),
            ("\\{SUB a.* 1\\r\\n*1}", b"SUB a.* 1\r\n"),
        ] {
            assert_eq!(decode(text).as_deref(), Ok(bytes), "{text}");
        }
        assert_eq!(encode(&[b'x'; 100]), "\\{x*100}");
    }

    #[test]
    fn unfinished_escapes_are_refused() {
        for text in ["\\", "\\q", "\\x1", "\\xzz", "\\{abc", "\\{a*}", "\\{x*999999999999}"] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_string_comes_back(runs in proptest::collection::vec((any::<u8>(), 1usize..200), 0..20)) {
            let bytes: Vec<u8> = runs.iter().flat_map(|&(byte, times)| std::iter::repeat_n(byte, times)).collect();
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        }
    }
}
