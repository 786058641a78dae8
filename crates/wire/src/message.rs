//! Blanks what a server makes up in messages: clocks and ids in the answers of JetStream, and names of its own making.
//!
//! Clocks and ids become `*` where they stand; the text around them is compared byte for byte. A name that the server
//! chose for something is needed again by the script that asks about it, so it becomes `$MADE_1`, `$MADE_2` and so on in
//! the order of appearance, in all frames, and a script may write it.
//!
//! Blanking may change a length, for a clock's digits vary: sizes of a message that held such values are `*` too.

use std::borrow::Cow;

use crate::script::Script;

/// JSON fields whose values come from a clock, a generator of ids, or the server's own name.
const MADE_UP_FIELDS: [&str; 17] = [
    "created",
    "ts",
    "first_ts",
    "last_ts",
    "last_active",
    "time",
    "timestamp",
    "id",
    "pause_remaining",
    "active",
    "server",
    "leader",
    "pinned_ts",
    "ack_time",
    "_nats.ver",
    "rtt",
    "start",
];

/// The same in what a server says in its system account, where it measures itself. A message is of that kind if it holds
/// [`SYSTEM_SIGN`].
const MADE_UP_BY_SYSTEM: [&str; 24] = [
    "seq",
    "server_id",
    "now",
    "start",
    "stop",
    "last_activity",
    "uptime",
    "idle",
    "rtt",
    "cid",
    "port",
    "mem",
    "cpu",
    "pending_bytes",
    "in_msgs",
    "in_bytes",
    "out_msgs",
    "out_bytes",
    "msgs",
    "bytes",
    "num_cache",
    "num_matches",
    "num_subscriptions",
    "update_time",
];

const SYSTEM_SIGN: &str = "\"server\":{\"name\":";

/// What a server says of itself alone when it leaves begins with this.
const FAREWELL_SIGN: &str = "{\"name\":";

/// Fields of the metric of a service that come from a clock.
const LATENCY_FIELDS: [&str; 3] = ["service", "system", "total"];

/// What only that metric says.
const LATENCY_TYPE: &str = "metric.v1.service_latency";

/// Values of such fields that say there was nothing yet, and are kept.
const KEPT: [&str; 2] = ["\"0001-01-01T00:00:00Z\"", "-1"];

/// The header with the time at which a message was stored.
const TIME_HEADER: &str = "Nats-Time-Stamp: ";

/// The header with the id that a server gave to one of several clients.
const PIN_HEADER: &str = "Nats-Pin-Id: ";

/// The header that tells where a copied message comes from; its last word is the id of that stream.
const SOURCE_HEADER: &str = "Nats-Stream-Source: ";

/// The header with the id of a stream.
const IDENTITY_HEADER: &str = "Nats-Stream-Identity: ";

/// The header that tells a service of another account who asks.
const REQUEST_INFO_HEADER: &str = "Nats-Request-Info: ";

/// Reply subjects of requests that came from another account begin with this.
const RESPONSE_PREFIX: &str = "_R_.";

/// Names the server chose while a script was played.
pub struct MadeUp {
    /// All that the script says: a name that stands there was not made up.
    script: String,
    names: Vec<String>,
}

impl MadeUp {
    /// No names yet.
    pub fn new(script: &Script) -> MadeUp {
        let lines: Vec<&str> = script.lines.iter().map(|line| line.text.as_str()).collect();
        MadeUp { script: lines.join("\n"), names: Vec::new() }
    }

    /// The text of a script with the server's names in place of `$MADE_1` and so on.
    pub fn restore<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        // The last first, since `$MADE_1` begins `$MADE_10`.
        for (index, name) in self.names.iter().enumerate().rev() {
            text = text.replace(&made(index), name).into();
        }
        text
    }

    fn replace(&self, text: &str) -> String {
        let names = self.names.iter().enumerate();
        names.fold(text.to_owned(), |text, (index, name)| text.replace(name, &made(index)))
    }

    fn learn(&mut self, name: &str) {
        if !name.is_empty() && !self.script.contains(name) && !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_owned());
        }
    }
}

fn made(index: usize) -> String {
    format!("$MADE_{}", index + 1)
}

/// The message with made-up values blanked. One that is not text comes back as it is, but for its reply subject.
pub fn normal(frame: &[u8], made_up: &mut MadeUp) -> Vec<u8> {
    let end = frame.iter().position(|&byte| byte == b'\n').map_or(frame.len(), |at| at + 1);
    let (line, body) = frame.split_at(end);
    let (Ok(line), Ok(body)) = (std::str::from_utf8(line), std::str::from_utf8(body)) else {
        return frame.to_vec();
    };
    line.trim_end()
        .split(' ')
        .filter(|word| word.starts_with(RESPONSE_PREFIX))
        .for_each(|word| made_up.learn(word));
    learn_names(body, made_up);
    let (headers, payload) = match body.find("\r\n\r\n") {
        Some(at) if line.starts_with("HMSG ") => body.split_at(at),
        _ => ("", body),
    };
    let payload = if payload.trim_start().starts_with('{') { blank_json(payload) } else { payload.into() };
    let blanked = made_up.replace(&format!("{}{payload}", blank_headers(headers)));
    let line = made_up.replace(&blank_line(line, blanked != body));
    format!("{line}{blanked}").into()
}

/// Finds names in the answer of a server that is asked who it is, in that to the creation of a consumer, and in the headers of a message.
fn learn_names(body: &str, made_up: &mut MadeUp) {
    body.split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .filter(|(_, value)| value.starts_with(RESPONSE_PREFIX))
        .for_each(|(_, value)| made_up.learn(value));
    // Who a server is, asked for alone.
    if body.starts_with("{\"name\":\"")
        && let Some((_, rest)) = body.split_once("\"id\":\"N")
        && let Some((id, _)) = rest.split_once("\"}")
    {
        made_up.learn(&format!("N{id}"));
    }
    if body.contains("consumer_create_response\"")
        && let Some((_, rest)) = body.split_once("\"name\":\"")
        && let Some((name, _)) = rest.split_once('"')
    {
        made_up.learn(name);
    }
    for header in [PIN_HEADER, IDENTITY_HEADER] {
        if let Some((_, rest)) = body.split_once(header)
            && let Some((id, _)) = rest.split_once("\r\n")
        {
            made_up.learn(id);
        }
    }
    if let Some((_, rest)) = body.split_once(SOURCE_HEADER)
        && let Some((origin, _)) = rest.split_once("\r\n")
        && let Some(id) = origin.split(' ').nth(5)
    {
        made_up.learn(id);
    }
}

/// The line with the clock in a reply subject for acknowledgements, and the chance in one for flow control, blanked.
fn blank_line(line: &str, is_body_blanked: bool) -> String {
    // The original writes two blanks where its own messages have no reply.
    let mut words: Vec<String> =
        line.trim_end().split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let sizes = if line.starts_with("HMSG ") { 2 } else { 1 };
    let count = words.len();
    for (index, word) in words.iter_mut().enumerate().skip(1) {
        if index + sizes >= count {
            if is_body_blanked {
                "*".clone_into(word);
            }
        } else if word.starts_with("$JS.ACK.") {
            // The time stands before the number of messages pending.
            blank_token(word, 1);
        } else if word.starts_with("$JS.FC.") {
            blank_token(word, 0);
        }
    }
    format!("{}\r\n", words.join(" "))
}

/// Blanks one token of a subject, counted from its end.
fn blank_token(subject: &mut String, from_end: usize) {
    let mut tokens: Vec<&str> = subject.split('.').collect();
    if let Some(token) = tokens.iter_mut().rev().nth(from_end) {
        *token = "*";
    }
    *subject = tokens.join(".");
}

fn blank_headers(headers: &str) -> String {
    let lines = headers.split("\r\n").map(|line| match line.strip_prefix(REQUEST_INFO_HEADER) {
        Some(json) => format!("{REQUEST_INFO_HEADER}{}", blank_json(json)),
        None if line.starts_with(TIME_HEADER) => format!("{TIME_HEADER}*"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

/// The text with the values of [`MADE_UP_FIELDS`] blanked, everything else as it was. It need not be right JSON.
fn blank_json(text: &str) -> String {
    let is_of_system = text.contains(SYSTEM_SIGN) || text.starts_with(FAREWELL_SIGN);
    let is_made_up =
        |field: &str| MADE_UP_FIELDS.contains(&field) || (is_of_system && MADE_UP_BY_SYSTEM.contains(&field));
    let mut blanked = String::with_capacity(text.len());
    let is_latency = text.contains(LATENCY_TYPE);
    let mut rest = text;
    while let Some(start) = rest.find('"') {
        let (before, string) = rest.split_at(start);
        let length = string_length(string);
        let (string, behind) = string.split_at(length);
        blanked.push_str(before);
        blanked.push_str(string);
        rest = behind;
        let Some(value) = behind.strip_prefix(':') else { continue };
        let field = string.trim_matches('"');
        if is_made_up(field) || (is_latency && LATENCY_FIELDS.contains(&field)) {
            let length = scalar_length(value);
            let (value, behind) = value.split_at(length);
            let is_kept = value.is_empty() || KEPT.contains(&value);
            blanked.push(':');
            blanked.push_str(if is_kept { value } else { "\"*\"" });
            rest = behind;
        }
    }
    blanked.push_str(rest);
    blanked
}

/// Length of the JSON string at the start of `text`, quotes included.
fn string_length(text: &str) -> usize {
    let mut is_escaped = true;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !is_escaped => return at + 1,
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

/// Length of the string or number at the start of `text`; 0 for objects and lists.
fn scalar_length(text: &str) -> usize {
    match text.bytes().next() {
        Some(b'"') => string_length(text),
        Some(b'{' | b'[') | None => 0,
        Some(_) => text.find([',', '}', ']']).unwrap_or(text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(script: &str, frames: &[(&str, &str)]) -> MadeUp {
        let script = Script::parse("x/y", &format!("# t\n{script}")).unwrap();
        let mut made_up = MadeUp::new(&script);
        for (frame, expected) in frames {
            let blanked = normal(frame.as_bytes(), &mut made_up);
            assert_eq!(String::from_utf8(blanked).unwrap(), *expected);
        }
        made_up
    }

    #[test]
    fn clocks_and_ids_are_blanked_and_all_else_is_kept() {
        play(
            "A connect\n",
            &[
                ("MSG _R.A R 2\r\nhi\r\n", "MSG _R.A R 2\r\nhi\r\n"),
                (
                    "MSG _R.A R 99\r\n{\"b\":1,\"ts\":\"2026\",\"a\\\"\":{\"id\":7,\"x\":\"id\"}, \"created\":{}}\r\n",
                    "MSG _R.A R *\r\n{\"b\":1,\"ts\":\"*\",\"a\\\"\":{\"id\":\"*\",\"x\":\"id\"}, \"created\":{}}\r\n",
                ),
                (
                    "MSG _R.A R 33\r\n{\"first_ts\":\"0001-01-01T00:00:00Z\",\"active\":-1}\r\n",
                    "MSG _R.A R 33\r\n{\"first_ts\":\"0001-01-01T00:00:00Z\",\"active\":-1}\r\n",
                ),
                (
                    "MSG a 1 $JS.ACK.S.C.1.2.3.1763879.0 2\r\nhi\r\n",
                    "MSG a 1 $JS.ACK.S.C.1.2.3.*.0 2\r\nhi\r\n",
                ),
                (
                    "HMSG a 1 9 11\r\nNATS/1.0\r\nNats-Time-Stamp: 2026\r\nB: 1\r\n\r\n{\"ts\":1}\r\n",
                    "HMSG a 1 * *\r\nNATS/1.0\r\nNats-Time-Stamp: *\r\nB: 1\r\n\r\n{\"ts\":\"*\"}\r\n",
                ),
                ("MSG a 1 9\r\n{\"ts\r\n", "MSG a 1 9\r\n{\"ts\r\n"),
            ],
        );
    }

    #[test]
    fn what_a_server_measures_of_itself_is_blanked_in_its_own_account_only() {
        play(
            "A connect\n",
            &[
                (
                    "MSG a 1 99\r\n{\"server\":{\"name\":\"s\",\"id\":\"N\",\"seq\":7},\"data\":{\"cid\":9,\"rtt\":\"1ms\",\"a\":1}}\r\n",
                    "MSG a 1 *\r\n{\"server\":{\"name\":\"s\",\"id\":\"*\",\"seq\":\"*\"},\"data\":{\"cid\":\"*\",\"rtt\":\"*\",\"a\":1}}\r\n",
                ),
                ("MSG a 1 9\r\n{\"seq\":7}\r\n", "MSG a 1 9\r\n{\"seq\":7}\r\n"),
            ],
        );
    }

    #[test]
    fn names_of_the_servers_making_are_numbered() {
        let made_up = play(
            "A request a {\"name\":\"mine\"}\n",
            &[
                (
                    "MSG r 1 9\r\n{\"type\":\"io.nats.jetstream.api.v1.consumer_create_response\",\"name\":\"kX12\"}\r\n",
                    "MSG r 1 *\r\n{\"type\":\"io.nats.jetstream.api.v1.consumer_create_response\",\"name\":\"$MADE_1\"}\r\n",
                ),
                (
                    "MSG r 1 9\r\n{\"type\":\"io.nats.jetstream.api.v1.consumer_create_response\",\"name\":\"mine\"}\r\n",
                    "MSG r 1 9\r\n{\"type\":\"io.nats.jetstream.api.v1.consumer_create_response\",\"name\":\"mine\"}\r\n",
                ),
                (
                    "MSG a 1 $JS.ACK.S.kX12.1.1.1.5.0 2\r\nhi\r\n",
                    "MSG a 1 $JS.ACK.S.$MADE_1.1.1.1.*.0 2\r\nhi\r\n",
                ),
            ],
        );
        assert_eq!(made_up.restore("$JS.ACK.S.$MADE_1.1"), "$JS.ACK.S.kX12.1");
    }
}
