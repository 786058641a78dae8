//! The operator's secrets, as the files take them.
//!
//! Streams and journal have master keys of their own, derived from the same secret. The server's name is no part of
//! them: a server may be renamed.

use std::sync::Arc;

use sonata_conf::options::Encryption;
use sonata_disk::seal::{Cipher, Key, Keys};
use sonata_store::Sealing;

/// For the files of streams.
pub(super) fn of_streams(encryption: &Encryption) -> Sealing {
    sealing(encryption, b"streams")
}

/// For the journal.
pub(super) fn of_journal(encryption: &Encryption) -> Sealing {
    sealing(encryption, b"journal")
}

/// As the log names it.
pub(super) fn cipher_name(encryption: &Encryption) -> &'static str {
    match cipher(encryption) {
        Cipher::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        Cipher::Aes256Gcm => "AES-GCM",
    }
}

fn cipher(encryption: &Encryption) -> Cipher {
    if encryption.aes { Cipher::Aes256Gcm } else { Cipher::ChaCha20Poly1305 }
}

fn sealing(encryption: &Encryption, context: &[u8]) -> Sealing {
    let own = cipher(encryption);
    let key = |cipher, secret: &str| Key::derive(cipher, secret.as_bytes(), context);
    let other = match own {
        Cipher::ChaCha20Poly1305 => Cipher::Aes256Gcm,
        Cipher::Aes256Gcm => Cipher::ChaCha20Poly1305,
    };
    let secret = encryption.key.expose();
    // Another cipher under the same secret is another key.
    let mut keys = Keys::new(key(own, secret)).with_alternative(key(other, secret));
    if let Some(previous) = &encryption.previous {
        for cipher in [own, other] {
            keys = keys.with_previous(key(cipher, previous.expose()));
        }
    }
    Sealing { keys: Arc::new(keys), random: Arc::new(rand::random) }
}
