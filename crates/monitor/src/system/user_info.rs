//! `USER.INFO`: what a client is told about itself.

use serde::Serialize;

/// Who a client is and what it may do.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct UserInfo {
    /// The user's name or key.
    pub user: String,
    /// The account.
    pub account: String,
    /// What the account calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account_name: String,
    /// What the user calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_name: String,
    /// What it may do; none is everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    /// Nanoseconds until it is sent away; 0 is never.
    #[serde(skip_serializing_if = "crate::json::is_default")]
    pub expires: u64,
}

/// What a user may do.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Permissions {
    /// Where it may publish; empty is everywhere.
    pub publish: Subjects,
    /// What it may subscribe to; empty is everything.
    pub subscribe: Subjects,
    /// How freely it may answer requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub responses: Option<Responses>,
}

/// Allowed and denied subjects.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Subjects {
    /// Allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// How freely requests may be answered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Responses {
    /// Answers to one request; -1 is any number.
    pub max: i64,
    /// Nanoseconds after the request; -1 is for ever.
    pub ttl: i64,
}
