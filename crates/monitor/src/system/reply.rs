//! The envelope of an answer.

use serde::Serialize;

use super::server_info::ServerInfo;
use crate::json;

/// Whose fault it is that there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request cannot be read.
    Request,
    /// It was read and cannot be answered.
    Answer,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    server: ServerInfo<'a>,
    /// The inner one is `null` in JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Option<T>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Told>,
}

#[derive(Serialize)]
struct Told {
    code: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

/// An answer with data.
pub fn data(server: ServerInfo<'_>, data: &impl Serialize) -> Vec<u8> {
    json::compact(&Envelope { server, data: Some(Some(data)), error: None })
}

/// The answer to a request that something be done: it is.
pub fn done(server: ServerInfo<'_>) -> Vec<u8> {
    json::compact(&Envelope::<()> { server, data: None, error: None })
}

/// What was asked for is not done, or cannot be read.
pub fn failed(server: ServerInfo<'_>, fault: Fault, description: String) -> Vec<u8> {
    let code = match fault {
        Fault::Request => 400,
        Fault::Answer => 500,
    };
    json::compact(&Envelope::<()> { server, data: None, error: Some(Told { code, description }) })
}

/// There is no answer: as [`failed`], with a `data` of `null`, which the original has where an answer was tried.
pub(super) fn unanswered(server: ServerInfo<'_>, description: String) -> Vec<u8> {
    let error = Some(Told { code: 500, description });
    json::compact(&Envelope::<()> { server, data: Some(None), error })
}
