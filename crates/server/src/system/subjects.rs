//! What the server answers, and on which subjects.

use sonata_monitor::system::request::{AccountTopic, Topic};

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// The server.
    Server(Topic),
    /// One account: the one that the subject names, or the one that the request came from.
    Account(AccountTopic),
    /// Connections and traffic of all accounts.
    Accounts,
    /// The client that asks.
    UserInfo,
    /// A client of an account, which the server of that client tells it; asked here, nobody is known.
    UserInfoOfAccount,
    /// Subscriptions in an account, for other servers.
    CountSubscriptions,
    /// The same for people.
    DebugSubscribers,
    /// The configuration is to be read again.
    Reload,
    /// A client is to be sent away.
    Kick,
    /// A client is to be asked to leave.
    LameDuck,
}

/// Where the token stands that names the account.
const ACCOUNT_TOKEN: usize = 3;

/// All that is answered in the system account.
pub(super) fn in_system_account(server_id: &str) -> Vec<(String, Operation)> {
    let mut subjects = vec![
        ("$SYS.REQ.SERVER.PING".to_owned(), Operation::Server(Topic::Statsz)),
        ("$SYS.REQ.ACCOUNT.PING.STATZ".to_owned(), Operation::Accounts),
        ("$SYS.REQ.ACCOUNT.NSUBS".to_owned(), Operation::CountSubscriptions),
        ("$SYS.DEBUG.SUBSCRIBERS".to_owned(), Operation::DebugSubscribers),
        ("$SYS.REQ.USER.INFO".to_owned(), Operation::UserInfo),
        ("$SYS.REQ.USER.*.INFO".to_owned(), Operation::UserInfoOfAccount),
        (format!("$SYS.REQ.SERVER.{server_id}.RELOAD"), Operation::Reload),
        (format!("$SYS.REQ.SERVER.{server_id}.KICK"), Operation::Kick),
        (format!("$SYS.REQ.SERVER.{server_id}.LDM"), Operation::LameDuck),
    ];
    for (name, topic) in Topic::NAMED {
        subjects.push((format!("$SYS.REQ.SERVER.PING.{name}"), Operation::Server(topic)));
        subjects.push((format!("$SYS.REQ.SERVER.{server_id}.{name}"), Operation::Server(topic)));
    }
    for (name, topic) in AccountTopic::NAMED {
        subjects.push((format!("$SYS.REQ.ACCOUNT.*.{name}"), Operation::Account(topic)));
    }
    subjects
}

/// All that is answered in every other account, about that account alone.
pub(super) fn in_other_accounts() -> Vec<(String, Operation)> {
    vec![
        ("$SYS.REQ.ACCOUNT.PING.CONNZ".to_owned(), Operation::Account(AccountTopic::Connz)),
        ("$SYS.REQ.SERVER.PING.CONNZ".to_owned(), Operation::Account(AccountTopic::Connz)),
        ("$SYS.REQ.ACCOUNT.PING.STATZ".to_owned(), Operation::Account(AccountTopic::Statz)),
        ("$SYS.REQ.USER.INFO".to_owned(), Operation::UserInfo),
    ]
}

/// The account that a subject of the system account names; empty if there is none.
pub(super) fn named_account(subject: &[u8]) -> String {
    let token = subject.split(|byte| *byte == b'.').nth(ACCOUNT_TOKEN).unwrap_or_default();
    String::from_utf8_lossy(token).into_owned()
}
