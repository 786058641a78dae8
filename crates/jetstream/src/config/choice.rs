//! The choices of a configuration: small enums with the words they are written as.

use std::fmt;

use serde::de::{self, Visitor};

/// An enum, its words (the first is written, others are read as well) and the text that refuses any other word.
macro_rules! choice {
    (
        $(#[$doc:meta])*
        $name:ident, $refusal:literal, {
            $($(#[$arm_doc:meta])* $arm:ident = $word:literal $(| $alias:literal)*,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
        pub enum $name {
            $($(#[$arm_doc])* $arm,)*
        }

        impl $name {
            /// The word it is written as.
            pub fn word(self) -> &'static str {
                match self { $(Self::$arm => $word,)* }
            }

            /// The choice a word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word $(| $alias)* => Some(Self::$arm),)*
                    _ => None,
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any($crate::config::choice::Word { choose: Self::from_word, refuse: |given, f| f.write_str(&$refusal.replace("{}", given).replace("{:?}", &format!("{given:?}"))) })
            }
        }
    };
}

pub(crate) use choice;

choice! {
    /// What ends a message's life besides the limits.
    Retention, "can not unmarshal {:?}", {
        /// Only the limits.
        #[default]
        Limits = "limits",
        /// Every consumer that wants it has acknowledged it.
        Interest = "interest",
        /// A consumer has acknowledged it.
        WorkQueue = "workqueue",
    }
}

choice! {
    /// What gives way when a limit is reached.
    Discard, "can not unmarshal {:?}", {
        /// The oldest messages.
        #[default]
        Old = "old",
        /// The message that would exceed the limit.
        New = "new",
    }
}

choice! {
    /// Where messages are kept.
    Storage, "can not unmarshal {:?}", {
        /// In files.
        #[default]
        File = "file",
        /// In memory; gone after a restart.
        Memory = "memory",
    }
}

choice! {
    /// How stored messages are compressed.
    Compression, "unknown compression algorithm", {
        /// Not at all.
        #[default]
        None = "none",
        /// By blocks, with S2.
        S2 = "s2",
    }
}

choice! {
    /// When a publish is acknowledged.
    PersistMode, "can not unmarshal {:?}", {
        /// After the message is durable.
        #[default]
        Default = "default" | "",
        /// Perhaps before.
        Async = "async",
    }
}

choice! {
    /// Where in the stream a consumer starts.
    DeliverPolicy, "can not unmarshal {:?}", {
        /// At the first message.
        #[default]
        All = "all" | "undefined",
        /// At the last message.
        Last = "last",
        /// After the last message.
        New = "new",
        /// At `opt_start_seq`.
        ByStartSequence = "by_start_sequence",
        /// At the first message not older than `opt_start_time`.
        ByStartTime = "by_start_time",
        /// With the last message of each subject.
        LastPerSubject = "last_per_subject",
    }
}

choice! {
    /// What an acknowledgement settles.
    AckPolicy, "can not unmarshal {:?}", {
        /// There are none.
        #[default]
        None = "none",
        /// All messages up to the acknowledged one.
        All = "all",
        /// The acknowledged message.
        Explicit = "explicit",
        /// As `All`, told through flow control instead of acknowledgements.
        FlowControl = "flow_control",
    }
}

choice! {
    /// How fast stored messages are delivered.
    ReplayPolicy, "can not unmarshal {:?}", {
        /// As fast as they are taken.
        #[default]
        Instant = "instant",
        /// With the pauses they were published with.
        Original = "original",
    }
}

choice! {
    /// Which of several waiting clients is served.
    PriorityPolicy, "unknown priority policy: {}", {
        /// In turn.
        #[default]
        None = "none",
        /// Those whose threshold of pending messages is reached.
        Overflow = "overflow",
        /// One only, until it goes away.
        PinnedClient = "pinned_client",
        /// The smallest priority number first.
        Prioritized = "prioritized",
    }
}

/// Reads a word; anything else is refused with its JSON text.
pub(crate) struct Word<T> {
    pub(crate) choose: fn(&str) -> Option<T>,
    pub(crate) refuse: fn(&str, &mut fmt::Formatter<'_>) -> fmt::Result,
}

impl<T> Word<T> {
    fn refused<E: de::Error>(&self, json: &str) -> E {
        struct Refusal<'a, T>(&'a Word<T>, &'a str);
        impl<T> fmt::Display for Refusal<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (self.0.refuse)(self.1, f)
            }
        }
        E::custom(Refusal(self, json))
    }
}

impl<'de, T> Visitor<'de> for Word<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<T, E> {
        (self.choose)(word).ok_or_else(|| self.refused(&serde_json::Value::from(word).to_string()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        Err(self.refused("null"))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        Err(self.refused(&value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        Err(self.refused(&value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        Err(self.refused(&value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        Err(self.refused(&value.to_string()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<T, A::Error> {
        Err(self.refused("[]"))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<T, A::Error> {
        Err(self.refused("{}"))
    }
}
