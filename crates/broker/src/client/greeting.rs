//! The `INFO` that a client gets: as greeting, after its first `PING`, and when something changed.
//!
//! What is the same for all clients comes from the settings; here is added what concerns this one.

use sonata_proto::info::ServerInfo;

use super::{Client, TlsState};
use crate::worker::Worker;

impl Client {
    /// The `INFO` that opens the conversation. It leaves the client's address out while a proxy may still tell it.
    pub fn greeting(&self, address_known: bool) -> Vec<u8> {
        let mut info = self.info();
        info.nonce = self.nonce.to_string();
        if !address_known {
            info.client_ip.clear();
        }
        info.line()
    }

    /// An `INFO` for a client that takes it at any time; `None` for one that does not, or not yet.
    pub fn async_info(&mut self) -> Option<Vec<u8>> {
        self.notice_settings();
        (self.first_pong_sent && self.options.protocol >= 1).then(|| self.info().line())
    }

    /// An `INFO` that sends this client elsewhere while the server goes on; `None` for one that would not understand.
    pub fn farewell(&mut self) -> Option<Vec<u8>> {
        self.notice_settings();
        let takes_it = self.first_pong_sent && self.options.protocol >= 1;
        takes_it.then(|| ServerInfo { lame_duck: true, ..self.info() }.line())
    }

    /// Tells a client that wants it which account it is in.
    pub(super) fn send_connect_info(&self, worker: &mut Worker) {
        if self.options.protocol >= 1
            && let Some(member) = &self.member
        {
            let mut info = self.info();
            info.connect_info = true;
            // The reference says here what holds, whether or not there is a user for those who present nothing.
            info.auth_required = self.settings.users.is_required(self.connection_type);
            info.remote_account = member.account.name().to_string();
            info.account_is_system = *member.account.name() == self.settings.system_account;
            let line = info.line();
            self.send(worker, &line);
        }
    }

    fn info(&self) -> ServerInfo {
        let mut info = self.settings.info.clone();
        info.client_id = Some(self.connection.id());
        info.client_ip = self.connection.remote().map(|remote| remote.ip().to_string()).unwrap_or_default();
        info.max_payload = match self.payload_bytes_max() {
            Some(bytes) => bytes as i64,
            None => -1,
        };
        if self.tls == TlsState::Offered && info.tls_required {
            info.tls_required = false;
            info.tls_available = true;
        }
        info
    }
}
