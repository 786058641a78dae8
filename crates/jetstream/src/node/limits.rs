//! Accounts whose limits change while they are served.

use super::Node;
use crate::account::Account;
use crate::config::AccountLimits;

impl Node {
    /// Puts other limits in force; without any the account has no JetStream. Its streams rest then, with all that they hold:
    /// nobody finds them and nothing new comes in, until there are limits again. What their consumers are to deliver by
    /// themselves they still do.
    pub fn limit(&self, account: &Account, limits: Option<AccountLimits>) {
        let (was, is) = (account.is_enabled(), limits.is_some());
        account.set_limits(limits);
        if was == is {
            return;
        }
        for stream in account.streams() {
            let subjects = stream.lock().config().subjects.clone();
            for subject in &subjects {
                match is {
                    true => self.world.subscribe(account.id, subject, stream.lane),
                    false => self.world.unsubscribe(account.id, subject, stream.lane),
                }
            }
        }
    }
}
