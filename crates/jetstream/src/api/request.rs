//! Request bodies.

use serde::{Deserialize, Serialize};

use crate::api::response::StreamState;
use crate::config::choice::choice;
use crate::config::{ConsumerConfig, Placement, StreamConfig};
use crate::json::{Error, Mode, Tree, decode, is_default};
use crate::timestamp::Timestamp;

/// The body of `CONSUMER.CREATE` and `CONSUMER.DURABLE.CREATE`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "CreateConsumerRequest")]
pub struct CreateConsumer {
    /// The stream, as in the subject.
    pub stream_name: String,
    /// What the consumer shall be.
    pub config: ConsumerConfig,
    /// What is expected of the consumer that may exist.
    pub action: ConsumerAction,
    /// The server may not adjust the configuration.
    #[serde(skip_serializing_if = "is_default")]
    pub pedantic: bool,
}

choice! {
    /// What is expected of the consumer that may exist.
    ConsumerAction, "unknown consumer action: {}", {
        /// Nothing.
        #[default]
        CreateOrUpdate = "",
        /// It exists.
        Update = "update",
        /// It does not exist.
        Create = "create",
    }
}

/// The body of `STREAM.CREATE` and `STREAM.UPDATE`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConfigureStream {
    /// What the stream shall be.
    pub config: StreamConfig,
    /// The server may not adjust the configuration.
    pub pedantic: bool,
}

/// The body of `STREAM.NAMES` and `STREAM.LIST`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename = "JSApiStreamNamesRequest")]
pub struct ListStreams {
    /// How many streams are skipped.
    #[serde(deserialize_with = "crate::json::int")]
    pub offset: i64,
    /// Only streams that store some of these subjects; empty is all.
    pub subject: String,
}

/// The body of `CONSUMER.NAMES` and `CONSUMER.LIST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename = "JSApiConsumersRequest")]
pub struct ListConsumers {
    /// How many consumers are skipped.
    #[serde(deserialize_with = "crate::json::int")]
    pub offset: i64,
}

/// The body of `STREAM.INFO`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename = "JSApiStreamInfoRequest")]
pub struct StreamInfoRequest {
    /// How many subjects are skipped.
    #[serde(deserialize_with = "crate::json::int")]
    pub offset: i64,
    /// The deleted sequences are listed.
    pub deleted_details: bool,
    /// These subjects are listed with their number of messages; empty is none.
    pub subjects_filter: String,
}

/// The body of `STREAM.PURGE`. `seq` and `keep` exclude each other.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiStreamPurgeRequest")]
pub struct Purge {
    /// Only messages before this sequence; 0 is all.
    #[serde(skip_serializing_if = "is_default")]
    pub seq: u64,
    /// Only these subjects; empty is all.
    #[serde(skip_serializing_if = "is_default")]
    pub filter: String,
    /// The last messages that stay.
    #[serde(skip_serializing_if = "is_default")]
    pub keep: u64,
}

/// The body of `STREAM.MSG.DELETE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename = "JSApiMsgDeleteRequest")]
pub struct DeleteMessage {
    /// The message.
    pub seq: u64,
    /// The bytes need not be overwritten on the disk.
    pub no_erase: bool,
}

/// The body of `STREAM.MSG.GET` and `DIRECT.GET`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename = "JSApiMsgGetRequest")]
pub struct GetMessage {
    /// This message, or the first to look at for `next_by_subj`.
    pub seq: u64,
    /// The last message of these subjects.
    pub last_by_subj: String,
    /// The next message of these subjects.
    pub next_by_subj: String,
    /// How many messages; direct only.
    #[serde(deserialize_with = "crate::json::int")]
    pub batch: i64,
    /// At most so many bytes; direct only.
    #[serde(deserialize_with = "crate::json::int")]
    pub max_bytes: i64,
    /// The first message not older.
    pub start_time: Option<Timestamp>,
    /// The last message of each of these subjects; direct only.
    pub multi_last: Vec<String>,
    /// No message after this one; direct only.
    pub up_to_seq: u64,
    /// No message after this time; direct only.
    pub up_to_time: Option<Timestamp>,
    /// Without headers.
    pub no_hdr: bool,
}

/// The body of `CONSUMER.PAUSE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename = "JSApiConsumerPauseRequest")]
pub struct PauseConsumer {
    /// Until when; zero or past resumes.
    pub pause_until: Timestamp,
}

/// The body of `CONSUMER.RESET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename = "JSApiConsumerResetRequest")]
pub struct ResetConsumer {
    /// The sequence to go on with; 0 is the one after the ack floor.
    pub seq: u64,
}

/// The body of `CONSUMER.UNPIN`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename = "JSApiConsumerUnpinRequest")]
pub struct UnpinConsumer {
    /// The priority group whose client is let go.
    pub group: String,
}

/// The body of `STREAM.SNAPSHOT`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename = "JSApiStreamSnapshotRequest")]
pub struct SnapshotStream {
    /// Where chunks are sent.
    pub deliver_subject: String,
    /// Without consumers.
    pub no_consumers: bool,
    /// Bytes of a chunk; see [`SnapshotStream::chunk_bytes`].
    #[serde(deserialize_with = "crate::json::int")]
    pub chunk_size: i64,
    /// Bytes that may be unacknowledged; see [`SnapshotStream::window_bytes`].
    #[serde(deserialize_with = "crate::json::int")]
    pub window_size: i64,
    /// All checksums are verified first.
    pub jsck: bool,
}

impl SnapshotStream {
    /// Bytes of a chunk: 128 KiB unless said, 1 KiB to 1 MiB.
    pub fn chunk_bytes(&self) -> usize {
        within(self.chunk_size, 128 << 10, 1 << 20)
    }

    /// Bytes that may be unacknowledged: 8 MiB unless said, 1 KiB to 32 MiB.
    pub fn window_bytes(&self) -> usize {
        within(self.window_size, 8 << 20, 32 << 20)
    }
}

fn within(said: i64, default: usize, most: usize) -> usize {
    match usize::try_from(said) {
        Ok(0) => default,
        Ok(said) => said.clamp(1 << 10, most),
        Err(_) => 1 << 10,
    }
}

/// The body of `STREAM.RESTORE`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename = "JSApiStreamRestoreRequest")]
pub struct RestoreStream {
    /// What the stream was told to be.
    pub config: StreamConfig,
    /// What it held.
    pub state: StreamState,
}

/// The body of requests to step down.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename = "JSApiLeaderStepdownRequest")]
pub struct StepDown {
    /// Who should lead instead.
    pub placement: Option<Placement>,
}

/// The body of requests to remove or evacuate a peer.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename = "JSApiStreamRemovePeerRequest")]
pub struct PeerRequest {
    /// A server's name or id.
    pub peer: String,
}

/// The body of `CONSUMER.MSG.NEXT`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
// The reference reads it into a type without a name, which its errors show.
#[serde(default, rename = "")]
pub struct PullRequest {
    /// How long the request may wait, ns; 0 is for ever.
    #[serde(deserialize_with = "crate::json::nanos")]
    pub expires: i64,
    /// How many messages.
    #[serde(deserialize_with = "crate::json::int")]
    pub batch: i64,
    /// At most so many bytes; 0 is any.
    #[serde(deserialize_with = "crate::json::int")]
    pub max_bytes: i64,
    /// Only what is there now.
    pub no_wait: bool,
    /// After this time without a message a heartbeat is sent, ns.
    #[serde(deserialize_with = "crate::json::nanos")]
    pub idle_heartbeat: i64,
    /// The priority group.
    pub group: String,
    /// Served only while so many messages are pending; overflow policy.
    pub min_pending: i64,
    /// Served only while so many messages are unacknowledged; overflow policy.
    pub min_ack_pending: i64,
    /// The pinned client's id; pinned client policy.
    pub id: String,
    /// 0 to 9, served from the smallest; prioritized policy.
    #[serde(deserialize_with = "crate::json::int")]
    pub priority: i64,
}

impl PullRequest {
    /// Reads the payload of a pull request: nothing (one message), a number of messages, or JSON. Anything else asks for
    /// one message.
    ///
    /// # Errors
    /// Text that begins like JSON and is none.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let payload = payload.trim_ascii();
        if payload.starts_with(b"{") {
            return decode(payload, Mode::Lenient);
        }
        let number = std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok());
        Ok(Self { batch: number.unwrap_or(1), ..Self::default() })
    }

    /// Whether the heartbeat leaves room for two of them.
    pub fn has_valid_heartbeat(&self) -> bool {
        self.idle_heartbeat <= 0
            || self.idle_heartbeat.checked_mul(2).is_some_and(|twice| twice <= self.expires)
    }
}

impl ConfigureStream {
    /// Reads the body of `STREAM.CREATE` and `STREAM.UPDATE`.
    ///
    /// # Errors
    /// Text that is no such body.
    pub fn parse(payload: &[u8], mode: Mode) -> Result<Self, Error> {
        const NAME: &str = "StreamConfigRequest";
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Pedantic {
            pedantic: bool,
        }
        let mut tree = Tree::parse(payload)?;
        let pedantic = match tree.take("pedantic") {
            Some(value) => {
                Tree::Object(vec![("pedantic".to_owned(), value)]).read_as::<Pedantic>(NAME, mode)?.pedantic
            }
            None => false,
        };
        Ok(Self { config: tree.read_as(NAME, mode)?, pedantic })
    }
}

/// Whether a payload counts as none: nothing, blanks, or an empty object.
pub fn is_empty(payload: &[u8]) -> bool {
    matches!(Tree::parse(payload), Ok(Tree::Object(fields)) if fields.is_empty())
}
