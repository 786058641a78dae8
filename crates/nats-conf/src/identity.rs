//! Who the client is: the keys of the configuration that say so, checked, and the answer to a server's
//! challenge.
//!
//! The files are read anew at every connection, not kept: a credentials file that is replaced while the
//! service runs is used at the next reconnection, and no seed stays in memory in between.

use std::path::{Path, PathBuf};

use async_nats::Auth;

use crate::conf::NatsConf;
use crate::error::{Fault, Problem};
use crate::file;
use crate::host::Login;
use crate::jwt::{self, Claims};
use crate::key::Key;
use crate::nkey::{NkeyKind, SEED_LETTERS, Seed};
use crate::secret::Secret;

/// Who the client is at servers whose address does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Anonymous,
    Login(Login),
    /// A `.creds` file.
    Credentials(PathBuf),
    /// A seed file alone.
    Nkey(PathBuf),
    /// A JWT, and the seed file that signs for it unless it is a bearer token.
    Jwt {
        jwt: JwtSource,
        seed: Option<PathBuf>,
    },
}

/// Where the value of `UserJwt` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JwtSource {
    Token(Secret),
    File(PathBuf),
}

impl JwtSource {
    pub(crate) fn of(value: &Secret) -> Self {
        let text = value.expose().trim();
        if jwt::is_token(text) { Self::Token(Secret::from(text)) } else { Self::File(PathBuf::from(text)) }
    }

    fn read(&self) -> Result<Secret, Fault> {
        match self {
            Self::Token(token) => Ok(token.clone()),
            Self::File(path) => {
                let text = file::text(path).map_err(|problem| self.fault(problem))?;
                jwt::token_in(&text)
                    .map(Secret::from)
                    .ok_or_else(|| Fault::file(Key::UserJwt, path, Problem::NoJwt))
            }
        }
    }

    fn fault(&self, problem: Problem) -> Fault {
        match self {
            Self::Token(_) => Fault::new(Key::UserJwt, problem),
            Self::File(path) => Fault::file(Key::UserJwt, path, problem),
        }
    }
}

impl Identity {
    /// Picks the identity that a configuration declares; more than one is a fault for each pair.
    ///
    /// `in_hosts` says whether the addresses carry logins.
    pub(crate) fn of(conf: &NatsConf, in_hosts: bool, faults: &mut Vec<Fault>) -> Self {
        let needs = [
            (Key::Password, conf.password.is_some(), Key::User, conf.user.is_some()),
            (Key::User, conf.user.is_some(), Key::Password, conf.password.is_some()),
        ];
        for (key, given, other, other_given) in needs {
            if given && !other_given {
                faults.push(Fault::new(key, Problem::Needs(other)));
            }
        }
        // A JWT and its seed file are one identity.
        let jwt = if conf.user_jwt.is_some() {
            Some(Key::UserJwt)
        } else {
            conf.nkey_file.is_some().then_some(Key::NkeyFile)
        };
        let user = if conf.user.is_some() {
            Some(Key::User)
        } else {
            conf.password.is_some().then_some(Key::Password)
        };
        let given: Vec<Key> = [
            conf.user_cred.is_some().then_some(Key::UserCred),
            jwt,
            user,
            conf.token.is_some().then_some(Key::Token),
            in_hosts.then_some(Key::Hosts),
        ]
        .into_iter()
        .flatten()
        .collect();
        for (place, first) in given.iter().enumerate() {
            for second in given.iter().skip(place + 1) {
                // A login in an address is the odd one out, so it is named second, as what must go.
                faults.push(Fault::new(*first, Problem::Conflict(*second)));
            }
        }
        if let Some(path) = &conf.user_cred {
            return Self::Credentials(path.clone());
        }
        if let Some(jwt) = &conf.user_jwt {
            return Self::Jwt { jwt: JwtSource::of(jwt), seed: conf.nkey_file.clone() };
        }
        if let Some(path) = &conf.nkey_file {
            return Self::Nkey(path.clone());
        }
        match (&conf.user, &conf.password, &conf.token) {
            (Some(user), Some(password), _) => {
                Self::Login(Login::Password { user: Secret::from(user.as_str()), password: password.clone() })
            }
            (_, _, Some(token)) => Self::Login(Login::Token(token.clone())),
            _ => Self::Anonymous,
        }
    }

    /// Reads the files and checks them; `now` is in seconds since 1970.
    pub(crate) fn load(&self, now: i64) -> Result<Proof, Fault> {
        match self {
            Self::Anonymous => Ok(Proof::default()),
            Self::Login(login) => Ok(Proof { login: Some(login.clone()), ..Proof::default() }),
            Self::Nkey(path) => Ok(Proof { seed: Some(user_seed(path)?), ..Proof::default() }),
            Self::Credentials(path) => {
                let fault = |problem| Fault::file(Key::UserCred, path, problem);
                let text = file::text(path).map_err(fault)?;
                let token = jwt::token_in(&text).map(Secret::from).ok_or_else(|| fault(Problem::NoJwt))?;
                let claims = Claims::parse(token.expose(), now).map_err(fault)?;
                let seed = match jwt::seed_in(&text) {
                    Some(seed) => Some(parse_user_seed(seed).map_err(fault)?),
                    None if claims.bearer => None,
                    None => return Err(fault(Problem::NoSeed)),
                };
                check_pair(&claims, seed.as_ref()).map_err(fault)?;
                Ok(Proof { jwt: Some(token), seed, login: None })
            }
            Self::Jwt { jwt, seed } => {
                let token = jwt.read()?;
                let claims = Claims::parse(token.expose(), now).map_err(|problem| jwt.fault(problem))?;
                let seed = match seed {
                    Some(path) => {
                        let seed = user_seed(path)?;
                        check_pair(&claims, Some(&seed))
                            .map_err(|problem| Fault::file(Key::NkeyFile, path, problem))?;
                        Some(seed)
                    }
                    None if claims.bearer => None,
                    None => return Err(jwt.fault(Problem::Needs(Key::NkeyFile))),
                };
                Ok(Proof { jwt: Some(token), seed, login: None })
            }
        }
    }
}

/// All that proves an identity, for one connection.
#[derive(Default)]
pub(crate) struct Proof {
    login: Option<Login>,
    jwt: Option<Secret>,
    seed: Option<Seed>,
}

impl Proof {
    pub(crate) fn login(login: Login) -> Self {
        Self { login: Some(login), ..Self::default() }
    }

    /// The answer to a server that sent this nonce. The copies in it are the client library's, which does not
    /// wipe them.
    pub(crate) fn answer(self, nonce: &[u8]) -> Auth {
        let mut auth = Auth::new();
        match &self.login {
            Some(Login::Password { user, password }) => {
                auth.username = Some(user.expose().to_owned());
                auth.password = Some(password.expose().to_owned());
            }
            Some(Login::Token(token)) => auth.token = Some(token.expose().to_owned()),
            None => {}
        }
        if let Some(seed) = &self.seed {
            auth.signature = Some(seed.sign(nonce));
            // With a JWT the server takes the public key from there.
            auth.nkey = self.jwt.is_none().then(|| seed.public_key());
        }
        auth.jwt = self.jwt.as_ref().map(|jwt| jwt.expose().to_owned());
        auth
    }
}

fn user_seed(path: &Path) -> Result<Seed, Fault> {
    let fault = |problem| Fault::file(Key::NkeyFile, path, problem);
    if is_seed(path) {
        // Without the path, which would show it.
        return Err(Fault::new(Key::NkeyFile, Problem::SeedItself));
    }
    let text = file::text(path).map_err(fault)?;
    parse_user_seed(jwt::seed_in(&text).ok_or_else(|| fault(Problem::NoSeed))?).map_err(fault)
}

/// Whether somebody gave a seed where the path of one belongs.
pub(crate) fn is_seed(path: &Path) -> bool {
    path.to_str().is_some_and(|text| {
        let text = text.trim();
        text.len() == SEED_LETTERS
            && text.starts_with('S')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

fn parse_user_seed(text: &str) -> Result<Seed, Problem> {
    let seed = Seed::parse(text).map_err(Problem::BadSeed)?;
    if seed.kind == NkeyKind::User { Ok(seed) } else { Err(Problem::WrongSeed(seed.kind)) }
}

fn check_pair(claims: &Claims, seed: Option<&Seed>) -> Result<(), Problem> {
    match seed.map(Seed::public_key) {
        Some(seed) if seed != claims.user => Err(Problem::SeedOfOther { jwt: claims.user.clone(), seed }),
        _ => Ok(()),
    }
}
