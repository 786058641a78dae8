//! `INFO`: what a server says about itself.

use serde::Serialize;

/// The fields of `INFO` to a client, in the order in which the reference writes them. Empty and false fields
/// that the reference leaves out are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ServerInfo {
    /// Public nkey of the server.
    pub server_id: String,
    /// Configured name, or the id.
    pub server_name: String,
    /// Version that clients compare to know what a server can do.
    pub version: String,
    /// 1: the server sends `INFO` at any time.
    pub proto: u32,
    /// Commit the server was built from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    /// What the server was built with. Named for Go because clients know the field by that name.
    #[serde(rename = "go")]
    pub toolchain: String,
    /// Host to reach the server at.
    pub host: String,
    /// Port to reach the server at.
    pub port: u16,
    /// The server understands header blocks.
    pub headers: bool,
    /// `CONNECT` must carry credentials.
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    /// The client must start TLS.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    /// The client must show a certificate.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    /// The client may start TLS.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_available: bool,
    /// Largest message the connection may publish, in bytes; -1 is unlimited.
    pub max_payload: i64,
    /// JetStream is on.
    #[serde(skip_serializing_if = "is_false")]
    pub jetstream: bool,
    /// Number of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<u64>,
    /// The client's address as the server sees it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    /// What an nkey user must sign.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// Cluster name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// JetStream domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Where else clients can connect: `host:port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// The server is about to leave (lame duck mode).
    #[serde(rename = "ldm", skip_serializing_if = "is_false")]
    pub lame_duck: bool,
    /// This `INFO` answers a `CONNECT`.
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    /// Account the connection is bound to, in an answer to `CONNECT`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
    /// That account is the system account.
    #[serde(rename = "acc_is_sys", skip_serializing_if = "is_false")]
    pub account_is_system: bool,
    /// JetStream API level.
    #[serde(rename = "api_lvl", skip_serializing_if = "is_zero")]
    pub api_level: u32,
    /// The server's public curve key.
    #[serde(rename = "xkey", skip_serializing_if = "String::is_empty")]
    pub curve_key: String,
}

impl ServerInfo {
    /// The whole line: `INFO {json} ` with the blank before the line end that client listeners send.
    pub fn line(&self) -> Vec<u8> {
        let mut line = b"INFO ".to_vec();
        // Strings, numbers and flags always serialise; a failure could only be a bug here, and then an empty
        // document is what the client can still answer to.
        if serde_json::to_writer(&mut line, self).is_err() {
            line.extend_from_slice(b"{}");
        }
        line.extend_from_slice(b" \r\n");
        line
    }
}

/// Whether the argument of an `INFO` that a client sent is at least a JSON object; the reference closes the
/// connection otherwise.
pub fn is_readable(json: &[u8]) -> bool {
    serde_json::from_slice::<std::collections::HashMap<String, serde::de::IgnoredAny>>(json).is_ok()
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::ServerInfo;

    #[test]
    fn empty_fields_are_left_out_and_the_rest_keeps_the_reference_order() {
        let info = ServerInfo {
            server_id: "NA".into(),
            server_name: "n".into(),
            version: "2.15.1".into(),
            proto: 1,
            toolchain: "rust".into(),
            host: "0.0.0.0".into(),
            port: 4222,
            max_payload: 1_048_576,
            client_id: Some(5),
            nonce: "x".into(),
            connect_urls: vec!["a:1".into()],
            ..ServerInfo::default()
        };
        assert_eq!(
            String::from_utf8(info.line()).unwrap(),
            "INFO {\"server_id\":\"NA\",\"server_name\":\"n\",\"version\":\"2.15.1\",\"proto\":1,\"go\":\"rust\",\
             \"host\":\"0.0.0.0\",\"port\":4222,\"headers\":false,\"max_payload\":1048576,\"client_id\":5,\
             \"nonce\":\"x\",\"connect_urls\":[\"a:1\"]} \r\n"
        );
    }
}
