//! `/raftz`: Raft groups, of which this server has none.

/// The answer, with status 404.
pub const NO_GROUPS: &str = "No Raft nodes registered";
