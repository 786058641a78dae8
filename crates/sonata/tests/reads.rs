//! What the API answers counts everything that the server took before it was asked, acknowledged or not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::folder::Folder;
use support::process::Process;
use support::wire::Wire;

const ROUNDS: usize = 50;

fn server(folder: &Folder) -> Process {
    let store = folder.at("store");
    let config = format!("listen: \"127.0.0.1:-1\"\njetstream {{ store_dir: \"{}\" }}\n", store.display());
    Process::with_config(&folder.write("sonata.conf", &config))
}

/// The answer.
fn request(client: &mut Wire, subject: &str, body: &str) -> String {
    client.send(&format!("PUB {subject} answers {}\r\n{body}\r\n", body.len()));
    let head = client.line();
    assert!(head.starts_with("MSG answers 1 "), "{head}");
    client.line()
}

fn create(client: &mut Wire, name: &str, body: &str) {
    let created = request(client, &format!("$JS.API.STREAM.CREATE.{name}"), body);
    assert!(created.contains("\"did_create\":true"), "{created}");
}

#[test]
fn what_was_published_without_waiting_is_counted() {
    let folder = Folder::new();
    let server = server(&folder);
    let mut client = Wire::login(server.port(), "", "");
    client.send("SUB answers 1\r\n");
    create(&mut client, "S", r#"{"name":"S","subjects":["s.>"]}"#);
    for round in 1..=ROUNDS {
        client.send("PUB s.a 1\r\na\r\nPUB s.b 1\r\nb\r\n");
        let info = request(&mut client, "$JS.API.STREAM.INFO.S", "");
        assert!(info.contains(&format!("\"messages\":{},", 2 * round)), "round {round}: {info}");
    }
}

#[test]
fn what_was_republished_before_the_acknowledgement_is_found() {
    let folder = Folder::new();
    let server = server(&folder);
    let mut client = Wire::login(server.port(), "", "");
    client.send("SUB answers 1\r\n");
    create(&mut client, "S", r#"{"name":"S","subjects":["s"],"republish":{"src":"s","dest":"t"}}"#);
    create(&mut client, "T", r#"{"name":"T","subjects":["t"]}"#);
    for round in 1..=ROUNDS {
        let acknowledged = request(&mut client, "s", "hello");
        assert_eq!(acknowledged, format!("{{\"stream\":\"S\",\"seq\":{round}}}"));
        let last = request(&mut client, "$JS.API.STREAM.MSG.GET.T", r#"{"last_by_subj":"t"}"#);
        assert!(last.contains(&format!("\"seq\":{round},")), "round {round}: {last}");
    }
}
