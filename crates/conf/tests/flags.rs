//! Command lines and what they ask for.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use sonata_conf::flags::{Command, FlagOverrides, SignalCommand, help, help_tls, load, parse, redact};
use sonata_conf::options::{HandshakeFirst, Options};
use sonata_conf::source::MemorySource;
use sonata_conf::table;

fn run(line: &str) -> FlagOverrides {
    match parse(&words(line)) {
        Ok(Command::Run(flags)) => flags,
        other => panic!("{line}: {other:?}"),
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Options of a command line with an empty file, or with this one as `x.conf`.
fn options(line: &str, file: &str) -> Options {
    let source = MemorySource::new().with_file("x.conf", file);
    load(&run(line), &source).unwrap().options
}

#[test]
fn commands() {
    let signal =
        |command, target: Option<&str>| Command::Signal { command, target: target.map(str::to_owned) };
    let cases = [
        ("-h", Command::Help),
        ("--help", Command::Help),
        ("help", Command::Help),
        ("-D HELP", Command::Help),
        ("-V -- help", Command::Help),
        ("-v", Command::Version),
        ("-version=true", Command::Version),
        ("version", Command::Version),
        ("-h -v", Command::Version),
        ("--help_tls", Command::HelpTls),
        ("-t -c a.conf", Command::TestConfig { path: "a.conf".into() }),
        ("--config=a=b.conf -t", Command::TestConfig { path: "a=b.conf".into() }),
        ("--signal reload", signal(SignalCommand::Reload, None)),
        ("-sl ldm=123", signal(SignalCommand::LameDuck, Some("123"))),
        ("-sl=stop=/run/x.pid", signal(SignalCommand::Stop, Some("/run/x.pid"))),
        ("-sl quit=12*", signal(SignalCommand::Quit, Some("12*"))),
        ("-sl term=", signal(SignalCommand::Terminate, None)),
        ("-sl reopen -t", signal(SignalCommand::Reopen, None)),
        ("", Command::Run(FlagOverrides::default())),
        ("--profile 0 --routes= --no_advertise=0", Command::Run(FlagOverrides::default())),
        ("-c x.conf", Command::Run(FlagOverrides::with_config("x.conf"))),
        ("-t=false", Command::Run(FlagOverrides::default())),
    ];
    for (line, command) in cases {
        assert_eq!(parse(&words(line)), Ok(command), "{line}");
    }
}

#[test]
fn errors() {
    // The message, and whether the usage follows.
    let cases = [
        ("-foo", "flag provided but not defined: -foo", true),
        ("--foo=1", "flag provided but not defined: -foo", true),
        ("---p", "bad flag syntax: ---p", true),
        ("-=x", "bad flag syntax: -=x", true),
        ("-p", "flag needs an argument: -p", true),
        ("--port", "flag needs an argument: -port", true),
        ("-p abc", "invalid value \"abc\" for flag -p: parse error", true),
        ("-p 4_222", "invalid value \"4_222\" for flag -p: parse error", true),
        ("-p 70000", "invalid value \"70000\" for flag -p: value out of range", true),
        (
            "-p 99999999999999999999",
            "invalid value \"99999999999999999999\" for flag -p: value out of range",
            true,
        ),
        ("--log_size_limit=-1", "invalid value \"-1\" for flag -log_size_limit: value out of range", true),
        ("-D=maybe", "invalid boolean value \"maybe\" for -D: parse error", true),
        ("-js=xx", "invalid boolean value \"xx\" for -js: parse error", true),
        ("foo", "unrecognized command: \"foo\"", false),
        ("-D -", "unrecognized command: \"-\"", false),
        ("-t", "must specify [-c, --config] option to check configuration file syntax", false),
        ("-sl bogus=1", "unknown signal \"bogus\"", false),
        ("-sl reload=1=2=3", "invalid signal parameters: [2 3]", false),
        ("--routes nats://a:1", "-routes: not supported yet", false),
        ("--cluster_name x", "-cluster_name: not supported yet", false),
        ("--profile 6060", "-profile: not supported yet", false),
        ("--connect_retries 3", "-connect_retries: not supported yet", false),
    ];
    for (line, message, usage) in cases {
        let error = parse(&words(line)).unwrap_err();
        assert_eq!(error.to_string(), message, "{line}");
        assert_eq!(error.is_usage(), usage, "{line}");
    }
}

/// Each line means the same as its file.
#[test]
fn flags_mean_what_files_mean() {
    let cases = [
        ("-a 10.0.0.1", "host: 10.0.0.1"),
        ("--addr ::1 -p 5000", "listen: \"[::1]:5000\""),
        ("--net=h", "net: h"),
        ("-p 0", ""),
        ("-p=-1", "port: -1"),
        ("-p 0x1092", "port: 4242"),
        ("-n hub", "server_name: hub"),
        ("--name hub", "server_name: hub"),
        ("-P a.pid", "pid_file: \"a.pid\""),
        ("-m 8222", "http_port: 8222"),
        ("-m -1", "http_port: -1"),
        ("-l a.log --log_size_limit 1000", "log_file: \"a.log\"\nlog_size_limit: 1000"),
        ("-T=false --logtime_utc", "logtime: false\nlogtime_utc: true"),
        ("-s -r udp://x:1", "syslog: true\nremote_syslog: \"udp://x:1\""),
        ("-D", "debug: true"),
        ("-V", "trace: true"),
        ("-VV", "trace_verbose: true"),
        ("-DV", "debug: true\ntrace: true"),
        ("-DVV", "debug: true\ntrace_verbose: true"),
        ("-DVV -debug=f", "trace_verbose: true"),
        ("--max_traced_msg_len 100", "max_traced_msg_len: 100"),
        ("--client_advertise a:1", "client_advertise: \"a:1\""),
        ("--ports_file_dir /tmp", "ports_file_dir: \"/tmp\""),
        ("--user a --pass b", "authorization { user: a, password: b }"),
        ("--auth t", "authorization { token: t }"),
        (
            "--tlsverify --tlscert a --tlskey b --tlscacert c",
            "tls { cert_file: a, key_file: b, ca_file: c, verify: true }",
        ),
        ("--tls --tlscert a --tlskey b", "tls { cert_file: a, key_file: b }"),
        ("--tls=false --tlscert a", ""),
        ("-js", "jetstream: enabled"),
        ("--jetstream -sd /data", "jetstream { store_dir: \"/data\" }"),
        ("-js=false --store_dir /data", "store_dir: \"/data\"\njetstream: disabled"),
    ];
    for (line, file) in cases {
        let mut from_file = options("-c x.conf", file);
        (from_file.config_file, from_file.config_digest) = (None, None);
        assert_eq!(options(line, ""), from_file, "{line}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let file = "port: 4000\ndebug: true\nlogtime: false\nserver_name: file\ntls { timeout: 9, handshake_first: true, \
                verify: true }";
    let base = "-c x.conf";
    assert!(!options(&format!("{base} -D=false"), file).debug);
    assert!(!options(base, file).logtime);
    assert!(options(&format!("{base} -T"), file).logtime);
    assert_eq!(options(&format!("{base} -p 5000"), file).port, 5000);
    assert_eq!(options(&format!("{base} --name flag"), file).server_name.as_deref(), Some("flag"));
    assert_eq!(options(&format!("{base} --tls=false"), file).tls, None);

    let tls = options(&format!("{base} --tls --tlscert a --tlskey b"), file).tls.unwrap();
    assert_eq!(tls.timeout.as_secs(), 9);
    assert_eq!(tls.handshake_first, HandshakeFirst::Always);
    assert!(!tls.verify);
}

#[test]
fn tls_flags_need_certificate_and_key() {
    let fails = |line: &str| load(&run(line), &MemorySource::new()).unwrap_err().to_string();
    assert_eq!(fails("--tls"), "TLS Server certificate must be present and valid");
    assert_eq!(fails("--tlsverify --tlscert a"), "TLS Server private key must be present and valid");
}

#[test]
fn monitoring_listens_where_clients_do() {
    assert_eq!(options("-a 127.0.0.1", "").http_host, "127.0.0.1");
    assert_eq!(options("-a 127.0.0.1 -c x.conf", "http: \"10.0.0.1:8222\"").http_host, "10.0.0.1");
}

#[test]
fn help_names_every_flag() {
    let text = help("nats-server");
    for name in
        ["-a, --addr, --net <host>", "-sl, --signal", "-DVV", "--tlscacert <file>", "--help_tls", "-t "]
    {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
    let text = help_tls();
    for name in
        ["    TLS_CHACHA20_POLY1305_SHA256\n", "    TLS_RSA_WITH_RC4_128_SHA\n", "    X25519MLKEM768\n"]
    {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
}

#[test]
fn every_option_has_help() {
    for row in table::ROWS {
        assert!(row.help.ends_with('.') && !row.kind.is_empty(), "{}", row.name);
    }
}

#[test]
fn secrets_are_blotted_out() {
    let line = "-D --user derek -pass=secret --auth t -p 1 --tlskey x";
    assert_eq!(
        redact(&words(line)).join(" "),
        "-D --user [REDACTED] -pass=[REDACTED] --auth [REDACTED] -p 1 --tlskey x"
    );
    assert!(!format!("{:?}", run("--pass hunter2 --auth hunter2")).contains("hunter2"));
}
