//! Imports: what subjects of one account are called in another.
//!
//! Both kinds are said as a subject of the exporter and a local one, whose wildcards (`*`, or `$1`, `$2` in any order) stand
//! for those of the exporter's. A stream is followed from there to here, a service is asked from here to there.

use crate::transform::{Transform, TransformError};
use crate::{has_wildcard, intersect, is_subset, matches};

/// The subjects of a service in two accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSubjects {
    exported: String,
    local: String,
    way: Way,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// A request is called the same there.
    Same,
    /// There is but one subject to ask.
    Literal,
    Transform(Transform),
}

impl ServiceSubjects {
    /// Requests on `local` go to `exported`.
    ///
    /// # Errors
    /// Subjects that are no transform, or one that there is no way back from.
    pub fn new(exported: &str, local: &str) -> Result<Self, TransformError> {
        let (local, way) = match local {
            _ if local == exported => (local.to_owned(), Way::Same),
            _ if !has_wildcard(exported.as_bytes()) => (local.to_owned(), Way::Literal),
            _ => {
                let there = Transform::reversible(exported, &placeholders(local))?;
                (there.0.destination_filter(), Way::Transform(there.1))
            }
        };
        Ok(Self { exported: exported.to_owned(), local, way })
    }

    /// The subjects of requests in the importing account.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// What they are called in the exporter's.
    pub fn exported(&self) -> &str {
        &self.exported
    }

    /// What a request on `subject` is called in the exporter's account; `None` if it is not for the service.
    pub fn target(&self, subject: &[u8]) -> Option<Vec<u8>> {
        match &self.way {
            Way::Transform(transform) => transform.apply(subject, 0),
            _ if !matches(self.local.as_bytes(), subject) => None,
            Way::Same => Some(subject.to_vec()),
            Way::Literal => Some(self.exported.clone().into_bytes()),
        }
    }
}

/// The subjects of a stream in two accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSubjects {
    exported: String,
    local: String,
    /// To local names, and back; none: they are the same.
    ways: Option<(Transform, Transform)>,
}

impl StreamSubjects {
    /// Messages on `exported`, under `local`.
    ///
    /// # Errors
    /// Subjects that are no transform, or one that there is no way back from.
    pub fn new(exported: &str, local: &str) -> Result<Self, TransformError> {
        if local == exported {
            return Ok(Self { exported: exported.to_owned(), local: local.to_owned(), ways: None });
        }
        let ways = Transform::reversible(exported, &placeholders(local))?;
        Ok(Self { exported: exported.to_owned(), local: ways.0.destination_filter(), ways: Some(ways) })
    }

    /// The subjects in the importing account.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The subjects in the exporter's.
    pub fn exported(&self) -> &str {
        &self.exported
    }

    /// What the exporter's `subject` is called here; `None` if it is not imported.
    pub fn local_name(&self, subject: &[u8]) -> Option<Vec<u8>> {
        match &self.ways {
            Some((to_local, _)) => to_local.apply(subject, 0),
            None => matches(self.exported.as_bytes(), subject).then(|| subject.to_vec()),
        }
    }

    /// What must be listened to in the exporter's account for a subscription to `subscribed` here; `None` if nothing that
    /// is imported could match.
    pub fn wanted(&self, subscribed: &[u8]) -> Option<Vec<u8>> {
        let local = self.local.as_bytes();
        let common = intersect(subscribed, local)?;
        if is_subset(local, &common) {
            return Some(self.exported.clone().into_bytes());
        }
        match &self.ways {
            None => Some(common),
            Some((_, back)) => back.apply(&common, 0).or_else(|| Some(self.exported.clone().into_bytes())),
        }
    }
}

/// Bare wildcards of a destination refer to those of the source, in order: `a.*` is `a.$1`.
fn placeholders(destination: &str) -> String {
    if !has_wildcard(destination.as_bytes()) {
        return destination.to_owned();
    }
    let mut number = 0;
    let tokens = destination.split('.').map(|token| match token {
        "*" => {
            number += 1;
            format!("${number}")
        }
        token => token.to_owned(),
    });
    tokens.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_there() {
        for (exported, local, asked, target) in [
            ("a", "a", "a", Some("a")),
            ("a", "b", "b", Some("a")),
            ("a", "b", "a", None),
            ("a", "b.*", "b.x", Some("a")),
            ("a.*.*", "a.*.*", "a.x.y", Some("a.x.y")),
            ("a.*.*", "b.*.*", "b.x.y", Some("a.x.y")),
            ("a.*.*", "b.$2.c.$1", "b.x.c.y", Some("a.y.x")),
            ("a.>", "b.c.>", "b.c.x.y", Some("a.x.y")),
            ("a.>", "b.c.>", "b.c", None),
        ] {
            let subjects = ServiceSubjects::new(exported, local).unwrap();
            let said = subjects.target(asked.as_bytes()).map(|target| String::from_utf8(target).unwrap());
            assert_eq!(said.as_deref(), target, "{exported} as {local}, asked {asked}");
        }
    }

    #[test]
    fn streams_come_here() {
        for (exported, local, subscribed, wanted) in [
            ("a.*", "a.*", "a.x", Some("a.x")),
            ("a.*", "a.*", ">", Some("a.*")),
            ("a.*", "b.*", "b.x", Some("a.x")),
            ("a.*", "b.*", "a.x", None),
            ("a.*.*", "b.$2.$1", "b.x.*", Some("a.*.x")),
            ("a.>", "p.a.>", "p.a.x.>", Some("a.x.>")),
            ("a", "b", "b", Some("a")),
            ("a", "b", ">", Some("a")),
        ] {
            let subjects = StreamSubjects::new(exported, local).unwrap();
            let said =
                subjects.wanted(subscribed.as_bytes()).map(|wanted| String::from_utf8(wanted).unwrap());
            assert_eq!(said.as_deref(), wanted, "{exported} as {local}, subscribed to {subscribed}");
        }
        let turned = StreamSubjects::new("a.*.*", "b.$2.$1").unwrap();
        assert_eq!(turned.local_name(b"a.x.y"), Some(b"b.y.x".to_vec()));
        assert_eq!(turned.local_name(b"c.x.y"), None);
    }

    #[test]
    fn what_cannot_be_turned_round_is_no_import() {
        for (exported, local, expected) in [
            ("a.*.*", "b.$1", "invalid mapping destination: not using all of the token wildcard(s) in b.$1"),
            (
                "a.*",
                "b.{{partition(3,1)}}",
                "invalid mapping destination: the only mapping function allowed for import transforms is {{Wildcard()}} \
                 in {{partition(3,1)}}",
            ),
            ("a.*", "b.>", "invalid subject"),
        ] {
            assert_eq!(StreamSubjects::new(exported, local).unwrap_err().to_string(), expected);
            assert_eq!(ServiceSubjects::new(exported, local).unwrap_err().to_string(), expected);
        }
    }
}
