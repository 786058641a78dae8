//! Whether a key signed something.

use rustls_pki_types::AlgorithmIdentifier;

use crate::Algorithms;
use crate::der::{self, Malformed, Reader, tag};

/// A signature as it stands beside what was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    /// The contents of the `AlgorithmIdentifier`.
    algorithm: Vec<u8>,
    bytes: Vec<u8>,
}

impl Signature {
    /// Reads the algorithm and the bit string that follows it.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let algorithm = reader.expect(tag::SEQUENCE)?.contents.to_vec();
        let bytes = der::whole_bytes(reader.expect(tag::BIT_STRING)?.contents)?.to_vec();
        Ok(Self { algorithm, bytes })
    }

    /// Whether it is one of `message` by the key, with an algorithm that is accepted. The key is a
    /// `SubjectPublicKeyInfo`.
    pub(crate) fn is_by(&self, key: &[u8], message: &[u8], algorithms: Algorithms<'_>) -> bool {
        let Ok((key_algorithm, key)) = public_key(key) else { return false };
        let is = |one: AlgorithmIdentifier, other: &[u8]| *one == *other;
        algorithms
            .iter()
            .filter(|known| {
                is(known.signature_alg_id(), &self.algorithm) && is(known.public_key_alg_id(), key_algorithm)
            })
            .any(|known| known.verify_signature(key, message, &self.bytes).is_ok())
    }
}

/// The contents of the algorithm of a `SubjectPublicKeyInfo`, and the key.
pub(crate) fn public_key(key: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut reader = der::only(key, tag::SEQUENCE)?;
    let algorithm = reader.expect(tag::SEQUENCE)?.contents;
    let bits = der::whole_bytes(reader.expect(tag::BIT_STRING)?.contents)?;
    reader.end()?;
    Ok((algorithm, bits))
}
