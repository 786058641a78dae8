//! Which servers a request is for: those that a filter does not let through stay silent.

use serde::Deserialize;

use super::server_info::Identity;

/// What the body of any request may say about the servers it is for.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// A part of the server's name.
    pub server_name: String,
    /// A part of the cluster's name.
    pub cluster: String,
    /// A part of the host.
    pub host: String,
    /// The three above are the whole, not a part.
    pub exact_match: bool,
    /// Tags that the server must have, all of them.
    pub tags: Vec<String>,
    /// The JetStream domain.
    pub domain: String,
}

impl Filter {
    /// Whether the server is meant.
    pub fn admits(&self, server: &Identity) -> bool {
        let fits = |wanted: &str, is: &str| {
            wanted.is_empty() || if self.exact_match { wanted == is } else { is.contains(wanted) }
        };
        fits(&self.server_name, &server.name)
            && fits(&self.cluster, &server.cluster)
            && fits(&self.host, &server.host)
            && self.tags.iter().all(|tag| server.tags.iter().any(|own| own.eq_ignore_ascii_case(tag)))
            && (self.domain.is_empty() || self.domain == server.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_meant_unless_something_says_otherwise() {
        let server = Identity {
            name: "east-1".into(),
            host: "10.0.0.1".into(),
            domain: "hub".into(),
            tags: vec!["ssd".into(), "EU".into()],
            ..Identity::default()
        };
        let filter = Filter::default;
        for (filter, admits) in [
            (filter(), true),
            (Filter { server_name: "east".into(), ..filter() }, true),
            (Filter { server_name: "west".into(), ..filter() }, false),
            (Filter { server_name: "east".into(), exact_match: true, ..filter() }, false),
            (Filter { server_name: "east-1".into(), exact_match: true, ..filter() }, true),
            (Filter { host: "0.0.1".into(), ..filter() }, true),
            (Filter { cluster: "c".into(), ..filter() }, false),
            (Filter { tags: vec!["eu".into()], ..filter() }, true),
            (Filter { tags: vec!["ssd".into(), "us".into()], ..filter() }, false),
            (Filter { domain: "hub".into(), ..filter() }, true),
            (Filter { domain: "hu".into(), ..filter() }, false),
        ] {
            assert_eq!(filter.admits(&server), admits, "{filter:?}");
        }
    }
}
