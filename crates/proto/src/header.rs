//! Message header blocks: `NATS/1.0[ status]`, `Key: Value` lines, an empty line, each ended by CRLF.

use memchr::memmem;

/// The line that opens every header block, without a status.
pub const HEADER_LINE: &[u8] = b"NATS/1.0\r\n";

/// The value of the first `key` in a header block: keys compare exactly, stand directly after a line end
/// and directly before the colon; blanks after the colon are not part of the value.
pub fn value<'a>(block: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut from = 0;
    while let Some(at) = memmem::find(block.get(from..)?, key).map(|at| at + from) {
        let after = at + key.len();
        if at >= 2 && block[at - 2..at] == *b"\r\n" && block.get(after) == Some(&b':') {
            let value = &block[after + 1..];
            let blanks = value.iter().take_while(|b| **b == b' ').count();
            let end = memmem::find(&value[blanks..], b"\r\n")?;
            return Some(&value[blanks..blanks + end]);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn keys_are_found_where_the_reference_finds_them() {
        let block = b"NATS/1.0\r\nNot-Key: 1\r\nKey:  two\r\nkey: 3\r\nKey: 4\r\nTail : 5\r\n\r\n";
        assert_eq!(value(block, b"Key"), Some(&b"two"[..]));
        assert_eq!(value(block, b"key"), Some(&b"3"[..]));
        assert_eq!(value(block, b"Tail"), None);
        assert_eq!(value(block, b"Missing"), None);
        assert_eq!(value(b"NATS/1.0\r\nKey:", b"Key"), None);
    }
}
