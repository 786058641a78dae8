//! Which direct gets make sense.

use super::request::GetMessage;
use crate::status::Status;

impl GetMessage {
    /// Whether `DIRECT.GET.<stream>` can answer.
    ///
    /// # Errors
    /// The status to answer with.
    pub fn check_direct(&self) -> Result<(), Status> {
        let last = !self.last_by_subj.is_empty();
        let next = !self.next_by_subj.is_empty();
        let multi = !self.multi_last.is_empty();
        let time = self.start_time.is_some();
        if self.seq == 0 && !last && !next && !multi && !time {
            return Err(Status::EmptyRequest);
        }
        let contradicts = (self.seq > 0 && (last || time))
            || (last && (time || next || multi || self.batch > 0))
            || (next && multi)
            || (self.up_to_seq > 0 && self.up_to_time.is_some());
        if contradicts { Err(Status::BadRequest) } else { Ok(()) }
    }

    /// Whether the body of `DIRECT.GET.<stream>.<subject>` adds nothing but what fits the subject.
    ///
    /// # Errors
    /// The status to answer with.
    pub fn check_direct_last(&self) -> Result<(), Status> {
        let plain = GetMessage { no_hdr: self.no_hdr, max_bytes: self.max_bytes, ..GetMessage::default() };
        if *self == plain { Ok(()) } else { Err(Status::BadRequest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Mode, decode};

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        // The body, and whether each of the two subjects takes it; asked of the reference.
        for (body, direct, last) in [
            ("{}", Err(Status::EmptyRequest), true),
            (r#"{"seq":1}"#, Ok(()), false),
            (r#"{"seq":1,"next_by_subj":"a"}"#, Ok(()), false),
            (r#"{"seq":1,"last_by_subj":"a"}"#, Err(Status::BadRequest), false),
            (r#"{"last_by_subj":"a"}"#, Ok(()), false),
            (r#"{"last_by_subj":"a","next_by_subj":"a"}"#, Err(Status::BadRequest), false),
            (r#"{"last_by_subj":"a","batch":1}"#, Err(Status::BadRequest), false),
            (r#"{"seq":1,"batch":5,"max_bytes":9}"#, Ok(()), false),
            (r#"{"seq":1,"start_time":"2026-01-01T00:00:00Z"}"#, Err(Status::BadRequest), false),
            (r#"{"start_time":"2026-01-01T00:00:00Z"}"#, Ok(()), false),
            (r#"{"multi_last":["a"]}"#, Ok(()), false),
            (r#"{"multi_last":["a"],"next_by_subj":"a"}"#, Err(Status::BadRequest), false),
            (
                r#"{"multi_last":["a"],"up_to_seq":1,"up_to_time":"2026-01-01T00:00:00Z"}"#,
                Err(Status::BadRequest),
                false,
            ),
            (r#"{"no_hdr":true}"#, Err(Status::EmptyRequest), true),
        ] {
            let request: GetMessage = decode(body.as_bytes(), Mode::Strict).expect(body);
            assert_eq!(request.check_direct(), direct, "{body}");
            assert_eq!(request.check_direct_last().is_ok(), last, "{body}");
        }
    }
}
