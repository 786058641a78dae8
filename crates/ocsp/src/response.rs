//! The answer, and whether to believe it (RFC 6960, sections 3.2 and 4.2).
//!
//! It counts if it is about the very certificate that was asked for, and if the certificate's issuer signed it, or
//! somebody whom the issuer made a signer of responses. Whether it is still current is a question of its own, since the
//! answer's age matters differently to those who ask.

use std::fmt;

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::Algorithms;
use crate::certificate::{Certificate, Key};
use crate::der::{self, Malformed, Reader, tag};
use crate::signature::Signature;

/// The longest response that is looked at. They are some hundred bytes to a few thousand with a signer's chain.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// Certificates in a response among which its signer is looked for. There is one, as a rule.
const SIGNERS_MAX: usize = 4;

/// What the issuer says of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not revoked.
    Good,
    /// Revoked, for good or for a time.
    Revoked,
    /// The responder does not know it.
    Unknown,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        })
    }
}

/// A verified answer. Times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// What it says.
    pub status: Status,
    /// Since when that is known to be so.
    pub this_update_s: i64,
    /// When there will be something newer; `None`: at any time.
    pub next_update_s: Option<i64>,
}

/// How far an answer's times may be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Seconds by which the responder's clock may differ.
    pub skew_s: i64,
    /// Seconds for which an answer holds that does not say how long it does; `None`: for ever.
    pub unset_next_update_s: Option<i64>,
}

/// Why an answer is not current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCurrent {
    /// Something newer should have come at that time, seconds since 1970.
    Past(i64),
    /// It holds only from that time, seconds since 1970.
    Future(i64),
}

/// Why an answer is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseError {
    /// Not a response, or one of a kind that nobody knows.
    Malformed,
    /// The responder did not answer the question; the number is `OCSPResponseStatus`.
    Refused(u8),
    /// About other certificates.
    OtherCertificate,
    /// Holds an extension that must be understood and is not.
    CriticalExtension,
    /// Not signed by the issuer, nor by anybody with a certificate from it.
    Signature,
    /// Signed by somebody with a certificate from the issuer, who may not sign responses, or not now.
    Delegation,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("malformed OCSP response"),
            Self::Refused(code) => {
                let name = match code {
                    1 => "malformed",
                    2 => "internal error",
                    3 => "try later",
                    5 => "signature required",
                    6 => "unauthorized",
                    _ => return write!(f, "error from OCSP responder: status {code}"),
                };
                write!(f, "error from OCSP responder: {name}")
            }
            Self::OtherCertificate => f.write_str("OCSP response is about another certificate"),
            Self::CriticalExtension => f.write_str("unsupported critical extension in OCSP response"),
            Self::Signature => f.write_str("bad OCSP signature"),
            Self::Delegation => f.write_str("signer of OCSP response is not authorized by the issuer"),
        }
    }
}

impl std::error::Error for ResponseError {}

impl From<Malformed> for ResponseError {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

impl Response {
    /// Reads what `issuer` says of `certificate`. The time is for the signer's certificate: seconds since 1970, and how far
    /// clocks may differ.
    ///
    /// # Errors
    /// See [`ResponseError`]. A response that is not verified says nothing.
    pub fn verify(
        bytes: &[u8],
        certificate: &Certificate,
        issuer: &Key,
        algorithms: Algorithms<'_>,
        now_s: i64,
        skew_s: i64,
    ) -> Result<Self, ResponseError> {
        if bytes.len() > RESPONSE_BYTES_MAX {
            return Err(ResponseError::Malformed);
        }
        let basic = basic_response(bytes)?;
        let mut outer = der::only(basic, tag::SEQUENCE)?;
        let data = outer.expect(tag::SEQUENCE)?;
        let signature = Signature::read(&mut outer)?;
        let signers = signers(&mut outer)?;
        let found = find(data.contents, certificate, issuer)?;
        let signed_by = |key: &Key| signature.is_by(&key.info, data.whole, algorithms);
        match signers.iter().find(|signer| signed_by(&signer.key)) {
            Some(signer) if signer.key == *issuer => Ok(found),
            Some(signer) if !signer.is_issued_by(issuer, algorithms) => Err(ResponseError::Signature),
            Some(signer) if signer.may_sign_responses(now_s, skew_s) => Ok(found),
            Some(_) => Err(ResponseError::Delegation),
            None if signed_by(issuer) => Ok(found),
            None => Err(ResponseError::Signature),
        }
    }

    /// Whether it holds at this time, seconds since 1970.
    ///
    /// # Errors
    /// See [`NotCurrent`].
    pub fn check_current(&self, now_s: i64, allowance: Allowance) -> Result<(), NotCurrent> {
        let earliest = now_s.saturating_sub(allowance.skew_s);
        match self.holds_until(allowance) {
            Some(until) if until < earliest => Err(NotCurrent::Past(until)),
            _ if self.this_update_s > now_s.saturating_add(allowance.skew_s) => {
                Err(NotCurrent::Future(self.this_update_s))
            }
            _ => Ok(()),
        }
    }

    /// The last second in which it holds, if there is one, by a clock that is right.
    pub fn holds_until(&self, allowance: Allowance) -> Option<i64> {
        let unset = || allowance.unset_next_update_s.map(|ttl| self.this_update_s.saturating_add(ttl));
        self.next_update_s.or_else(unset)
    }
}

/// `id-pkix-ocsp-basic`.
const BASIC: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x30\x01\x01";

/// `OCSPResponse`: the bytes of the `BasicOCSPResponse` in it.
fn basic_response(bytes: &[u8]) -> Result<&[u8], ResponseError> {
    let mut response = der::only(bytes, tag::SEQUENCE)?;
    match response.expect(tag::ENUMERATED)?.contents {
        [0] => {}
        [code] => return Err(ResponseError::Refused(*code)),
        _ => return Err(ResponseError::Malformed),
    }
    let mut explicit = response.enter(tag::constructed(0))?;
    response.end()?;
    let mut typed = explicit.enter(tag::SEQUENCE)?;
    explicit.end()?;
    if typed.expect(tag::OID)?.contents != BASIC {
        return Err(ResponseError::Malformed);
    }
    let basic = typed.expect(tag::OCTET_STRING)?.contents;
    typed.end()?;
    Ok(basic)
}

/// The certificates at the end of a `BasicOCSPResponse`.
fn signers(outer: &mut Reader<'_>) -> Result<Vec<Certificate>, ResponseError> {
    let mut found = Vec::new();
    if let Some(explicit) = outer.optional(tag::constructed(0))? {
        let mut list = der::only(explicit.contents, tag::SEQUENCE)?;
        while !list.is_empty() && found.len() < SIGNERS_MAX {
            let whole = list.expect(tag::SEQUENCE)?.whole;
            found.push(Certificate::from_der(whole).map_err(|_| ResponseError::Malformed)?);
        }
    }
    outer.end()?;
    Ok(found)
}

/// `ResponseData`: what it says of the certificate.
fn find(data: &[u8], certificate: &Certificate, issuer: &Key) -> Result<Response, ResponseError> {
    let mut data = Reader::new(data);
    if let Some(version) = data.optional(tag::constructed(0))?
        && version.contents != [tag::INTEGER, 1, 0]
    {
        return Err(ResponseError::Malformed);
    }
    // By its name, or by a sum of its key; the signature says it better.
    let responder = data.any()?;
    if responder.tag != tag::constructed(1) && responder.tag != tag::constructed(2) {
        return Err(ResponseError::Malformed);
    }
    time(data.expect(tag::GENERALIZED_TIME)?.contents)?;
    let mut list = data.enter(tag::SEQUENCE)?;
    let mut found = None;
    while !list.is_empty() {
        let mut single = list.enter(tag::SEQUENCE)?;
        let mut id = single.enter(tag::SEQUENCE)?;
        let is_it = names(&mut id, certificate, issuer)?;
        let said = state(&mut single)?;
        if is_it {
            found = found.or(Some(said));
        }
    }
    if let Some(extensions) = data.optional(tag::constructed(1))? {
        check_extensions(extensions.contents)?;
    }
    data.end()?;
    found.ok_or(ResponseError::OtherCertificate)
}

/// `CertID`: whether it names the certificate.
fn names(id: &mut Reader<'_>, certificate: &Certificate, issuer: &Key) -> Result<bool, ResponseError> {
    let algorithm = id.enter(tag::SEQUENCE)?.expect(tag::OID)?.contents;
    let name = id.expect(tag::OCTET_STRING)?.contents;
    let key = id.expect(tag::OCTET_STRING)?.contents;
    let serial = id.expect(tag::INTEGER)?.contents;
    id.end()?;
    if serial != certificate.serial {
        return Ok(false);
    }
    let algorithm = match algorithm {
        b"\x2b\x0e\x03\x02\x1a" => &SHA1_FOR_LEGACY_USE_ONLY,
        b"\x60\x86\x48\x01\x65\x03\x04\x02\x01" => &SHA256,
        b"\x60\x86\x48\x01\x65\x03\x04\x02\x02" => &SHA384,
        b"\x60\x86\x48\x01\x65\x03\x04\x02\x03" => &SHA512,
        _ => return Ok(false),
    };
    let is_sum = |sum: &[u8], bytes: &[u8]| digest::digest(algorithm, bytes).as_ref() == sum;
    Ok(is_sum(name, &issuer.name) && is_sum(key, &issuer.bits))
}

/// The rest of a `SingleResponse`.
fn state(single: &mut Reader<'_>) -> Result<Response, ResponseError> {
    let status = single.any()?;
    let status = match status.tag {
        tag if tag == tag::primitive(0) && status.contents.is_empty() => Status::Good,
        tag if tag == tag::constructed(1) => Status::Revoked,
        tag if tag == tag::primitive(2) && status.contents.is_empty() => Status::Unknown,
        _ => return Err(ResponseError::Malformed),
    };
    let this_update_s = time(single.expect(tag::GENERALIZED_TIME)?.contents)?;
    let next_update_s = match single.optional(tag::constructed(0))? {
        Some(explicit) => {
            let mut next = Reader::new(explicit.contents);
            let next_update_s = time(next.expect(tag::GENERALIZED_TIME)?.contents)?;
            next.end()?;
            Some(next_update_s)
        }
        None => None,
    };
    if let Some(extensions) = single.optional(tag::constructed(1))? {
        check_extensions(extensions.contents)?;
    }
    single.end()?;
    Ok(Response { status, this_update_s, next_update_s })
}

/// None of them must be understood. Those that there are tell of archives and nonces, and are not marked so.
fn check_extensions(explicit: &[u8]) -> Result<(), ResponseError> {
    let mut list = der::only(explicit, tag::SEQUENCE)?;
    while !list.is_empty() {
        let mut extension = list.enter(tag::SEQUENCE)?;
        extension.expect(tag::OID)?;
        if extension.optional(BOOLEAN)?.is_some_and(|critical| critical.contents != [0]) {
            return Err(ResponseError::CriticalExtension);
        }
    }
    Ok(())
}

const BOOLEAN: u8 = 0x01;

/// `YYYYMMDDHHMMSSZ`, as seconds since 1970. Some responders add a fraction, which is cut off.
fn time(text: &[u8]) -> Result<i64, Malformed> {
    let text = std::str::from_utf8(text).ok().and_then(|text| text.strip_suffix('Z')).ok_or(Malformed)?;
    let (text, fraction) = text.split_once('.').unwrap_or((text, ""));
    if text.len() != 14 || !text.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed);
    }
    let part = |from: usize, to: usize| text[from..to].parse::<i16>().map_err(|_| Malformed);
    let small = |from: usize| part(from, from + 2).map(|part| part as i8);
    let time = DateTime::new(part(0, 4)?, small(4)?, small(6)?, small(8)?, small(10)?, small(12)?, 0);
    let zoned = time.and_then(|time| TimeZone::UTC.to_timestamp(time));
    zoned.map(|timestamp| timestamp.as_second()).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(time(b"19700101000000Z"), Ok(0));
        assert_eq!(time(b"20260228235959Z"), Ok(1_772_323_199));
        assert_eq!(time(b"20260228235959.123Z"), Ok(1_772_323_199));
        for text in
            ["", "Z", "20260230000000Z", "20261301000000Z", "20260228235959", "2026022823595aZ", "２０２６Z"]
        {
            assert_eq!(time(text.as_bytes()), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn an_answer_holds_for_its_time_and_what_is_allowed_around_it() {
        let allowance = Allowance { skew_s: 30, unset_next_update_s: Some(100) };
        let answer = Response { status: Status::Good, this_update_s: 1000, next_update_s: Some(2000) };
        for (now_s, result) in [
            (969, Err(NotCurrent::Future(1000))),
            (970, Ok(())),
            (2030, Ok(())),
            (2031, Err(NotCurrent::Past(2000))),
        ] {
            assert_eq!(answer.check_current(now_s, allowance), result, "{now_s}");
        }
        let unset = Response { next_update_s: None, ..answer };
        assert_eq!(unset.check_current(1130, allowance), Ok(()));
        assert_eq!(unset.check_current(1131, allowance), Err(NotCurrent::Past(1100)));
        let for_ever = Allowance { unset_next_update_s: None, ..allowance };
        assert_eq!(unset.check_current(i64::MAX, for_ever), Ok(()));
    }
}
