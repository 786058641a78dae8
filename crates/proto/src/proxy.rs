//! The PROXY protocol header (versions 1 and 2, HAProxy specification) that a load balancer puts before
//! everything else to say where a connection really comes from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use memchr::memmem;

const V1_START: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes that decide whether there is a header at all.
const DETECTION_BYTES: usize = 6;
const V1_LINE_BYTES_MAX: usize = 107;
const V2_FIXED_BYTES: usize = 16;
/// Source and destination of IPv6 with their ports.
const V2_ADDRESS_BYTES_MAX: usize = 36;

/// The most bytes that [`read`] must be shown; also the bound of what a peer can make us hold here.
pub const SHOWN_BYTES_MAX: usize = V1_LINE_BYTES_MAX;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyStep {
    /// More bytes are needed to tell.
    Incomplete,
    /// No PROXY header: all bytes belong to the protocol.
    Absent,
    /// A header of `consumed` bytes: more than were shown when there is something behind the addresses, which is to be
    /// skipped.
    Header {
        /// The real source; `None` when the proxy speaks for itself (`LOCAL`, `UNKNOWN`, unspecified family).
        source: Option<SocketAddr>,
        /// Length of the header.
        consumed: usize,
    },
}

/// Why a PROXY header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyError {
    /// Not the form that the specification gives: what is wrong.
    Invalid(&'static str),
    /// Valid, but not for a stream connection over IP: what it is.
    Unsupported(&'static str),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => write!(f, "invalid PROXY protocol header: {what}"),
            Self::Unsupported(what) => write!(f, "unsupported PROXY protocol feature: {what}"),
        }
    }
}

impl std::error::Error for ProxyError {}

/// Looks at the first bytes of a connection.
///
/// # Errors
/// [`ProxyError`] when the bytes start a header that is not acceptable; the connection is to be closed.
pub fn read(buffer: &[u8]) -> Result<ProxyStep, ProxyError> {
    let seen = buffer.len().min(DETECTION_BYTES);
    if buffer[..seen] == V1_START[..seen] {
        return if seen < DETECTION_BYTES { Ok(ProxyStep::Incomplete) } else { read_v1(buffer) };
    }
    if buffer[..seen] == V2_SIGNATURE[..seen] {
        return if seen < DETECTION_BYTES { Ok(ProxyStep::Incomplete) } else { read_v2(buffer) };
    }
    // The reference waits for six bytes before it decides, and so do we: fewer are never an operation that
    // could be answered.
    if seen < DETECTION_BYTES { Ok(ProxyStep::Incomplete) } else { Ok(ProxyStep::Absent) }
}

fn read_v1(buffer: &[u8]) -> Result<ProxyStep, ProxyError> {
    let window = &buffer[..buffer.len().min(V1_LINE_BYTES_MAX)];
    let Some(end) = memmem::find(window, b"\r\n") else {
        return if window.len() == V1_LINE_BYTES_MAX {
            Err(ProxyError::Invalid("version 1 line too long"))
        } else {
            Ok(ProxyStep::Incomplete)
        };
    };
    let consumed = end + 2;
    let line = std::str::from_utf8(&window[V1_START.len()..end])
        .map_err(|_| ProxyError::Invalid("version 1 line is not text"))?;
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    match fields.as_slice() {
        ["UNKNOWN", ..] => Ok(ProxyStep::Header { source: None, consumed }),
        [family, source, destination, source_port, destination_port] => {
            let address =
                |text: &str| IpAddr::from_str(text).map_err(|_| ProxyError::Invalid("invalid address"));
            let port = |text: &str| u16::from_str(text).map_err(|_| ProxyError::Invalid("invalid port"));
            let (source, destination) = (address(source)?, address(destination)?);
            let (source_port, _) = (port(source_port)?, port(destination_port)?);
            match (*family, source, destination) {
                ("TCP4", IpAddr::V4(_), IpAddr::V4(_)) | ("TCP6", IpAddr::V6(_), IpAddr::V6(_)) => {
                    Ok(ProxyStep::Header { source: Some(SocketAddr::new(source, source_port)), consumed })
                }
                ("TCP4" | "TCP6", ..) => Err(ProxyError::Invalid("address of another family")),
                _ => Err(ProxyError::Invalid("unknown protocol")),
            }
        }
        _ => Err(ProxyError::Invalid("version 1 line needs five fields")),
    }
}

fn read_v2(buffer: &[u8]) -> Result<ProxyStep, ProxyError> {
    let seen = buffer.len().min(V2_SIGNATURE.len());
    if buffer[..seen] != V2_SIGNATURE[..seen] {
        return Err(ProxyError::Invalid("invalid signature"));
    }
    let Some(&[version_command, family_protocol, high, low]) = buffer.get(12..V2_FIXED_BYTES) else {
        return Ok(ProxyStep::Incomplete);
    };
    if version_command & 0xf0 != 0x20 {
        return Err(ProxyError::Invalid("invalid version"));
    }
    let consumed = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    let local = match version_command & 0x0f {
        0x0 => true,
        0x1 => false,
        _ => return Err(ProxyError::Invalid("unknown command")),
    };
    if !local && family_protocol & 0x0f != 0x1 {
        return Err(ProxyError::Unsupported("only STREAM protocol supported"));
    }
    let family = family_protocol >> 4;
    if !local && family > 2 {
        return Err(ProxyError::Unsupported("unsupported address family"));
    }
    // Behind the addresses there may be up to 64 KiB of what only proxies want to know.
    let end = consumed.min(V2_FIXED_BYTES + V2_ADDRESS_BYTES_MAX);
    let Some(addresses) = buffer.get(V2_FIXED_BYTES..end) else {
        return Ok(ProxyStep::Incomplete);
    };
    let source = match (local, family) {
        (false, 1) => Some(ipv4_source(addresses)?),
        (false, 2) => Some(ipv6_source(addresses)?),
        _ => None,
    };
    Ok(ProxyStep::Header { source, consumed })
}

fn ipv4_source(addresses: &[u8]) -> Result<SocketAddr, ProxyError> {
    let Some(&[a, b, c, d, _, _, _, _, high, low, _, _]) = addresses.get(..12) else {
        return Err(ProxyError::Invalid("IPv4 address data too short"));
    };
    Ok(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
}

fn ipv6_source(addresses: &[u8]) -> Result<SocketAddr, ProxyError> {
    let source = addresses.get(..36).and_then(|all| all.first_chunk::<16>());
    let (Some(source), Some(&[high, low])) = (source, addresses.get(32..34)) else {
        return Err(ProxyError::Invalid("IPv6 address data too short"));
    };
    Ok(SocketAddr::new(Ipv6Addr::from(*source).into(), u16::from_be_bytes([high, low])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(version_command: u8, family_protocol: u8, addresses: &[u8]) -> Vec<u8> {
        let mut header = V2_SIGNATURE.to_vec();
        header.extend([version_command, family_protocol]);
        header.extend((addresses.len() as u16).to_be_bytes());
        header.extend(addresses);
        header
    }

    #[test]
    fn headers_of_both_versions_give_the_source() {
        let four = [1, 2, 3, 4, 9, 9, 9, 9, 0x10, 0x92, 0, 1];
        let mut six = [0u8; 36];
        six[15] = 1;
        six[32..34].copy_from_slice(&[0x10, 0x92]);
        let table: &[(Vec<u8>, &str)] = &[
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 4242 4222\r\n".to_vec(), "Some(1.2.3.4:4242)"),
            (b"PROXY TCP6 ::1 ::2 4242 4222\r\n".to_vec(), "Some([::1]:4242)"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "None"),
            (v2(0x21, 0x11, &four), "Some(1.2.3.4:4242)"),
            (v2(0x21, 0x21, &six), "Some([::1]:4242)"),
            (v2(0x20, 0x00, &[7, 7]), "None"),
            (v2(0x21, 0x01, &[]), "None"),
        ];
        for (header, expected) in table {
            for cut in 0..header.len() {
                assert_eq!(read(&header[..cut]), Ok(ProxyStep::Incomplete), "{expected} cut at {cut}");
            }
            let mut with_more = header.clone();
            with_more.extend(b"CONNECT {}\r\n");
            match read(&with_more) {
                Ok(ProxyStep::Header { source, consumed }) => {
                    assert_eq!((format!("{source:?}").as_str(), consumed), (*expected, header.len()));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_stands_behind_the_addresses_need_not_be_shown() {
        let mut long = vec![1, 2, 3, 4, 9, 9, 9, 9, 0x10, 0x92, 0, 1];
        long.resize(60_000, 0xee);
        let header = v2(0x21, 0x11, &long);
        let shown = &header[..V2_FIXED_BYTES + V2_ADDRESS_BYTES_MAX];
        let source = Some("1.2.3.4:4242".parse().unwrap());
        assert_eq!(read(shown), Ok(ProxyStep::Header { source, consumed: header.len() }));
        assert_eq!(read(&shown[..shown.len() - 1]), Ok(ProxyStep::Incomplete));
    }

    #[test]
    fn other_bytes_are_not_a_header_and_bad_headers_are_refused() {
        assert_eq!(read(b"CONNECT {}\r\n"), Ok(ProxyStep::Absent));
        assert_eq!(read(b"PING\r\n"), Ok(ProxyStep::Absent));
        let refused: &[Vec<u8>] = &[
            b"PROXY TCP4 ::1 ::2 1 2\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n".to_vec(),
            b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(),
            b"PROXY TCP4 x 5.6.7.8 1 2\r\n".to_vec(),
            [b"PROXY TCP4 ".as_slice(), &[b' '; 200]].concat(),
            b"\r\n\r\n\0\r\nQUIX\n".to_vec(),
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x12, &[0; 12]),
            v2(0x21, 0x31, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 12]),
        ];
        for header in refused {
            assert!(read(header).is_err(), "{}", header.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_consume_what_is_not_there(tail in prop::collection::vec(any::<u8>(), 0..80), kind in 0..3) {
            let mut bytes = match kind { 0 => V1_START.to_vec(), 1 => V2_SIGNATURE.to_vec(), _ => vec![] };
            bytes.extend(tail);
            if let Ok(ProxyStep::Header { consumed, .. }) = read(&bytes) {
                prop_assert!(consumed <= bytes.len() || bytes.len() >= V2_FIXED_BYTES + V2_ADDRESS_BYTES_MAX);
            }
            if bytes.len() >= SHOWN_BYTES_MAX {
                prop_assert_ne!(read(&bytes), Ok(ProxyStep::Incomplete));
            }
        }
    }
}
