//! The form of a script: a header (title, arguments, configuration) and steps; recorded answers stand between them.
//!
//! Reading a script drops the recorded answers; they are what playing it produces. Every other line, comments and
//! blanks too, is kept word for word, so that a recording changes nothing but the answers.

use crate::error::WireError;
use crate::escape;

/// A script that was read.
#[derive(Clone, Debug)]
pub struct Script {
    /// `area/name`, the path below the scripts' folder without its ending.
    pub name: String,
    /// The first line: what the script is for.
    pub title: String,
    /// Further arguments for the server's command line.
    pub args: Vec<String>,
    /// Text of the configuration file, empty when there is none.
    pub config: String,
    /// Whether the server runs with JetStream.
    pub jetstream: JetStream,
    /// Whether INFO is recorded whole, even when it is the usual one.
    pub whole_info: bool,
    /// Everything behind the header, in order.
    pub lines: Vec<Line>,
    /// The header as it was written.
    pub header: String,
}

/// What a script says of JetStream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JetStream {
    /// Nothing: it is off.
    Unsaid,
    /// An empty folder is there; whether it is on is up to the configuration, which may change.
    Configured,
    /// It is on, in an empty folder.
    On,
}

/// One line behind the header with the step it asks for, if any.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// One-based line in the file.
    pub number: usize,
    /// The line as written; for a reload the configuration below it as well.
    pub text: String,
    /// What to do, `None` for comments and blanks.
    pub step: Option<Step>,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// `A connect`: opens a connection and reads the first INFO. `A connect usual` then says what client libraries say.
    Connect(Client, Greeting),
    /// `A dial`: opens a connection and reads nothing. `A dial small` keeps the receive buffer small.
    Dial(Client, ReceiveBuffer),
    /// `A tls …`: the TLS handshake on an open connection.
    Secure(Client, TlsChoice),
    /// `A> …`: writes, in one piece; still with names of keys, decoded when sent.
    Send(Client, String),
    /// `A request [N] <subject> [payload]`: publishes with a reply subject and reads up to the N-th answer. A payload that
    /// begins with `NATS/1.0` has headers; it is decoded when sent, as with `A>`.
    Request(Client, u32, String),
    /// `A raw <hex>`: writes bytes given in hexadecimal.
    Raw(Client, Vec<u8>),
    /// `A sync`: sends PING and reads up to the PONG; `A sync sorted` puts the messages read into order.
    Sync(Client, Order),
    /// `A until [N] <prefix>`: reads up to the N-th frame that begins so. `A until closed` reads up to the end.
    Until(Client, u32, String),
    /// `A drain`: reads up to the end and forgets what it read.
    Drain(Client),
    /// `A close`: closes the client's side.
    Close(Client),
    /// `A+B total`: syncs each client and records how many messages they received together.
    Total(Vec<Client>),
    /// `signal NAME`: sends USR2, HUP, TERM or INT to the server.
    Signal(String),
    /// `reload` with a new configuration below it: replaces the file and has the server read it.
    Reload(String),
    /// `server ends`: waits until the server process has ended.
    Ends,
    /// `server restarts`: ends the server, closes all clients, and starts it anew with the folder it had.
    Restarts,
}

/// A client's name, capital letters.
pub type Client = String;

/// What a client says once it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Nothing: the script does.
    None,
    /// CONNECT with headers and without `+OK`, and SUB for answers to requests.
    Usual,
}

/// How large the kernel may make the buffer of unread bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveBuffer {
    /// Whatever the system chooses.
    Usual,
    /// A few KiB, so that a client which does not read is noticed early.
    Small,
}

/// In which order frames of one read are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they came.
    AsReceived,
    /// Messages sorted: for several subscriptions of one client, whose order the reference leaves to chance.
    Sorted,
}

/// Choices of a client's TLS handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsChoice {
    /// Name of the client certificate, none by default.
    pub certificate: Option<String>,
    /// `v1.2` or `v1.3` restricts the client to that version.
    pub version: Option<String>,
}

/// Second words of answer lines: `A < frame` is written `A< frame`, the others say how a connection fared.
pub const ANSWERS: [&str; 5] = ["closed", "timed-out", "secured", "refused", "received"];

impl Script {
    /// Reads the text of one script.
    ///
    /// # Errors
    /// [`WireError::Script`] with the first line that does not follow the form.
    pub fn parse(name: &str, text: &str) -> Result<Script, WireError> {
        let fail = |line: usize, reason: String| WireError::Script { script: name.to_owned(), line, reason };
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line)).peekable();
        let title = lines
            .next()
            .and_then(|(_, line)| line.strip_prefix("# "))
            .ok_or_else(|| fail(1, "the first line is the title: `# title`".to_owned()))?;
        let mut script = Script {
            name: name.to_owned(),
            title: title.to_owned(),
            args: Vec::new(),
            config: String::new(),
            jetstream: JetStream::Unsaid,
            whole_info: false,
            lines: Vec::new(),
            header: format!("# {title}\n"),
        };
        while let Some((number, line)) = lines.next_if(|(_, line)| !is_body(line)) {
            script.header.push_str(line);
            script.header.push('\n');
            if let Some(args) = line.strip_prefix("args:") {
                script.args = args.split_whitespace().map(str::to_owned).collect();
            } else if line == "info: whole" {
                script.whole_info = true;
            } else if line == "jetstream: on" {
                script.jetstream = JetStream::On;
            } else if line == "jetstream: configured" {
                script.jetstream = JetStream::Configured;
            } else if line == "config:" {
                while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("    ")) {
                    script.header.push_str(line);
                    script.header.push('\n');
                    script.config.push_str(line.get(4..).unwrap_or_default());
                    script.config.push('\n');
                }
            } else if !line.is_empty() && !line.starts_with('#') {
                return Err(fail(number, format!("unknown header `{line}`")));
            }
        }
        while let Some((number, line)) = lines.next() {
            if is_answer(line) {
                continue;
            }
            let mut text = line.to_owned();
            let mut config = String::new();
            if line == "reload" {
                while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("    ")) {
                    text.push('\n');
                    text.push_str(line);
                    config.push_str(line.get(4..).unwrap_or_default());
                    config.push('\n');
                }
            }
            let step = parse_step(line, config).map_err(|reason| fail(number, reason))?;
            script.lines.push(Line { number, text, step });
        }
        Ok(script)
    }
}

/// Whether the line begins the steps: the header ends at the first line of a client or of the server.
fn is_body(line: &str) -> bool {
    let word = line.split([' ', '>', '<', '+']).next().unwrap_or_default();
    is_client(word) || matches!(word, "signal" | "reload" | "server")
}

fn is_answer(line: &str) -> bool {
    let Some((head, rest)) = line.split_once(' ') else { return false };
    let second = rest.split(' ').next().unwrap_or_default();
    let clients = head.trim_end_matches('<').split('+').all(is_client);
    (clients && (head.ends_with('<') || ANSWERS.contains(&second)))
        || (head == "server" && matches!(second, "reloaded" | "kept" | "ended" | "timed-out"))
}

fn is_client(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn parse_step(line: &str, config: String) -> Result<Option<Step>, String> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line == "reload" {
        return Ok(Some(Step::Reload(config)));
    }
    let (head, rest) = line.split_once(' ').ok_or_else(|| format!("`{line}` is not a step"))?;
    if let Some(client) = head.strip_suffix('>').filter(|client| is_client(client)) {
        escape::decode(rest)?;
        return Ok(Some(Step::Send(client.to_owned(), rest.to_owned())));
    }
    let words: Vec<&str> = rest.split(' ').collect();
    match (head, words.as_slice()) {
        ("signal", [name @ ("USR2" | "HUP" | "TERM" | "INT")]) => {
            return Ok(Some(Step::Signal((*name).to_owned())));
        }
        ("server", ["ends"]) => return Ok(Some(Step::Ends)),
        ("server", ["restarts"]) => return Ok(Some(Step::Restarts)),
        _ => {}
    }
    let clients: Vec<Client> = head.split('+').map(str::to_owned).collect();
    if !clients.iter().all(|client| is_client(client)) {
        return Err(format!("`{head}` is not a client"));
    }
    if words == ["total"] {
        return Ok(Some(Step::Total(clients)));
    }
    let client = head.to_owned();
    let step = match words.as_slice() {
        ["connect"] => Step::Connect(client, Greeting::None),
        ["connect", "usual"] => Step::Connect(client, Greeting::Usual),
        ["dial"] => Step::Dial(client, ReceiveBuffer::Usual),
        ["dial", "small"] => Step::Dial(client, ReceiveBuffer::Small),
        ["tls", choices @ ..] => Step::Secure(client, parse_tls(choices)?),
        ["request", first, more @ ..] => {
            let text = rest.strip_prefix("request ").unwrap_or_default();
            escape::decode(text)?;
            match (first.parse::<u32>(), more) {
                (Ok(times), [_, ..]) => Step::Request(client, times, more.join(" ")),
                _ => Step::Request(client, 1, text.to_owned()),
            }
        }
        ["raw", hex] => Step::Raw(
            client,
            data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|error| error.to_string())?,
        ),
        ["sync"] => Step::Sync(client, Order::AsReceived),
        ["sync", "sorted"] => Step::Sync(client, Order::Sorted),
        ["until", first, more @ ..] => match (first.parse::<u32>(), more) {
            (Ok(times), [_, ..]) => Step::Until(client, times, more.join(" ")),
            _ => Step::Until(client, 1, rest.strip_prefix("until ").unwrap_or_default().to_owned()),
        },
        ["drain"] => Step::Drain(client),
        ["close"] => Step::Close(client),
        _ => return Err(format!("`{rest}` is not a step")),
    };
    Ok(Some(step))
}

fn parse_tls(words: &[&str]) -> Result<TlsChoice, String> {
    let mut choice = TlsChoice::default();
    for word in words {
        match (word.strip_prefix("cert="), *word) {
            (Some(name), _) => choice.certificate = Some(name.to_owned()),
            (None, "v1.2" | "v1.3") => choice.version = Some((*word).to_owned()),
            _ => return Err(format!("`{word}` is not a choice of tls")),
        }
    }
    Ok(choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "# a title\nargs: -D -V\nconfig:\n    a: 1\n    b { c: 2 }\n# why\n\nA connect\nA< INFO {usual} \\r\\n\n\
        A> PUB a 0\\r\\n\\r\\n\nA until 2 PONG\nA< PONG\\r\\nA closed\nA closed\nA+B total\nA+B received 2\nreload\n    a: 2\n\
        server reloaded\nsignal USR2\nA until -ERR 'x'\nA tls cert=ann v1.2\n\
        A connect usual\nA request a.b\nA request 2 a {\"b\": 1}\nserver restarts\n";

    #[test]
    fn answers_are_dropped_and_all_else_is_kept() {
        let script = Script::parse("x/y", SCRIPT).unwrap();
        assert_eq!((script.title.as_str(), script.config.as_str()), ("a title", "a: 1\nb { c: 2 }\n"));
        assert_eq!(script.args, ["-D", "-V"]);
        assert!(SCRIPT.starts_with(&script.header));
        let client = || "A".to_owned();
        let steps: Vec<Step> = script.lines.iter().filter_map(|line| line.step.clone()).collect();
        assert_eq!(
            steps,
            [
                Step::Connect(client(), Greeting::None),
                Step::Send(client(), "PUB a 0\\r\\n\\r\\n".to_owned()),
                Step::Until(client(), 2, "PONG".to_owned()),
                Step::Total(vec![client(), "B".to_owned()]),
                Step::Reload("a: 2\n".to_owned()),
                Step::Signal("USR2".to_owned()),
                Step::Until(client(), 1, "-ERR 'x'".to_owned()),
                Step::Secure(
                    client(),
                    TlsChoice { certificate: Some("ann".to_owned()), version: Some("v1.2".to_owned()) }
                ),
                Step::Connect(client(), Greeting::Usual),
                Step::Request(client(), 1, "a.b".to_owned()),
                Step::Request(client(), 2, "a {\"b\": 1}".to_owned()),
                Step::Restarts,
            ]
        );
    }

    #[test]
    fn lines_out_of_form_are_named() {
        for (text, line) in [
            ("A connect\n", 1),
            ("# t\ncolour: red\n", 2),
            ("# t\nA connect\nA dance\n", 3),
            ("# t\nA> \\q\n", 2),
            ("# t\nA connect\nsignal KILL\n", 3),
            ("# t\nA raw xyz\n", 2),
        ] {
            match Script::parse("x/y", text) {
                Err(WireError::Script { line: at, .. }) => assert_eq!(at, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
