//! Certificates made by OpenSSL, and what nats-server 2.15.1 said about them: the texts are those of its `/connz`,
//! the mapped users those it let in with `verify_and_map` and the given list of users.

// Helpers of tests stand outside of the functions that clippy recognises as tests.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use sonata_auth::certificate::{InvalidPin, PeerCertificate, PinnedCertificates};
use sonata_auth::check::{Check, Outcome};
use sonata_auth::connection_type::ConnectionType;
use sonata_auth::password::Secret;
use sonata_auth::user::{Credentials, Grant, Reason, UserEntry, Users, UsersConfig};

/// Name of the file, subject, SHA-256 of the public key, SHA-256 of the certificate.
const SUMMARIES: &[(&str, &str, &str, &str)] = &[
    (
        "plain",
        "CN=alice,OU=Ops,O=Acme,L=SF,ST=CA,C=US",
        "503c9a8f7b3e6ada79d18a01ffecbec1861d8b1d9df00235adcf60009e0f9306",
        "ca18c8eea12ec554329377f69806e8fc7bc174aa55d9ced3b8c803e87b51a217",
    ),
    (
        "repeated",
        "SERIALNUMBER=7,CN=alice,OU=one+OU=two,O=Acme",
        "66317f9cff4c926f39823ea776e011d642072f612742169e655ffb5586b299fc",
        "966b5bcaea28250aa2d6efe2806421e735d6960b39b3d8242bc55b6b1ce56b7d",
    ),
    (
        "components",
        "CN=alice,O=Acme,0.9.2342.19200300.100.1.25=example,0.9.2342.19200300.100.1.25=com",
        "b30ef8c250da35168bff2c375c130e89c482779f0d4dcfbf0312fd35695c1e67",
        "4c13c2db86f4cfd2762a04b89d10ca71f7b7a5312d27d8718bb48d3bfa4cdcba",
    ),
    (
        "multivalue",
        "CN=alice,O=Acme,L=Zürich",
        "17a558a91e30b64e08cf351ba984f3fbf3caaad462abe77f284c05643f71c73e",
        "3d221944ad77a9cfc1e2064c5509d4633cdf42329d1808211d2249f4ff379374",
    ),
    (
        "email",
        "CN=alice,1.2.840.113549.1.9.1=alice@example.com",
        "1867275647feaad82e9ac0753d7554272df4577067eaf3f32ccccfc3fa2f0cf3",
        "f5a7a4338f6244d4b9b442588e97bd35ed835d1eb643475338a4a95991888ecb",
    ),
    (
        "unnamed",
        "CN=alice,O=Acme,2.5.4.12=Dr,0.9.2342.19200300.100.1.1=42",
        "f5f01ee829dfaa7209313847a9599965777e2fd1d2f1c94cc08a6377d81584c6",
        "bf7b04875196901503879b7c8c777a8f0af7dbc450626236d5fa270b02904d77",
    ),
    (
        "sans",
        "CN=alice",
        "c9a0a3e2d8a5658c74e2cfdd6b440e79a2d8a4fb900fd78a6d7c5c5516847d96",
        "a2bf568667257c278b20dfa2fd4178f097cab2165bfd449ac9e8ed0c13495fb3",
    ),
    (
        "nosubject",
        "",
        "259cc45f46152bb4d2ef952bf40130c6e2b2e645ed4dffb91b5d4e51496e3f5b",
        "b01ccd62bf5d6ec7f111b190e787e70f5e4d746aa48153715fc1d5e2afe642fd",
    ),
    (
        "accent",
        "CN=Jürg,O=Zürich,0.9.2342.19200300.100.1.1=Jürg",
        "a6fea530ea1886a47af4d8fe6384ae945296d3356b8c0fa854dce7b27b8a665d",
        "b194f000be787b44eeadebc7b7d0014f6c60b61f42980205e9b98493d8ad4f23",
    ),
    (
        "escaped",
        "CN=\\#a \\\"b\\\"\\<c\\>\\;d\\\\\\ ,O=Acme\\, Inc.",
        "08b17460c07e6ecce193342495926cef30f285ce2b06688c8a6b78d65b4fb361",
        "c3623f1d924ec3cd7269fe20129d0c7a390d71b0d2bcac1d1abb3784bdc5d9cd",
    ),
    (
        "escaped_unnamed",
        "CN=alice,O=Acme,0.9.2342.19200300.100.1.1=a\\,b#c",
        "bc53f3c67f900f71747c8f17ec3a75e65889a8637f7cd4070b4335c596d6df42",
        "92c767aa26de7f6a097b975c4a290d1d6e2b0646362ec7901fab079b924dfc84",
    ),
    (
        "all",
        "SERIALNUMBER=7,CN=alice,OU=Ops,O=Acme,POSTALCODE=8000,STREET=Weg 1,L=Zürich,ST=ZH,C=CH,2.5.4.12=Dr,0.9.2342.19200300.100.1.25=com",
        "a39cbea27a036dc57de70e81c8980eaa74350dec3e66f45375499e452a9e5a8e",
        "016d0e8c041ba47d52f6a5ab4a6c07d1bb9aca28b770ad6d1ab437fee4f22e4b",
    ),
];

/// Name of the file, users, the user that the certificate stands for.
const MAPPED: &[(&str, &[&str], Option<&str>)] = &[
    ("plain", &["CN=alice,OU=Ops,O=Acme,L=SF,ST=CA,C=US"], Some("CN=alice,OU=Ops,O=Acme,L=SF,ST=CA,C=US")),
    ("plain", &["alice"], None),
    (
        "plain",
        &["C=US, ST=CA, L=SF, O=Acme, OU=Ops, CN=alice"],
        Some("C=US, ST=CA, L=SF, O=Acme, OU=Ops, CN=alice"),
    ),
    ("plain", &["cn=alice,ou=Ops,o=Acme,l=SF,st=CA,c=US"], Some("cn=alice,ou=Ops,o=Acme,l=SF,st=CA,c=US")),
    ("repeated", &["CN=alice,OU=two,O=Acme,OU=one"], None),
    (
        "repeated",
        &["SERIALNUMBER=7,CN=alice,OU=one+OU=two,O=Acme"],
        Some("SERIALNUMBER=7,CN=alice,OU=one+OU=two,O=Acme"),
    ),
    (
        "repeated",
        &["SERIALNUMBER=7,CN=alice,CN=first,OU=two,O=Acme,OU=one"],
        Some("SERIALNUMBER=7,CN=alice,CN=first,OU=two,O=Acme,OU=one"),
    ),
    (
        "repeated",
        &["CN=first,CN=alice,SERIALNUMBER=7,OU=two,O=Acme,OU=one"],
        Some("CN=first,CN=alice,SERIALNUMBER=7,OU=two,O=Acme,OU=one"),
    ),
    ("components", &["CN=alice,O=Acme,DC=example,DC=com"], Some("CN=alice,O=Acme,DC=example,DC=com")),
    ("components", &["CN=alice,O=Acme,DC=com,DC=example"], Some("CN=alice,O=Acme,DC=com,DC=example")),
    ("components", &["CN=alice,O=Acme"], Some("CN=alice,O=Acme")),
    ("multivalue", &["CN=alice+L=Zürich,O=Acme"], Some("CN=alice+L=Zürich,O=Acme")),
    ("multivalue", &["L=Zürich+CN=alice,O=Acme"], Some("L=Zürich+CN=alice,O=Acme")),
    ("multivalue", &["CN=alice,L=Zürich,O=Acme"], None),
    ("email", &["CN=alice"], Some("CN=alice")),
    ("email", &["alice@example.com"], None),
    ("unnamed", &["CN=alice,O=Acme"], Some("CN=alice,O=Acme")),
    ("unnamed", &["zz"], None),
    ("sans", &["b@example.com", "host.example.com"], Some("b@example.com")),
    ("sans", &["*.example.com", "spiffe://example.com/alice"], Some("*.example.com")),
    ("sans", &["spiffe://example.com/alice", "CN=alice"], Some("spiffe://example.com/alice")),
    ("sans", &["CN=alice"], Some("CN=alice")),
    ("sans", &["x"], None),
    ("nosubject", &["only.example.com"], Some("only.example.com")),
    ("nosubject", &["x"], None),
    ("accent", &["CN=Jürg,O=Zürich"], Some("CN=Jürg,O=Zürich")),
    ("accent", &["x"], None),
    (
        "escaped",
        &["CN=\\#a \\\"b\\\"\\<c\\>\\;d\\\\\\ ,O=Acme\\, Inc."],
        Some("CN=\\#a \\\"b\\\"\\<c\\>\\;d\\\\\\ ,O=Acme\\, Inc."),
    ),
    ("escaped", &["O=Acme\\2C Inc.,CN=#a"], None),
    ("escaped_unnamed", &["CN=alice,O=Acme"], Some("CN=alice,O=Acme")),
    ("escaped_unnamed", &["CN=alice,O=Acme,0.9.2342.19200300.100.1.1=a\\,b#c"], None),
    (
        "all",
        &["SERIALNUMBER=7,CN=alice,OU=Ops,O=Acme,POSTALCODE=8000,STREET=Weg 1,L=Zürich,ST=ZH,C=CH"],
        Some("SERIALNUMBER=7,CN=alice,OU=Ops,O=Acme,POSTALCODE=8000,STREET=Weg 1,L=Zürich,ST=ZH,C=CH"),
    ),
    (
        "all",
        &["SERIALNUMBER=7,CN=alice,OU=Ops,O=Acme,POSTALCODE=8000,STREET=Weg 1,L=Zürich,ST=ZH,C=CH,DC=com"],
        Some("SERIALNUMBER=7,CN=alice,OU=Ops,O=Acme,POSTALCODE=8000,STREET=Weg 1,L=Zürich,ST=ZH,C=CH,DC=com"),
    ),
    (
        "all",
        &[
            "SERIALNUMBER=7,CN=alice,POSTALCODE=8000,STREET=Weg 1,OU=Ops,O=Acme,L=Zürich,ST=ZH,C=CH",
            "SERIALNUMBER=7,CN=alice,POSTALCODE=8000,STREET=Weg 1,OU=Ops,O=Acme,L=Zürich,ST=ZH,C=CH,DC=com",
        ],
        None,
    ),
];

#[test]
fn certificates_are_summarised_as_the_reference_does() {
    for (name, subject, spki, whole) in SUMMARIES {
        let certificate = read(name);
        let summary = (certificate.subject(), certificate.spki_sha256(), certificate.certificate_sha256());
        assert_eq!(summary, (*subject, *spki, *whole), "{name}");
    }
}

#[test]
fn certificates_map_to_the_users_that_the_reference_finds() {
    for (name, users, expected) in MAPPED {
        let certificate = read(name);
        let found = match users_by_certificate(users).authenticate(&presenting(Some(&certificate))) {
            Check::Decided(Outcome::Granted(identity)) => Ok(identity.user.authorized_user().to_owned()),
            Check::Decided(Outcome::Refused(reason)) => Err(reason),
            Check::Slow(_) => unreachable!("no user has a hashed password"),
        };
        assert_eq!(found, expected.map(str::to_owned).ok_or(Reason::CertificateUnknown), "{name} {users:?}");
    }
}

#[test]
fn a_certificate_that_names_nobody_is_none() {
    let users = users_by_certificate(&["alice"]);
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let nobody = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let nobody = PeerCertificate::from_der(nobody.der()).unwrap();
    for certificate in [None, Some(&nobody)] {
        let check = users.authenticate(&presenting(certificate));
        assert!(matches!(check, Check::Decided(Outcome::Refused(Reason::CertificateMissing))), "{check:?}");
    }
}

#[test]
fn pins_are_read_in_any_case_and_compared_to_the_public_key() {
    let certificate = read("plain");
    let pin = certificate.spki_sha256().to_uppercase();
    let other = certificate.certificate_sha256();
    for (pins, expected) in [
        (&[][..], Ok(true)),
        (&[pin.as_str()], Ok(true)),
        (&[other, &pin], Ok(true)),
        (&[other], Ok(false)),
        (&[other, "12"], Err(InvalidPin("12".into()))),
        (&[&pin[1..]], Err(InvalidPin(pin[1..].into()))),
    ] {
        let accepted = PinnedCertificates::new(pins.iter().copied()).map(|pins| pins.accept(&certificate));
        assert_eq!(accepted, expected, "{pins:?}");
    }
}

#[test]
fn damaged_certificates_are_refused_or_read_but_never_panic() {
    let names = ["localhost".into(), "*.example.com".into()];
    let whole = CertificateParams::new(names).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap();
    let whole = whole.der().to_vec();
    assert_eq!(PeerCertificate::from_der(&whole).unwrap().dns_names(), ["localhost", "*.example.com"]);
    for length in 0..whole.len() {
        assert!(PeerCertificate::from_der(&whole[..length]).is_err(), "cut at {length}");
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            // Some bits mean nothing to us; what matters is that we come back.
            let _ = PeerCertificate::from_der(&damaged);
        }
    }
}

fn users_by_certificate(names: &[&str]) -> Users {
    let user = |name: &&str| UserEntry {
        name: (*name).into(),
        password: Secret::default(),
        grant: Grant::default(),
    };
    Users::new(UsersConfig {
        users: names.iter().map(user).collect(),
        certificate_mapping: [ConnectionType::Standard].into_iter().collect(),
        ..UsersConfig::default()
    })
}

fn presenting(certificate: Option<&PeerCertificate>) -> Credentials<'_> {
    Credentials { certificate, ..Credentials::default() }
}

fn read(name: &str) -> PeerCertificate {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(format!("{name}.pem"));
    let pem = std::fs::read_to_string(path).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    PeerCertificate::from_der(&data_encoding::BASE64.decode(base64.as_bytes()).unwrap()).unwrap()
}
