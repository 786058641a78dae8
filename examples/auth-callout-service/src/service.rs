//! Questions in, answers out.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt;
use tokio::task::JoinHandle;

use crate::Error;
use crate::answer::Question;
use crate::config::{CalloutConf, Keys};

/// Where servers ask.
const SUBJECT: &str = "$SYS.REQ.USER.AUTH";

/// Several services share the questions.
const QUEUE: &str = "auth-callout-service";

/// The header that names a server's curve key, when the question is sealed.
const XKEY_HEADER: &str = "Nats-Server-Xkey";

/// A running service.
pub struct Service {
    client: Client,
    answering: JoinHandle<()>,
}

impl Service {
    /// Connects and begins to answer.
    ///
    /// # Errors
    /// A seed is none, or no server lets the service in.
    pub async fn start(conf: CalloutConf) -> Result<Self, Error> {
        let keys = conf.keys()?;
        let client = conf.nats.new_connection().await?;
        let questions = client.queue_subscribe(SUBJECT, QUEUE.into()).await?;
        client.flush().await?;
        let answering = tokio::spawn(run(client.clone(), questions, Arc::new(conf), Arc::new(keys)));
        Ok(Self { client, answering })
    }

    /// Answers what has come in, and ends.
    ///
    /// # Errors
    /// The connection was already closed.
    pub async fn stop(self) -> Result<(), Error> {
        let drained = self.client.drain().await;
        // It ends with the subscription.
        let _ = self.answering.await;
        Ok(drained?)
    }
}

async fn run(client: Client, mut questions: Subscriber, conf: Arc<CalloutConf>, keys: Arc<Keys>) {
    while let Some(message) = questions.next().await {
        let Some(reply) = message.reply.clone() else { continue };
        // Without an answer the server refuses when its time is over.
        match answer(&message, &conf, &keys) {
            Ok(answer) => {
                if let Err(error) = client.publish(reply, answer.into()).await {
                    tracing::error!("no answer can be given: {error}");
                }
            }
            Err(error) => tracing::error!("a question cannot be answered: {error}"),
        }
    }
}

fn answer(message: &Message, conf: &CalloutConf, keys: &Keys) -> Result<Vec<u8>, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().try_into()?;
    let header = message.headers.as_ref().and_then(|headers| headers.get(XKEY_HEADER));
    let server_key = header.map(|key| key.as_str());
    let asked = match (server_key, &keys.curve) {
        (Some(server), Some(curve)) => curve.open(&message.payload, server)?,
        (Some(_), None) => return Err("the question is sealed, and there is no XkeySeed".into()),
        (None, _) => message.payload.to_vec(),
    };
    let question = Question::read(std::str::from_utf8(&asked)?, now)?;
    let decision = question.decide(&conf.users);
    match decision {
        Ok(user) => tracing::info!("{:?} is let into {}", question.user(), user.account),
        Err(why) => tracing::info!("{:?} is not let in: {why}", question.user()),
    }
    let answer = question.answer(decision, &keys.issuer, now)?.into_bytes();
    Ok(match (server_key, &keys.curve) {
        (Some(server), Some(curve)) => curve.seal(&answer, server, rand::random())?,
        _ => answer,
    })
}
