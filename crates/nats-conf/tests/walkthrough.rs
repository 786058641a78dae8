//! What the README shows, step by step: the block in the service's file, the struct, the context.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::PathBuf;

use common::Scratch;
use common::server::{Program, Server};

const SERVICE_YAML: &str = r#"
Listen: ":8080"
Nats:
  Hosts:
    - nats://one.example:4222
  MaxReconnect: -1
  Name: billing
"#;

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceConf {
    listen: String,
    nats: nats_conf::NatsConf,
}

struct ServiceContext {
    nats: async_nats::Client,
    jetstream: async_nats::jetstream::Context,
}

#[tokio::test]
async fn from_the_file_to_a_stored_message() {
    for program in [Program::UnderTest, Program::Reference].into_iter().filter_map(Program::find) {
        store_a_message(program).await;
    }
}

async fn store_a_message(program: PathBuf) {
    let directory = Scratch::new();
    let store = directory.0.display();
    let server =
        Server::start_program(program, 0, &format!("jetstream {{ store_dir: \"{store}\", domain: hub }}"));
    let file = directory.file("service.yaml", SERVICE_YAML);

    let mut conf: ServiceConf = nats_conf::load_yaml(file).unwrap();
    assert_eq!(conf.listen, ":8080");
    let variables =
        [("SERVICE_NATS_HOSTS", server.url()), ("SERVICE_NATS_JETSTREAM_DOMAIN", "hub".to_owned())];
    conf.nats.overlay("SERVICE_NATS", variables).unwrap();
    conf.nats.validate().unwrap();

    let jetstream = conf.nats.new_jetstream().await.unwrap();
    let context = ServiceContext { nats: jetstream.client(), jetstream };
    let stream = async_nats::jetstream::stream::Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        ..Default::default()
    };
    context.jetstream.create_stream(stream).await.unwrap();
    let stored = context.jetstream.publish("orders.new", "42".into()).await.unwrap().await.unwrap();
    assert_eq!((stored.sequence, stored.domain.as_str()), (1, "hub"));
    assert_eq!(context.nats.server_info().server_name, "tester");
}

#[test]
fn errors_name_the_file() {
    let directory = Scratch::new();
    let load = |name: &str| {
        nats_conf::load_yaml::<ServiceConf>(directory.0.join(name)).map(drop).unwrap_err().to_string()
    };
    directory.file("bad.yaml", "Listen: x\nNats:\n  Hosts: [a]\n  Pasword: s3cr3t\n");
    directory.file("large.yaml", vec![b'#'; (1 << 20) + 1]);
    let place = format!("{}/", directory.0.display());
    let said: Vec<String> =
        ["none.yaml", "bad.yaml", "large.yaml"].map(|name| load(name).replace(&place, "")).to_vec();
    assert_eq!(
        said,
        [
            "none.yaml: no such file",
            "bad.yaml: unknown key Pasword, the nearest known one is Password at line 4, column 3",
            "large.yaml: larger than 1048576 bytes",
        ]
    );
}
