//! Nkeys: the seeds and public keys by which users sign, as texts and as Ed25519 keys.
//!
//! Written here rather than taken from the `nkeys` crate because that one leaves copies of the seed in
//! memory; here every buffer that holds a seed is wiped, and the tests compare the results with that crate.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

/// Whom an nkey stands for; [`fmt::Display`] names it (`an account`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NkeyKind {
    /// An operator, who vouches for accounts (`SO…`, `O…`).
    Operator,
    /// An account, which vouches for users (`SA…`, `A…`).
    Account,
    /// A user, who connects (`SU…`, `U…`).
    User,
    /// A server (`SN…`, `N…`).
    Server,
    /// A cluster (`SC…`, `C…`).
    Cluster,
    /// A key for encryption, which cannot sign (`SX…`, `X…`).
    Curve,
    /// A kind that is not among the above.
    Other,
}

impl NkeyKind {
    fn of(prefix: u8) -> Self {
        match prefix >> 3 {
            0 => Self::Account,
            2 => Self::Cluster,
            13 => Self::Server,
            14 => Self::Operator,
            20 => Self::User,
            23 => Self::Curve,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for NkeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "an operator",
            Self::Account => "an account",
            Self::User => "a user",
            Self::Server => "a server",
            Self::Cluster => "a cluster",
            Self::Curve => "an encryption",
            Self::Other => "some other",
        })
    }
}

/// Why a text is no seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeedFault {
    /// Not 58 letters of base 32.
    Letters,
    /// The check digits do not fit the rest: a letter was changed or lost.
    Checksum,
    /// It does not begin like a seed; a public key was given, perhaps.
    Prefix,
}

impl fmt::Display for SeedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Letters => "a seed is 58 letters of base 32",
            Self::Checksum => "its check digits do not match",
            Self::Prefix => "it does not begin like a seed",
        })
    }
}

/// Bytes of a decoded seed: two of prefix, the seed proper, two of checksum.
const SEED_BYTES: usize = 36;
/// Letters of a seed.
pub(crate) const SEED_LETTERS: usize = 58;
/// Bytes of a decoded public key: one of prefix, the key, two of checksum.
const PUBLIC_BYTES: usize = 35;
/// The first five bits of every seed, the letter `S`.
const PREFIX_SEED: u8 = 18 << 3;
/// The first byte of a user's public key, the letter `U`.
const PREFIX_USER: u8 = 20 << 3;

/// A key that signs; wiped when dropped.
pub(crate) struct Seed {
    pub(crate) kind: NkeyKind,
    prefix: u8,
    key: SigningKey,
}

impl Seed {
    /// Reads a seed such as `SUA…`.
    pub(crate) fn parse(text: &str) -> Result<Self, SeedFault> {
        if text.len() != SEED_LETTERS {
            return Err(SeedFault::Letters);
        }
        let mut bytes = Zeroizing::new([0_u8; SEED_BYTES]);
        BASE32_NOPAD.decode_mut(text.as_bytes(), bytes.as_mut_slice()).map_err(|_| SeedFault::Letters)?;
        let body = check(bytes.as_slice()).ok_or(SeedFault::Checksum)?;
        let [first, second, seed @ ..] = body else { return Err(SeedFault::Letters) };
        if first & 0b1111_1000 != PREFIX_SEED {
            return Err(SeedFault::Prefix);
        }
        let prefix = (first & 0b111) << 5 | second >> 3;
        let mut secret = Zeroizing::new([0_u8; 32]);
        secret.copy_from_slice(seed.get(..32).ok_or(SeedFault::Letters)?);
        Ok(Self { kind: NkeyKind::of(prefix), prefix, key: SigningKey::from_bytes(&secret) })
    }

    /// The public key as text.
    pub(crate) fn public_key(&self) -> String {
        let mut bytes = [0_u8; PUBLIC_BYTES];
        let (body, sum) = bytes.split_at_mut(PUBLIC_BYTES - 2);
        if let Some((first, key)) = body.split_first_mut() {
            *first = self.prefix;
            key.copy_from_slice(self.key.verifying_key().as_bytes());
        }
        sum.copy_from_slice(&checksum(body).to_le_bytes());
        BASE32_NOPAD.encode(&bytes)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).to_bytes().to_vec()
    }
}

/// Whether a text is the public key of a user.
pub(crate) fn is_user(public_key: &str) -> bool {
    public(public_key).is_some_and(|(prefix, _)| prefix == PREFIX_USER)
}

/// Whether a public key signed a message so.
pub(crate) fn verify(public_key: &str, message: &[u8], signature: &[u8]) -> bool {
    let Some((_, key)) = public(public_key) else { return false };
    let Ok(signature) = Signature::from_slice(signature) else { return false };
    key.verify_strict(message, &signature).is_ok()
}

fn public(text: &str) -> Option<(u8, VerifyingKey)> {
    let bytes = BASE32_NOPAD.decode(text.as_bytes()).ok()?;
    let (prefix, key) = check(&bytes)?.split_first()?;
    Some((*prefix, VerifyingKey::from_bytes(key.try_into().ok()?).ok()?))
}

/// What stands before the checksum, if the checksum fits.
fn check(bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_last_chunk::<2>()?;
    (checksum(body) == u16::from_le_bytes(*sum)).then_some(body)
}

/// CRC-16/XMODEM.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(
            sum ^ u16::from(*byte) << 8,
            |sum, _| if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nkeys::{KeyPair, KeyPairType};

    #[test]
    fn agrees_with_the_nkeys_crate() {
        for (kind, expected) in [
            (KeyPairType::User, NkeyKind::User),
            (KeyPairType::Account, NkeyKind::Account),
            (KeyPairType::Operator, NkeyKind::Operator),
            (KeyPairType::Server, NkeyKind::Server),
            (KeyPairType::Cluster, NkeyKind::Cluster),
            (KeyPairType::Curve, NkeyKind::Curve),
            (KeyPairType::Module, NkeyKind::Other),
        ] {
            let theirs = KeyPair::new(kind);
            let ours = Seed::parse(&theirs.seed().unwrap()).unwrap();
            assert_eq!(ours.kind, expected);
            assert_eq!(ours.public_key(), theirs.public_key());
            assert_eq!(is_user(&theirs.public_key()), expected == NkeyKind::User);
            let signature = ours.sign(b"nonce");
            assert_eq!(signature, theirs.sign(b"nonce").unwrap());
            assert!(verify(&theirs.public_key(), b"nonce", &signature));
            assert!(!verify(&theirs.public_key(), b"other", &signature));
            assert!(!verify(&KeyPair::new_user().public_key(), b"nonce", &signature));
        }
    }

    #[test]
    fn faults_of_a_seed() {
        let pair = KeyPair::new_user();
        let seed = pair.seed().unwrap();
        let fault = |text: &str| Seed::parse(text).err();
        assert_eq!(fault(&seed), None);
        assert_eq!(fault(""), Some(SeedFault::Letters));
        assert_eq!(fault(&seed[1..]), Some(SeedFault::Letters));
        assert_eq!(fault(&seed.replace(|_| true, "1")), Some(SeedFault::Letters));
        let changed = if seed.as_bytes()[9] == b'A' { "B" } else { "A" };
        assert_eq!(fault(&format!("{}{changed}{}", &seed[..9], &seed[10..])), Some(SeedFault::Checksum));
        assert_eq!(fault(&pair.public_key()), Some(SeedFault::Letters));
        let mut no_seed = vec![PREFIX_USER; SEED_BYTES - 2];
        no_seed.extend(checksum(&no_seed).to_le_bytes());
        assert_eq!(fault(&BASE32_NOPAD.encode(&no_seed)), Some(SeedFault::Prefix));
    }

    proptest::proptest! {
        #[test]
        fn no_text_trips_it(text in ".{0,70}", letters in "[A-Z2-7]{58}") {
            let _ = Seed::parse(&text);
            let _ = Seed::parse(&letters);
            let _ = verify(&text, b"", b"");
            let _ = is_user(&letters);
        }
    }
}
