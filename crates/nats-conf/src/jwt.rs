//! User JWTs and the decorated files that hold them, as far as a client can judge them without a server.
//!
//! A client sends its JWT as it is; the server decides. What is checked here is what would surely be refused.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use crate::error::Problem;
use crate::nkey;

/// What a client needs to know about its own JWT.
#[derive(Debug)]
pub(crate) struct Claims {
    /// Public key of the user.
    pub(crate) user: String,
    /// Whether the token alone is enough, without a signature.
    pub(crate) bearer: bool,
}

impl Claims {
    /// Reads a user JWT and checks its signature, kind and period of validity. `now` is in seconds since
    /// 1970.
    pub(crate) fn parse(token: &str, now: i64) -> Result<Self, Problem> {
        let mut parts = token.split('.');
        let (Some(header), Some(body), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Problem::BadJwt("it has not three parts"));
        };
        let decode = |part: &str| {
            BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| Problem::BadJwt("it is not base 64"))
        };
        let header: Header = serde_json::from_slice(&decode(header)?)
            .map_err(|_| Problem::BadJwt("its header is not JSON"))?;
        if header.alg != "ed25519-nkey" {
            return Err(Problem::BadJwt("it is not signed with an nkey"));
        }
        let content: Content = serde_json::from_slice(&decode(body)?)
            .map_err(|_| Problem::BadJwt("its content is not that of a NATS JWT"))?;
        let signed = token.rsplit_once('.').map_or("", |(signed, _)| signed);
        if !nkey::verify(&content.iss, signed.as_bytes(), &decode(signature)?) {
            return Err(Problem::ForgedJwt);
        }
        if content.nats.kind != "user" || !nkey::is_user(&content.sub) {
            return Err(Problem::WrongJwt(content.nats.kind.chars().take(KIND_CHARS_MAX).collect()));
        }
        match content {
            Content { exp: 1.., .. } if content.exp <= now => Err(Problem::Expired(content.exp)),
            Content { nbf, .. } if nbf > now => Err(Problem::NotYetValid(nbf)),
            Content { sub, nats, .. } => Ok(Self { user: sub, bearer: nats.bearer_token }),
        }
    }
}

/// Letters of an unexpected type that an error repeats; all known types are shorter.
const KIND_CHARS_MAX: usize = 32;

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Content {
    iss: String,
    sub: String,
    /// Seconds since 1970; 0 is never.
    #[serde(default)]
    exp: i64,
    #[serde(default)]
    nbf: i64,
    nats: Nats,
}

#[derive(Deserialize)]
struct Nats {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    bearer_token: bool,
}

/// Whether a text is a JWT itself, rather than the path of one: only a JWT begins with encoded JSON and has
/// two dots.
pub(crate) fn is_token(text: &str) -> bool {
    text.starts_with("eyJ")
        && text.bytes().filter(|byte| *byte == b'.').count() == 2
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// The JWT in a file: decorated (`-----BEGIN NATS USER JWT-----`) or the only thing there.
pub(crate) fn token_in(text: &str) -> Option<&str> {
    block(text, "JWT").or_else(|| text.lines().map(str::trim).find(|line| is_token(line)))
}

/// The seed in a file: decorated (`-----BEGIN USER NKEY SEED-----`) or the first line that looks like one.
pub(crate) fn seed_in(text: &str) -> Option<&str> {
    block(text, "SEED").or_else(|| {
        let mut lines = text.lines().map(str::trim);
        lines.find(|line| line.starts_with('S') && line.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    })
}

/// The line between `-----BEGIN … LABEL-----` and the next `---`.
fn block<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        line.starts_with("---")
            && line.contains("BEGIN")
            && line.trim_end_matches('-').trim_end().ends_with(label)
    })?;
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with("---"))
}
