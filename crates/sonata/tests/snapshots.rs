//! Backups: what comes back is what was there, from this server to itself and, if `SONATA_REFERENCE` names the original
//! server, to and from it. And what goes wrong leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};

use async_nats::{Client, HeaderMap};
use futures_util::StreamExt;
use serde_json::{Value, json};
use support::folder::Folder;
use support::process::{Process, SONATA};
use support::{PATIENCE, eventually};

/// A stream's backup as a client keeps it.
struct Backup {
    config: Value,
    bytes: Vec<u8>,
    chunks: usize,
}

async fn start(program: &str, folder: &Folder) -> (Process, Client) {
    let arguments = ["-js", "-a", "127.0.0.1", "-p", "-1", "-sd", folder.path().to_str().unwrap()];
    let process = Process::start(&PathBuf::from(program), &arguments);
    let client = async_nats::connect(format!("127.0.0.1:{}", process.port())).await.unwrap();
    (process, client)
}

async fn request(client: &Client, subject: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = client.request(subject.to_owned(), body.into()).await.unwrap();
    if answer.payload.is_empty() { Value::Null } else { serde_json::from_slice(&answer.payload).unwrap() }
}

/// The same for a request that must not be refused.
async fn demand(client: &Client, subject: &str, body: Value) -> Value {
    let answer = request(client, subject, &body).await;
    assert_eq!(answer.get("error"), None, "{subject}");
    answer
}

/// A stream with a bit of everything: headers, large messages, gaps at the start, within and at the end, consumers that
/// have acknowledged some and wait for others.
async fn fill(client: &Client) {
    let config = json!({"name": "S", "subjects": ["a.>"], "allow_msg_ttl": true, "description": "d"});
    demand(client, "$JS.API.STREAM.CREATE.S", config).await;
    for number in 0..300_usize {
        let mut headers = HeaderMap::new();
        headers.insert("Number", number.to_string());
        if number == 100 {
            headers.insert("Nats-Msg-Id", "hundred");
            headers.insert("Nats-TTL", "1h");
        }
        // What does not compress, so that there are many chunks.
        let payload: Vec<u8> =
            (0..(number * 7) % 3000).map(|at| ((at * at * 31 + number * 7) % 251) as u8).collect();
        let ack =
            client.request_with_headers(format!("a.{}", number % 7), headers, payload.into()).await.unwrap();
        assert!(!String::from_utf8_lossy(&ack.payload).contains("error"));
    }
    for config in [
        json!({"durable_name": "D", "ack_policy": "explicit", "ack_wait": 3_600_000_000_000_i64}),
        json!({"durable_name": "F", "ack_policy": "explicit", "filter_subject": "a.3"}),
        json!({"durable_name": "A", "ack_policy": "all", "deliver_policy": "by_start_sequence", "opt_start_seq": 50}),
        json!({"name": "E", "ack_policy": "none", "inactive_threshold": 3_600_000_000_000_i64}),
    ] {
        let name = ["durable_name", "name"].iter().find_map(|key| config.get(*key)).unwrap().clone();
        let subject = format!("$JS.API.CONSUMER.CREATE.S.{}", name.as_str().unwrap());
        let subject = match config.get("filter_subject") {
            Some(filter) => format!("{subject}.{}", filter.as_str().unwrap()),
            None => subject,
        };
        demand(client, &subject, json!({"stream_name": "S", "config": config})).await;
    }
    for (name, count) in [("D", 20), ("F", 5), ("A", 10), ("E", 30)] {
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.S.{name}");
        let reply = client.new_inbox();
        let mut messages = client.subscribe(reply.clone()).await.unwrap();
        client
            .publish_with_reply(next, reply, format!("{{\"batch\":{count},\"no_wait\":true}}").into())
            .await
            .unwrap();
        for at in 0..count {
            let message = messages.next().await.unwrap();
            let word = match (name, at) {
                ("D", 0..5) | ("D", 9) | ("F", 1) | ("A", 4) => "+ACK",
                ("D", 7) => "-NAK",
                _ => continue,
            };
            let reply = message.reply.clone().unwrap();
            // As a request, so that it is applied before the test goes on.
            client.request(reply, word.into()).await.unwrap();
        }
    }
    // The refused one comes again.
    let reply = client.new_inbox();
    let mut messages = client.subscribe(reply.clone()).await.unwrap();
    client.publish_with_reply("$JS.API.CONSUMER.MSG.NEXT.S.D", reply, "".into()).await.unwrap();
    let again = messages.next().await.unwrap();
    assert!(again.reply.unwrap().starts_with("$JS.ACK.S.D.2."));
    for sequence in [1, 2, 60, 61, 62, 200, 299, 300] {
        demand(client, "$JS.API.STREAM.MSG.DELETE.S", json!({"seq": sequence})).await;
    }
}

/// All that can be asked of the stream, but for times of the server's own.
async fn described(client: &Client) -> Value {
    let ask = json!({"deleted_details": true, "subjects_filter": ">"});
    let info = demand(client, "$JS.API.STREAM.INFO.S", ask).await;
    let mut state = info["state"].clone();
    // The original forgets when a message at the end was stored once it is deleted.
    state.as_object_mut().unwrap().remove("last_ts");
    let mut messages = Vec::new();
    for sequence in 1..=300 {
        messages.push(
            request(client, "$JS.API.STREAM.MSG.GET.S", &json!({"seq": sequence})).await["message"].clone(),
        );
    }
    let mut consumers = Vec::new();
    for name in ["A", "D", "E", "F"] {
        let mut consumer = demand(client, &format!("$JS.API.CONSUMER.INFO.S.{name}"), Value::Null).await;
        let fields = consumer.as_object_mut().unwrap();
        for field in ["created", "ts", "config"] {
            fields.remove(field);
        }
        for place in ["delivered", "ack_floor"] {
            fields[place].as_object_mut().unwrap().remove("last_active");
        }
        // A floor anywhere before the first message says the same.
        let floor = fields["ack_floor"]["stream_seq"].as_u64().unwrap();
        fields["ack_floor"]["stream_seq"] = floor.max(state["first_seq"].as_u64().unwrap() - 1).into();
        consumers.push(consumer);
    }
    json!({"state": state, "subjects": info["config"]["subjects"], "description": info["config"]["description"],
        "messages": messages, "consumers": consumers})
}

async fn back_up(client: &Client) -> Backup {
    let deliver = client.new_inbox();
    let mut chunks = client.subscribe(deliver.clone()).await.unwrap();
    let ask = json!({"deliver_subject": deliver, "chunk_size": 4096, "window_size": 16384});
    let answer = demand(client, "$JS.API.STREAM.SNAPSHOT.S", ask).await;
    let mut backup = Backup { config: answer["config"].clone(), bytes: Vec::new(), chunks: 0 };
    loop {
        let chunk = chunks.next().await.unwrap();
        if chunk.payload.is_empty() {
            assert_eq!(chunk.status.map(|status| status.as_u16()), Some(204));
            return backup;
        }
        backup.chunks += 1;
        backup.bytes.extend_from_slice(&chunk.payload);
        if let Some(reply) = chunk.reply {
            let bytes = chunk.payload.len();
            assert!(
                reply.starts_with("$JS.SNAPSHOT.ACK.S.")
                    && reply.ends_with(&format!(".{bytes}.{}", backup.chunks))
            );
            client.publish(reply, "".into()).await.unwrap();
        }
    }
}

/// Where chunks are to be sent.
async fn begin_restore(client: &Client, config: &Value) -> String {
    let answer = demand(
        client,
        &format!("$JS.API.STREAM.RESTORE.{}", config["name"].as_str().unwrap()),
        json!({"config": config, "state": {}}),
    )
    .await;
    answer["deliver_subject"].as_str().unwrap().to_owned()
}

/// Sends all and returns the last answer, or the first that is not a mere acknowledgement.
async fn restore(client: &Client, config: &Value, bytes: &[u8]) -> Value {
    let subject = begin_restore(client, config).await;
    for chunk in bytes.chunks(5000) {
        let answer = client.request(subject.clone(), chunk.to_vec().into()).await.unwrap();
        if !answer.payload.is_empty() {
            return serde_json::from_slice(&answer.payload).unwrap();
        }
    }
    request(client, &subject, &Value::Null).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_restored_is_what_was_there() {
    let folder = Folder::new();
    let (mut process, client) = start(SONATA, &folder).await;
    fill(&client).await;
    let before = described(&client).await;
    let backup = back_up(&client).await;
    assert!(backup.chunks > 10, "{}", backup.chunks);
    let answer =
        request(&client, "$JS.API.STREAM.RESTORE.S", &json!({"config": backup.config, "state": {}})).await;
    assert_eq!(answer["error"]["err_code"], 10130);
    demand(&client, "$JS.API.STREAM.DELETE.S", Value::Null).await;
    let answer = restore(&client, &backup.config, &backup.bytes).await;
    assert_eq!(answer["type"], "io.nats.jetstream.api.v1.stream_create_response");
    assert_eq!(answer["state"]["messages"], 292);
    assert_same(&described(&client).await, &before);

    // What was restored is durable the moment it was answered.
    process.kill();
    drop(client);
    let (_process, client) = start(SONATA, &folder).await;
    assert_same(&described(&client).await, &before);
    // It goes on where it was: the sequence, the ids that were seen.
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", "hundred");
    let ack = client.request_with_headers("a.1", headers, "".into()).await.unwrap();
    assert_eq!(ack.payload, "{\"stream\":\"S\",\"seq\":101,\"duplicate\": true}");
    let ack = client.request("a.1", "".into()).await.unwrap();
    assert_eq!(ack.payload, "{\"stream\":\"S\",\"seq\":301}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_travel_to_and_from_the_original() {
    let Some(reference) = std::env::var_os("SONATA_REFERENCE") else {
        println!("skipped: SONATA_REFERENCE does not name the original server");
        return;
    };
    let reference = reference.to_str().unwrap();
    for (from, to) in [(reference, SONATA), (SONATA, reference)] {
        let (there, here) = (Folder::new(), Folder::new());
        let (_origin, origin) = start(from, &there).await;
        fill(&origin).await;
        let before = described(&origin).await;
        let backup = back_up(&origin).await;
        let (_target, target) = start(to, &here).await;
        println!("from {from} to {to}");
        let answer = restore(&target, &backup.config, &backup.bytes).await;
        assert_eq!(answer.get("error"), None);
        assert_same(&described(&target).await, &before);
    }
}

/// Backups as servers before 2.15 make them, of streams that all have the same past: twelve messages, of which 8, 9 and 12
/// are deleted; 1 to 6 delivered, 1 to 3 acknowledged, 4 delivered again. One goes by limits and is purged up to 2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_of_older_servers_are_restored() {
    let folder = Folder::new();
    let (_process, client) = start(SONATA, &folder).await;
    let backups = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backups");
    for version in ["2.10.26", "2.12.8", "2.14.6"] {
        for (name, retention, first) in [("LIM", "limits", 3), ("INT", "interest", 4), ("WQ", "workqueue", 4)]
        {
            let what = format!("{version} {name}");
            let bytes = std::fs::read(backups.join(format!("{version}-{name}.s2"))).unwrap();
            let config = json!({"name": name, "subjects": [format!("{name}.>")], "retention": retention,
                "storage": "file", "num_replicas": 1});
            let answer = restore(&client, &config, &bytes).await;
            assert_eq!(answer.get("error"), None, "{what}");
            let body = json!({"deleted_details": true});
            let info = demand(&client, &format!("$JS.API.STREAM.INFO.{name}"), body).await;
            let state = &info["state"];
            assert_eq!(state["first_seq"], first, "{what}");
            assert_eq!((&state["last_seq"], &state["messages"]), (&json!(12), &json!(10 - first)), "{what}");
            assert_eq!(state["deleted"], json!([8, 9, 12]), "{what}");
            let info = demand(&client, &format!("$JS.API.CONSUMER.INFO.{name}.C"), Value::Null).await;
            assert_eq!(info["delivered"]["stream_seq"], 6, "{what}");
            assert_eq!(info["ack_floor"]["stream_seq"], 3, "{what}");
            let counts = (&info["num_ack_pending"], &info["num_redelivered"], &info["num_pending"]);
            assert_eq!(counts, (&json!(3), &json!(1), &json!(3)), "{what}");
            let body = json!({"seq": 11});
            let got = demand(&client, &format!("$JS.API.STREAM.MSG.GET.{name}"), body).await;
            assert_eq!(got["message"]["data"], "cGF5bG9hZCAxMQ==", "{what}");
            assert_eq!(got["message"]["hdrs"], "TkFUUy8xLjANCktleTogdjExDQoNCg==", "{what}");
            demand(&client, &format!("$JS.API.STREAM.DELETE.{name}"), Value::Null).await;
            // A bit that is wrong anywhere does not come in.
            let mut damaged = bytes;
            let middle = damaged.len() / 2;
            damaged[middle] ^= 1;
            let answer = restore(&client, &config, &damaged).await;
            assert_eq!(answer["error"]["err_code"], 10062, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_fails_leaves_nothing() {
    let folder = Folder::new();
    let (mut process, client) = start(SONATA, &folder).await;
    fill(&client).await;
    let Backup { config, bytes, .. } = back_up(&client).await;
    let before = described(&client).await;
    demand(&client, "$JS.API.STREAM.DELETE.S", Value::Null).await;
    let nothing_is_left = || {
        for name in ["restoring", "streams"] {
            let left = std::fs::read_dir(folder.at("jetstream").join(name)).unwrap().count();
            assert_eq!(left, 0, "in {name}");
        }
    };

    let flipped: Vec<u8> =
        bytes.iter().enumerate().map(|(at, byte)| if at == 70_000 { byte ^ 1 } else { *byte }).collect();
    let trailing = [&bytes[..], &vec![0; 3 << 20]].concat();
    for broken in [&bytes[..bytes.len() / 2], b"no archive at all, but long enough", &flipped, &trailing, b""]
    {
        let answer = restore(&client, &config, broken).await;
        assert_eq!(answer["error"]["err_code"], 10062);
        nothing_is_left();
        assert_eq!(request(&client, "$JS.API.STREAM.INFO.S", &Value::Null).await["error"]["err_code"], 10059);
    }
    // The server is killed in the middle. Until then the name is taken.
    let subject = begin_restore(&client, &config).await;
    assert_eq!(client.request(subject, bytes[..bytes.len() / 2].to_vec().into()).await.unwrap().payload, "");
    let answer =
        request(&client, "$JS.API.STREAM.CREATE.S", &json!({"name": "S", "subjects": ["a.>"]})).await;
    assert_eq!(answer["error"]["err_code"], 10058);
    let answer =
        request(&client, "$JS.API.STREAM.CREATE.T", &json!({"name": "T", "subjects": ["a.1"]})).await;
    assert_eq!(answer["error"]["err_code"], 10065);
    assert_eq!(std::fs::read_dir(folder.at("jetstream").join("restoring")).unwrap().count(), 1);
    process.kill();
    drop(client);
    let (_process, client) = start(SONATA, &folder).await;
    eventually("the folder to be gone", PATIENCE, || {
        (!folder.at("jetstream").join("restoring").exists()).then_some(())
    });
    assert_eq!(demand(&client, "$JS.API.STREAM.NAMES", Value::Null).await["total"], 0);
    let answer = restore(&client, &config, &bytes).await;
    assert_eq!(answer.get("error"), None);
    assert_same(&described(&client).await, &before);
}

/// The stream serves everybody else while a snapshot waits for its client, and the snapshot ends when the client is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_waits_for_nobody_who_is_gone() {
    let folder = Folder::new();
    let (_process, client) = start(SONATA, &folder).await;
    fill(&client).await;
    let deliver = client.new_inbox();
    let mut chunks = client.subscribe(deliver.clone()).await.unwrap();
    let mut told = client.subscribe("$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_COMPLETE.S").await.unwrap();
    let ask = json!({"deliver_subject": deliver, "chunk_size": 1024, "window_size": 1024});
    demand(&client, "$JS.API.STREAM.SNAPSHOT.S", ask).await;
    assert_eq!(chunks.next().await.unwrap().payload.len(), 1024);
    // It waits for the acknowledgement now.
    let ack = client.request("a.1", "".into()).await.unwrap();
    assert_eq!(ack.payload, "{\"stream\":\"S\",\"seq\":301}");
    chunks.unsubscribe().await.unwrap();
    let told: Value = serde_json::from_slice(&told.next().await.unwrap().payload).unwrap();
    assert_eq!(told["error"], "no interest");
    assert_eq!(told["client"]["lang"], "rust");
}

/// Compares part by part, so that a difference can be read.
fn assert_same(found: &Value, wanted: &Value) {
    for part in ["state", "subjects", "description"] {
        assert_eq!(found[part], wanted[part], "{part}");
    }
    for part in ["messages", "consumers"] {
        for (at, wanted) in wanted[part].as_array().unwrap().iter().enumerate() {
            assert_eq!(&found[part][at], wanted, "{part} {at}");
        }
    }
}
