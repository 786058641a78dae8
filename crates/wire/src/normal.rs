//! Blanks what a server makes up in INFO, and nothing else, so that two recordings of the same behaviour are the same text.
//!
//! What messages carry of that kind is the matter of [`crate::message`]. INFO's fields keep their order and presence, but for the commit of the build, which not
//! every build knows; a made-up value becomes `"*"`. An INFO that is then equal to [`USUAL`] is written as
//! `INFO {usual}`, which keeps scripts readable; one script records the whole.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Fields whose values differ from server to server or from run to run.
const MADE_UP: [&str; 6] = ["server_id", "version", "go", "nonce", "client_id", "xkey"];

/// The one field a server may leave out: it is there when the build knew its commit.
const OPTIONAL: &str = "git_commit";

/// The first INFO of a server without any configuration, blanked.
const USUAL: &str = concat!(
    r#"INFO {"server_id":"*","server_name":"*","version":"*","proto":1,"go":"*","#,
    r#""host":"127.0.0.1","port":"*","headers":true,"max_payload":1048576,"client_id":"*","#,
    r#""client_ip":"127.0.0.1","api_lvl":5,"xkey":"*"} "#,
    "\r\n"
);

/// What [`USUAL`] is written as, and the same of a server with JetStream.
const USUAL_SHORT: &str = "INFO {usual} \r\n";
const USUAL_JETSTREAM_SHORT: &str = "INFO {usual, jetstream} \r\n";

/// The field that JetStream adds.
const JETSTREAM_FIELD: &str = r#""jetstream":true,"#;

/// The frame with made-up values blanked; `port` is the one the server listens on.
///
/// With `whole` the usual INFO is not shortened. A frame that is no well-formed INFO comes back as it is.
pub fn normal(frame: &[u8], port: u16, whole: bool) -> Vec<u8> {
    let Some((json, end)) = info_json(frame) else { return frame.to_vec() };
    let Ok(Fields(fields)) = serde_json::from_str(json) else { return frame.to_vec() };
    let server_id = fields.iter().find(|(name, _)| name == "server_id").map(|(_, value)| value.clone());
    let blanked: Vec<String> = fields
        .into_iter()
        .filter(|(name, _)| name != OPTIONAL)
        .map(|(name, value)| {
            let value = blank(&name, value, server_id.as_ref(), port);
            format!("{}:{value}", Value::String(name))
        })
        .collect();
    let text = format!("INFO {{{}}}{end}", blanked.join(","));
    match text.replacen(JETSTREAM_FIELD, "", 1) {
        _ if whole => text.into(),
        plain if plain != USUAL => text.into(),
        plain if plain == text => USUAL_SHORT.into(),
        _ => USUAL_JETSTREAM_SHORT.into(),
    }
}

/// The JSON of an INFO and what follows it.
fn info_json(frame: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(frame).ok()?.strip_prefix("INFO ")?;
    Some(text.split_at(text.rfind('}')? + 1))
}

fn blank(name: &str, value: Value, server_id: Option<&Value>, port: u16) -> Value {
    let made_up = MADE_UP.contains(&name)
        || (name == "server_name" && Some(&value) == server_id)
        || (name == "port" && value == port);
    if made_up { Value::from("*") } else { without_port(value, port) }
}

/// Addresses in `connect_urls` carry the port too.
fn without_port(value: Value, port: u16) -> Value {
    match value {
        Value::String(text) => match text.strip_suffix(&format!(":{port}")) {
            Some(host) => Value::from(format!("{host}:*")),
            None => Value::String(text),
        },
        Value::Array(items) => items.into_iter().map(|item| without_port(item, port)).collect(),
        other => other,
    }
}

/// The value of one string field of an INFO frame, before blanking.
pub fn info_text(frame: &[u8], name: &str) -> Option<String> {
    let Fields(fields) = serde_json::from_str(info_json(frame)?.0).ok()?;
    let (_, value) = fields.into_iter().find(|(field, _)| field == name)?;
    value.as_str().map(str::to_owned)
}

/// A JSON object with its fields in the order they were written.
struct Fields(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields, M::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal_text(frame: &str, whole: bool) -> String {
        String::from_utf8(normal(frame.as_bytes(), 4222, whole)).unwrap()
    }

    #[test]
    fn made_up_values_are_blanked_and_the_order_stays() {
        let info = r#"INFO {"git_commit":"b2fd3ef","version":"2.15.1","server_id":"NA","server_name":"NA","port":4222,"zeta":1,"alpha":[":4222","h:99"]} "#;
        assert_eq!(
            normal_text(info, false),
            r#"INFO {"version":"*","server_id":"*","server_name":"*","port":"*","zeta":1,"alpha":[":*","h:99"]} "#
        );
    }

    #[test]
    fn chosen_values_are_kept() {
        let info = r#"INFO {"server_id":"NA","server_name":"mine","port":1,"tls_required":true}"#;
        let kept = r#"INFO {"server_id":"*","server_name":"mine","port":1,"tls_required":true}"#;
        assert_eq!(normal_text(info, false), kept);
    }

    #[test]
    fn the_usual_info_is_short_unless_the_whole_is_asked_for() {
        let info = USUAL.replace(r#""port":"*""#, r#""port":4222"#);
        assert_eq!(normal_text(&info, false), USUAL_SHORT);
        assert_eq!(normal_text(&info, true), USUAL);
    }

    #[test]
    fn other_frames_are_left_alone() {
        for frame in ["PONG\r\n", "INFO not json\r\n", "INFO {broken}\r\n", "MSG INFO 1 2\r\n{}\r\n"] {
            assert_eq!(normal_text(frame, false), frame);
        }
    }
}
