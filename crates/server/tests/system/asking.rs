//! A client that asks and reads what is answered.

use crate::client::Client;
use crate::subject::Subject;

/// A client with a subscription for answers.
pub(crate) struct Asking {
    pub(crate) user: String,
    pub(crate) client: Client,
}

impl Asking {
    /// The client of a user, whose password is `p` and its name.
    pub(crate) fn connect(subject: &Subject, user: &str) -> Self {
        Self::connect_with(subject, user, 1)
    }

    /// The same with another version of the protocol.
    pub(crate) fn connect_with(subject: &Subject, user: &str, protocol: u8) -> Self {
        let login = format!(
            "CONNECT {{\"user\":\"{user}\",\"pass\":\"p{user}\",\"headers\":true,\"no_responders\":true,\
             \"protocol\":{protocol}}}\nSUB answers 1\n"
        );
        Self { user: user.into(), client: Client::connect(subject.clients, &login) }
    }

    /// Asks; none if there is nobody to answer.
    pub(crate) fn ask(&mut self, subject: &str, body: &str) -> Option<String> {
        self.client.send(&format!("PUB {subject} answers {}\n{body}\n", body.len()));
        let (headers, body) = self.answer();
        (!headers.starts_with("NATS/1.0 503")).then(|| String::from_utf8(body).unwrap())
    }

    /// Asks with header lines; headers and body of the answer.
    pub(crate) fn ask_with(&mut self, subject: &str, header: &str, body: &str) -> Option<(String, Vec<u8>)> {
        let headers = format!("NATS/1.0\n{header}\n\n").replace('\n', "\r\n").len();
        let total = headers + body.len();
        self.client
            .send(&format!("HPUB {subject} answers {headers} {total}\nNATS/1.0\n{header}\n\n{body}\n"));
        Some(self.answer())
    }

    fn answer(&mut self) -> (String, Vec<u8>) {
        loop {
            let line = self.client.read_line();
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            let (headers, total): (usize, usize) = match words[..] {
                ["MSG", "answers", "1", .., total] => (0, total.parse().unwrap()),
                ["HMSG", "answers", "1", .., headers, total] => {
                    (headers.parse().unwrap(), total.parse().unwrap())
                }
                _ => continue,
            };
            let mut message = self.client.read_bytes(total + 2);
            message.truncate(total);
            let body = message.split_off(headers);
            return (String::from_utf8(message).unwrap(), body);
        }
    }
}
