//! The shape of an answer: which members it has, of which types, in which order.

use sonata_jetstream::json::Tree;

/// Members that only one of the two servers has, or not in the same number: our own; the commit of a build; a limit that
/// is no option here; the runtime's numbers; queues that exist at the moment.
const ONE_SIDED: [&str; 6] =
    ["memory_pools", "git_commit", "default_max_consumers", "memstats", "in_progress", "System recvQ"];

/// A line for each member, each once.
pub(crate) fn of(json: &str) -> String {
    let mut lines = Vec::new();
    describe("", &Tree::parse(json.as_bytes()).unwrap(), &mut lines);
    lines.join("\n")
}

fn describe(path: &str, tree: &Tree, lines: &mut Vec<String>) {
    let kind = match tree {
        Tree::Null => "null",
        Tree::Bool(_) => "truth",
        Tree::Number(_) => "number",
        Tree::Text(_) => "text",
        Tree::List(_) => "list",
        Tree::Object(_) => "object",
    };
    let line = format!("{path}: {kind}");
    if !path.is_empty() && !lines.contains(&line) {
        lines.push(line);
    }
    match tree {
        Tree::List(items) => {
            items.iter().for_each(|item| describe(&format!("{path}[]"), item, lines));
        }
        Tree::Object(members) => {
            for (name, value) in members.iter().filter(|(name, _)| !ONE_SIDED.contains(&name.as_str())) {
                let dot = if path.is_empty() { "" } else { "." };
                describe(&format!("{path}{dot}{name}"), value, lines);
            }
        }
        _ => {}
    }
}
