//! Encryption at rest with the program itself: nothing readable in its folder, nothing without the key, and keys that can
//! be changed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use async_nats::Client;
use support::folder::Folder;
use support::process::{Process, run, told};

const MARKERS: [&str; 3] = ["subject-mark", "Header-Mark", "payload-mark"];

/// A server over the folder's `data` with these lines in its `jetstream` block.
async fn start(folder: &Folder, lines: &str) -> (Process, Client) {
    let process = Process::with_config(&config(folder, lines));
    let client = async_nats::connect(format!("127.0.0.1:{}", process.port())).await.unwrap();
    (process, client)
}

/// Ends it as operators do, so that all is saved.
fn end(mut server: Process) {
    server.signal("term");
    server.wait();
}

fn config(folder: &Folder, lines: &str) -> std::path::PathBuf {
    let data = folder.at("data");
    let text = format!("listen: 127.0.0.1:-1\njetstream {{ store_dir: {data:?}\n{lines}\n}}\n");
    folder.write("server.conf", &text)
}

async fn request(client: &Client, subject: &str, body: &str) -> String {
    let answer = client.request(subject.to_owned(), body.to_owned().into()).await.unwrap();
    let text = String::from_utf8(answer.payload.to_vec()).unwrap();
    assert!(!text.contains("error"), "{text}");
    text
}

async fn publish(client: &Client) {
    request(client, "$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"]}"#).await;
    for number in 0..500 {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(MARKERS[1], "x");
        let subject = format!("s.{}.{number}", MARKERS[0]);
        let payload = format!("{} {number}", MARKERS[2]);
        client.request_with_headers(subject, headers, payload.into()).await.unwrap();
    }
}

async fn check(client: &Client) {
    let info = request(client, "$JS.API.STREAM.INFO.S", "").await;
    assert!(info.contains(r#""messages":500"#), "{info}");
    for number in [0, 17, 499] {
        let get = format!(r#"{{"last_by_subj":"s.{}.{number}"}}"#, MARKERS[0]);
        let got = request(client, "$JS.API.STREAM.MSG.GET.S", &get).await;
        assert!(got.contains(&format!(r#""seq":{}"#, number + 1)), "{got}");
    }
}

/// Whether a file below the folder holds one of the markers.
fn shows(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return shows(&path);
        }
        let bytes = std::fs::read(&path).unwrap();
        MARKERS.iter().any(|mark| bytes.windows(mark.len()).any(|window| window == mark.as_bytes()))
    })
}

#[tokio::test]
async fn a_server_with_a_key() {
    for cipher in ["chacha", "aes"] {
        let folder = Folder::new();
        let first = format!("key: first, cipher: {cipher}");
        let (server, client) = start(&folder, &first).await;
        publish(&client).await;
        // Before anything is saved, and after.
        assert!(!shows(&folder.at("data")));
        end(server);
        assert!(!shows(&folder.at("data")));

        let (server, client) = start(&folder, &first).await;
        check(&client).await;
        end(server);

        for lines in ["", "key: wrong"] {
            let (code, _, text) = told(run(&["-c", config(&folder, lines).to_str().unwrap()]));
            assert_eq!(code, Some(1), "{text}");
            assert!(text.contains("encrypted under a key that is not given"), "{text}");
            assert!(text.contains("streams/S."), "the stream is named: {text}");
        }

        // Either cipher reads what the other wrote.
        let (server, client) = start(&folder, "key: second, prev_key: first, cipher: aes").await;
        check(&client).await;
        end(server);
        let (server, client) = start(&folder, "key: second, cipher: chacha").await;
        check(&client).await;
        assert!(!server.lines().iter().any(|line| line.contains("previous encryption key")));
        end(server);
    }
}

#[tokio::test]
async fn a_key_that_comes_later() {
    let folder = Folder::new();
    let (server, client) = start(&folder, "").await;
    publish(&client).await;
    end(server);
    assert!(shows(&folder.at("data")), "the test would see it");
    let (server, client) =
        start(&folder, "SONATA_TEST_KEY_IN_FILE: late\nkey: $SONATA_TEST_KEY_IN_FILE").await;
    check(&client).await;
    end(server);
    let (server, client) = start(&folder, "key: late").await;
    check(&client).await;
    end(server);
}
