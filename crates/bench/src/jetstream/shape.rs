//! The JetStream shapes as a table: name, what is done, and a line of help.

/// Where a stream keeps its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Storage {
    /// On disk, synced as the server is configured.
    File,
    /// In memory.
    Memory,
}

/// How messages reach a consumer's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delivery {
    /// Fetches of a batch each, one after the other.
    Fetch,
    /// To a subject, as fast as the limits of the consumer allow.
    Push,
    /// To a subject, with flow control and heartbeats, as ordered consumers have it.
    Ordered,
}

/// How a server ends before it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// Asked to, with SIGTERM.
    Clean,
    /// With SIGKILL.
    Killed,
}

/// A kind of load on JetStream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum JetStreamShape {
    /// Publishing to one stream, from each of `connections` with `in_flight` messages not yet acknowledged.
    Publish {
        /// Of the stream.
        storage: Storage,
        /// Of each connection.
        in_flight: usize,
        /// All on one subject.
        connections: usize,
    },
    /// Publishing to one stream and then to a hundred in turn, from one connection.
    PublishMany {
        /// Of the connection.
        in_flight: usize,
    },
    /// Reading a filled stream to its end.
    Consume {
        /// How.
        delivery: Delivery,
        /// Whether each message is acknowledged.
        explicit_ack: bool,
    },
    /// Putting values into a bucket.
    Put {
        /// Puts not yet acknowledged.
        in_flight: usize,
    },
    /// Getting values from a bucket by direct gets.
    Get {
        /// Gets not yet answered.
        in_flight: usize,
    },
    /// Watching all keys of a bucket: the last value of each, again and again.
    Watch,
    /// One publish in flight, while another stream is purged.
    Purge,
    /// A start with a stream on disk.
    Restart(Ending),
    /// A stream with a message on each of many subjects.
    Subjects,
    /// Many durable consumers without traffic.
    Durables,
}

/// Streams of [`JetStreamShape::PublishMany`].
pub const STREAMS: usize = 100;

impl JetStreamShape {
    /// All, in the order of reports.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.shape)
    }

    /// Name on the command line and in reports.
    pub fn name(self) -> &'static str {
        self.row().map_or("js", |row| row.name)
    }

    /// One line of help.
    pub fn help(self) -> &'static str {
        self.row().map_or("", |row| row.help)
    }

    /// The shape of that name.
    pub fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.shape)
    }

    /// Payload sizes when none are asked for; `None` if the shape has a fixed load and needs a fresh server.
    pub fn default_sizes(self) -> Option<&'static [usize]> {
        match self {
            Self::Publish { connections: 1, .. } | Self::Consume { .. } => Some(&[128, 1024]),
            Self::Publish { .. }
            | Self::PublishMany { .. }
            | Self::Put { .. }
            | Self::Get { .. }
            | Self::Watch
            | Self::Purge => Some(&[128]),
            Self::Restart(_) | Self::Subjects | Self::Durables => None,
        }
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.shape == self)
    }
}

struct Row {
    name: &'static str,
    shape: JetStreamShape,
    help: &'static str,
}

const fn row(name: &'static str, shape: JetStreamShape, help: &'static str) -> Row {
    Row { name, shape, help }
}

const fn publish(storage: Storage, in_flight: usize, connections: usize) -> JetStreamShape {
    JetStreamShape::Publish { storage, in_flight, connections }
}

const fn consume(delivery: Delivery, explicit_ack: bool) -> JetStreamShape {
    JetStreamShape::Consume { delivery, explicit_ack }
}

/// Every shape, in the order of reports.
const TABLE: &[Row] = &[
    row("js-pub-1", publish(Storage::File, 1, 1), "publish to a file stream, one waiting at a time"),
    row("js-pub-256", publish(Storage::File, 256, 1), "publish to a file stream, 256 in flight"),
    row("js-pub-1000", publish(Storage::File, 1000, 1), "publish to a file stream, 1,000 in flight"),
    row("js-pub-64c", publish(Storage::File, 1, 64), "64 connections, each waiting for its publish"),
    row(
        "js-many-1",
        JetStreamShape::PublishMany { in_flight: 1 },
        "one, then 100 file streams in turn, one waiting",
    ),
    row("js-many-256", JetStreamShape::PublishMany { in_flight: 256 }, "the same, 256 in flight"),
    row("js-many-1000", JetStreamShape::PublishMany { in_flight: 1000 }, "the same, 1,000 in flight"),
    row("js-mem-1", publish(Storage::Memory, 1, 1), "publish to a memory stream, one waiting at a time"),
    row("js-mem-256", publish(Storage::Memory, 256, 1), "publish to a memory stream, 256 in flight"),
    row("js-mem-1000", publish(Storage::Memory, 1000, 1), "publish to a memory stream, 1,000 in flight"),
    row("js-fetch-ack", consume(Delivery::Fetch, true), "fetches of 500, each message acknowledged"),
    row("js-fetch", consume(Delivery::Fetch, false), "fetches of 500 without acknowledgements"),
    row("js-push-ack", consume(Delivery::Push, true), "push consumer, each message acknowledged"),
    row("js-push", consume(Delivery::Push, false), "push consumer without acknowledgements"),
    row("js-ordered", consume(Delivery::Ordered, false), "push consumer with flow control and heartbeats"),
    row(
        "kv-put-1",
        JetStreamShape::Put { in_flight: 1 },
        "put to 10,000 keys in turn, one waiting at a time",
    ),
    row("kv-put-256", JetStreamShape::Put { in_flight: 256 }, "put to 10,000 keys in turn, 256 in flight"),
    row("kv-get-1", JetStreamShape::Get { in_flight: 1 }, "direct get of 10,000 keys in turn, one waiting"),
    row(
        "kv-get-256",
        JetStreamShape::Get { in_flight: 256 },
        "direct get of 10,000 keys in turn, 256 in flight",
    ),
    row("kv-watch", JetStreamShape::Watch, "the last value of each of 10,000 keys, again and again"),
    row("js-purge", JetStreamShape::Purge, "one publish in flight while another stream is purged: latency"),
    row(
        "js-restart",
        JetStreamShape::Restart(Ending::Clean),
        "--messages over --subjects, SIGTERM, start: time, memory",
    ),
    row("js-kill", JetStreamShape::Restart(Ending::Killed), "the same with SIGKILL"),
    row("js-subjects", JetStreamShape::Subjects, "memory of a stream with 1,000,000 subjects"),
    row("js-durables", JetStreamShape::Durables, "CPU and memory of 10,000 idle durable consumers"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_shapes() {
        for shape in JetStreamShape::all() {
            assert_eq!(JetStreamShape::named(shape.name()), Some(shape));
            assert!(!shape.help().is_empty());
        }
        assert_eq!(JetStreamShape::named("js"), None);
    }
}
