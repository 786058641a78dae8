//! Requests are answered by a thread of their own: a large `CONNZ` takes tens of milliseconds, and nobody's traffic is to
//! wait for it. Those that cost next to nothing are answered by the thread of the events, so that they do not wait for the
//! large ones either.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use sonata_broker::account::Account;
use sonata_broker::close::CloseReason;
use sonata_broker::shared::{Level, Log};
use sonata_monitor::system::request::{self, Answer, Topic, Unheard};

use super::System;
use super::encoding::Encoding;
use super::queue::{Queue, Room, Taken};
use super::subjects::Operation;
use crate::inner::Inner;
use crate::view::View;

/// Requests that wait at most. Tools ask one at a time; those beyond get no answer.
const ROOM: Room = Room { items: 1024, bytes: 8 * 1024 * 1024 };

/// How long a client's own task may take to write one line to it.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// A request, as it waits.
pub(super) struct Request {
    pub(super) operation: Operation,
    /// Where it came from and the answer goes.
    pub(super) account: Arc<Account>,
    /// The account it is about, if it is about one.
    pub(super) about: String,
    /// Empty: the answer is told to all who listen.
    pub(super) reply: Box<[u8]>,
    pub(super) body: Box<[u8]>,
    pub(super) encoding: Encoding,
}

impl Request {
    fn bytes(&self) -> usize {
        self.about.len() + self.reply.len() + self.body.len()
    }
}

/// See the module.
pub(super) struct Requests(Queue<Request>);

impl Default for Requests {
    fn default() -> Self {
        Self(Queue::new(ROOM))
    }
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn end(&self) {
        self.0.end();
    }
}

impl System {
    /// Has a request answered.
    pub(super) fn ask(&self, request: Request) {
        match request.operation {
            Operation::Server(Topic::Idz | Topic::Statsz) => self.events.ask(request),
            _ => {
                let bytes = request.bytes();
                self.requests.0.push(request, bytes);
            }
        }
    }

    /// Answers requests until the server stops.
    pub(super) fn run_requests(&self) {
        loop {
            match self.requests.0.take(None) {
                Taken::Over => return,
                Taken::Time => {}
                Taken::Items(requests, turned_away) => {
                    self.log_turned_away("requests", turned_away);
                    for request in requests {
                        self.answer(request);
                    }
                }
            }
        }
    }

    pub(super) fn answer(&self, request: Request) {
        let Some(inner) = self.inner() else { return };
        if request.reply.is_empty() {
            // Only statistics are asked for without one.
            self.tell_statsz(&inner);
            return;
        }
        match self.find_answer(&inner, &request) {
            Ok(None) => {}
            Ok(Some(Answer { body, is_compressible })) => {
                let encoding = if is_compressible { request.encoding } else { Encoding::Plain };
                let body = encoding.encode(body);
                self.publish(&request.account, &request.reply, encoding.headers(), &body);
            }
            Err(Unheard(why)) => inner.logger.write(Level::Error, format_args!("SYSTEM - {why}")),
        }
    }

    fn find_answer(&self, inner: &Arc<Inner>, request: &Request) -> Result<Option<Answer>, Unheard> {
        let Request { about, body, .. } = request;
        let view = View::new(inner.clone());
        self.stamped(inner, |stamp| {
            Ok(match request.operation {
                Operation::Server(topic) => request::about_server(&view, topic, body, stamp),
                Operation::Account(topic) => request::about_account(&view, topic, about, body, stamp)?,
                Operation::Accounts => request::about_accounts(&view, body, stamp),
                Operation::CountSubscriptions => request::count_subscriptions(&view, body)?,
                Operation::DebugSubscribers => {
                    Some(request::debug_subscribers(&view, request.account.name(), body))
                }
                Operation::Reload => request::order(body, stamp, || self.reload(inner)),
                Operation::Kick => {
                    request::order_for_connection(body, "KickClientReq", stamp, |cid| kick(inner, cid))?
                }
                Operation::LameDuck => {
                    request::order_for_connection(body, "LDMClientReq", stamp, |cid| send_away(inner, cid))?
                }
                // Answered where they came in.
                Operation::UserInfo | Operation::UserInfoOfAccount => None,
            })
        })
    }
}

fn kick(inner: &Inner, cid: u64) -> Result<(), String> {
    let entry = inner.connections.find(cid).ok_or("no such client or leafnode id")?;
    entry.connection.close(CloseReason::Kicked);
    Ok(())
}

/// Has the client's own task tell it that it should leave: nobody else knows whether it would understand.
fn send_away(inner: &Inner, cid: u64) -> Result<(), String> {
    let entry = inner.connections.find(cid).ok_or("no such client id")?;
    let (tell, told) = mpsc::sync_channel(1);
    entry.ask_to_leave(tell);
    entry.connection.wake();
    match told.recv_timeout(FAREWELL_TIMEOUT) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err("client does not support Lame Duck Mode or is not ready to receive the notification".into())
        }
        Err(_) => Err("no such client id".into()),
    }
}
