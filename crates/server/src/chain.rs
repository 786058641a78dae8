//! A client's certificate and those that vouch for it, up to an authority that is trusted.
//!
//! TLS has verified that there is such a chain and does not tell which; here it is put together again by names and key
//! identifiers. Nothing is decided by it.

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::X509Certificate;

/// Certificates in a chain at most; TLS verifies no longer ones.
const LENGTH_MAX: usize = 8;

/// The chain of the first of the certificates that a client has shown.
pub(crate) fn verified<'a>(
    shown: &'a [CertificateDer<'static>],
    authorities: &'a [CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    let Some((first, others)) = shown.split_first() else { return Vec::new() };
    let mut chain = vec![first];
    while chain.len() < LENGTH_MAX {
        let Some(last) = chain.last().copied() else { break };
        // A certificate that is an authority itself ends the chain, whoever else vouches for it.
        if authorities.contains(last) {
            break;
        }
        let is_next = |one: &&CertificateDer<'static>| !chain.contains(one) && vouches(one, last);
        match authorities.iter().chain(others).find(is_next) {
            Some(next) => chain.push(next),
            None => break,
        }
    }
    chain.into_iter().cloned().collect()
}

/// Whether `issuer` is the one that `certificate` names.
fn vouches(issuer: &[u8], certificate: &[u8]) -> bool {
    let (Ok((_, issuer)), Ok((_, certificate))) =
        (parse_x509_certificate(issuer), parse_x509_certificate(certificate))
    else {
        return false;
    };
    let same_name = issuer.subject().as_raw() == certificate.issuer().as_raw();
    let same_key = match (key_of(&issuer), issuer_key_of(&certificate)) {
        (Some(own), Some(named)) => own == named,
        _ => true,
    };
    same_name && same_key
}

fn key_of<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0),
        _ => None,
    })
}

fn issuer_key_of<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(named) => named.key_identifier.as_ref().map(|key| key.0),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    fn authority(name: &str) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.use_authority_key_identifier_extension = true;
        (params, KeyPair::generate().expect("a key"))
    }

    #[test]
    fn chains_lead_to_the_authority() {
        let (root_params, root_key) = authority("root");
        let root = root_params.self_signed(&root_key).expect("a root").der().clone();
        let (same_name, other_key) = authority("root");
        let other = same_name.self_signed(&other_key).expect("another root").der().clone();
        let root_issuer = Issuer::from_params(&root_params, &root_key);
        let (middle_params, middle_key) = authority("middle");
        let middle = middle_params.signed_by(&middle_key, &root_issuer).expect("a middle").der().clone();
        let middle_issuer = Issuer::from_params(&middle_params, &middle_key);
        let (leaf_params, leaf_key) = authority("leaf");
        let leaf = leaf_params.signed_by(&leaf_key, &middle_issuer).expect("a leaf").der().clone();

        let shown = [leaf.clone(), other.clone(), middle.clone()];
        let authorities = [other, root.clone()];
        assert_eq!(verified(&shown, &authorities), [leaf.clone(), middle.clone(), root]);
        assert_eq!(verified(&shown, std::slice::from_ref(&middle)), [leaf.clone(), middle]);
        assert_eq!(verified(&shown[..1], &[]), [leaf]);
        assert!(verified(&[], &authorities).is_empty());
        let nonsense = CertificateDer::from(vec![1, 2, 3]);
        assert_eq!(verified(std::slice::from_ref(&nonsense), &authorities), [nonsense]);
    }
}
