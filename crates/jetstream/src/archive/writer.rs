//! Writing a snapshot.

use std::io::{self, Write};

use super::entry::ConsumerSnapshot;
use super::{CONSUMERS, MAGIC, STATE};
use crate::api::response::StreamState;
use crate::json::encode;

/// Writes a snapshot entry by entry: the state, the consumers, the messages, the end.
pub struct Writer<W: Write> {
    output: minlz::Writer<W>,
    /// The frame of the entry at hand; kept for its memory.
    frame: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a snapshot taken at `timestamp` (ns since 1970) with the stream's state. Its `consumer_count` must be the
    /// number of consumers that follow.
    ///
    /// # Errors
    /// Of the output.
    pub fn new(output: W, timestamp: i64, state: &StreamState) -> io::Result<Self> {
        let mut writer = Self { output: minlz::Writer::new(output), frame: Vec::new() };
        writer.output.write_all(MAGIC)?;
        let text = encode(state);
        writer.entry(STATE.as_bytes(), timestamp, 0, &[], &text)?;
        Ok(writer)
    }

    /// Adds a consumer.
    ///
    /// # Errors
    /// Of the output.
    pub fn consumer(&mut self, timestamp: i64, consumer: &ConsumerSnapshot) -> io::Result<()> {
        let name = format!("{CONSUMERS}{}", consumer.config.name);
        let text = encode(consumer);
        self.entry(name.as_bytes(), timestamp, 0, &[], &text)
    }

    /// Adds a message; sequences must ascend.
    ///
    /// # Errors
    /// Of the output.
    pub fn message(
        &mut self,
        sequence: u64,
        timestamp: i64,
        subject: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) -> io::Result<()> {
        assert!(sequence > 0, "a message has a sequence");
        self.entry(subject, timestamp, sequence, headers, payload)
    }

    /// Ends the snapshot. Without this it counts as cut off.
    ///
    /// # Errors
    /// Of the output.
    pub fn finish(mut self) -> io::Result<()> {
        self.entry(&[], 0, 0, &[], &[])?;
        self.output.flush()
    }

    fn entry(
        &mut self,
        name: &[u8],
        timestamp: i64,
        sequence: u64,
        headers: &[u8],
        payload: &[u8],
    ) -> io::Result<()> {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        for number in
            [name.len() as u64, folded(timestamp), sequence, headers.len() as u64, payload.len() as u64]
        {
            append_number(&mut frame, number);
        }
        let written =
            [&frame, name, headers, payload].into_iter().try_for_each(|part| self.output.write_all(part));
        self.frame = frame;
        written
    }
}

/// Seven bits per byte, the lowest first.
fn append_number(text: &mut Vec<u8>, number: u64) {
    let mut rest = number;
    while rest >= 0x80 {
        text.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    text.push(rest.to_le_bytes()[0]);
}

/// Signed numbers have their sign in the lowest bit.
fn folded(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}
