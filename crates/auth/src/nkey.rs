//! Proof of a user by nkey: the server sends a nonce, the client signs it.

use std::fmt;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use nkeys::{KeyPair, KeyPairType};

/// What a server puts into INFO for a client to sign: 15 characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// Random bytes in a nonce.
    pub const RANDOM_BYTES: usize = 11;

    /// Makes a nonce of bytes that the caller took from a cryptographic source, fresh for each connection.
    pub fn from_random(bytes: [u8; Self::RANDOM_BYTES]) -> Self {
        Self(BASE64URL_NOPAD.encode(&bytes))
    }

    /// The text, as it stands in INFO and as it is signed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` is the public nkey of a user (56 characters, first letter `U`, with a right checksum).
pub fn is_public_user_key(text: &str) -> bool {
    KeyPair::from_public_key(text).is_ok_and(|key| key.key_pair_type() == KeyPairType::User)
}

/// Whether `signature` is a signature of `nonce` by the owner of `public_key`.
///
/// The signature is text, base64url without padding; base64 with padding is accepted as well, as some clients
/// send it. A key or signature of a wrong form verifies nothing.
pub fn verify(public_key: &str, nonce: &str, signature: &str) -> bool {
    // 64 bytes are 86 characters without and 88 with padding; nothing longer is worth decoding.
    if signature.len() > SIGNATURE_TEXT_MAX {
        return false;
    }
    let text = signature.as_bytes();
    let Ok(signature) = BASE64URL_NOPAD.decode(text).or_else(|_| BASE64.decode(text)) else { return false };
    KeyPair::from_public_key(public_key).is_ok_and(|key| key.verify(nonce.as_bytes(), &signature).is_ok())
}

const SIGNATURE_TEXT_MAX: usize = 88;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonce_is_fifteen_url_safe_characters() {
        assert_eq!(Nonce::from_random([0; 11]).as_str(), "AAAAAAAAAAAAAAA");
        assert_eq!(Nonce::from_random([0xff; 11]).as_str(), "______________8");
    }

    #[test]
    fn signatures_are_read_in_both_alphabets() {
        let nonce = Nonce::from_random(*b"eleven byte");
        // A signature differs in the two alphabets only if it has the 62nd or 63rd character; search for such a key.
        let (key, signature) = (0u8..)
            .map(|seed| {
                let key = KeyPair::new_from_raw(KeyPairType::User, [seed; 32]).unwrap();
                let signature = key.sign(nonce.as_str().as_bytes()).unwrap();
                (key, signature)
            })
            .find(|(_, signature)| BASE64.encode(signature).contains(['+', '/']))
            .unwrap();
        let public = key.public_key();
        assert!(is_public_user_key(&public));
        assert!(verify(&public, nonce.as_str(), &BASE64URL_NOPAD.encode(&signature)));
        assert!(verify(&public, nonce.as_str(), &BASE64.encode(&signature)));
        assert!(!verify(&public, "another nonce!!", &BASE64URL_NOPAD.encode(&signature)));

        let other = KeyPair::new_from_raw(KeyPairType::User, [255; 32]).unwrap().public_key();
        assert!(!verify(&other, nonce.as_str(), &BASE64URL_NOPAD.encode(&signature)));
    }

    #[test]
    fn malformed_proofs_verify_nothing() {
        let public = KeyPair::new_from_raw(KeyPairType::User, [1; 32]).unwrap().public_key();
        let long = "A".repeat(1 << 20);
        for signature in ["", "A", "!!!!", "AAAA", "ÄÖÜ", &long[..86], &long[..88], &long] {
            assert!(!verify(&public, "nonce", signature), "{signature:.20}");
        }
        let good = &long[..86];
        for key in ["", "U", "UÄÖÜ", &public[..55], &public.to_lowercase(), &long] {
            assert!(!verify(key, "nonce", good) && !is_public_user_key(key), "{key:.20}");
        }
        let account = KeyPair::new_from_raw(KeyPairType::Account, [1; 32]).unwrap().public_key();
        assert!(!is_public_user_key(&account));
    }
}
