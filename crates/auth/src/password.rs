//! Passwords and tokens as configured: in plain text or hashed with bcrypt.
//!
//! Plain text is compared at once and in constant time. A bcrypt comparison takes milliseconds to seconds by design,
//! so it is handed out as a [`SlowComparison`], to be run where it delays nobody.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Text that must not be seen: it is not printed, and its memory is wiped when it is dropped.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Whether this is the same text in the configuration. For two configurations, never for what a client presents.
    pub(crate) fn is_configured_as(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }

    /// The text, for whom the configuration trusts with it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is the bcrypt hash of a secret and not the secret itself: it starts with `$2a$`, `$2b$`, `$2x$`
    /// or `$2y$`, two digits and a `$`.
    pub fn is_bcrypt(&self) -> bool {
        matches!(
            self.0.as_bytes(),
            [b'$', b'2', b'a' | b'b' | b'x' | b'y', b'$', tens, ones, b'$', ..]
                if tens.is_ascii_digit() && ones.is_ascii_digit()
        )
    }

    /// Compares with what a client sent.
    pub fn compare(&self, presented: &str) -> Comparison {
        if self.is_bcrypt() {
            Comparison::Slow(SlowComparison { hash: self.clone(), presented: Self::new(presented) })
        } else {
            Comparison::Equal(self.0.as_bytes().ct_eq(presented.as_bytes()).into())
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// How a comparison goes on.
#[derive(Debug)]
pub enum Comparison {
    /// It is decided: whether the secrets are the same.
    Equal(bool),
    /// It takes a while.
    Slow(SlowComparison),
}

/// A bcrypt hash and what a client sent, still to be compared.
#[derive(Debug)]
pub struct SlowComparison {
    hash: Secret,
    presented: Secret,
}

impl SlowComparison {
    /// Compares; takes 2^cost steps, which is 60 ms at cost 10 and doubles with every step of cost. A hash that is not
    /// well-formed equals nothing. As in every bcrypt, only the first 72 bytes of a password count.
    pub fn run(self) -> bool {
        bcrypt::verify(self.presented.0.as_bytes(), &self.hash.0).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both are hashes of `secret`, cost 4.
    fn hash_of_secret(version: bcrypt::Version) -> Secret {
        Secret::new(
            bcrypt::hash_with_salt("secret", 4, *b"sixteen bytes ok").unwrap().format_for_version(version),
        )
    }

    fn equal(configured: &Secret, presented: &str) -> (&'static str, bool) {
        match configured.compare(presented) {
            Comparison::Equal(equal) => ("now", equal),
            Comparison::Slow(slow) => ("slow", slow.run()),
        }
    }

    #[test]
    fn comparison_follows_the_form_of_the_configured_secret() {
        use bcrypt::Version;
        for version in [Version::TwoA, Version::TwoB, Version::TwoX, Version::TwoY] {
            let hash = hash_of_secret(version);
            assert_eq!(equal(&hash, "secret"), ("slow", true));
            assert_eq!(equal(&hash, "Secret"), ("slow", false));
            assert_eq!(equal(&hash, &hash.0.clone()), ("slow", false));
        }
        for (configured, presented, expected) in [
            ("secret", "secret", ("now", true)),
            ("secret", "secret ", ("now", false)),
            ("secret", "", ("now", false)),
            ("", "", ("now", true)),
            ("$2c$10$x", "$2c$10$x", ("now", true)),
            ("$2a$1$x", "$2a$1$x", ("now", true)),
            ("$2a$1x$", "$2a$1x$", ("now", true)),
            ("$2a$10$", "$2a$10$", ("slow", false)),
            ("$2a$99$üüüü", "secret", ("slow", false)),
        ] {
            assert_eq!(equal(&configured.into(), presented), expected, "{configured:?} {presented:?}");
        }
    }

    #[test]
    fn nothing_prints_a_secret() {
        let slow = match hash_of_secret(bcrypt::Version::TwoA).compare("hunter2") {
            Comparison::Slow(slow) => slow,
            Comparison::Equal(_) => unreachable!("a bcrypt hash is never compared at once"),
        };
        assert_eq!(format!("{slow:?}"), "SlowComparison { hash: [REDACTED], presented: [REDACTED] }");
    }
}
