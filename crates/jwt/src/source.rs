//! Where a user may connect from.

use std::net::IpAddr;

/// Whether `address` is in one of the ranges; without ranges any is, even an unknown one.
pub fn is_allowed(ranges: &[String], address: Option<IpAddr>) -> bool {
    if ranges.is_empty() {
        return true;
    }
    // An IPv4 client of a socket for both looks like an IPv6 one.
    let Some(address) = address.map(|address| address.to_canonical()) else { return false };
    for range in ranges {
        match parse(range) {
            Some((network, bits)) if contains(network, bits, address) => return true,
            Some(_) => {}
            // Validation has refused it before; whoever did not ask is not let in.
            None => return false,
        }
    }
    false
}

/// A range such as `10.0.0.0/8`.
pub(crate) fn parse(range: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = range.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let bits = bits.parse().ok().filter(|bits| *bits <= max)?;
    Some((address, bits))
}

fn contains(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&[], "", true),
            (&["10.0.0.0/8"], "", false),
            (&["10.0.0.0/8"], "10.255.0.1", true),
            (&["10.0.0.0/8"], "11.0.0.1", false),
            (&["10.0.0.0/8"], "::ffff:10.0.0.1", true),
            (&["10.0.0.0/8", "::1/128"], "::1", true),
            (&["0.0.0.0/0"], "1.2.3.4", true),
            (&["::/0"], "1.2.3.4", false),
            (&["1.2.3.4"], "1.2.3.4", false),
            (&["1.2.3.4/33"], "1.2.3.4", false),
            (&["1.2.3.4/+32"], "1.2.3.4", false),
            (&["nonsense", "0.0.0.0/0"], "1.2.3.4", false),
        ];
        for (ranges, address, allowed) in cases {
            let ranges: Vec<String> = ranges.iter().map(|range| (*range).into()).collect();
            assert_eq!(is_allowed(&ranges, address.parse().ok()), *allowed, "{ranges:?} {address}");
        }
    }
}
