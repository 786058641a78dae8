//! `/debug/vars`: the command line, and memory as Go's runtime names it.

use serde::Serialize;

use crate::json;
use crate::view::ServerView;

/// The only one of Go's numbers that means the same here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MemStats {
    /// Bytes obtained from the system.
    #[serde(rename = "Sys")]
    sys: u64,
}

impl MemStats {
    pub(crate) fn of(view: &dyn ServerView) -> Self {
        Self { sys: view.resident_bytes() }
    }
}

/// Answers `/debug/vars`.
pub fn expvar(view: &dyn ServerView) -> Vec<u8> {
    let variables =
        [("cmdline", json::compact(&view.command_line())), ("memstats", json::compact(&MemStats::of(view)))];
    let mut body = b"{\n".to_vec();
    for (place, (name, value)) in variables.iter().enumerate() {
        if place > 0 {
            body.extend_from_slice(b",\n");
        }
        body.extend_from_slice(format!("\"{name}\": ").as_bytes());
        body.extend_from_slice(value);
    }
    body.extend_from_slice(b"\n}\n");
    body
}
