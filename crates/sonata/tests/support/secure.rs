//! A client over TLS, which remembers what the server stapled.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};

use super::PATIENCE;

pub(crate) struct Secure {
    reader: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    /// What came with the server's certificate; empty for nothing.
    pub(crate) staple: Vec<u8>,
}

/// Who connects: certificates, the own one first, and its key.
pub(crate) type Identity<'a> = (&'a [&'a [u8]], &'a rcgen::KeyPair);

impl Secure {
    /// Connects and is let in, or why not.
    pub(crate) fn enter(port: u16, root: &[u8], identity: Option<Identity<'_>>) -> Result<Self, String> {
        Self::enter_with(port, root, identity, &[&rustls::version::TLS13], "{\"verbose\":false}")
    }

    pub(crate) fn enter_with(
        port: u16,
        root: &[u8],
        identity: Option<Identity<'_>>,
        versions: &[&'static SupportedProtocolVersion],
        connect: &str,
    ) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut plain = BufReader::with_capacity(1, stream);
        let mut info = String::new();
        plain.read_line(&mut info).map_err(|error| error.to_string())?;
        if !info.starts_with("INFO ") {
            return Err(format!("no INFO: {info:?}"));
        }
        let (session, staple) = session(root, identity, versions);
        let stream = StreamOwned::new(session, plain.into_inner());
        let mut secure = Self { reader: BufReader::new(stream), staple: Vec::new() };
        secure.try_send(&format!("CONNECT {connect}\r\nPING\r\n"))?;
        let answer = secure.try_line()?;
        if answer != "PONG" {
            return Err(answer);
        }
        secure.staple = staple.lock().unwrap().clone();
        Ok(secure)
    }

    fn try_send(&mut self, text: &str) -> Result<(), String> {
        self.reader.get_mut().write_all(text.as_bytes()).map_err(|error| error.to_string())
    }

    fn try_line(&mut self) -> Result<String, String> {
        loop {
            let mut line = String::new();
            let read = self.reader.read_line(&mut line).map_err(|error| error.to_string())?;
            match line.trim_end_matches("\r\n") {
                _ if read == 0 => return Err("closed".into()),
                "PING" => self.try_send("PONG\r\n")?,
                line => return Ok(line.to_owned()),
            }
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.try_send(text).unwrap();
    }

    pub(crate) fn line(&mut self) -> String {
        self.try_line().unwrap()
    }
}

/// A client's side of a handshake with `localhost`, and where the staple will be.
fn session(
    root: &[u8],
    identity: Option<Identity<'_>>,
    versions: &[&'static SupportedProtocolVersion],
) -> (ClientConnection, Arc<Mutex<Vec<u8>>>) {
    let staple = Arc::new(Mutex::new(Vec::new()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root.to_vec())).unwrap();
    let ordinary = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone()).build();
    let verifier = Arc::new(Remembering { ordinary: ordinary.unwrap(), staple: staple.clone() });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match identity {
        Some((chain, key)) => {
            let chain = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(config.into(), name).unwrap();
    (session, staple)
}

/// The answer of monitoring over TLS, or why there is none.
pub(crate) fn https_get(
    port: u16,
    root: &[u8],
    identity: Option<Identity<'_>>,
    path: &str,
) -> Result<String, String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (session, _) = session(root, identity, &[&rustls::version::TLS13]);
    let mut stream = StreamOwned::new(session, stream);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(answer) }
}

/// Verifies as usual, and keeps the stapled response, which it leaves to the test to judge.
#[derive(Debug)]
struct Remembering {
    ordinary: Arc<WebPkiServerVerifier>,
    staple: Arc<Mutex<Vec<u8>>>,
}

impl ServerCertVerifier for Remembering {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        staple: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.staple.lock().unwrap() = staple.to_vec();
        self.ordinary.verify_server_cert(certificate, intermediates, name, staple, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.ordinary.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.ordinary.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.ordinary.supported_verify_schemes()
    }
}
