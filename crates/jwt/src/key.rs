//! Public keys as text: which kind of owner they have, and whether a signature is theirs.

use nkeys::{KeyPair, KeyPairType};

/// Whose key it is; the first letter of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// `O…`
    Operator,
    /// `A…`
    Account,
    /// `U…`
    User,
    /// `N…`
    Server,
    /// `C…`
    Cluster,
    /// `X…`: for sealing, not for signing.
    Curve,
}

impl KeyKind {
    /// The kind of a public key; none if the text is no public key, or its checksum is wrong.
    pub fn of(text: &str) -> Option<Self> {
        let (prefix, _) = nkeys::from_public_key(text).ok()?;
        match KeyPairType::from(prefix) {
            KeyPairType::Operator => Some(Self::Operator),
            KeyPairType::Account => Some(Self::Account),
            KeyPairType::User => Some(Self::User),
            KeyPairType::Server => Some(Self::Server),
            KeyPairType::Cluster => Some(Self::Cluster),
            KeyPairType::Curve => Some(Self::Curve),
            KeyPairType::Module | KeyPairType::Service => None,
        }
    }

    /// Whether the text is a public key of this kind.
    pub fn owns(self, text: &str) -> bool {
        Self::of(text) == Some(self)
    }
}

/// Whether `signature` is the owner's of `public_key` over `bytes`. A key or signature of a wrong form verifies nothing.
pub fn verify(public_key: &str, bytes: &[u8], signature: &[u8]) -> bool {
    KeyPair::from_public_key(public_key).is_ok_and(|key| key.verify(bytes, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_prefix_and_checksum() {
        let kinds = [
            (KeyPairType::Operator, KeyKind::Operator),
            (KeyPairType::Account, KeyKind::Account),
            (KeyPairType::User, KeyKind::User),
            (KeyPairType::Server, KeyKind::Server),
            (KeyPairType::Cluster, KeyKind::Cluster),
        ];
        for (made, told) in kinds {
            let public = KeyPair::new(made).public_key();
            assert!(told.owns(&public));
            assert_eq!(KeyKind::of(&public[..55]), None);
            assert_eq!(KeyKind::of(&public.to_lowercase()), None);
        }
        assert_eq!(KeyKind::of(""), None);
        assert_eq!(KeyKind::of(&"Ä".repeat(28)), None);
        let seed = KeyPair::new_account().seed().unwrap();
        assert_eq!(KeyKind::of(&seed), None);
    }
}
