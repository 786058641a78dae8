//! Accounts whose limits change while they are served.

use super::Node;
use crate::account::Account;
use crate::config::Allowance;
use crate::outgoing::Publish;

impl Node {
    /// Puts other limits in force; without any the account has no JetStream. Its streams rest then, with all that they hold:
    /// nobody finds them, nothing new comes in, nothing is delivered and no time passes for them, until there are limits
    /// again. Pull requests that wait are told to go.
    pub fn limit(&self, account: &Account, allowance: Option<Allowance>, now: i64, out: &mut dyn Publish) {
        let (was, is) = (account.is_enabled(), allowance.is_some());
        account.allow(allowance);
        if was == is {
            return;
        }
        for stream in account.streams() {
            stream.set_resting(!is);
            let subjects = stream.lock().config().subjects.clone();
            for subject in &subjects {
                match is {
                    true => self.world.subscribe(account.id, subject, stream.lane),
                    false => self.world.unsubscribe(account.id, subject, stream.lane),
                }
            }
            match is {
                true => self.world.wake(&stream),
                false => stream.lock().on_shutdown(now, out),
            }
        }
    }
}
