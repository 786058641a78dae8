//! Encryption at rest: keys and bytes, no files.
//!
//! The idea: every file has a data key of its own, random and used for nothing else. It stands in the file's header,
//! wrapped by the operator's master key ([`Keys`]). So a counter is enough as nonce, changing the master key rewrites
//! no data, and a file that was written under the previous key is opened as long as that key is given, too.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{
    AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use zeroize::Zeroizing;

/// What [`Sealer::seal_in_place`] adds to the bytes it seals.
pub const TAG_BYTES: usize = 16;

/// Length of a wrapped data key.
///
/// | offset | bytes | content |
/// |---|---|---|
/// | 0 | 1 | cipher: 1 ChaCha20-Poly1305, 2 AES-256-GCM |
/// | 1 | 3 | zero |
/// | 4 | 8 | id of the master key |
/// | 12 | 12 | nonce of the wrapping |
/// | 24 | 32 | data key, encrypted |
/// | 56 | 16 | tag; it covers the first 12 bytes and the caller's context, too |
pub const HEADER_BYTES: usize = 72;

const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 8;
const WRAPPED_AT: usize = 24;
const WRAP_TAG_AT: usize = WRAPPED_AT + KEY_BYTES;

/// The ciphers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// ChaCha20-Poly1305: fast everywhere.
    ChaCha20Poly1305,
    /// AES-256-GCM: faster where the processor helps.
    Aes256Gcm,
}

impl Cipher {
    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Self::Aes256Gcm => &AES_256_GCM,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::ChaCha20Poly1305 => 1,
            Self::Aes256Gcm => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::ChaCha20Poly1305, Self::Aes256Gcm].into_iter().find(|cipher| cipher.code() == code)
    }
}

/// Why something was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The header names a master key that was not given.
    UnknownKey {
        /// The id in the header.
        id: [u8; KEY_ID_BYTES],
    },
    /// The header is none.
    Header,
    /// The bytes are not what was sealed, or were sealed under another key, counter or context.
    Forged,
    /// More bytes than one call of the cipher takes (64 GiB).
    TooLarge,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { id } => {
                write!(f, "encrypted under a key that is not given: {:016x}", u64::from_be_bytes(*id))
            }
            Self::Header => f.write_str("no header of an encrypted file"),
            Self::Forged => f.write_str("encrypted bytes do not verify"),
            Self::TooLarge => f.write_str("too many bytes to encrypt at once"),
        }
    }
}

impl std::error::Error for SealError {}

/// A master key: wraps data keys, and nothing else.
pub struct Key {
    cipher: Cipher,
    id: [u8; KEY_ID_BYTES],
    key: LessSafeKey,
    nonces: Prk,
}

impl Key {
    /// The key for `context` (what is encrypted, say `journal` and the server's name) from the operator's secret.
    ///
    /// HKDF-SHA256, so a short secret stays a weak one: the strength is the secret's own.
    #[must_use]
    pub fn derive(cipher: Cipher, secret: &[u8], context: &[u8]) -> Self {
        let root = Salt::new(HKDF_SHA256, b"sonata disk seal 1").extract(secret);
        let cipher_code = [cipher.code()];
        let key = expand::<KEY_BYTES>(&root, &[b"wrap", &cipher_code, context]);
        let id = *expand::<KEY_ID_BYTES>(&root, &[b"name", &cipher_code, context]);
        let nonces = expand::<KEY_BYTES>(&root, &[b"nonce", &cipher_code, context]);
        let key = bound(cipher, &key);
        Self { cipher, id, key, nonces: Prk::new_less_safe(HKDF_SHA256, &*nonces) }
    }

    /// What a file's header calls this key. Not secret.
    #[must_use]
    pub fn id(&self) -> [u8; KEY_ID_BYTES] {
        self.id
    }

    fn wraps(&self, header: &[u8; HEADER_BYTES]) -> bool {
        header[0] == self.cipher.code() && key_id(header) == self.id
    }

    /// The wrapped data key. The nonce is a function of the data key under a key of its own: two data keys that
    /// differ have nonces that differ, unless 96 bits meet by chance, and the caller need not give a second secret.
    fn wrap(&self, data_key: &[u8; KEY_BYTES], context: &[u8]) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0] = self.cipher.code();
        header[4..12].copy_from_slice(&self.id);
        let nonce: [u8; NONCE_LEN] = *expand(&self.nonces, &[data_key, context]);
        header[12..WRAPPED_AT].copy_from_slice(&nonce);
        let bound_to = [&header[..12], context].concat();
        let mut wrapped = *data_key;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(bound_to), &mut wrapped)
            .expect("32 bytes are never too many");
        header[WRAPPED_AT..WRAP_TAG_AT].copy_from_slice(&wrapped);
        header[WRAP_TAG_AT..].copy_from_slice(tag.as_ref());
        header
    }

    fn unwrap(
        &self,
        header: &[u8; HEADER_BYTES],
        context: &[u8],
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
        let nonce =
            Nonce::try_assume_unique_for_key(&header[12..WRAPPED_AT]).map_err(|_| SealError::Header)?;
        let bound_to = [&header[..12], context].concat();
        let mut wrapped = Zeroizing::new([0; HEADER_BYTES - WRAPPED_AT]);
        wrapped.copy_from_slice(&header[WRAPPED_AT..]);
        let opened = self
            .key
            .open_in_place(nonce, Aad::from(bound_to), &mut *wrapped)
            .map_err(|_| SealError::Forged)?;
        let mut data_key = Zeroizing::new([0; KEY_BYTES]);
        data_key.copy_from_slice(opened);
        Ok(data_key)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, {:016x})", self.cipher, u64::from_be_bytes(self.id))
    }
}

/// The master key that new files are written under, and those that older files may still need.
#[derive(Debug)]
pub struct Keys {
    current: Key,
    /// The current secret under other ciphers.
    alternatives: Vec<Key>,
    previous: Vec<Key>,
}

impl Keys {
    /// One key for everything.
    #[must_use]
    pub fn new(current: Key) -> Self {
        Self { current, alternatives: Vec::new(), previous: Vec::new() }
    }

    /// Opens files of another cipher as well, with a key of the same secret: it will not be missed when the secret of
    /// earlier keys is forgotten.
    #[must_use]
    pub fn with_alternative(mut self, key: Key) -> Self {
        self.alternatives.push(key);
        self
    }

    /// Opens files of an earlier key as well.
    #[must_use]
    pub fn with_previous(mut self, key: Key) -> Self {
        self.previous.push(key);
        self
    }

    /// Whether a header's data key is wrapped by the current secret, so that no earlier one is needed for it.
    #[must_use]
    pub fn is_current(&self, header: &[u8; HEADER_BYTES]) -> bool {
        self.lasting().any(|key| key.wraps(header))
    }

    /// The header that opens the same file under the current secret: the data key and its cipher stay as they are.
    /// `None` if there is no current key for that cipher.
    ///
    /// # Errors
    /// As [`Sealer::open`].
    pub fn rewrap(
        &self,
        header: &[u8; HEADER_BYTES],
        context: &[u8],
    ) -> Result<Option<[u8; HEADER_BYTES]>, SealError> {
        let (cipher, data_key) = self.unwrap(header, context)?;
        let key = self.lasting().find(|key| key.cipher == cipher);
        Ok(key.map(|key| key.wrap(&data_key, context)))
    }

    fn lasting(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.current).chain(&self.alternatives)
    }

    fn unwrap(
        &self,
        header: &[u8; HEADER_BYTES],
        context: &[u8],
    ) -> Result<(Cipher, Zeroizing<[u8; KEY_BYTES]>), SealError> {
        let cipher = Cipher::from_code(header[0]).ok_or(SealError::Header)?;
        let mut known = self.lasting().chain(&self.previous);
        let master = known.find(|key| key.wraps(header));
        let master = master.ok_or(SealError::UnknownKey { id: key_id(header) })?;
        Ok((cipher, master.unwrap(header, context)?))
    }
}

/// Encryption of what is written from now on, and the keys of what is there.
#[derive(Clone)]
pub struct Sealing {
    /// The operator's keys.
    pub keys: Arc<Keys>,
    /// 32 bytes of the best randomness there is, once per file.
    pub random: Arc<dyn Fn() -> [u8; KEY_BYTES] + Send + Sync>,
}

impl Sealing {
    /// A new file's sealer and header, as [`Sealer::create`].
    #[must_use]
    pub fn create(&self, context: &[u8]) -> (Sealer, [u8; HEADER_BYTES]) {
        Sealer::create(&self.keys, (self.random)(), context)
    }

    /// The sealer of a file that exists, for one who may have been given no key at all.
    ///
    /// # Errors
    /// As [`Sealer::open`].
    pub fn open(
        sealing: Option<&Self>,
        header: &[u8; HEADER_BYTES],
        context: &[u8],
    ) -> Result<Sealer, SealError> {
        match sealing {
            Some(sealing) => Sealer::open(&sealing.keys, header, context),
            None => Err(SealError::UnknownKey { id: key_id(header) }),
        }
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// Seals and opens the parts of one file.
pub struct Sealer {
    key: LessSafeKey,
}

impl Sealer {
    /// A new file's sealer, and the header to store with it. `data_key` is 32 bytes of the best randomness there is,
    /// used for this file only; `context` binds the header to its file (a number, a name) and is given again to
    /// [`Sealer::open`].
    #[must_use]
    pub fn create(keys: &Keys, data_key: [u8; KEY_BYTES], context: &[u8]) -> (Self, [u8; HEADER_BYTES]) {
        let data_key = Zeroizing::new(data_key);
        let header = keys.current.wrap(&data_key, context);
        (Self { key: bound(keys.current.cipher, &data_key) }, header)
    }

    /// The sealer of a file that exists.
    ///
    /// # Errors
    /// The header is damaged, belongs elsewhere, or needs a key that was not given.
    pub fn open(keys: &Keys, header: &[u8; HEADER_BYTES], context: &[u8]) -> Result<Self, SealError> {
        let (cipher, data_key) = keys.unwrap(header, context)?;
        Ok(Self { key: bound(cipher, &data_key) })
    }

    /// Encrypts `bytes` where they lie; the tag is to be stored beside them. `associated` is not encrypted but must be
    /// the same when opening. `counter` **must never be used twice** for one file with different bytes: an offset that
    /// is written once is a good one.
    ///
    /// # Errors
    /// [`SealError::TooLarge`].
    pub fn seal_in_place(
        &self,
        counter: u64,
        associated: &[u8],
        bytes: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], SealError> {
        let sealed = self.key.seal_in_place_separate_tag(nonce(counter), Aad::from(associated), bytes);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(sealed.map_err(|_| SealError::TooLarge)?.as_ref());
        Ok(tag)
    }

    /// Decrypts bytes that end with their tag where they lie, and gives them without it.
    ///
    /// # Errors
    /// [`SealError::Forged`]; what `sealed` then holds means nothing.
    pub fn open_in_place<'a>(
        &self,
        counter: u64,
        associated: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], SealError> {
        let opened = self.key.open_in_place(nonce(counter), Aad::from(associated), sealed);
        opened.map_err(|_| SealError::Forged)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

fn key_id(header: &[u8; HEADER_BYTES]) -> [u8; KEY_ID_BYTES] {
    let mut id = [0; KEY_ID_BYTES];
    id.copy_from_slice(&header[4..12]);
    id
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn bound(cipher: Cipher, key: &[u8; KEY_BYTES]) -> LessSafeKey {
    let key = UnboundKey::new(cipher.algorithm(), key).expect("both ciphers take 32 bytes");
    LessSafeKey::new(key)
}

fn expand<const N: usize>(root: &Prk, info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut output = Zeroizing::new([0; N]);
    let expanded = root.expand(info, Length(N)).and_then(|material| material.fill(&mut *output));
    expanded.expect("a few bytes are never too many");
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIPHERS: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];

    #[test]
    fn what_was_sealed_is_opened_and_nothing_else() {
        for cipher in CIPHERS {
            let keys = Keys::new(Key::derive(cipher, b"secret", b"journal"));
            let (sealer, header) = Sealer::create(&keys, [7; 32], b"file 1");
            let mut bytes = b"the body".to_vec();
            let tag = sealer.seal_in_place(4096, b"head", &mut bytes).unwrap();
            assert_ne!(bytes, b"the body");
            bytes.extend_from_slice(&tag);

            let opened = Sealer::open(&keys, &header, b"file 1").unwrap();
            assert_eq!(opened.open_in_place(4096, b"head", &mut bytes.clone()).unwrap(), b"the body");
            assert!(opened.open_in_place(4097, b"head", &mut bytes.clone()).is_err());
            assert!(opened.open_in_place(4096, b"hand", &mut bytes.clone()).is_err());
            assert!(opened.open_in_place(4096, b"head", &mut []).is_err());
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(opened.open_in_place(4096, b"head", &mut flipped).is_err(), "bit {bit}");
            }
            assert!(Sealer::open(&keys, &header, b"file 2").is_err());
            for bit in 0..HEADER_BYTES * 8 {
                let mut flipped = header;
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(Sealer::open(&keys, &flipped, b"file 1").is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_file_of_the_previous_key_is_opened_after_rotation() {
        let old = || Key::derive(Cipher::Aes256Gcm, b"old", b"journal");
        let new = || Key::derive(Cipher::ChaCha20Poly1305, b"new", b"journal");
        let (_, header) = Sealer::create(&Keys::new(old()), [9; 32], b"");
        let unknown = Sealer::open(&Keys::new(new()), &header, b"").unwrap_err();
        assert_eq!(unknown, SealError::UnknownKey { id: old().id() });
        assert!(Sealer::open(&Keys::new(new()).with_previous(old()), &header, b"").is_ok());
    }

    #[test]
    fn a_rewrapped_file_needs_the_new_key_only_and_keeps_its_cipher() {
        let key = |cipher, secret: &[u8]| Key::derive(cipher, secret, b"");
        let old = || key(CIPHERS[1], b"old");
        let (sealer, header) = Sealer::create(&Keys::new(old()), [9; 32], b"file");
        let mut bytes = b"body".to_vec();
        let tag = sealer.seal_in_place(1, b"", &mut bytes).unwrap();
        bytes.extend_from_slice(&tag);

        let keys = || Keys::new(key(CIPHERS[0], b"new"));
        let both = keys().with_previous(old());
        assert_eq!(both.rewrap(&header, b"file"), Ok(None), "no new key for that cipher");
        let both = both.with_alternative(key(CIPHERS[1], b"new"));
        assert!(!both.is_current(&header));
        let rewrapped = both.rewrap(&header, b"file").unwrap().unwrap();
        assert!(both.is_current(&rewrapped));
        let keys = keys().with_alternative(key(CIPHERS[1], b"new"));
        let sealer = Sealer::open(&keys, &rewrapped, b"file").unwrap();
        assert_eq!(sealer.open_in_place(1, b"", &mut bytes).unwrap(), b"body");
    }

    #[test]
    fn keys_differ_by_secret_context_and_cipher_and_do_not_show() {
        let ids = [
            Key::derive(Cipher::Aes256Gcm, b"a", b"x").id(),
            Key::derive(Cipher::Aes256Gcm, b"b", b"x").id(),
            Key::derive(Cipher::Aes256Gcm, b"a", b"y").id(),
            Key::derive(Cipher::ChaCha20Poly1305, b"a", b"x").id(),
        ];
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
        let (sealer, _) = Sealer::create(&Keys::new(Key::derive(CIPHERS[0], b"a", b"x")), [1; 32], b"");
        assert_eq!(format!("{sealer:?}"), "Sealer");
    }
}
