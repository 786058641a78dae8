//! Monitoring from outside: a server with clients, asked over HTTP.
//!
//! The files under `monitoring` are transcripts: `GET <path>` asks for a page and is followed by the answer with what
//! is of the moment masked, `SHAPE <path>` by the keys of the answer only. They were written by nats-server 2.15.1:
//! with its program in `SONATA_REFERENCE` they are compared with it again, and `UPDATE_TRANSCRIPTS=1` writes them anew.

#![allow(clippy::unwrap_used)]

#[path = "monitoring/client.rs"]
#[allow(dead_code, reason = "the tests of the system account use more of it")]
mod client;
#[path = "monitoring/http.rs"]
mod http;
#[path = "monitoring/mask.rs"]
mod mask;
#[path = "monitoring/pki.rs"]
mod pki;
#[path = "monitoring/subject.rs"]
mod subject;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::Path;

use client::Client;
use http::{connect, exchange, get};
use pki::Pki;
use sonata_monitor::metrics;
use sonata_server::options::Options;
use sonata_server::{Server, StartError};
use subject::{Folder, Subject, options, wait_for};

const ACCOUNTS: &str = r#"
    server_name: test
    port: -1
    http: "127.0.0.1:-1"
    accounts {
        A { users: [{ user: a, password: pa }] }
        B { users: [{ user: b, password: pb }] }
    }
"#;

const ALONE: &str = "server_name: test\nport: -1\nhttp: '127.0.0.1:-1'\n";

/// Some clients: one of each account, two that are gone.
fn clients(subject: &Subject) -> Vec<Client> {
    let mut refused = Client::arrive(subject.clients);
    refused.send("CONNECT {\"user\":\"a\",\"pass\":\"wrong\",\"name\":\"thief\"}\n");
    refused.read_to_end();
    closed(subject, 1);
    let gone = Client::connect(
        subject.clients,
        "CONNECT {\"user\":\"b\",\"pass\":\"pb\",\"lang\":\"c\",\"version\":\"3.1\"}\nSUB gone.> 12\n",
    );
    drop(gone);
    closed(subject, 2);
    let a = Client::connect(
        subject.clients,
        "CONNECT {\"user\":\"a\",\"pass\":\"pa\",\"name\":\"n1\",\"lang\":\"go\",\"version\":\"1.2\"}\nSUB foo 1\n\
         PUB foo 2\nhi\n",
    );
    let mut b = Client::connect(
        subject.clients,
        "CONNECT {\"user\":\"b\",\"pass\":\"pb\",\"name\":\"<n2>\"}\nSUB bar.* q 7\nUNSUB 7 5\n",
    );
    b.run("PUB bar.x 3\nabc\nPUB nobody 5\nhello\n");
    vec![a, b]
}

fn closed(subject: &Subject, count: usize) {
    let wanted = format!("\"total\": {count},");
    wait_for("closed connections", || {
        get(subject.monitor, "/connz?state=closed").body.contains(&wanted).then_some(())
    });
}

/// Plays a transcript against this server and, if it is there, the reference.
fn check(name: &str, config: &str, prepare: impl Fn(&Subject) -> Vec<Client>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/monitoring").join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&path).unwrap();
    let reference = Subject::reference(config);
    let judged = [reference, Some(Subject::sonata(config))];
    for subject in judged.into_iter().flatten() {
        let _clients = prepare(&subject);
        let mut actual = String::new();
        for line in expected.lines() {
            let (page, show): (&str, fn(&str) -> String) =
                match (line.strip_prefix("GET "), line.strip_prefix("SHAPE ")) {
                    (Some(page), _) => (page, mask::masked),
                    (_, Some(page)) => (page, mask::shape),
                    _ => continue,
                };
            let answer = get(subject.monitor, page);
            let kind = answer.header("Content-Type").unwrap_or_default();
            let origin = answer.header("Access-Control-Allow-Origin").unwrap_or("-");
            let shown = show(&answer.body);
            writeln!(actual, "{line}\n{} {kind} {origin}\n{}\n", answer.status, shown.trim_end()).unwrap();
        }
        if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
            return std::fs::write(&path, actual).unwrap();
        }
        let mut lines = expected.lines().zip(actual.lines()).zip(1..);
        if let Some(((expected, actual), number)) = lines.find(|((one, two), _)| one != two) {
            panic!("{name}.txt:{number}: expected\n{expected}\ngot\n{actual}");
        }
        assert_eq!(actual.len(), expected.len(), "{name}.txt");
    }
}

const JETSTREAM: &str = r#"
    server_name: test
    port: -1
    http: "127.0.0.1:-1"
    jetstream {
        store_dir: "<folder>"
        max_mem: 64M
        max_file: 256M
        sync_interval: "2m"
        limits { max_ack_pending: 700 }
    }
    accounts {
        A { users: [{ user: a, password: pa }], jetstream { max_mem: 1M, max_file: 10M } }
        B { users: [{ user: b, password: pb }], jetstream { max_mem: 2M, max_file: 20M } }
        C { users: [{ user: c, password: pc }] }
    }
"#;

/// A client that has what it asks of JetStream answered.
struct Asking(Client);

impl Asking {
    fn connect(subject: &Subject, user: &str) -> Self {
        let login = format!("CONNECT {{\"user\":\"{user}\",\"pass\":\"p{user}\"}}\nSUB answers 1\n");
        Self(Client::connect(subject.clients, &login))
    }

    /// Waits for the answer, of which only the end is looked at: they all are JSON.
    fn ask(&mut self, to: &str, body: &str) {
        self.0.send(&format!("PUB {to} answers {}\n{body}\n", body.len()));
        self.0.read_until("}\r\n");
    }
}

/// A stream in each of two accounts: one with messages and a consumer that has not acknowledged, one empty.
fn streams(subject: &Subject) -> Vec<Client> {
    let mut a = Asking::connect(subject, "a");
    a.ask(
        "$JS.API.STREAM.CREATE.S",
        r#"{"name":"S","subjects":["s.>"],"max_bytes":100000,"metadata":{"k":"<v>"}}"#,
    );
    for letter in ["a", "b", "a"] {
        a.ask(&format!("s.{letter}"), "hello");
    }
    a.ask("$JS.API.STREAM.MSG.DELETE.S", r#"{"seq":2}"#);
    a.ask(
        "$JS.API.CONSUMER.CREATE.S.c",
        r#"{"stream_name":"S","config":{"durable_name":"c","name":"c","ack_policy":"explicit"}}"#,
    );
    a.0.run("SUB messages 2\n");
    a.0.send("PUB $JS.API.CONSUMER.MSG.NEXT.S.c messages 11\n{\"batch\":1}\n");
    a.0.read_until("hello\r\n");
    a.ask("$JS.API.STREAM.INFO.nope", "");
    let mut b = Asking::connect(subject, "b");
    b.ask("$JS.API.STREAM.CREATE.M", r#"{"name":"M","subjects":["m"],"storage":"memory"}"#);
    vec![a.0, b.0]
}

#[test]
fn streams_are_shown_as_by_the_reference() {
    check("jetstream", JETSTREAM, streams);
}

#[test]
fn streams_are_counted_and_what_cannot_be_recovered_is_told() {
    let folder = Folder::new();
    let store = folder.0.join("store");
    std::fs::create_dir_all(store.join("jetstream/streams/S.01")).unwrap();
    let always = JETSTREAM.replace("sync_interval: \"2m\"", "sync_interval: always");
    let subject = Subject::sonata(&always.replace("<folder>", store.to_str().unwrap()));
    let _clients = streams(&subject);
    let jsz = get(subject.monitor, "/jsz").body;
    assert!(jsz.contains("\"sync_always\": true") && !jsz.contains("sync_interval"), "{jsz}");
    let metrics = get(subject.monitor, "/metrics").body;
    for line in [
        "sonata_jetstream_sync_always 1",
        "sonata_jetstream_streams 2",
        "sonata_stream_messages{account=\"A\",stream=\"S\"} 2",
        "sonata_stream_last_sequence{account=\"A\",stream=\"S\"} 3",
        "sonata_stream_consumers{account=\"A\",stream=\"S\"} 1",
        "sonata_stream_messages{account=\"B\",stream=\"M\"} 0",
        "sonata_consumer_ack_pending{account=\"A\",stream=\"S\",consumer=\"c\"} 1",
        "sonata_consumer_pending{account=\"A\",stream=\"S\",consumer=\"c\"} 1",
        "sonata_consumer_lag{account=\"A\",stream=\"S\",consumer=\"c\"} 2",
        "sonata_account_memory_storage_bytes{account=\"A\"} 0",
        "sonata_memory_pool_limit_bytes{pool=\"journal\"} 67108864",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in\n{metrics}");
    }
    let health = get(subject.monitor, "/healthz");
    assert_eq!(health.status, 503);
    assert!(
        health.body.contains("JetStream stream in \\\"streams/S.01\\\" could not be recovered"),
        "{}",
        health.body
    );
    for page in
        ["/healthz?js-enabled-only=1", "/healthz?js-server-only=1", "/healthz?account=A&stream=S&consumer=c"]
    {
        assert_eq!(get(subject.monitor, page).status, 200, "{page}");
    }
}

#[test]
fn connections_are_shown_as_by_the_reference() {
    check("connz", ACCOUNTS, clients);
}

/// One that came through a trusted proxy, one that came without, one whose proxy nobody knows.
#[test]
fn proxies_are_shown_as_by_the_reference() {
    let proxy = |number| nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::Server, [number; 32]).unwrap();
    let (trusted, stranger) = (proxy(1), proxy(2));
    let config = format!(
        "server_name: test\nport: -1\nhttp: '127.0.0.1:-1'\nproxies {{ trusted: [ {{ key: {} }} ] }}\n",
        trusted.public_key()
    );
    check("proxy", &config, |subject| {
        let through = |proxy: &nkeys::KeyPair, name: &str| {
            let (mut client, nonce) = Client::arrive_challenged(subject.clients);
            let signature = data_encoding::BASE64URL_NOPAD.encode(&proxy.sign(nonce.as_bytes()).unwrap());
            client.send(&format!("CONNECT {{\"name\":\"{name}\",\"proxy_sig\":\"{signature}\"}}\n"));
            client
        };
        through(&stranger, "stranger").read_to_end();
        closed(subject, 1);
        let mut proxied = through(&trusted, "proxied");
        proxied.run("");
        vec![proxied, Client::connect(subject.clients, "CONNECT {\"name\":\"direct\"}\n")]
    });
}

#[test]
fn pages_have_the_shape_of_the_reference() {
    check("pages", ACCOUNTS, clients);
}

#[test]
fn the_global_account_is_shown_as_by_the_reference() {
    check("alone", ALONE, |subject| {
        vec![Client::connect(subject.clients, "CONNECT {\"name\":\"n\"}\nSUB a 1\nPUB a 0\n\n")]
    });
}

#[test]
fn tls_is_shown_as_by_the_reference() {
    let folder = Folder::new();
    let pki = Pki::new(&folder);
    let config = format!(
        "server_name: test\nport: -1\nhttp: '127.0.0.1:-1'\n\
         tls {{ cert_file: '{}', key_file: '{}', ca_file: '{}', verify: true }}",
        pki.server.certificate.display(),
        pki.server.key.display(),
        pki.authority.display()
    );
    check("tls", &config, |subject| {
        vec![Client::connect_tls(subject.clients, pki.client_config(), "CONNECT {\"name\":\"secure\"}\n")]
    });
}

#[test]
fn varz_counts_requests_and_says_where_it_listens() {
    let subject = Subject::embedded(Options {
        host: "127.0.0.1".into(),
        port: 0,
        http_host: "127.0.0.1".into(),
        http_port: Some(0),
        ..Options::default()
    });
    for path in ["/", "/varz?x=1", "/connz", "/connz", "/subscriptionsz", "/healthz", "/nope", "/metrics"] {
        get(subject.monitor, path);
    }
    let varz = get(subject.monitor, "/varz").body;
    let expected = "\"http_req_stats\": {\n    \"/\": 1,\n    \"/connz\": 2,\n    \"/healthz\": 1,\n    \
                    \"/subsz\": 1,\n    \"/varz\": 2\n  },";
    assert!(varz.contains(expected), "{varz}");
    assert!(varz.contains(&format!("\"http_port\": {},", subject.monitor.port())), "{varz}");
    assert!(varz.contains(&format!("\"port\": {},", subject.clients.port())), "{varz}");
    assert!(varz.contains("\"gomaxprocs\": 2,"), "{varz}");
}

#[test]
fn subscriptions_are_listed_by_account_and_by_subject() {
    let subject = Subject::sonata(ACCOUNTS);
    let _clients = clients(&subject);
    let list = |query: &str| get(subject.monitor, &format!("/subsz?subs=1{query}")).body;
    for (query, present, absent, total) in [
        ("", "bar.*", "nothing", 2),
        ("&acc=A", "foo", "bar.*", 1),
        ("&acc=B", "bar.*", "foo", 1),
        ("&test=bar.x", "bar.*", "foo", 1),
        ("&limit=1&offset=1", "subject", "nothing", 2),
        ("&acc=nobody", "subscriptions", "foo", 0),
    ] {
        let body = list(query);
        assert!(body.contains(present) && !body.contains(absent), "{query}: {body}");
        assert!(body.contains(&format!("\"total\": {total},")), "{query}: {body}");
    }
    let stats = get(subject.monitor, "/subsz?acc=B").body;
    // Two publishes of B on different subjects; one of its three subscriptions is gone with its client.
    for expected in
        ["\"num_matches\": 2,", "\"num_inserts\": 2,", "\"num_removes\": 1,", "\"max_fanout\": 1,"]
    {
        assert!(stats.contains(expected), "{expected} not in {stats}");
    }
}

#[test]
fn metrics_say_what_the_pages_say() {
    let subject = Subject::sonata(ACCOUNTS);
    let _clients = clients(&subject);
    let answer = get(subject.monitor, "/metrics");
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for metric in metrics::all() {
        assert!(answer.body.contains(&format!("# TYPE {} ", metric.name)), "{}", metric.name);
    }
    for line in [
        "sonata_connections 2",
        "sonata_connections_total 4",
        "sonata_in_messages_total 3",
        "sonata_in_bytes_total 10",
        "sonata_out_messages_total 2",
        "sonata_out_bytes_total 5",
        "sonata_subscriptions 2",
        "sonata_interest_literals 1",
        "sonata_interest_wildcards 1",
        "sonata_match_cache_misses_total 3",
        "sonata_account_connections{account=\"B\"} 1",
        "sonata_account_in_messages_total{account=\"B\"} 2",
        "sonata_account_out_bytes_total{account=\"A\"} 2",
        "sonata_slow_consumers_total{kind=\"client\"} 0",
    ] {
        assert!(answer.body.lines().any(|one| one == line), "{line} not in {}", answer.body);
    }
    let pool = |name: &str| -> u64 {
        let start = format!("sonata_memory_pool_used_bytes{{pool=\"{name}\"}} ");
        answer.body.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
    };
    for name in ["connections", "ingest", "interest", "caches"] {
        assert!(pool(name) > 0, "{name}");
    }
}

/// What accounts share and map, and what each has of the system account. The original lists it in any order.
#[test]
fn what_accounts_share_is_shown_as_by_the_reference() {
    const SHARING: &str = r#"
        server_name: test
        port: -1
        http: "127.0.0.1:-1"
        accounts {
            A {
                users: [{ user: a, password: pa }]
                exports: [
                    { service: "q.>", accounts: [B], latency: { sampling: 50%, subject: lat } }
                    { service: "t.*", account_token_position: 2, response_type: chunked }
                    { service: "h", latency: { sampling: headers, subject: lat } }
                    { service: "more", response_type: stream }
                    { stream: "s.*.>", accounts: [B] }
                ]
                mappings {
                    "m.*": "n.$1"
                    w: [ { destination: w1, weight: 30% }, { destination: w2, weight: 70% } ]
                    l: [ { destination: l, weight: 50% } ]
                    "r.*.>": [ { destination: "x.$1.>", weight: 20% } ]
                }
            }
            B {
                users: [{ user: b, password: pb }]
                imports: [
                    { service: { account: A, subject: "q.x" }, to: loc, share: true }
                    { service: { account: A, subject: "q.*.y" }, to: "z.*" }
                    { stream: { account: A, subject: "s.1.>" }, prefix: pre }
                    { stream: { account: A, subject: "s.*.k" }, to: "k.$1" }
                ]
            }
            $SYS { users: [{ user: s, password: s }] }
        }
        mappings { g: h }
    "#;
    check_shares("shares", SHARING, ["A", "B", "$SYS", "$G"]);
    // And what they have of JetStream: one with its own, one without, one that uses the other's.
    const STREAMING: &str = r#"
        server_name: test
        port: -1
        http: "127.0.0.1:-1"
        jetstream { store_dir: "<folder>", max_mem: 64M, max_file: 256M, sync_interval: "2m", domain: hub }
        accounts {
            A { jetstream: enabled, users: [{ user: a, password: pa }], exports: [ { service: "$JS.API.>" } ] }
            B { users: [{ user: b, password: pb }] }
            C { users: [{ user: c, password: pc }], imports: [ { service: { account: A, subject: "$JS.API.>" } } ] }
        }
    "#;
    check_shares("shares_jetstream", STREAMING, ["A", "B", "C", "$SYS"]);
}

fn check_shares(name: &str, config: &str, accounts: [&str; 4]) {
    let shown = |subject: &Subject, account: &str| {
        let answer = get(subject.monitor, &format!("/accountz?acc={account}"));
        let mut answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let detail = answer["account_detail"].as_object_mut().unwrap();
        detail.retain(|key, _| ["mappings", "exports", "imports"].contains(&key.as_str()));
        for list in detail.values_mut().filter_map(serde_json::Value::as_array_mut) {
            list.sort_by_key(|item| item.to_string());
        }
        serde_json::to_string_pretty(&detail).unwrap()
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/monitoring/{name}.txt"));
    for subject in [Subject::reference(config), Some(Subject::sonata(config))].into_iter().flatten() {
        let actual = accounts.map(|account| format!("{account} {}\n", shown(&subject, account))).concat();
        if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
            return std::fs::write(&path, actual).unwrap();
        }
        assert_eq!(actual, std::fs::read_to_string(&path).unwrap());
    }
}

#[test]
fn a_base_path_moves_all_pages() {
    let subject = Subject::sonata(&format!("{ALONE}http_base_path: nats\n"));
    for (path, status) in [
        ("/nats", 200),
        ("/nats/varz", 200),
        ("/nats/healthz", 200),
        ("/varz", 404),
        ("/", 404),
        ("/nats/x", 404),
    ] {
        assert_eq!(get(subject.monitor, path).status, status, "{path}");
    }
    let varz = get(subject.monitor, "/nats/varz").body;
    assert!(varz.contains("\"/varz\": 2") && varz.contains("\"http_base_path\": \"nats\""), "{varz}");
}

#[test]
fn https_needs_no_client_certificate_and_follows_a_reload() {
    let folder = Folder::new();
    let pki = Pki::new(&folder);
    let config = |pair: &pki::Files| {
        format!(
            "port: -1\nhttps: '127.0.0.1:-1'\n\
             tls {{ cert_file: '{}', key_file: '{}', ca_file: '{}', verify: true }}",
            pair.certificate.display(),
            pair.key.display(),
            pki.authority.display()
        )
    };
    let subject = Subject::sonata(&config(&pki.server));
    let ask = |path: &str| {
        let mut stream = client::tls(connect(subject.monitor), pki.anonymous_config());
        let answer = exchange(&mut stream, path);
        let certificate = stream.conn.peer_certificates().unwrap()[0].to_vec();
        (answer, certificate)
    };
    let (health, first) = ask("/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "{\"status\":\"ok\"}"));
    let (varz, _) = ask("/varz");
    assert!(varz.body.contains(&format!("\"tls_cert_not_after\": \"{}\"", pki::NOT_AFTER)), "{}", varz.body);
    assert!(varz.body.contains(&format!("\"https_port\": {},", subject.monitor.port())), "{}", varz.body);

    let (server, _) = subject.server();
    server.reload_with(options(&folder, &config(&pki.renewed))).unwrap();
    let (health, second) = ask("/healthz");
    assert_eq!(health.status, 200);
    assert_ne!(first, second);

    // Without TLS there is no answer.
    let mut plain = connect(subject.monitor);
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes);
    assert!(!bytes.starts_with(b"HTTP/"), "{bytes:?}");
}

#[test]
fn a_connection_within_the_process_has_no_address() {
    let subject = Subject::sonata(ALONE);
    let (server, runtime) = subject.server();
    let _connection = runtime.block_on(async { server.connect_in_process() });
    let body = wait_for("the connection", || {
        let body = get(subject.monitor, "/connz").body;
        body.contains("\"num_connections\": 1,").then_some(body)
    });
    for expected in ["\"kind\": \"Client\"", "\"type\": \"nats\"", "\"ip\": \"\"", "\"port\": 0"] {
        assert!(body.contains(expected), "{expected} not in {body}");
    }
}

#[test]
fn one_connection_serves_many_requests() {
    let subject = Subject::sonata(ALONE);
    let mut stream = connect(subject.monitor);
    let body = "{\"status\":\"ok\"}";
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut seen = String::new();
        let mut byte = [0];
        while !seen.ends_with(body) {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "{seen}");
            seen.push(char::from(byte[0]));
        }
        assert_eq!(http::parse(&seen).status, 200);
    }
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for() {
    let subject = Subject::sonata(ALONE);
    let mut slow = connect(subject.monitor);
    slow.write_all(b"GET /varz HTTP/1.1\r\nHost: loc").unwrap();
    let mut long = connect(subject.monitor);
    // The server may close before all of it is written.
    let _ = long.write_all(format!("GET /varz HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000)).as_bytes());
    let mut seen = Vec::new();
    let _ = long.read_to_end(&mut seen);
    assert!(seen.is_empty() || seen.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&seen));
    // Closed by the server, or the read would fail with a timeout.
    let mut seen = Vec::new();
    slow.read_to_end(&mut seen).unwrap();
    assert!(!seen.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn the_probe_fails_in_lame_duck_mode_and_ends_with_the_server() {
    let subject = Subject::sonata(ALONE);
    let client = Client::connect(subject.clients, "CONNECT {}\n");
    let (server, runtime) = subject.server();
    let lame_duck = runtime.spawn({
        let server = server.clone();
        async move { server.lame_duck().await }
    });
    let health = wait_for("lame duck mode", || {
        let answer = get(subject.monitor, "/healthz");
        (answer.status != 200).then_some(answer)
    });
    let reason = "failed to be ready for connections after 1ms: server";
    assert_eq!(health.status, 500);
    assert_eq!(health.body, format!("{{\"status\":\"error\",\"error\":\"{reason}\"}}"));
    let details = get(subject.monitor, "/healthz?details=1").body;
    assert_eq!(
        details,
        format!("{{\"status\":\"error\",\"errors\":[{{\"type\":\"CONNECTION\",\"error\":\"{reason}\"}}]}}")
    );
    assert_eq!(get(subject.monitor, "/varz").status, 200);

    let mut idle = connect(subject.monitor);
    runtime.block_on(server.shutdown());
    runtime.block_on(lame_duck).unwrap();
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
    wait_for("the listener's end", || std::net::TcpStream::connect(subject.monitor).is_err().then_some(()));
    drop(client);
}

#[test]
fn an_address_in_use_is_an_error() {
    let subject = Subject::sonata(ALONE);
    let (_, runtime) = subject.server();
    let other = |http_port, https_port| {
        let options = Options {
            host: "127.0.0.1".into(),
            port: 0,
            http_host: "127.0.0.1".into(),
            http_port,
            https_port,
            ..Options::default()
        };
        runtime.block_on(Server::start(options))
    };
    assert!(matches!(
        other(Some(subject.monitor.port()), None),
        Err(StartError::Listen("the monitor port", ..))
    ));
    assert!(matches!(other(None, Some(0)), Err(StartError::Tls(_))));
}

#[test]
fn many_connections_are_answered_while_traffic_flows() {
    let subject = Subject::sonata(ALONE);
    let mut many: Vec<Client> = (0..300)
        .map(|n| Client::connect(subject.clients, &format!("CONNECT {{\"name\":\"c{n}\"}}\nSUB x.{n} 1\n")))
        .collect();
    let publisher = std::thread::spawn({
        let address = subject.clients;
        move || {
            let mut publisher = Client::connect(address, "CONNECT {}\n");
            (0..200).for_each(|_| publisher.run("PUB x.1 1\n.\n"));
        }
    });
    let page = get(subject.monitor, "/connz?limit=1000&subs=detail&sort=subs").body;
    assert_eq!(page.matches("\"subject\": \"x.").count(), 300);
    publisher.join().unwrap();
    let varz = get(subject.monitor, "/varz").body;
    assert!(varz.contains("\"in_msgs\": 200,") && varz.contains("\"out_msgs\": 200,"), "{varz}");
    many.truncate(10);
    wait_for("the others' end", || {
        get(subject.monitor, "/varz").body.contains("\"connections\": 10,").then_some(())
    });
}
