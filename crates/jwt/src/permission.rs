//! Permissions as tokens hold them.

use serde::{Deserialize, Serialize};

use crate::claims::is_default;
use crate::subject;
use crate::validation::Issues;

/// Subjects that are allowed and denied; empty lists say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permission {
    /// Allowed; empty: everything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Denied although allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

impl Permission {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    fn check(&self, queues: bool, issues: &mut Issues) {
        for entry in self.allow.iter().chain(&self.deny) {
            match entry.split_once(' ') {
                None => subject::check(entry, issues),
                Some((_, rest)) if rest.contains(' ') => {
                    issues.error(format!("Permission Subject \"{entry}\" contains too many spaces"));
                }
                Some((name, queue)) => {
                    subject::check(name, issues);
                    subject::check(queue, issues);
                    if !queues {
                        let text = format!("Permission Subject \"{entry}\" is not allowed to contain queue");
                        issues.error(text);
                    }
                }
            }
        }
    }
}

/// Leave to answer requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResponsePermission {
    /// Answers per request; 0 is the default, negative without limit.
    pub max: i64,
    /// Nanoseconds after the request; 0 is the default, negative for ever.
    pub ttl: i64,
}

/// What may be published and subscribed to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permissions {
    /// Publishing.
    #[serde(rename = "pub", skip_serializing_if = "is_default")]
    pub publish: Permission,
    /// Subscribing; entries may have a queue group.
    #[serde(rename = "sub", skip_serializing_if = "is_default")]
    pub subscribe: Permission,
    /// Answering.
    #[serde(rename = "resp", skip_serializing_if = "Option::is_none")]
    pub responses: Option<ResponsePermission>,
}

impl Permissions {
    /// Whether nothing is restricted.
    pub fn is_empty(&self) -> bool {
        self.publish.is_empty() && self.subscribe.is_empty() && self.responses.is_none()
    }

    pub(crate) fn check(&self, issues: &mut Issues) {
        self.subscribe.check(true, issues);
        self.publish.check(false, issues);
    }
}
