//! Requests to make and change a consumer, with the answers of the reference.
//!
//! `consumer_configs.txt` holds scenarios divided by empty lines. Each begins with its stream's configuration; then come
//! requests (the end of the subject, the body), each followed by the reference's answer: the configuration or the error, byte
//! for byte.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sonata_jetstream::api::request::{ConfigureStream, ConsumerAction, CreateConsumer};
use sonata_jetstream::api::{ApiError, ErrorCode, Operation};
use sonata_jetstream::config::{ConsumerConfig, Limits, StreamConfig};
use sonata_jetstream::json::{Mode, decode, encode};

/// A time that is none is refused in other words than the reference's.
const OWN_WORDS: [&str; 1] = ["parsing time"];

#[test]
fn requests_are_answered_as_by_the_reference() {
    let mut different = Vec::new();
    let mut count = 0;
    for scenario in include_str!("consumer_configs.txt").split("\n\n") {
        let mut lines = scenario.lines();
        let stream = stream(lines.next().unwrap());
        let mut consumer = None;
        while let (Some(request), Some(expected)) = (lines.next(), lines.next()) {
            count += 1;
            let answer = answer(&stream, &mut consumer, request);
            if OWN_WORDS.iter().any(|words| expected.contains(words)) {
                assert!(answer.contains("\"err_code\":10025"), "{request}\n{answer}");
            } else if answer != expected {
                different.push(format!("{request}\n  theirs {expected}\n  ours   {answer}"));
            }
        }
    }
    assert!(different.is_empty(), "{} of {count}:\n{}", different.len(), different.join("\n"));
    assert!(count > 200, "the table was not read");
}

fn stream(line: &str) -> StreamConfig {
    let body = line.strip_prefix("stream ").unwrap();
    let request = ConfigureStream::parse(body.as_bytes(), Mode::Strict).unwrap();
    request.config.create(&Limits::default(), false).unwrap()
}

fn answer(stream: &StreamConfig, consumer: &mut Option<ConsumerConfig>, request: &str) -> String {
    let (subject, body) = request.split_once(' ').unwrap();
    match configure(stream, consumer.as_ref(), subject, body) {
        Ok(config) => {
            let shown = config.shown();
            *consumer = Some(config);
            format!("config {}", String::from_utf8(encode(&shown)).unwrap())
        }
        Err(error) => format!("error {}", String::from_utf8(encode(&error)).unwrap()),
    }
}

fn configure(
    stream: &StreamConfig,
    old: Option<&ConsumerConfig>,
    subject: &str,
    body: &str,
) -> Result<ConsumerConfig, ApiError> {
    let subject = format!("$JS.API.CONSUMER.{subject}");
    let Some(Operation::ConsumerCreate(subject)) = Operation::parse(subject.as_bytes()) else {
        panic!("{subject}")
    };
    let request: CreateConsumer =
        decode(body.as_bytes(), Mode::Strict).map_err(|error| ErrorCode::InvalidJson.with(error))?;
    let (action, pedantic) = (request.action, request.pedantic);
    let mut config = request.agree(&subject, false)?.config;
    config.stamp();
    let config = config.check(stream, &Limits::default(), pedantic)?;
    match old {
        Some(old) if action == ConsumerAction::Create && *old != config => {
            Err(ErrorCode::ConsumerAlreadyExists.into())
        }
        Some(old) => old.update(config),
        None if action == ConsumerAction::Update => Err(ErrorCode::ConsumerDoesNotExist.into()),
        None => config.check_new(stream).map(|()| config),
    }
}
