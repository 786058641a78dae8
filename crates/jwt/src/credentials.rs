//! Files that hold a token between fences of dashes, as the official tools write them.

use crate::token::PREFIX;

/// The token in a text: that between the first two fences, or the whole text if it is one.
pub fn token_in(text: &str) -> Option<&str> {
    let trimmed = text.trim();
    if trimmed.starts_with(PREFIX) {
        return Some(trimmed);
    }
    let mut lines = text.lines().map(str::trim);
    lines.by_ref().find(|line| is_fence(line))?;
    let token = lines.by_ref().find(|line| !line.is_empty() && !is_fence(line))?;
    lines.find(|line| !line.is_empty()).filter(|line| is_fence(line))?;
    Some(token)
}

/// Three dashes or more around some words.
fn is_fence(line: &str) -> bool {
    line.len() >= 6 && line.starts_with("---") && line.ends_with("---")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_between_fences() {
        let cases = [
            ("eyJabc.d.e\n", Some("eyJabc.d.e")),
            ("-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n\n*** text", Some("abc")),
            ("words\n---x---\n\n  abc  \r\n---y---\r\n", Some("abc")),
            ("---x---\nabc\n", None),
            ("---x---\n---y---\n", None),
            ("abc", None),
            ("", None),
        ];
        for (text, token) in cases {
            assert_eq!(token_in(text), token, "{text}");
        }
    }
}
