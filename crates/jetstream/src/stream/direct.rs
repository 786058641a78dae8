//! Direct gets: messages answered as messages, without an envelope (ADR-31).

use sonata_store::{Filter, Message};

use super::Machine;
use crate::api::request::GetMessage;
use crate::header::{self, name};
use crate::json;
use crate::outgoing::{Outgoing, Publish};
use crate::status::{self, Status};
use crate::timestamp::Timestamp;

/// Subjects that one request may resolve to.
const RESULTS_MAX: usize = 1024;

/// What a direct get asks for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectGet {
    request: GetMessage,
    /// Bytes after which a batch ends.
    bytes_max: usize,
}

impl DirectGet {
    /// Reads a request. `subject` is the one at the end of the request's subject, if there is one; `bytes_max` holds when
    /// the request says nothing (the server's `max_pending`).
    ///
    /// # Errors
    /// The status to answer with.
    pub fn parse(
        subject: Option<&[u8]>,
        headers: &[u8],
        payload: &[u8],
        bytes_max: usize,
    ) -> Result<Self, Status> {
        let level = header::get_str(headers, name::REQUIRED_API_LEVEL).map(str::parse::<u32>);
        if level.is_some_and(|level| level.is_ok_and(|level| level > crate::api::response::API_LEVEL)) {
            return Err(Status::RequiredApiLevel);
        }
        let read = |payload| json::decode::<GetMessage>(payload, json::Mode::Lenient);
        let mut request = match (subject, payload.is_empty()) {
            (None, true) => return Err(Status::EmptyRequest),
            (Some(_), true) => GetMessage::default(),
            (_, false) => read(payload).map_err(|_| Status::MalformedRequest)?,
        };
        let said = |request: &GetMessage| {
            request.seq != 0
                || !request.last_by_subj.is_empty()
                || !request.next_by_subj.is_empty()
                || !request.multi_last.is_empty()
                || request.start_time.is_some()
        };
        match subject {
            Some(subject) => {
                let more = request.batch != 0 || request.up_to_seq != 0 || request.up_to_time.is_some();
                if subject.is_empty() || said(&request) || more {
                    return Err(Status::BadRequest);
                }
                request.last_by_subj = String::from_utf8_lossy(subject).into_owned();
            }
            None => {
                if !said(&request) {
                    return Err(Status::EmptyRequest);
                }
                let last = !request.last_by_subj.is_empty();
                let next = !request.next_by_subj.is_empty();
                let multi = !request.multi_last.is_empty();
                if request.seq > 0 && (last || request.start_time.is_some())
                    || last && (request.start_time.is_some() || next || request.batch > 0 || multi)
                    || next && multi
                    || request.up_to_seq > 0 && request.up_to_time.is_some()
                {
                    return Err(Status::BadRequest);
                }
            }
        }
        let said = usize::try_from(request.max_bytes).ok().filter(|bytes| *bytes > 0);
        Ok(Self { bytes_max: said.unwrap_or(bytes_max), request })
    }
}

impl Machine {
    /// Answers a direct get of one message that is in memory; false when it takes more than that.
    pub fn direct_get_from_memory(&mut self, get: &DirectGet, reply: &[u8], out: &mut dyn Publish) -> bool {
        let request = &get.request;
        let single = request.batch == 0
            && request.multi_last.is_empty()
            && request.next_by_subj.is_empty()
            && request.start_time.is_none();
        if !single {
            return false;
        }
        let sequence = match request.last_by_subj.as_bytes() {
            b"" => Some(request.seq),
            // A filter with wildcards may take a while.
            subject if sonata_subject::has_wildcard(subject) => return false,
            subject => match self.store.last(&Filter::new([subject]), u64::MAX) {
                Ok(sequence) => sequence,
                Err(_) => return false,
            },
        };
        if sequence.is_some_and(|sequence| self.store.cold(sequence).is_some()) {
            return false;
        }
        self.direct_get(get, reply, out);
        true
    }

    /// Answers a direct get. May read from the disk.
    pub fn direct_get(&mut self, get: &DirectGet, reply: &[u8], out: &mut dyn Publish) {
        let answered = match get.request.multi_last.is_empty() {
            true => self.get_directly(get, reply, out),
            false => self.get_many(get, reply, out),
        };
        match answered {
            Ok(None) => {}
            Ok(Some(status)) => out.publish(Outgoing::status(reply, status.block())),
            Err(error) => out.publish(Outgoing::status(reply, &status::internal_error(&error.to_string()))),
        }
    }

    fn get_directly(
        &mut self,
        get: &DirectGet,
        reply: &[u8],
        out: &mut dyn Publish,
    ) -> Result<Option<Status>, sonata_store::Error> {
        let request = &get.request;
        let mut from = match request.start_time {
            Some(time) => self.store.sequence_at(time.0)?,
            None => request.seq,
        };
        let is_batch = request.batch > 0;
        let filter = match request.next_by_subj.as_bytes() {
            b"" => Filter::all(),
            subject => Filter::new([subject]),
        };
        let mut pending = if is_batch { self.store.pending(&filter, from)? } else { 0 };
        let (mut last, mut sent_bytes) = (0, 0);
        for index in 0..request.batch.max(1) {
            let message = if !request.last_by_subj.is_empty() {
                match self.store.last(&Filter::new([request.last_by_subj.as_bytes()]), u64::MAX)? {
                    Some(sequence) => self.store.get(sequence)?,
                    None => None,
                }
            } else if request.next_by_subj.is_empty() && !is_batch {
                self.store.get(from)?
            } else {
                self.store.next_message(&filter, from)?
            };
            let Some(message) = message else {
                if request.batch > 1 && index > 0 {
                    break;
                }
                return Ok(Some(Status::MessageNotFound));
            };
            from = message.sequence + 1;
            pending = pending.saturating_sub(1);
            let place = is_batch.then_some((pending, last));
            let headers = if request.no_hdr { Vec::new() } else { self.direct_headers(&message, place) };
            publish(reply, &headers, &message, out);
            last = message.sequence;
            sent_bytes += message.subject.len() + message.headers.len() + message.payload.len();
            if sent_bytes >= get.bytes_max {
                break;
            }
        }
        if is_batch {
            out.publish(Outgoing::status(reply, &status::end_of_batch(pending, last, None)));
        }
        Ok(None)
    }

    fn get_many(
        &mut self,
        get: &DirectGet,
        reply: &[u8],
        out: &mut dyn Publish,
    ) -> Result<Option<Status>, sonata_store::Error> {
        let request = &get.request;
        let state = self.store.state();
        let up_to = match request.up_to_time {
            Some(time) => {
                let after = self.store.sequence_at(time.0)?;
                if after <= state.first_sequence {
                    return Ok(Some(Status::NoResults));
                }
                after - 1
            }
            None if request.up_to_seq > 0 => request.up_to_seq,
            None => state.last_sequence,
        };
        let filter = Filter::new(request.multi_last.iter().map(String::as_bytes));
        let Some(sequences) = self.store.last_per_subject(&filter, up_to, RESULTS_MAX)? else {
            return Ok(Some(Status::TooManyResults));
        };
        let sequences: Vec<u64> = sequences.into_iter().filter(|sequence| *sequence >= request.seq).collect();
        if sequences.is_empty() {
            return Ok(Some(Status::NoResults));
        }
        let mut pending = sequences.len() as u64;
        let (mut last, mut sent_bytes, mut sent) = (0, 0, 0);
        for sequence in sequences {
            let Some(message) = self.store.get(sequence)? else { return Ok(Some(Status::MessageNotFound)) };
            pending -= 1;
            let headers = self.direct_headers(&message, Some((pending, last)));
            publish(reply, &headers, &message, out);
            last = sequence;
            sent += 1;
            sent_bytes += message.subject.len() + message.headers.len() + message.payload.len();
            if sent_bytes >= get.bytes_max || request.batch > 0 && sent >= request.batch {
                break;
            }
        }
        out.publish(Outgoing::status(reply, &status::end_of_batch(pending, last, Some(up_to))));
        Ok(None)
    }

    /// The message's own headers, and where it comes from. `place` in a batch: what is left, and the sequence before.
    fn direct_headers(&self, message: &Message, place: Option<(u64, u64)>) -> Vec<u8> {
        use std::io::Write;
        let mut headers = Vec::with_capacity(message.headers.len() + 160 + message.subject.len());
        match message.headers.len() {
            // Without the blank line at its end.
            bytes @ 2.. => headers.extend_from_slice(&message.headers[..bytes - 2]),
            _ => headers.extend_from_slice(header::VERSION_LINE),
        }
        let _ = write!(headers, "{}: {}\r\n{}: ", name::STREAM, self.name, name::SUBJECT);
        headers.extend_from_slice(&message.subject);
        let time = Timestamp(message.timestamp);
        let _ = write!(
            headers,
            "\r\n{}: {}\r\n{}: {time}\r\n",
            name::SEQUENCE,
            message.sequence,
            name::TIME_STAMP
        );
        if let Some((pending, last)) = place {
            let _ =
                write!(headers, "{}: {pending}\r\n{}: {last}\r\n", name::NUM_PENDING, name::LAST_SEQUENCE);
        }
        headers.extend_from_slice(b"\r\n");
        headers
    }
}

fn publish(reply: &[u8], headers: &[u8], message: &Message, out: &mut dyn Publish) {
    out.publish(Outgoing { route: b"", subject: reply, reply: b"", headers, payload: &message.payload });
}
