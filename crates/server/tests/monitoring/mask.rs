//! Making answers comparable: what differs from run to run, or by design from the reference, is taken out.

/// Keys whose values are of the moment, or of keys that are made anew.
const MOMENTARY: [&str; 13] = [
    "server_id",
    "now",
    "cid",
    "port",
    "start",
    "last_activity",
    "stop",
    "rtt",
    "uptime",
    "idle",
    "pending_bytes",
    "spki_sha256",
    "cert_sha256",
];

/// What only one of the two servers has: our own addition; the commit of a build; service imports, which belong to
/// the system account's services.
const ONE_SIDED: [&str; 3] = ["memory_pools", "git_commit", "imports"];

/// The lines of pretty JSON with momentary values as `~`.
pub(crate) fn masked(json: &str) -> String {
    let mask = |line: &str| {
        let Some((key, value)) = line.split_once("\": ") else { return line.to_owned() };
        let name = key.trim_start().trim_start_matches('"');
        if !MOMENTARY.contains(&name) {
            return line.to_owned();
        }
        let comma = if value.ends_with(',') { "," } else { "" };
        format!("{key}\": ~{comma}")
    };
    json.lines().map(mask).collect::<Vec<_>>().join("\n")
}

/// The paths of all keys of pretty JSON in the order of their first appearance, one to a line.
pub(crate) fn shape(json: &str) -> String {
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for line in json.lines() {
        let indent = line.len() - line.trim_start().len();
        let Some((name, _)) = line.trim_start().strip_prefix('"').and_then(|rest| rest.split_once("\": "))
        else {
            continue;
        };
        path.retain(|(depth, _)| *depth < indent);
        path.push((indent, name.to_owned()));
        let names: Vec<&str> = path.iter().map(|(_, name)| name.as_str()).collect();
        let joined = names.join(".");
        if !names.iter().any(|name| ONE_SIDED.contains(name)) && !seen.contains(&joined) {
            seen.push(joined);
        }
    }
    seen.join("\n")
}
