//! Public keys of users and accounts, as far as a configuration must know them: is this text one?
//!
//! A key is base32 of a kind byte, 32 bytes of key and a CRC-16 (XMODEM, little-endian).

use data_encoding::BASE32_NOPAD;

/// First byte of a user's key (`U…`).
const USER: u8 = 20 << 3;
/// First byte of an account's key (`A…`).
const ACCOUNT: u8 = 0;
/// First bytes of the keys of operators, servers, clusters and curves (`O…`, `N…`, `C…`, `X…`).
const OPERATOR: u8 = 14 << 3;
const SERVER: u8 = 13 << 3;
const CLUSTER: u8 = 2 << 3;
const CURVE: u8 = 23 << 3;
/// Kind, key and checksum.
const LENGTH: usize = 1 + 32 + 2;

pub(crate) fn is_user(text: &str) -> bool {
    is_public_key(text, USER)
}

pub(crate) fn is_account(text: &str) -> bool {
    is_public_key(text, ACCOUNT)
}

/// Whether it is a public curve key (`X…`).
pub(crate) fn is_curve(text: &str) -> bool {
    is_public_key(text, CURVE)
}

/// Whether it is a public key of any kind.
pub(crate) fn is_public(text: &str) -> bool {
    [OPERATOR, SERVER, CLUSTER, ACCOUNT, USER, CURVE].iter().any(|kind| is_public_key(text, *kind))
}

fn is_public_key(text: &str, kind: u8) -> bool {
    let Ok(raw) = BASE32_NOPAD.decode(text.as_bytes()) else { return false };
    match raw.split_last_chunk::<2>() {
        Some((body, &checksum)) => {
            raw.len() == LENGTH && body.first() == Some(&kind) && crc16(body) == u16::from_le_bytes(checksum)
        }
        None => false,
    }
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc: u16, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_kinds_and_checksums() {
        let user = "UCNGL4W5QX66CFX6A6DCBVDH5VOHMI7B2UZZU7TXAUQQSI2JPHULCKBR";
        assert!(is_user(user));
        assert!(!is_account(user));
        assert!(!is_user(&user.replace('Z', "Y")));
        assert!(!is_user("UABC"));
        assert!(!is_user(""));
    }
}
