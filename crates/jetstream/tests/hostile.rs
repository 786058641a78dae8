//! Bytes that nobody writes who means well, from the disk and from clients: they are refused or taken, and nothing panics.
//! Whatever is taken is lived with for a while: messages come, consumers deliver, time goes on, the server starts again.
//!
//! `PROPTEST_CASES` says how many are tried.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use sonata_jetstream::ack::{self, Ack};
use sonata_jetstream::api::request::{
    ConfigureStream, CreateConsumer, DeleteMessage, GetMessage, ListConsumers, ListStreams, PauseConsumer,
    PullRequest, Purge, ResetConsumer, RestoreStream, SnapshotStream, StreamInfoRequest, UnpinConsumer,
};
use sonata_jetstream::archive::{Entry, Reader, Writer};
use sonata_jetstream::config::Limits;
use sonata_jetstream::header::{self, name};
use sonata_jetstream::json::{self, Mode};
use sonata_jetstream::record::{self, Record};
use sonata_jetstream::schedule::Schedule;
use sonata_jetstream::stream::Incoming;
use sonata_jetstream::timestamp::Timestamp;

use world::{START, World};

const SECOND: i64 = 1_000_000_000;

const STREAM: &str = r#"{"name":"S","subjects":["a.*"],"allow_msg_ttl":true,"allow_rollup_hdrs":true,"allow_atomic":true,"allow_batched":true,"allow_msg_schedules":true,"max_msgs_per_subject":5}"#;

/// A stream that has seen something of everything, with a consumer that pulls and one that is delivered to.
fn lived() -> World {
    let mut world = World::new(STREAM);
    consume(&mut world, r#""durable_name":"pull","ack_policy":"explicit","max_deliver":3"#);
    consume(
        &mut world,
        r#""durable_name":"push","ack_policy":"all","deliver_subject":"d","filter_subject":"a.1""#,
    );
    consume(&mut world, r#""durable_name":"last","ack_policy":"none","deliver_policy":"last_per_subject""#);
    let headers: [&[&str]; 6] = [
        &[],
        &["Nats-Msg-Id: 1"],
        &["Nats-TTL: 5s"],
        &["Nats-Rollup: sub"],
        &["Nats-Schedule: @every 10s", "Nats-Schedule-Target: a.3"],
        &["Nats-Batch-Id: b", "Nats-Batch-Sequence: 1", "Nats-Batch-Commit: 1"],
    ];
    for (at, lines) in headers.iter().enumerate() {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        world.publish(&format!("a.{}", at % 3), "r", &lines, "x");
        world.settle();
    }
    world
}

fn consume(world: &mut World, config: &str) -> bool {
    let config = format!(r#"{{"stream_name":"S","config":{{{config}}}}}"#);
    let Ok(request) = json::decode::<CreateConsumer>(config.as_bytes(), Mode::Lenient) else { return false };
    let World { machine, now, said, .. } = world;
    let limits = Limits::default();
    let made = machine.request_consumer(request.config, request.action, false, &limits, b"r", *now, said);
    let made = made.is_ok();
    world.settle();
    made
}

/// Life goes on, whatever the stream is now.
fn live(world: &mut World) {
    for round in 0..2 {
        for subject in ["a.1", "a.2"] {
            world.publish(subject, "r", &[], "x");
        }
        world.settle();
        for consumer in world.machine.consumer_names() {
            let World { machine, now, said, .. } = &mut *world;
            machine.pull(&consumer, b"inbox", br#"{"batch":3,"expires":1000000000}"#, *now, said);
            let _ = machine.consumer_info(&consumer, *now, said);
        }
        world.settle();
        for message in world.take_said() {
            let Some(delivery) = ack::parse(message.reply.as_bytes()) else { continue };
            let consumer = String::from_utf8_lossy(delivery.consumer).into_owned();
            let World { machine, now, said, .. } = &mut *world;
            let payload: &[u8] = if delivery.consumer_sequence % 2 == 0 { b"-NAK" } else { b"+ACK" };
            machine.acknowledge(&consumer, &delivery, payload, Some(b"r"), *now, said);
        }
        world.settle();
        let _ = (world.machine.state(), world.machine.info(world.now), world.machine.snapshot(true));
        // What waits a nanosecond for acknowledgements is busy all the time.
        world.wait_for(3 * SECOND, 100);
        let World { machine, now, said, .. } = &mut *world;
        let _ = machine.request_purge(&Purge { keep: 1, ..Purge::default() }, b"r", *now, said);
        world.settle();
        if round == 0 {
            world.checkpoint();
            world.restart(world.committed());
        }
    }
}

/// How bytes are spoiled.
#[derive(Clone, Debug)]
enum Harm {
    Flip(Index, u8),
    Cut(Index),
    /// Written over with this.
    Write(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
}

fn harm() -> impl Strategy<Value = Harm> {
    let bytes = prop_oneof![
        Just(vec![0xff; 8]),
        // The largest number, and numbers near it.
        Just(vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        Just(vec![0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        Just(vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        prop::collection::vec(any::<u8>(), 1..12),
    ];
    prop_oneof![
        3 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        1 => any::<Index>().prop_map(Harm::Cut),
        3 => (any::<Index>(), bytes.clone()).prop_map(|(at, bytes)| Harm::Write(at, bytes)),
        2 => (any::<Index>(), bytes).prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
    ]
}

fn spoil(bytes: &mut Vec<u8>, harm: &Harm) {
    if bytes.is_empty() {
        return;
    }
    match harm {
        Harm::Flip(at, bit) => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        Harm::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Harm::Write(at, new) => {
            let start = at.index(bytes.len());
            let end = bytes.len().min(start + new.len());
            bytes.splice(start..end, new.iter().copied());
        }
        Harm::Insert(at, new) => {
            // In place of one byte: most numbers have one.
            let start = at.index(bytes.len());
            bytes.splice(start..=start, new.iter().copied());
        }
    }
}

/// Numbers at the ends of what there is.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, select(vec![u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1, 1 << 32]), any::<u64>(),]
}

/// A record that decodes, of numbers without sense.
fn nonsense() -> impl Strategy<Value = Vec<u8>> {
    let delivered = (number(), number(), number()).prop_map(|(stream, consumer, count)| record::Delivered {
        stream,
        consumer,
        count,
    });
    let verb = select(vec![record::Verb::Ack, record::Verb::AckAll, record::Verb::Term]);
    let acknowledged = (verb, number(), number()).prop_map(|(verb, stream, consumer)| record::Acknowledged {
        verb,
        stream,
        consumer,
    });
    let timestamp = prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(START)];
    let encoded = |record: Record<'_>| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes
    };
    prop_oneof![
        number().prop_map(move |sequence| encoded(Record::Remove { sequence })),
        number().prop_map(move |sequence| encoded(Record::Erase { sequence })),
        (number(), number(), any::<bool>()).prop_map(move |(before, keep, all)| {
            encoded(Record::Purge { filter: if all { b"" } else { b"a.1" }, before, keep })
        }),
        number().prop_map(move |first| encoded(Record::Expire { first })),
        number().prop_map(move |last| encoded(Record::Advance { last })),
        (1..4_u64).prop_map(move |id| encoded(Record::ConsumerGone { id })),
        (1..4_u64, timestamp.clone(), prop::collection::vec(delivered, 0..3)).prop_map(
            move |(id, timestamp, delivered)| encoded(Record::Deliver { id, timestamp, delivered })
        ),
        (1..4_u64, timestamp.clone(), prop::collection::vec(acknowledged, 0..3)).prop_map(
            move |(id, timestamp, acknowledged)| encoded(Record::Acknowledge { id, timestamp, acknowledged })
        ),
        (any::<u8>(), number(), timestamp).prop_map(move |(flags, sequence, timestamp)| {
            let (subject, headers, payload) = (b"a.1", b"NATS/1.0\r\nNats-TTL: 9999999999s\r\n\r\n", b"x");
            encoded(Record::Publish(record::Publish {
                flags,
                sequence,
                timestamp,
                subject,
                headers,
                payload,
            }))
        }),
    ]
}

/// Values of fields that nobody means.
const VALUES: [&str; 22] = [
    "0",
    "1",
    "-1",
    "2",
    "1000000000",
    "9223372036854775807",
    "9223372036854775806",
    "-9223372036854775808",
    "18446744073709551615",
    "1e300",
    "0.5",
    "true",
    "null",
    "[]",
    "{}",
    "\"\"",
    "\"a.1\"",
    "[\"a.1\",\"a.>\"]",
    "[1,9223372036854775807]",
    "\"9999-12-31T23:59:59.999999999Z\"",
    "\"0001-01-01T00:00:00Z\"",
    "\"\\ud800\"",
];

const STREAM_FIELDS: [&str; 24] = [
    "max_consumers",
    "max_msgs",
    "max_bytes",
    "max_age",
    "max_msgs_per_subject",
    "max_msg_size",
    "discard_new_per_subject",
    "num_replicas",
    "no_ack",
    "duplicate_window",
    "first_seq",
    "allow_direct",
    "sealed",
    "deny_delete",
    "deny_purge",
    "allow_rollup_hdrs",
    "consumer_limits",
    "allow_msg_ttl",
    "subject_delete_marker_ttl",
    "allow_msg_counter",
    "allow_atomic",
    "allow_msg_schedules",
    "allow_batched",
    "metadata",
];

const CONSUMER_FIELDS: [&str; 25] = [
    "opt_start_seq",
    "opt_start_time",
    "ack_wait",
    "max_deliver",
    "backoff",
    "filter_subject",
    "filter_subjects",
    "rate_limit_bps",
    "sample_freq",
    "max_waiting",
    "max_ack_pending",
    "flow_control",
    "headers_only",
    "max_batch",
    "max_expires",
    "max_bytes",
    "deliver_subject",
    "idle_heartbeat",
    "inactive_threshold",
    "num_replicas",
    "mem_storage",
    "pause_until",
    "priority_groups",
    "priority_timeout",
    "metadata",
];

const HEADERS: [&str; 22] = [
    name::MSG_ID,
    name::EXPECTED_STREAM,
    name::EXPECTED_LAST_SEQUENCE,
    name::EXPECTED_LAST_SUBJECT_SEQUENCE,
    name::EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT,
    name::EXPECTED_LAST_MSG_ID,
    name::STREAM_SOURCE,
    name::ROLLUP,
    name::TTL,
    name::MARKER_REASON,
    name::INCREMENT,
    name::BATCH_ID,
    name::BATCH_SEQUENCE,
    name::BATCH_COMMIT,
    name::SCHEDULE,
    name::SCHEDULE_TIME_ZONE,
    name::SCHEDULE_TTL,
    name::SCHEDULE_ROLLUP,
    name::SCHEDULE_TARGET,
    name::SCHEDULE_SOURCE,
    name::SCHEDULE_NEXT,
    name::SCHEDULER,
];

const HEADER_VALUES: [&str; 30] = [
    "",
    "0",
    "1",
    "2",
    "-1",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999999999",
    "+170141183460469231731687303715884105727",
    "a.1",
    "a.2",
    "a.*",
    "eob",
    "b",
    "sub",
    "all",
    "purge",
    "never",
    "1s",
    "9223372036s",
    "2562047h47m16.854775807s",
    "@every 1s",
    "@every 2562047h47m16s",
    "@at 9999-12-31T23:59:59Z",
    "@at 0001-01-01T00:00:00Z",
    "@yearly",
    "* * * * * *",
    "0 0 0 31 2 *",
    "Europe/Berlin",
    "S",
];

fn object(fields: &'static [&'static str]) -> impl Strategy<Value = String> {
    let field = (select(fields), select(&VALUES[..])).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    prop::collection::vec(field, 1..5).prop_map(|fields| fields.join(","))
}

/// JSON and what looks like it.
fn text() -> impl Strategy<Value = Vec<u8>> {
    const NAMES: [&str; 20] = [
        "seq",
        "batch",
        "expires",
        "no_wait",
        "idle_heartbeat",
        "max_bytes",
        "group",
        "id",
        "priority",
        "min_pending",
        "delay",
        "filter",
        "keep",
        "config",
        "offset",
        "subjects_filter",
        "chunk_size",
        "pause_until",
        "start_time",
        "multi_last",
    ];
    let nested = (1..2000_usize).prop_map(|depth| "[".repeat(depth).into_bytes());
    prop_oneof![
        3 => object(&NAMES).prop_map(|fields| format!("{{{fields}}}").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..60),
        1 => "[-+A-Z]{0,5}[ {}\\[\\]\",:0-9a-z]{0,40}".prop_map(String::into_bytes),
        1 => nested,
    ]
}

fn cases() -> ProptestConfig {
    let said = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: said.unwrap_or(300), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn records_that_are_spoilt(harms in prop::collection::vec((any::<Index>(), harm()), 1..4)) {
        let mut world = lived();
        let mut records = world.records();
        for (which, harm) in &harms {
            let which = which.index(records.len());
            spoil(&mut records[which], harm);
        }
        world.is_hostile = true;
        let _ = world.restart_with(records, b"");
        live(&mut world);
    }

    #[test]
    fn records_that_make_no_sense(records in prop::collection::vec((any::<Index>(), nonsense()), 1..4)) {
        let mut world = lived();
        let mut all = world.records();
        for (at, record) in records {
            all.insert(at.index(all.len()), record);
        }
        world.is_hostile = true;
        let _ = world.restart_with(all, b"");
        live(&mut world);
    }

    #[test]
    fn a_state_that_is_spoilt(harms in prop::collection::vec(harm(), 1..4)) {
        let mut world = lived();
        world.checkpoint();
        let mut state = world.checkpointed();
        harms.iter().for_each(|harm| spoil(&mut state, harm));
        world.is_hostile = true;
        if world.restart_with(Vec::new(), &state).is_ok() {
            live(&mut world);
        }
    }

    #[test]
    fn an_archive_that_is_spoilt(harms in prop::collection::vec(harm(), 1..4)) {
        let mut world = lived();
        let snapshot = world.machine.snapshot(true);
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, START, &snapshot.state).unwrap();
        snapshot.consumers.iter().for_each(|consumer| writer.consumer(START, consumer).unwrap());
        for message in world.messages() {
            let (subject, headers, payload) = (&message.subject, &message.headers, &message.payload);
            writer.message(message.sequence, message.timestamp, subject, headers, payload).unwrap();
        }
        writer.finish().unwrap();
        harms.iter().for_each(|harm| spoil(&mut bytes, harm));
        let mut reader = Reader::new(&bytes[..], 1 << 20);
        while let Ok(Some(entry)) = reader.next_entry() {
            if let Entry::Message { headers, payload, .. } = entry {
                prop_assert!(headers.len() + payload.len() <= 1 << 20);
            }
        }
    }

    #[test]
    fn configurations_of_streams(fields in object(&STREAM_FIELDS)) {
        let text = format!(r#"{{"name":"S","subjects":["a.*"],{fields}}}"#);
        if let Ok(request) = ConfigureStream::parse(text.as_bytes(), Mode::Lenient)
            && let Ok(config) = request.config.create(&Limits::default(), false)
        {
            let mut world = World::of(config);
            consume(&mut world, r#""durable_name":"pull","ack_policy":"explicit""#);
            live(&mut world);
        }
    }

    #[test]
    fn changes_of_streams(fields in object(&STREAM_FIELDS)) {
        let text = format!(r#"{{"name":"S","subjects":["a.*"],{fields}}}"#);
        if let Ok(request) = ConfigureStream::parse(text.as_bytes(), Mode::Lenient) {
            let mut world = lived();
            let before = world.machine.config().clone();
            if let Ok(config) = before.update(request.config, &Limits::default(), false) {
                let World { machine, now, said, .. } = &mut world;
                let _ = machine.update(&config, b"r", *now, said);
                world.settle();
                live(&mut world);
            }
        }
    }

    #[test]
    fn configurations_of_consumers(
        fields in object(&CONSUMER_FIELDS),
        policy in select(vec!["", r#","deliver_policy":"by_start_sequence""#, r#","deliver_policy":"by_start_time""#]),
        kind in select(vec!["", r#","deliver_subject":"d""#, r#","replay_policy":"original""#]),
        change in object(&CONSUMER_FIELDS),
    ) {
        let mut world = lived();
        let start = r#""durable_name":"C","ack_policy":"explicit""#;
        if consume(&mut world, &format!("{start}{policy}{kind},{fields}")) {
            live(&mut world);
            consume(&mut world, &format!("{start}{policy}{kind},{change}"));
            live(&mut world);
        }
    }

    #[test]
    fn headers(
        messages in prop::collection::vec(
            (prop::collection::vec((select(&HEADERS[..]), select(&HEADER_VALUES[..])), 0..5), any::<bool>()),
            1..6,
        ),
        raw in prop::collection::vec(any::<u8>(), 0..80),
        counts in any::<bool>(),
    ) {
        let config = STREAM.replace(r#""allow_msg_schedules":true,"max_msgs_per_subject":5"#, r#""allow_msg_counter":true"#);
        let config = config.replace(r#""allow_msg_ttl":true,"#, "").replace(r#""allow_rollup_hdrs":true,"#, "");
        let mut world = World::new(if counts { &config } else { STREAM });
        for (fields, adds) in messages {
            let mut block = Vec::new();
            fields.iter().for_each(|(name, value)| header::append(&mut block, name, value.as_bytes()));
            if !adds {
                block.truncate(block.len().saturating_sub(3));
            }
            let incoming = Incoming { subject: b"a.1", reply: b"r", headers: &block, payload: b"x" };
            world.machine.receive(incoming, world.now, &mut world.said);
        }
        let mut block = b"NATS/1.0\r\n".to_vec();
        block.extend_from_slice(&raw);
        for headers in [&raw, &block] {
            let incoming = Incoming { subject: b"a.2", reply: b"r", headers, payload: b"x" };
            world.machine.receive(incoming, world.now, &mut world.said);
        }
        live(&mut world);
    }

    #[test]
    fn fast_batches(
        replies in prop::collection::vec((select(&HEADER_VALUES[..]), select(&HEADER_VALUES[..]), number(), select(&HEADER_VALUES[..])), 1..6),
    ) {
        let mut world = World::new(STREAM);
        for (id, gap, sequence, operation) in replies {
            let flow = operation.len();
            let reply = format!("r.{id}.{flow}.{gap}.{sequence}.{operation}.$FI");
            let plain = format!("r.{id}.{flow}.ok.{sequence}.{}.$FI", flow % 5);
            for reply in [reply, plain] {
                let incoming = Incoming { subject: b"a.1", reply: reply.as_bytes(), headers: b"", payload: b"x" };
                world.machine.receive(incoming, world.now, &mut world.said);
            }
        }
        live(&mut world);
    }

    #[test]
    fn what_clients_say_to_a_consumer(texts in prop::collection::vec(text(), 1..4), numbers in [number(), number(), number()]) {
        let mut world = lived();
        let World { machine, now, said, .. } = &mut world;
        for text in &texts {
            let _ = (Ack::parse(text), PullRequest::parse(text), ack::parse(text));
            let _ = (ack::parse_flow_control(text), ack::parse_of(text, "A"));
            machine.pull("pull", b"inbox", text, *now, said);
            let reply = format!("$JS.ACK.S.pull.{}.{}.{}.1.0", numbers[0], numbers[1], numbers[2]);
            let delivery = ack::parse(reply.as_bytes()).unwrap();
            for verb in ["", "-NAK ", "+NXT ", "+TERM ", "+WPI"] {
                let payload = [verb.as_bytes(), text].concat();
                machine.acknowledge("pull", &delivery, &payload, Some(b"r"), *now, said);
                machine.acknowledge("push", &delivery, &payload, Some(b"r"), *now, said);
            }
        }
        live(&mut world);
    }

    #[test]
    fn bodies_of_requests(text in text(), sequence in number(), keep in number()) {
        for mode in [Mode::Lenient, Mode::Strict] {
            let _ = ConfigureStream::parse(&text, mode);
            let _ = json::decode::<CreateConsumer>(&text, mode);
            let _ = (json::decode::<ListStreams>(&text, mode), json::decode::<ListConsumers>(&text, mode));
            let _ = (json::decode::<StreamInfoRequest>(&text, mode), json::decode::<Purge>(&text, mode));
            let _ = (json::decode::<DeleteMessage>(&text, mode), json::decode::<PauseConsumer>(&text, mode));
            let _ = (json::decode::<ResetConsumer>(&text, mode), json::decode::<UnpinConsumer>(&text, mode));
            let _ = (json::decode::<SnapshotStream>(&text, mode), json::decode::<RestoreStream>(&text, mode));
        }
        let mut world = lived();
        let World { machine, now, said, .. } = &mut world;
        if let Ok(get) = json::decode::<GetMessage>(&text, Mode::Lenient) {
            let _ = machine.get_message(&get);
        }
        let _ = machine.get_message(&GetMessage { seq: sequence, ..GetMessage::default() });
        let next = GetMessage { seq: sequence, next_by_subj: "a.>".to_owned(), ..GetMessage::default() };
        let _ = machine.get_message(&next);
        let _ = machine.request_delete(&DeleteMessage { seq: sequence, no_erase: false }, b"r", *now, said);
        let filter = if keep % 2 == 0 { String::new() } else { "a.1".to_owned() };
        let _ = machine.request_purge(&Purge { seq: sequence, filter, keep: 0 }, b"r", *now, said);
        let _ = machine.request_purge(&Purge { seq: 0, filter: String::new(), keep }, b"r", *now, said);
        live(&mut world);
    }

    #[test]
    fn times_and_schedules(
        pattern in prop_oneof![
            "[ -~]{0,30}",
            "@(at|every) [-0-9:TZ.hms+]{0,30}",
            "([-*/,0-9A-Z?L#]{1,6} ){5}[-*/,0-9]{1,6}",
            select(&HEADER_VALUES[..]).prop_map(str::to_owned),
        ],
        zone in prop::option::of("[A-Za-z/_]{0,12}"),
        times in [any::<i64>(), any::<i64>()],
        ends in any::<[bool; 2]>(),
    ) {
        let _ = sonata_jetstream::duration::parse(&pattern).map(sonata_jetstream::duration::format);
        let _ = (sonata_jetstream::ttl::parse(pattern.as_bytes()), Timestamp::parse(&pattern));
        let at = |at: usize| match ends[at] {
            true => [i64::MIN, i64::MAX][at],
            false => times[at],
        };
        let _ = (Timestamp(at(0)).to_string(), Timestamp(at(1)).to_string());
        if let Ok(schedule) = Schedule::parse(pattern.as_bytes(), zone.as_deref().map(str::as_bytes)) {
            for (last, now) in [(at(0), at(1)), (at(1), at(0)), (START, START)] {
                if let Some(next) = schedule.next(Timestamp(last), Timestamp(now)) {
                    let _ = schedule.written(next);
                }
            }
        }
    }
}
