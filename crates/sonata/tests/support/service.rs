//! An authorization service (ADR-26) on a thread of its own.

use std::sync::mpsc::{Receiver, channel};

use nkeys::KeyPair;
use sonata_jwt::authorization::{Request, Response};
use sonata_jwt::claims::Claims;
use sonata_jwt::token::{decode, encode};
use sonata_jwt::user::{User, UserLimits};
use sonata_jwt::xkey::Curve;

use super::wire::Wire;
use super::{PATIENCE, now_s};

pub(crate) const SUBJECT: &str = "$SYS.REQ.USER.AUTH";

/// What a server has asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) claims: Claims<Request>,
    /// The curve key of the server, if the question was sealed.
    pub(crate) xkey: Option<String>,
}

impl Asked {
    pub(crate) fn user(&self) -> &str {
        &self.claims.nats.connect.user
    }

    /// The answer that lets a user in, changed in both its parts.
    pub(crate) fn grant(
        &self,
        signer: &KeyPair,
        change: impl FnOnce(&mut Claims<User>),
        change_response: impl FnOnce(&mut Claims<Response>),
    ) -> Vec<u8> {
        let mut user = Claims::<User>::about(self.claims.nats.user_nkey.clone());
        user.nats.limits = UserLimits::unlimited();
        change(&mut user);
        let jwt = encode(user, signer, now_s()).unwrap();
        self.respond(signer, |response| {
            response.nats.jwt = jwt;
            change_response(response);
        })
    }

    /// The answer that says why not.
    pub(crate) fn refuse(&self, signer: &KeyPair, why: &str) -> Vec<u8> {
        self.respond(signer, |response| response.nats.error = why.into())
    }

    pub(crate) fn respond(&self, signer: &KeyPair, change: impl FnOnce(&mut Claims<Response>)) -> Vec<u8> {
        let mut response = Claims::<Response>::about(self.claims.nats.user_nkey.clone());
        response.data.audience = self.claims.nats.server.id.clone();
        change(&mut response);
        encode(response, signer, now_s()).unwrap().into_bytes()
    }
}

/// The service, until its connection ends.
pub(crate) struct Service {
    asked: Receiver<Asked>,
}

impl Service {
    /// Answers with what `respond` makes of a question; nothing for none. Questions are opened with `curve`.
    pub(crate) fn start(
        mut wire: Wire,
        curve: Option<Curve>,
        mut respond: impl FnMut(&Asked) -> Option<Vec<u8>> + Send + 'static,
    ) -> Self {
        wire.send(&format!("SUB {SUBJECT} 1\r\n"));
        wire.flush();
        let (tell, asked) = channel();
        std::thread::spawn(move || {
            while let Some(message) = wire.message() {
                let headers = String::from_utf8(message.headers).unwrap();
                let xkey = headers.lines().find_map(|line| line.strip_prefix("Nats-Server-Xkey: "));
                let body = match (xkey, &curve) {
                    (Some(xkey), Some(curve)) => curve.open(&message.payload, xkey).unwrap(),
                    _ => message.payload,
                };
                let claims = decode::<Request>(&String::from_utf8(body).unwrap()).unwrap();
                let question = Asked { claims, xkey: xkey.map(str::to_owned) };
                if let Some(answer) = respond(&question) {
                    wire.publish(&message.reply, &answer);
                }
                if tell.send(question).is_err() {
                    return;
                }
            }
        });
        Self { asked }
    }

    /// The next question. It was answered already.
    pub(crate) fn asked(&self) -> Asked {
        self.asked.recv_timeout(PATIENCE).unwrap()
    }

    /// Questions so far that nobody has looked at.
    pub(crate) fn count(&self) -> usize {
        self.asked.try_iter().count()
    }
}
