//! Whole numbers of any size, in decimal: what a counter counts in.
//!
//! Numbers arrive as digits and leave as digits, and are only ever added, so they stay digits in between.

use std::cmp::Ordering;
use std::fmt;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decimal {
    /// Never of zero.
    negative: bool,
    /// 0 to 9, the least first, the last never 0; zero has none.
    digits: Vec<u8>,
}

impl Decimal {
    /// Reads digits with or without a sign before them; `None` for anything else.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (negative, digits) = match text.split_first()? {
            (b'-', digits) => (true, digits),
            (b'+', digits) => (false, digits),
            _ => (false, text),
        };
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        is_number.then(|| Self::new(negative, digits.iter().rev().map(|digit| digit - b'0').collect()))
    }

    fn new(negative: bool, mut digits: Vec<u8>) -> Self {
        let zeros = digits.iter().rev().take_while(|digit| **digit == 0).count();
        digits.truncate(digits.len() - zeros);
        Self { negative: negative && !digits.is_empty(), digits }
    }

    /// The sum.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        if self.negative == other.negative {
            return Self::new(self.negative, sum(&self.digits, &other.digits));
        }
        let (larger, smaller) = match self.compare_size(other) {
            Ordering::Less => (other, self),
            Ordering::Equal | Ordering::Greater => (self, other),
        };
        Self::new(larger.negative, difference(&larger.digits, &smaller.digits))
    }

    /// The difference.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        self.plus(&Self::new(!other.negative, other.digits.clone()))
    }

    /// Which is farther from zero.
    fn compare_size(&self, other: &Self) -> Ordering {
        let by_length = self.digits.len().cmp(&other.digits.len());
        by_length.then_with(|| self.digits.iter().rev().cmp(other.digits.iter().rev()))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: String = self.digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect();
        f.pad_integral(!self.negative, "", if digits.is_empty() { "0" } else { &digits })
    }
}

fn sum(left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let mut digits = Vec::with_capacity(left.len().max(right.len()) + 1);
    for at in 0..left.len().max(right.len()) {
        let digit = digit(left, at) + digit(right, at) + carry;
        digits.push(digit % 10);
        carry = digit / 10;
    }
    digits.push(carry);
    digits
}

/// `larger` must not be the smaller one.
fn difference(larger: &[u8], smaller: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let digits = (0..larger.len()).map(|at| {
        let (from, take) = (larger[at], digit(smaller, at) + borrow);
        borrow = u8::from(from < take);
        from + 10 * borrow - take
    });
    let digits = digits.collect();
    assert_eq!(borrow, 0, "the larger number is the one that is taken from");
    digits
}

fn digit(digits: &[u8], at: usize) -> u8 {
    digits.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text.as_bytes()).expect(text)
    }

    #[test]
    fn numbers_are_read_and_written() {
        for (text, written) in [
            ("0", "0"),
            ("-0", "0"),
            ("+007", "7"),
            ("-10", "-10"),
            ("99999999999999999999999", "99999999999999999999999"),
        ] {
            assert_eq!(decimal(text).to_string(), written);
        }
        for text in ["", "-", "+", "--1", "1.0", "1e3", "0x1", "1_0", " 1", "1 ", "one"] {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn numbers_grow_beyond_any_word() {
        let large = decimal(&"9".repeat(100));
        assert_eq!(large.plus(&decimal("1")).to_string(), format!("1{}", "0".repeat(100)));
        assert_eq!(large.plus(&decimal(&format!("-{}", "9".repeat(100)))).to_string(), "0");
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_machine(left in any::<i64>(), right in any::<i64>()) {
            let total = decimal(&left.to_string()).plus(&decimal(&right.to_string()));
            prop_assert_eq!(total.to_string(), (i128::from(left) + i128::from(right)).to_string());
            prop_assert_eq!(total.minus(&decimal(&right.to_string())), decimal(&left.to_string()));
        }
    }
}
