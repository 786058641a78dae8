//! Users that an operator's accounts vouch for.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use nats_conf::{Error, Event, MaxReconnect, NatsConf};
use nkeys::{KeyPair, KeyPairType};
use serde_json::json;

use common::Scratch;
use common::credentials::{account_token, creds, operator_token, pair, seed, token, user_claims, user_token};
use common::events::Events;
use common::server::Server;

struct World {
    directory: Scratch,
    account: KeyPair,
    user: KeyPair,
    conf: String,
}

impl World {
    fn new() -> Self {
        let operator = pair(KeyPairType::Operator, 1);
        let account = pair(KeyPairType::Account, 2);
        let conf = format!(
            "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}",
            operator_token(&operator),
            account.public_key(),
            account_token(&operator, &account)
        );
        Self { directory: Scratch::new(), account, user: pair(KeyPairType::User, 3), conf }
    }

    fn server(&self) -> Option<Server> {
        Server::start(&self.conf)
    }

    fn token(&self) -> String {
        user_token(&self.account, &self.user, json!({}))
    }

    fn nats(&self, server: &Server) -> NatsConf {
        let mut conf = NatsConf::new([server.url()]);
        conf.reconnect_wait = Duration::from_millis(50);
        conf
    }
}

async fn connects(conf: &NatsConf) {
    conf.new_connection().await.unwrap().flush().await.unwrap();
}

#[tokio::test]
async fn a_credentials_file() {
    let world = World::new();
    let Some(server) = world.server() else { return };
    let mut conf = world.nats(&server);
    assert!(matches!(conf.new_connection().await, Err(Error::Refused(_))));
    conf.user_cred = Some(world.directory.file("user.creds", creds(&world.token(), &seed(&world.user))));
    connects(&conf).await;
}

#[tokio::test]
async fn a_token_and_the_seed_that_signs_for_it() {
    let world = World::new();
    let Some(server) = world.server() else { return };
    let mut conf = world.nats(&server);
    conf.nkey_file = Some(world.directory.file("user.nk", seed(&world.user)));
    conf.user_jwt = Some(world.token().into());
    connects(&conf).await;
    let path = world.directory.file("user.jwt", world.token() + "\n");
    conf.user_jwt = Some(path.display().to_string().into());
    connects(&conf).await;
}

#[tokio::test]
async fn a_bearer_token() {
    let world = World::new();
    let Some(server) = world.server() else { return };
    let mut claims = user_claims();
    claims["bearer_token"] = json!(true);
    let mut conf = world.nats(&server);
    conf.user_jwt = Some(token(&world.account, &world.user, claims, json!({})).into());
    connects(&conf).await;
}

/// A user of an account that the server does not know is refused, whatever the file looks like.
#[tokio::test]
async fn a_user_of_nobody() {
    let world = World::new();
    let Some(server) = world.server() else { return };
    let mut conf = world.nats(&server);
    let token = user_token(&pair(KeyPairType::Account, 9), &world.user, json!({}));
    conf.user_cred = Some(world.directory.file("user.creds", creds(&token, &seed(&world.user))));
    conf.max_reconnect = MaxReconnect::Forever;
    assert!(matches!(conf.new_connection().await, Err(Error::Refused(_))));
}

/// The server ends the connection when the JWT expires; the client comes back when the file was replaced.
#[tokio::test]
async fn expires_and_is_replaced() {
    let world = World::new();
    let Some(server) = world.server() else { return };
    let mut conf = world.nats(&server);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let short = user_token(&world.account, &world.user, json!({"exp": now + 2}));
    conf.user_cred = Some(world.directory.file("user.creds", creds(&short, &seed(&world.user))));
    conf.max_reconnect = MaxReconnect::Forever;
    let (client, mut events) = Events::connect(&conf).await;
    let client = client.unwrap();
    events.until(|event| matches!(event, Event::Disconnected { .. })).await;
    events
        .until(|event| matches!(event, Event::AttemptFailed { reason, .. } if reason.to_string().contains("expired at")))
        .await;
    world.directory.file("user.creds", creds(&world.token(), &seed(&world.user)));
    events.until(|event| matches!(event, Event::Connected { .. })).await;
    client.flush().await.unwrap();
}
