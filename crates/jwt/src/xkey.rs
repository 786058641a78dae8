//! Sealed boxes between two curve keys (`xkv1`): what an authorization service and a server say in secret.

use std::fmt;

use nkeys::XKey;

/// Random bytes that a seal needs; never the same twice for a pair of keys.
pub const NONCE_BYTES: usize = 24;

/// Why a box could not be made or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealError {
    /// A key is not one for sealing.
    Key,
    /// The box was not sealed by this sender for this receiver, or is no box at all.
    Box,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "not a curve key",
            Self::Box => "the box cannot be opened",
        })
    }
}

impl std::error::Error for SealError {}

/// A curve key with its secret half.
pub struct Curve(XKey);

impl Curve {
    /// A key made of 32 random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(XKey::new_from_raw(bytes))
    }

    /// The key of a seed (`SX…`).
    ///
    /// # Errors
    /// The text is no seed of a curve key.
    pub fn from_seed(seed: &str) -> Result<Self, SealError> {
        XKey::from_seed(seed).map(Self).map_err(|_| SealError::Key)
    }

    /// The public half, `X…`.
    pub fn public_key(&self) -> String {
        self.0.public_key()
    }

    /// Seals `bytes` so that only the owner of `receiver` can read them, and knows from whom they are.
    ///
    /// # Errors
    /// `receiver` is no public curve key.
    pub fn seal(&self, bytes: &[u8], receiver: &str, nonce: [u8; NONCE_BYTES]) -> Result<Vec<u8>, SealError> {
        let receiver = public(receiver)?;
        self.0.seal_with_nonce(bytes, &receiver, nonce.into()).map_err(|_| SealError::Box)
    }

    /// Opens what `sender` has sealed for this key.
    ///
    /// # Errors
    /// `sender` is no public curve key, or the box is not from them for us.
    pub fn open(&self, sealed: &[u8], sender: &str) -> Result<Vec<u8>, SealError> {
        let sender = public(sender)?;
        self.0.open(sealed, &sender).map_err(|_| SealError::Box)
    }
}

/// The secret half is not for logs.
impl fmt::Debug for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Curve").field(&self.public_key()).finish()
    }
}

fn public(text: &str) -> Result<XKey, SealError> {
    // The length first: the decoder takes any.
    if text.len() != PUBLIC_KEY_BYTES {
        return Err(SealError::Key);
    }
    XKey::from_public_key(text).map_err(|_| SealError::Key)
}

const PUBLIC_KEY_BYTES: usize = 56;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_receiver_opens_a_box_and_only_from_its_sender() {
        let (one, two, three) = ([1; 32], [2; 32], [3; 32]);
        let [one, two, three] = [one, two, three].map(Curve::from_random);
        let sealed = one.seal(b"hello", &two.public_key(), [7; NONCE_BYTES]).unwrap();
        assert!(sealed.starts_with(b"xkv1"));
        assert_eq!(two.open(&sealed, &one.public_key()).unwrap(), b"hello");
        assert_eq!(three.open(&sealed, &one.public_key()), Err(SealError::Box));
        assert_eq!(two.open(&sealed, &three.public_key()), Err(SealError::Box));
        for end in 0..sealed.len() {
            assert_eq!(two.open(&sealed[..end], &one.public_key()), Err(SealError::Box));
        }
        for key in ["", "X", "XÄ", &"A".repeat(1 << 16)] {
            assert_eq!(two.open(&sealed, key), Err(SealError::Key));
        }
    }
}
