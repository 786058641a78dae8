//! Names in scripts that stand for keys: `$NKEY_<name>` is a user's public key, `$SIG_<name>` that user's signature of
//! the nonce the client was given, `$SIGSTD_<name>` the same in the standard alphabet.
//!
//! A key is derived from its name alone, so that configurations and recordings never change.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use nkeys::{KeyPair, KeyPairType};
use sha2::{Digest, Sha256};

use crate::error::WireError;

/// Replaces the names of keys in `text`; `nonce` is what signatures are made over.
///
/// # Errors
/// [`WireError::Tls`] when a key cannot be made, which has not been seen.
pub fn substitute(text: &str, nonce: &str) -> Result<String, WireError> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        result.push_str(before);
        let Some((name, kind, behind)) = key_name(from) else {
            result.push('$');
            rest = from.get(1..).unwrap_or_default();
            continue;
        };
        let key = key_pair(name)?;
        match kind {
            Kind::Public => result.push_str(&key.public_key()),
            Kind::Signature => result.push_str(&BASE64URL_NOPAD.encode(&signature(&key, nonce)?)),
            Kind::StandardSignature => result.push_str(&BASE64.encode(&signature(&key, nonce)?)),
        }
        rest = behind;
    }
    result.push_str(rest);
    Ok(result)
}

#[derive(Clone, Copy)]
enum Kind {
    Public,
    Signature,
    StandardSignature,
}

/// Splits `$KIND_name…` into the name, the kind and what follows; names are lower-case letters.
fn key_name(text: &str) -> Option<(&str, Kind, &str)> {
    let kinds = [("$NKEY_", Kind::Public), ("$SIG_", Kind::Signature), ("$SIGSTD_", Kind::StandardSignature)];
    let (kind, rest) = kinds.iter().find_map(|&(prefix, kind)| Some((kind, text.strip_prefix(prefix)?)))?;
    let end = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len());
    let (name, behind) = rest.split_at(end);
    (!name.is_empty()).then_some((name, kind, behind))
}

fn key_pair(name: &str) -> Result<KeyPair, WireError> {
    let seed: [u8; 32] = Sha256::digest(name.as_bytes()).into();
    KeyPair::new_from_raw(KeyPairType::User, seed).map_err(|error| WireError::Tls(error.to_string()))
}

fn signature(key: &KeyPair, nonce: &str) -> Result<Vec<u8>, WireError> {
    key.sign(nonce.as_bytes()).map_err(|error| WireError::Tls(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_keys_are_replaced() {
        let text = substitute("PUB $SYS.REQ $NKEY_ann $TLS_DIR/x", "").unwrap();
        let key = text.split(' ').nth(2).unwrap();
        assert!(text.starts_with("PUB $SYS.REQ U") && text.ends_with(" $TLS_DIR/x"), "{text}");
        assert_eq!(key.len(), 56);
        assert_eq!(substitute("$NKEY_ann", "other").unwrap(), key);
    }

    #[test]
    fn a_signature_verifies_under_the_public_key() {
        let public = KeyPair::from_public_key(&substitute("$NKEY_ann", "").unwrap()).unwrap();
        let sig = BASE64URL_NOPAD.decode(substitute("$SIG_ann", "n0nce").unwrap().as_bytes()).unwrap();
        assert!(public.verify(b"n0nce", &sig).is_ok());
        assert!(public.verify(b"other", &sig).is_err());
    }
}
