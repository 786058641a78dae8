//! Short unique names: ids of advisories, pins and generated consumers.
//!
//! 22 letters of an alphabet of 62: twelve drawn at random once, ten that count upwards in random steps. Randomness is
//! given by the caller.

use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX: usize = 12;
const COUNTER: usize = 10;
/// 62 to the power of 10: where the counter begins anew.
const COUNTER_END: u64 = 839_299_365_868_340_224;

/// A generator of ids; none repeats before 62^10 / 333 of them.
#[derive(Clone, Debug)]
pub struct Nuid {
    prefix: [u8; PREFIX],
    counter: u64,
    step: u64,
}

impl Nuid {
    /// A generator from 24 random bytes.
    pub fn new(random: [u8; 24]) -> Self {
        let mut prefix = [0; PREFIX];
        for (letter, byte) in prefix.iter_mut().zip(random) {
            *letter = ALPHABET[usize::from(byte) % ALPHABET.len()];
        }
        let number = |from: usize| {
            random[from..].iter().take(8).fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
        };
        Self { prefix, counter: number(12) % COUNTER_END, step: 33 + number(16) % 300 }
    }

    /// The next id.
    pub fn next_id(&mut self) -> String {
        self.counter = (self.counter + self.step) % COUNTER_END;
        let mut id = String::with_capacity(PREFIX + COUNTER);
        id.extend(self.prefix.iter().chain(&letters::<COUNTER>(self.counter)).map(|byte| char::from(*byte)));
        id
    }

    /// A name for a consumer that was given none: 8 letters.
    pub fn next_consumer_name(&mut self) -> String {
        hash(&self.next_id())
    }
}

/// Eight letters that stand for a name: of an account in acks, of an API prefix in sources.
pub fn hash(name: &str) -> String {
    Sha256::digest(name.as_bytes())
        .iter()
        .take(8)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

/// The last `N` digits of a number to the base of 62.
pub(crate) fn letters<const N: usize>(number: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    let mut rest = number;
    for letter in text.iter_mut().rev() {
        // The remainder is below 62.
        *letter = ALPHABET[usize::try_from(rest % 62).unwrap_or_default()];
        rest /= 62;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_of_one_length() {
        let mut generator = Nuid::new([0xFF; 24]);
        let ids: std::collections::HashSet<String> = (0..10_000).map(|_| generator.next_id()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 22 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())));
        assert_eq!(generator.next_consumer_name().len(), 8);
    }

    #[test]
    fn the_counter_begins_anew() {
        let mut generator = Nuid::new([0; 24]);
        generator.counter = COUNTER_END - 1;
        assert!(generator.next_id().ends_with("0000000W"));
    }

    #[test]
    fn a_hash_is_the_references() {
        // What the reference puts into the acks of the global account.
        assert_eq!(hash("$G"), "szMpdrwD");
    }
}
