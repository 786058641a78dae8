//! Who asked what: where the answer to a request of the API goes, and whether it is told to those who watch
//! (`$JS.EVENT.ADVISORY.API`).
//!
//! An answer may come long after the request, when its record is committed. What is told is put together when the request
//! is taken, and only if somebody listens then.

use std::sync::Arc;

use crate::advisory::{Advisory, ApiAudit, Body, ClientInfo};
use crate::outgoing::{Outgoing, Publish};
use crate::timestamp::Timestamp;

/// Where answered requests are told.
pub const SUBJECT: &str = "$JS.EVENT.ADVISORY.API";

/// What will be told of a request, but for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Id of the advisory.
    pub id: String,
    /// Name of the server.
    pub server: Arc<str>,
    /// The domain; empty is none.
    pub domain: Arc<str>,
    /// Who asked.
    pub client: Option<ClientInfo>,
    /// The request's subject.
    pub subject: String,
    /// Its payload; what is not UTF-8 in it is replaced.
    pub request: String,
    /// When it came, ns since 1970.
    pub at: i64,
}

/// Somebody who waits for an answer.
#[derive(Debug, Default)]
pub struct Asker {
    /// Where the answer goes; empty when none is wanted.
    pub reply: Box<[u8]>,
    /// Header block of the answer; empty for none.
    pub headers: Box<[u8]>,
    /// What else is told of it.
    pub audit: Option<Box<Audit>>,
}

impl Asker {
    /// Answers.
    pub fn answer(self, text: &[u8], out: &mut dyn Publish) {
        if !self.reply.is_empty() {
            out.publish(Outgoing { headers: &self.headers, ..Outgoing::plain(&self.reply, text) });
        }
        if let Some(audit) = self.audit {
            audit.tell(text, out);
        }
    }
}

impl Audit {
    fn tell(self, response: &[u8], out: &mut dyn Publish) {
        let body = ApiAudit {
            server: self.server.to_string(),
            client: self.client,
            subject: self.subject,
            request: self.request,
            response: String::from_utf8_lossy(response).into_owned(),
            domain: self.domain.to_string(),
        };
        let subject = body.subject();
        let text = Advisory::new(self.id, Timestamp(self.at), body).encode();
        out.publish(Outgoing::plain(subject.as_bytes(), &text));
    }
}

/// Nobody watches.
impl From<&[u8]> for Asker {
    fn from(reply: &[u8]) -> Self {
        Self { reply: reply.into(), ..Self::default() }
    }
}

impl<const N: usize> From<&[u8; N]> for Asker {
    fn from(reply: &[u8; N]) -> Self {
        Self::from(reply.as_slice())
    }
}
