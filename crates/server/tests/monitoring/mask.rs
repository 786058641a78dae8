//! Making answers comparable: what differs from run to run, or by design from the reference, is taken out.

/// Keys whose values are of the moment, or of keys that are made anew.
const MOMENTARY: [&str; 19] = [
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
    "created",
    "ts",
    "first_ts",
    "last_ts",
    "last_active",
    "store_dir",
];

/// What only one of the two servers has: our own addition; the commit of a build; a limit that is no option here.
const ONE_SIDED: [&str; 3] = ["memory_pools", "git_commit", "default_max_consumers"];

/// A line that only the reference has, with what separates it from the line before.
const LIMIT_OF_THE_REFERENCE: &str = ",\n    \"default_max_consumers\": 1000";

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
    let text = json.lines().map(mask).collect::<Vec<_>>().join("\n");
    text.replace(LIMIT_OF_THE_REFERENCE, "")
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
