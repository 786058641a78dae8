//! `CONNECT`: what a client says about itself.

use std::fmt;

use serde_json::Value;

/// The options of a `CONNECT`. A client may send it again: what the second one does not mention stays, so
/// options are [applied](ConnectOptions::apply) onto the ones before.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Answer `+OK` to each operation.
    pub verbose: bool,
    /// Check the subjects of publishes.
    pub pedantic: bool,
    /// Deliver a client's own messages to its own subscriptions.
    pub echo: bool,
    /// The client wants TLS; informational.
    pub tls_required: bool,
    /// The client understands header blocks.
    pub headers: bool,
    /// Send a 503 status when a request has no receivers; needs `headers`.
    pub no_responders: bool,
    /// 0, or 1 when the client understands `INFO` at any time. Anything else is refused later.
    pub protocol: i64,
    /// Public nkey of the user.
    pub nkey: String,
    /// Signature of the server's nonce, base64.
    pub signature: String,
    /// The same by a proxy that the client came through.
    pub proxy_signature: String,
    /// User JWT.
    pub jwt: String,
    /// Token.
    pub auth_token: String,
    /// User name.
    pub user: String,
    /// Password.
    pub pass: String,
    /// Name of the connection, for operators.
    pub name: String,
    /// Client library's language.
    pub lang: String,
    /// Client library's version.
    pub version: String,
    /// Obsolete; refused when set.
    pub account: String,
    /// Obsolete; refused when set.
    pub new_account: bool,
}

impl Default for ConnectOptions {
    /// What holds for a client that says nothing.
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            tls_required: false,
            headers: false,
            no_responders: false,
            protocol: 0,
            nkey: String::new(),
            signature: String::new(),
            proxy_signature: String::new(),
            jwt: String::new(),
            auth_token: String::new(),
            user: String::new(),
            pass: String::new(),
            name: String::new(),
            lang: String::new(),
            version: String::new(),
            account: String::new(),
            new_account: false,
        }
    }
}

/// Credentials stay out of logs.
impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("name", &self.name)
            .field("lang", &self.lang)
            .field("version", &self.version)
            .field("user", &self.user)
            .field("protocol", &self.protocol)
            .field("verbose", &self.verbose)
            .field("pedantic", &self.pedantic)
            .field("echo", &self.echo)
            .field("headers", &self.headers)
            .field("no_responders", &self.no_responders)
            .finish_non_exhaustive()
    }
}

/// Why the JSON of a `CONNECT` is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectError {
    /// Not JSON, or not an object.
    NotAnObject(String),
    /// A field holds a value of another type: the field and what it must be.
    FieldType(String, &'static str),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject(why) => write!(f, "CONNECT is not a JSON object: {why}"),
            Self::FieldType(field, expected) => write!(f, "CONNECT field \"{field}\" must be {expected}"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl ConnectOptions {
    /// Reads the JSON onto these options: fields compare without case, `null` and unknown fields change
    /// nothing, bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// See [`ConnectError`]. Some fields may have been applied; the connection is to be closed.
    pub fn apply(&mut self, json: &[u8]) -> Result<(), ConnectError> {
        let text = String::from_utf8_lossy(json);
        let value: Value =
            serde_json::from_str(&text).map_err(|error| ConnectError::NotAnObject(error.to_string()))?;
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => return Ok(()),
            other => return Err(ConnectError::NotAnObject(format!("found {other}"))),
        };
        for (field, value) in fields {
            self.apply_field(&field, value)?;
        }
        Ok(())
    }

    fn apply_field(&mut self, field: &str, value: Value) -> Result<(), ConnectError> {
        if value.is_null() {
            return Ok(());
        }
        let flag = |slot: &mut bool, value: Value| match value {
            Value::Bool(value) => {
                *slot = value;
                Ok(())
            }
            _ => Err(ConnectError::FieldType(field.into(), "true or false")),
        };
        let text = |slot: &mut String, value: Value| match value {
            Value::String(value) => {
                *slot = value;
                Ok(())
            }
            _ => Err(ConnectError::FieldType(field.into(), "a string")),
        };
        match field.to_ascii_lowercase().as_str() {
            "verbose" => flag(&mut self.verbose, value),
            "pedantic" => flag(&mut self.pedantic, value),
            "echo" => flag(&mut self.echo, value),
            "tls_required" => flag(&mut self.tls_required, value),
            "headers" => flag(&mut self.headers, value),
            "no_responders" => flag(&mut self.no_responders, value),
            "new_account" => flag(&mut self.new_account, value),
            "protocol" => {
                self.protocol =
                    value.as_i64().ok_or_else(|| ConnectError::FieldType(field.into(), "an integer"))?;
                Ok(())
            }
            "nkey" => text(&mut self.nkey, value),
            "sig" => text(&mut self.signature, value),
            "proxy_sig" => text(&mut self.proxy_signature, value),
            "jwt" => text(&mut self.jwt, value),
            "auth_token" => text(&mut self.auth_token, value),
            "user" => text(&mut self.user, value),
            "pass" => text(&mut self.pass, value),
            "name" => text(&mut self.name, value),
            "lang" => text(&mut self.lang, value),
            "version" => text(&mut self.version, value),
            "account" => text(&mut self.account, value),
            // Of no use from a client, but of the wrong type they are refused.
            "remote_account" => text(&mut String::new(), value),
            "import" | "export" if !value.is_object() => {
                Err(ConnectError::FieldType(field.into(), "an object"))
            }
            _ => Ok(()),
        }
    }
}

/// The JSON of a `CONNECT` for a log: without its secrets. What cannot be read is not shown.
pub fn redacted(json: &[u8]) -> String {
    const SECRETS: [&str; 6] = ["pass", "auth_token", "sig", "nkey", "proxy_sig", "jwt"];
    match serde_json::from_slice::<Value>(json) {
        Ok(Value::Object(mut fields)) => {
            for (name, value) in &mut fields {
                if SECRETS.contains(&name.to_ascii_lowercase().as_str()) {
                    *value = Value::String("[REDACTED]".into());
                }
            }
            Value::Object(fields).to_string()
        }
        _ => "[UNREADABLE]".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_applied_onto_what_was_there() {
        let mut options = ConnectOptions::default();
        options.apply(br#"{"VERBOSE":false,"name":"a","protocol":1,"unknown":[1]}"#).unwrap();
        assert!(!options.verbose && options.pedantic && options.protocol == 1);
        options.apply(br#"{"pedantic":false,"name":null}"#).unwrap();
        assert!(!options.verbose && !options.pedantic);
        assert_eq!(options.name, "a");
        options.apply(b"null").unwrap();
        options.apply(b"{\"name\":\"\xff\"}").unwrap();
        assert_eq!(options.name, "\u{fffd}");
    }

    #[test]
    fn secrets_do_not_reach_the_log() {
        let shown = redacted(br#"{"user":"u","Pass":"p","auth_token":"t","sig":"s","nkey":"n","jwt":"j"}"#);
        assert_eq!(
            shown,
            r#"{"Pass":"[REDACTED]","auth_token":"[REDACTED]","jwt":"[REDACTED]","nkey":"[REDACTED]","sig":"[REDACTED]","user":"u"}"#
        );
        assert_eq!(redacted(b"{\"pass\":\"x"), "[UNREADABLE]");
    }

    #[test]
    fn wrong_types_and_broken_json_are_refused() {
        let refused: &[&[u8]] = &[
            b"",
            b"[]",
            b"{",
            b"{\"verbose\":\"x\"}",
            b"{\"protocol\":1.0}",
            b"{\"protocol\":\"1\"}",
            b"{\"user\":1}",
        ];
        for json in refused {
            assert!(ConnectOptions::default().apply(json).is_err(), "{:?}", json.escape_ascii().to_string());
        }
    }
}
