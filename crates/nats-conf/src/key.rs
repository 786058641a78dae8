//! The keys of the configuration and how they are spelled.
//!
//! One table holds both spellings of every key. The file, the environment and the error texts all read it, so
//! a key cannot exist in one place and be unknown in another.

use std::fmt;

/// One key of the configuration; [`fmt::Display`] writes it as in a configuration file (`MaxReconnect`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Key {
    /// Server addresses.
    Hosts,
    /// Seconds between two attempts at one server.
    ReconnectWait,
    /// Attempts for each server before giving up.
    MaxReconnect,
    /// Path of a `.creds` file.
    UserCred,
    /// Path of an nkey seed file.
    NkeyFile,
    /// A user JWT or a path to one.
    UserJwt,
    /// Path of the client certificate.
    TlsClientCert,
    /// Path of the client certificate's private key.
    TlsClientKey,
    /// Path of the certificate authority that signs the servers' certificates.
    TlsCACert,
    /// User name.
    User,
    /// Password of the user.
    Password,
    /// Authorization token.
    Token,
    /// Name of the connection, shown in the server's monitoring.
    Name,
    /// Seconds that one attempt to connect may take.
    ConnectTimeout,
    /// Seconds between two pings to the server.
    PingInterval,
    /// First part of the reply subjects, instead of `_INBOX`.
    InboxPrefix,
    /// JetStream domain.
    JetStreamDomain,
    /// Seconds to wait for an answer of the JetStream API.
    JetStreamTimeout,
}

/// Every key with its spelling in files and in snake_case; upper-cased, the latter is the environment's.
pub(crate) const KEYS: &[(Key, &str, &str)] = &[
    (Key::Hosts, "Hosts", "hosts"),
    (Key::ReconnectWait, "ReconnectWait", "reconnect_wait"),
    (Key::MaxReconnect, "MaxReconnect", "max_reconnect"),
    (Key::UserCred, "UserCred", "user_cred"),
    (Key::NkeyFile, "NkeyFile", "nkey_file"),
    (Key::UserJwt, "UserJwt", "user_jwt"),
    (Key::TlsClientCert, "TlsClientCert", "tls_client_cert"),
    (Key::TlsClientKey, "TlsClientKey", "tls_client_key"),
    (Key::TlsCACert, "TlsCACert", "tls_ca_cert"),
    (Key::User, "User", "user"),
    (Key::Password, "Password", "password"),
    (Key::Token, "Token", "token"),
    (Key::Name, "Name", "name"),
    (Key::ConnectTimeout, "ConnectTimeout", "connect_timeout"),
    (Key::PingInterval, "PingInterval", "ping_interval"),
    (Key::InboxPrefix, "InboxPrefix", "inbox_prefix"),
    (Key::JetStreamDomain, "JetStreamDomain", "jetstream_domain"),
    (Key::JetStreamTimeout, "JetStreamTimeout", "jetstream_timeout"),
];

impl Key {
    /// The key as in a configuration file: `MaxReconnect`.
    pub fn name(self) -> &'static str {
        self.spellings().0
    }

    /// The key in snake_case: `max_reconnect`.
    pub fn snake_case(self) -> &'static str {
        self.spellings().1
    }

    /// Whether the value is a text whatever it looks like: a password of digits is no number.
    pub(crate) fn is_text(self) -> bool {
        !matches!(
            self,
            Self::Hosts
                | Self::ReconnectWait
                | Self::MaxReconnect
                | Self::ConnectTimeout
                | Self::PingInterval
                | Self::JetStreamTimeout
        )
    }

    /// The key spelled exactly so, in either spelling.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        KEYS.iter().find(|(_, file, snake)| *file == name || *snake == name).map(|(key, ..)| *key)
    }

    /// The key whose spelling is nearest to a name, and how many letters differ.
    pub(crate) fn nearest(name: &str) -> (Self, usize) {
        let wanted = letters(name);
        KEYS.iter()
            .map(|(key, file, _)| (*key, distance(&wanted, &letters(file))))
            .min_by_key(|(_, d)| *d)
            .unwrap_or((Self::Hosts, usize::MAX))
    }

    fn spellings(self) -> (&'static str, &'static str) {
        // The table holds every key (pinned by a test), so the fallback is never seen.
        KEYS.iter().find(|(key, ..)| *key == self).map_or(("?", "?"), |(_, file, snake)| (file, snake))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a reader of two spellings would compare: the letters without case and underscores.
///
/// Longer names than any key could resemble are cut, so the comparison stays small whatever is given.
fn letters(name: &str) -> Vec<char> {
    const LETTERS_MAX: usize = 64;
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).take(LETTERS_MAX).collect()
}

/// Levenshtein distance: insertions, deletions and replacements that turn `a` into `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = replaced.min(left + 1).min(diagonal + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_both_spellings() {
        for (key, file, snake) in KEYS {
            assert_eq!(Key::parse(file), Some(*key));
            assert_eq!(Key::parse(snake), Some(*key));
            assert_eq!((key.name(), key.snake_case()), (*file, *snake));
        }
        assert_eq!(Key::JetStreamTimeout as usize + 1, KEYS.len());
    }

    #[test]
    fn distance_counts_edits() {
        let d = |a: &str, b: &str| distance(&letters(a), &letters(b));
        assert_eq!(d("", ""), 0);
        assert_eq!(d("", "abc"), 3);
        assert_eq!(d("abc", ""), 3);
        assert_eq!(d("kitten", "sitting"), 3);
        assert_eq!(d("Max_Reconnect", "maxreconnect"), 0);
        assert_eq!(d("flaw", "lawn"), 2);
    }
}
