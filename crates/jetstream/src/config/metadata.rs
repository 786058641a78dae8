//! What programs note of a stream or consumer.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Keys and values, ascending by key. Most have a few, and there may be very many consumers: an empty one holds no memory,
/// others hold hardly more than their text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(Box<[(Box<str>, Box<str>)]>);

impl Metadata {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&*self.0[at].1)
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: &str, value: &str) {
        let mut entries = std::mem::take(&mut self.0).into_vec();
        match entries.binary_search_by(|(known, _)| (**known).cmp(key)) {
            Ok(at) => entries[at].1 = value.into(),
            Err(at) => entries.insert(at, (key.into(), value.into())),
        }
        self.0 = entries.into_boxed_slice();
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) {
        if self.get(key).is_some() {
            let entries = std::mem::take(&mut self.0).into_vec();
            self.0 = entries.into_iter().filter(|(known, _)| &**known != key).collect();
        }
    }

    /// Keys and values, ascending by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, String)> for Metadata {
    /// The last of several values of a key counts.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(entries: I) -> Self {
        let sorted: BTreeMap<String, String> = entries.into_iter().collect();
        Self(sorted.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::<String, String>::deserialize(deserializer).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_value_and_keys_ascend() {
        let mut metadata: Metadata = [("b", "1"), ("a", "2"), ("b", "3")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        metadata.insert("c", "4");
        metadata.insert("a", "5");
        metadata.remove("c");
        metadata.remove("d");
        assert_eq!(metadata.iter().collect::<Vec<_>>(), [("a", "5"), ("b", "3")]);
        let text = serde_json::to_string(&metadata).unwrap();
        assert_eq!(text, r#"{"a":"5","b":"3"}"#);
        assert_eq!(serde_json::from_str::<Metadata>(&text).unwrap(), metadata);
        assert_eq!((metadata.get("b"), metadata.get("c"), metadata.len()), (Some("3"), None, 2));
    }
}
