//! Reading the configuration from any format that serde knows.
//!
//! Written by hand, since a derived reader has one name for a key, and says of an unknown one only what all
//! the known ones are, and of a wrong value not whose it is. Here each key has two spellings, and every error
//! names a key and none repeats a value that may be a secret.

use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::conf::{HOSTS_MAX, NatsConf};
use crate::error::Problem;
use crate::key::Key;
use crate::value::{self, Value};

impl<'de> Deserialize<'de> for NatsConf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Conf)
    }
}

struct Conf;

impl<'de> Visitor<'de> for Conf {
    type Value = NatsConf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a NATS configuration")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NatsConf, A::Error> {
        let mut conf = NatsConf::default();
        let mut seen: Vec<Key> = Vec::new();
        while let Some(Name(key)) = map.next_key()? {
            if seen.contains(&key) {
                return Err(de::Error::custom(format_args!("{key} is given twice")));
            }
            seen.push(key);
            map.next_value_seed(Field { conf: &mut conf, key })?;
        }
        Ok(conf)
    }
}

/// A key, in either spelling.
struct Name(Key);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Spelling;

        impl Visitor<'_> for Spelling {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key of a NATS configuration")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Name, E> {
                Key::parse(name).map(Name).ok_or_else(|| de::Error::custom(unknown(name)))
            }
        }

        deserializer.deserialize_identifier(Spelling)
    }
}

/// The error for an unknown key; proposes the spelling that the writer uses.
fn unknown(name: &str) -> String {
    /// Letters of an unknown key that an error repeats.
    const NAME_CHARS_MAX: usize = 80;
    let (nearest, _) = Key::nearest(name);
    let nearest = if name.contains(char::is_uppercase) { nearest.name() } else { nearest.snake_case() };
    let name: String = name.chars().take(NAME_CHARS_MAX).collect();
    format!("unknown key {name}, the nearest known one is {nearest}")
}

/// The place of one value.
struct Field<'a> {
    conf: &'a mut NatsConf,
    key: Key,
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let key = self.key;
        let value = if key.is_text() {
            // YAML would make a number of a password that looks like one, unless it is asked for a text.
            let text = deserializer.deserialize_option(Text);
            // The format's own error would repeat the value.
            text.map_err(|_| de::Error::custom(format_args!("{key}: {}", Problem::Wanted("a text"))))?
        } else {
            deserializer.deserialize_any(Any)?
        };
        // Here and not by whoever called, so that the format adds the line of this value to the error.
        value::put(self.conf, key, value)
            .map_err(|problem| de::Error::custom(format_args!("{key}: {problem}")))
    }
}

/// Takes a text or nothing.
struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_string(Any)
    }
}

/// Takes whatever comes.
struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a NATS configuration")
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Other, Value::Integer))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut hosts = Vec::new();
        while hosts.len() < HOSTS_MAX {
            match seq.next_element()? {
                Some(host) => hosts.push(host),
                None => return Ok(Value::Hosts(hosts)),
            }
        }
        match seq.next_element::<IgnoredAny>()? {
            Some(_) => Err(de::Error::custom(format_args!("a list of more than {HOSTS_MAX} entries"))),
            None => Ok(Value::Hosts(hosts)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}
