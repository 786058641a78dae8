//! Requests to make and change a stream, with the answers of the reference.
//!
//! `stream_configs.txt` holds scenarios divided by empty lines. Each is a row of requests (`create` or `update`, the name in
//! the subject, the body), each followed by the reference's answer: the configuration or the error, byte for byte.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sonata_jetstream::api::request::ConfigureStream;
use sonata_jetstream::api::{ApiError, ErrorCode};
use sonata_jetstream::config::{Limits, StreamConfig};
use sonata_jetstream::json::{Mode, encode};

/// What is said in other words than the reference's: where a text is no JSON (half of a surrogate pair is none here), and why
/// a time is none.
const OWN_WORDS: [&str; 5] =
    ["invalid character", "unexpected EOF", "parsing time", "number 1e3", "\u{FFFD}"];

#[test]
fn requests_are_answered_as_by_the_reference() {
    let mut different = Vec::new();
    let mut count = 0;
    for scenario in include_str!("stream_configs.txt").split("\n\n") {
        let mut stream = None;
        let mut lines = scenario.lines();
        while let (Some(request), Some(expected)) = (lines.next(), lines.next()) {
            count += 1;
            let answer = answer(&mut stream, request);
            if OWN_WORDS.iter().any(|words| expected.contains(words)) {
                assert!(answer.contains("\"err_code\":10025"), "{request}\n{answer}");
            } else if answer != expected {
                different.push(format!("{request}\n  theirs {expected}\n  ours   {answer}"));
            }
        }
    }
    assert!(different.is_empty(), "{} of {count}:\n{}", different.len(), different.join("\n"));
    assert!(count > 250, "the table was not read");
}

fn answer(stream: &mut Option<StreamConfig>, request: &str) -> String {
    let mut parts = request.splitn(3, ' ');
    let (verb, name, body) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let result = match (verb, &*stream) {
        ("update", Some(old)) => {
            configure(name, body, |new, limits, pedantic| old.update(new, limits, pedantic))
        }
        ("update", None) => Err(ErrorCode::StreamNotFound.into()),
        _ => configure(name, body, StreamConfig::create),
    };
    match result {
        Ok(config) => {
            let shown = config.shown();
            *stream = Some(config);
            format!("config {}", String::from_utf8(encode(&shown)).unwrap())
        }
        Err(error) => format!("error {}", String::from_utf8(encode(&error)).unwrap()),
    }
}

fn configure(
    name: &str,
    body: &str,
    apply: impl FnOnce(StreamConfig, &Limits, bool) -> Result<StreamConfig, ApiError>,
) -> Result<StreamConfig, ApiError> {
    let request = ConfigureStream::parse(body.as_bytes(), Mode::Strict)
        .map_err(|error| ErrorCode::InvalidJson.with(error))?;
    let mut config = request.config;
    config.stamp();
    if config.name != name {
        return Err(ErrorCode::StreamMismatch.into());
    }
    apply(config, &Limits::default(), request.pedantic)
}
