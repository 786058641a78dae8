//! The events of a connection, for a test that waits for one.

use std::time::Duration;

use async_nats::Client;
use nats_conf::{Error, Event, NatsConf};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, timeout};

/// How long a test waits for an event. Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Events {
    receiver: UnboundedReceiver<(Instant, Event)>,
    /// All that happened so far, in order.
    pub(crate) past: Vec<(Instant, Event)>,
}

impl Events {
    /// Connects; the events are there whether that succeeds or not.
    pub(crate) async fn connect(conf: &NatsConf) -> (Result<Client, Error>, Self) {
        let (sender, receiver) = unbounded_channel();
        let connecting = conf.new_connection_with(move |event| {
            sender.send((Instant::now(), event.clone())).ok();
        });
        let client = timeout(PATIENCE, connecting).await.expect("connecting takes too long");
        (client, Self { receiver, past: Vec::new() })
    }

    /// Waits for an event that is as wanted.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Event) -> bool) {
        let waiting = async {
            loop {
                let event =
                    self.receiver.recv().await.expect("the connection ended without the wanted event");
                self.past.push(event);
                if wanted(&self.past.last().unwrap().1) {
                    return;
                }
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            panic!("the wanted event does not come; so far: {:#?}", self.past);
        }
    }

    /// Waits until the connection is gone and everything is told.
    pub(crate) async fn end(&mut self) {
        let waiting = async {
            while let Some(event) = self.receiver.recv().await {
                self.past.push(event);
            }
        };
        timeout(PATIENCE, waiting).await.expect("the connection does not end");
    }

    /// What happened so far, one event a line, with ports replaced by the given names.
    pub(crate) fn transcript(&self, names: &[(u16, &str)]) -> String {
        self.past.iter().map(|(_, event)| named(&event.to_string(), names) + "\n").collect()
    }
}

/// A text with ports replaced by names, and without the operating system's numbers.
pub(crate) fn named(text: &str, names: &[(u16, &str)]) -> String {
    let text = names.iter().fold(text.to_owned(), |text, (port, name)| text.replace(&port.to_string(), name));
    text.replace("Connection refused (os error 111)", "connection refused")
}
