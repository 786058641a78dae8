//! What the log shows of a client's operations when tracing is on, in the form of nats-server.

use sonata_proto::connect;
use sonata_proto::encode::Quoted;
use sonata_proto::parse::Operation;

use super::Client;
use crate::shared::Level;

impl Client {
    /// Logs an operation before it is carried out. Secrets in `CONNECT` are struck out.
    #[cold]
    pub(super) fn trace_operation(&self, operation: &Operation<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = match operation {
            Operation::Connect(json) => format!("<<- [CONNECT {}]", connect::redacted(json)),
            Operation::Publish(publish) => {
                let mut line = format!(
                    "<<- [{} {}",
                    if publish.header_text.is_empty() { "PUB" } else { "HPUB" },
                    text(publish.subject)
                );
                for part in [publish.reply.unwrap_or_default(), publish.header_text, publish.size_text] {
                    if !part.is_empty() {
                        line.push(' ');
                        line.push_str(&text(part));
                    }
                }
                line.push(']');
                self.log(Level::Trace, format_args!("{line}"));
                let shown = if self.settings.trace_headers {
                    &publish.message[..publish.header_bytes]
                } else {
                    publish.message
                };
                let max = self.settings.traced_bytes_max;
                if max > 0 && shown.len() > max {
                    format!("<<- MSG_PAYLOAD: [{}...]", Quoted(&shown[..max]))
                } else {
                    format!("<<- MSG_PAYLOAD: [{}]", Quoted(shown))
                }
            }
            Operation::Subscribe { subject, queue, sid } => {
                let queue = queue.map(|queue| text(queue) + " ").unwrap_or_default();
                format!("<<- [SUB {} {queue}{}]", text(subject), text(sid))
            }
            Operation::Unsubscribe { sid, max } => {
                let max = max.map(|max| format!(" {max}")).unwrap_or_default();
                format!("<<- [UNSUB {}{max}]", text(sid))
            }
            Operation::Ping => "<<- [PING]".into(),
            Operation::Pong => "<<- [PONG]".into(),
            Operation::Info(json) => format!("<<- [INFO {}]", text(json)),
            Operation::Ok => "<<- [OK]".into(),
            Operation::Error(message) => format!("<<- [-ERR {}]", text(message)),
        };
        self.log(Level::Trace, format_args!("{line}"));
    }
}
