//! The `tls` block: which files and which rules. Nothing is opened here.

use std::path::PathBuf;

use crate::ciphers::{CURVES, INSECURE_SUITES, SECURE_SUITES};
use crate::duration;
use crate::grammar::{Entry, Value};
use crate::ocsp;
use crate::options::{
    CertificateFiles, DEFAULT_HANDSHAKE_FIRST_FALLBACK, HandshakeFirst, Options, Tls, TlsVersion,
};
use crate::problem::{ProblemKind, Problems};
use crate::read;

/// Reads the block into `options.tls`.
pub(crate) fn read(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    if let Some(tls) = block(entry, problems) {
        options.tls = Some(tls);
    }
}

/// Reads the block into `options.resolver_tls`.
pub(crate) fn read_resolver(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    let Some(tls) = block(entry, problems) else { return };
    if tls.ocsp_peer.is_some() {
        read::invalid(entry, "ocsp_peer: not supported towards a resolver", problems);
    }
    options.resolver_tls = Some(tls);
}

fn block(entry: &Entry, problems: &mut Problems) -> Option<Tls> {
    let map = read::map(entry, problems)?;
    let mut tls = Tls::default();
    let (mut cert_file, mut key_file) = (None, None);
    let mut certs = None;
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "cert_file" => cert_file = path(entry, problems),
            "key_file" => key_file = path(entry, problems),
            "ca_file" => tls.ca_file = path(entry, problems),
            "certs" | "certificates" => certs = certificates(entry, problems),
            "insecure" => tls.insecure = flag(entry, problems),
            "verify" => tls.verify |= flag(entry, problems),
            "verify_and_map" => {
                tls.verify_and_map = flag(entry, problems);
                tls.verify |= tls.verify_and_map;
            }
            "verify_cert_and_check_known_urls" => {
                if flag(entry, problems) {
                    let sentence = "verify_cert_and_check_known_urls not supported in this context";
                    read::invalid(entry, sentence, problems);
                }
            }
            "allow_insecure_cipher_suites" => tls.allow_insecure_cipher_suites = flag(entry, problems),
            "cipher_suites" => {
                tls.cipher_suites = names(entry, &[SECURE_SUITES, INSECURE_SUITES], "cipher", problems)
            }
            "curve_preferences" => {
                tls.curve_preferences = names(entry, &[CURVES], "curve preference", problems);
            }
            "timeout" => {
                if let Some(Some(timeout)) = read::seconds(entry, "tls", problems) {
                    tls.timeout = timeout;
                }
            }
            "connection_rate_limit" => {
                tls.connection_rate_limit = read::count(entry, problems).filter(|&n| n > 0);
            }
            "pinned_certs" => pinned_certs(&mut tls, entry, problems),
            "handshake_first" | "first" | "immediate" => {
                if let Some(first) = handshake_first(entry, problems) {
                    tls.handshake_first = first;
                }
            }
            "min_version" => {
                if let Some(version) = min_version(entry, problems) {
                    tls.min_version = version;
                }
            }
            "ocsp_peer" => tls.ocsp_peer = ocsp::read_peer(entry, problems),
            "cert_store" | "cert_match_by" | "cert_match" | "ca_certs_match" | "cert_match_skip_invalid" => {
                read::not_supported(entry, problems)
            }
            _ if entry.referenced => {}
            key => read::invalid(entry, format!("error parsing tls config, unknown field {key:?}"), problems),
        }
    }

    match (cert_file, key_file, certs) {
        (Some(_), _, Some(certs)) if !certs.is_empty() => read::invalid(
            entry,
            "error parsing tls config, cannot combine 'cert_file' option with 'certs' option",
            problems,
        ),
        (Some(cert_file), Some(key_file), _) => {
            tls.certificates.push(CertificateFiles { cert_file, key_file })
        }
        (Some(_), None, _) => read::invalid(entry, "missing 'key_file' in TLS configuration", problems),
        (None, Some(_), _) => read::invalid(entry, "missing 'cert_file' in TLS configuration", problems),
        (None, None, certs) => tls.certificates = certs.unwrap_or_default(),
    }
    if tls.ocsp_peer.is_some() && !tls.verify {
        let sentence =
            "OCSP peer verification for client connections requires TLS verify (mTLS) to be enabled";
        read::invalid(entry, sentence, problems);
    }
    if !tls.allow_insecure_cipher_suites {
        let insecure = |name: &&String| INSECURE_SUITES.contains(&name.as_str());
        let names: Vec<_> = tls.cipher_suites.iter().filter(insecure).map(String::as_str).collect();
        if !names.is_empty() {
            let sentence = format!(
                "insecure cipher suites configured without 'allow_insecure_cipher_suites' option set: {}",
                names.join(", ")
            );
            read::invalid(entry, sentence, problems);
        }
    }
    Some(tls)
}

fn path(entry: &Entry, problems: &mut Problems) -> Option<PathBuf> {
    read::optional_text(entry, problems).flatten().map(PathBuf::from)
}

fn flag(entry: &Entry, problems: &mut Problems) -> bool {
    read::boolean(entry, problems).unwrap_or_default()
}

fn certificates(entry: &Entry, problems: &mut Problems) -> Option<Vec<CertificateFiles>> {
    let items = read::list(entry, problems)?;
    let mut pairs = Vec::with_capacity(items.len());
    for item in items {
        let Value::Map(map) = &item.value else {
            read::wrong_type(item, "a map with cert_file and key_file", problems);
            continue;
        };
        let (mut cert_file, mut key_file) = (None, None);
        for entry in map {
            match entry.key.as_str() {
                "cert_file" => cert_file = path(entry, problems),
                "key_file" => key_file = path(entry, problems),
                key => read::invalid(
                    entry,
                    format!("error parsing tls certs config, unknown field {key:?}"),
                    problems,
                ),
            }
        }
        match (cert_file, key_file) {
            (Some(cert_file), Some(key_file)) => pairs.push(CertificateFiles { cert_file, key_file }),
            _ => read::invalid(
                item,
                "error parsing certificates config: both 'cert_file' and 'key_file' options are required",
                problems,
            ),
        }
    }
    Some(pairs)
}

/// A list of names that must be among the known ones, and must not be empty.
fn names(entry: &Entry, known: &[&[&str]], what: &str, problems: &mut Problems) -> Vec<String> {
    let Some(items) = read::list(entry, problems) else { return Vec::new() };
    if items.is_empty() {
        let sentence = format!("error parsing tls config, '{}' cannot be empty", entry.key);
        read::invalid(entry, sentence, problems);
    }
    let mut names = Vec::with_capacity(items.len());
    for item in items {
        match &item.value {
            Value::String(name) if known.iter().any(|list| list.contains(&name.as_str())) => {
                names.push(name.clone());
            }
            Value::String(name) => read::invalid(item, format!("unrecognized {what} {name}"), problems),
            _ => read::wrong_type(item, "a string", problems),
        }
    }
    names
}

fn pinned_certs(tls: &mut Tls, entry: &Entry, problems: &mut Problems) {
    const MEANING: &str = "hex-encoded sha256 of DER encoded SubjectPublicKeyInfo";
    let Value::List(items) = &entry.value else {
        let sentence = format!("error parsing tls config, expected 'pinned_certs' to be a list of {MEANING}");
        return read::invalid(entry, sentence, problems);
    };
    for item in items {
        let Value::String(key) = &item.value else {
            read::wrong_type(item, "a string", problems);
            continue;
        };
        let key = key.to_ascii_lowercase();
        if key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit()) {
            tls.pinned_certs.insert(key);
        } else {
            let sentence =
                format!("error parsing tls config, 'pinned_certs' key {key} does not look like {MEANING}");
            read::invalid(item, sentence, problems);
        }
    }
}

fn handshake_first(entry: &Entry, problems: &mut Problems) -> Option<HandshakeFirst> {
    let text = match &entry.value {
        Value::Bool(true) => return Some(HandshakeFirst::Always),
        Value::Bool(false) => return Some(HandshakeFirst::Off),
        Value::String(text) => text,
        _ => {
            read::wrong_type(entry, "a boolean or a string", problems);
            return None;
        }
    };
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" => Some(HandshakeFirst::Always),
        "false" | "off" => Some(HandshakeFirst::Off),
        "auto" | "auto_fallback" => Some(HandshakeFirst::Auto(DEFAULT_HANDSHAKE_FIRST_FALLBACK)),
        _ => match duration::parse(text) {
            // Without any time to begin in, there is nothing to fall back from.
            Ok(Some(delay)) if delay.is_zero() => Some(HandshakeFirst::Always),
            Ok(Some(delay)) => Some(HandshakeFirst::Auto(delay)),
            _ => {
                let sentence = format!("field {:?}'s value {text:?} is invalid", entry.key);
                problems.error(&entry.place, ProblemKind::Invalid(sentence));
                None
            }
        },
    }
}

fn min_version(entry: &Entry, problems: &mut Problems) -> Option<TlsVersion> {
    let Value::String(text) = &entry.value else {
        read::invalid(entry, "error parsing tls config: 'min_version' wrong type", problems);
        return None;
    };
    match text.as_str() {
        "1.2" => Some(TlsVersion::V1_2),
        "1.3" => Some(TlsVersion::V1_3),
        "1.0" | "1.1" => {
            let sentence = format!("error parsing tls config: unsupported TLS version: TLS {text}");
            read::invalid(entry, sentence, problems);
            None
        }
        _ => {
            read::invalid(entry, format!("error parsing tls config: unknown version: {text}"), problems);
            None
        }
    }
}
