//! Replies, byte for byte as the reference wrote them for the same state.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use sonata_jetstream::api::response::*;
use sonata_jetstream::api::{ApiError, ErrorCode};
use sonata_jetstream::config::{ConsumerConfig, Limits, StreamConfig};
use sonata_jetstream::timestamp::Timestamp;

const CONFIG: &str = r#"{"name":"S","subjects":["a.*"],"retention":"limits","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"max_msgs_per_subject":-1,"max_msg_size":-1,"discard":"old","storage":"file","num_replicas":1,"duplicate_window":120000000000,"compression":"none","allow_direct":false,"mirror_direct":false,"sealed":false,"deny_delete":false,"deny_purge":false,"allow_rollup_hdrs":false,"consumer_limits":{},"allow_msg_ttl":false,"metadata":{"_nats.level":"5","_nats.req.level":"0","_nats.ver":"2.15.1"}}"#;
const CONSUMER: &str = r#"{"name":"C","deliver_policy":"all","ack_policy":"explicit","ack_wait":30000000000,"max_deliver":-1,"replay_policy":"instant","max_waiting":512,"max_ack_pending":1000,"inactive_threshold":5000000000,"num_replicas":0,"metadata":{"_nats.level":"5","_nats.req.level":"0","_nats.ver":"2.15.1"}}"#;

fn check<B: Body>(reply: Response<B>, expected: &str) {
    let expected = expected.replace("$CONFIG", CONFIG).replace("$CONSUMER", CONSUMER);
    let expected = format!("{{\"type\":\"io.nats.jetstream.api.v1.{expected}");
    assert_eq!(String::from_utf8(reply.encode()).unwrap(), expected);
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn stream_config() -> StreamConfig {
    let mut config =
        StreamConfig { name: "S".into(), subjects: vec!["a.*".into()], ..StreamConfig::default() };
    config.stamp();
    config.create(&Limits::default(), false).unwrap()
}

fn stream_info() -> StreamInfo {
    StreamInfo {
        config: stream_config().shown(),
        created: time("2026-11-23T06:20:29.963033561Z"),
        state: StreamState {
            messages: 2,
            bytes: 72,
            first_seq: 1,
            first_ts: time("2026-11-23T06:20:29.964134131Z"),
            last_seq: 3,
            last_ts: time("2026-11-23T06:20:29.964250528Z"),
            num_subjects: 1,
            num_deleted: 1,
            ..StreamState::default()
        },
        ts: time("2026-11-23T06:20:29.966105704Z"),
        ..StreamInfo::default()
    }
}

fn consumer_info() -> ConsumerInfo {
    let mut config = ConsumerConfig {
        name: "C".into(),
        ack_policy: sonata_jetstream::config::AckPolicy::Explicit,
        ..ConsumerConfig::default()
    };
    config.stamp();
    let config = config.check(&stream_config(), &Limits::default(), false).unwrap();
    ConsumerInfo {
        stream_name: "S".into(),
        name: "C".into(),
        created: time("2026-11-23T06:20:29.967892464Z"),
        config: Some(config.shown()),
        num_pending: 2,
        ts: time("2026-11-23T06:20:29.97047109Z"),
        ..ConsumerInfo::default()
    }
}

#[test]
fn streams() {
    let state = StreamState::default();
    let info = StreamInfo { state, ..stream_info() };
    check(
        Response::done(StreamCreateReply { info: Some(info), did_create: true }),
        r#"stream_create_response","config":$CONFIG,"created":"2026-11-23T06:20:29.963033561Z","state":{"messages":0,"bytes":0,"first_seq":0,"first_ts":"0001-01-01T00:00:00Z","last_seq":0,"last_ts":"0001-01-01T00:00:00Z","consumer_count":0},"ts":"2026-11-23T06:20:29.966105704Z","did_create":true}"#,
    );
    let mut info = stream_info();
    info.state.subjects = BTreeMap::from([("a.x".into(), 2)]);
    info.state.deleted = vec![2];
    info.cluster = Some(ClusterInfo { leader: "NB".into(), ..ClusterInfo::default() });
    check(
        Response::done(StreamInfoReply {
            page: Page { total: 1, offset: 0, limit: SUBJECTS_MAX },
            info: Some(info),
        }),
        r#"stream_info_response","total":1,"offset":0,"limit":100000,"config":$CONFIG,"created":"2026-11-23T06:20:29.963033561Z","state":{"messages":2,"bytes":72,"first_seq":1,"first_ts":"2026-11-23T06:20:29.964134131Z","last_seq":3,"last_ts":"2026-11-23T06:20:29.964250528Z","num_subjects":1,"subjects":{"a.x":2},"num_deleted":1,"deleted":[2],"consumer_count":0},"cluster":{"leader":"NB"},"ts":"2026-11-23T06:20:29.966105704Z"}"#,
    );
    check(
        Response::<StreamInfoReply>::refused(ErrorCode::StreamNotFound),
        r#"stream_info_response","error":{"code":404,"err_code":10059,"description":"stream not found"},"total":0,"offset":0,"limit":0}"#,
    );
    check(
        Response::done(StreamPurgeReply { success: true, purged: 2 }),
        r#"stream_purge_response","success":true,"purged":2}"#,
    );
    check(
        Response::<StreamPurgeReply>::refused(ErrorCode::StreamNotFound),
        r#"stream_purge_response","error":{"code":404,"err_code":10059,"description":"stream not found"},"purged":0}"#,
    );
    check(Response::done(StreamDeleteReply { success: true }), r#"stream_delete_response","success":true}"#);
    check(
        Response::<StreamRestoreReply>::refused(ErrorCode::BadRequest),
        r#"stream_restore_response","error":{"code":400,"err_code":10003,"description":"bad request"},"deliver_subject":""}"#,
    );
}

#[test]
fn lists() {
    let page = |limit| Page { total: 0, offset: 0, limit };
    check(
        Response::done(StreamNamesReply { page: page(NAMES_MAX), streams: Vec::new() }),
        r#"stream_names_response","total":0,"offset":0,"limit":1024,"streams":null}"#,
    );
    check(
        Response::done(StreamNamesReply {
            page: Page { total: 1, ..page(NAMES_MAX) },
            streams: vec!["S".into()],
        }),
        r#"stream_names_response","total":1,"offset":0,"limit":1024,"streams":["S"]}"#,
    );
    check(
        Response::done(StreamListReply { page: page(LIST_MAX), ..StreamListReply::default() }),
        r#"stream_list_response","total":0,"offset":0,"limit":256,"streams":[]}"#,
    );
    check(
        Response::<ConsumerNamesReply>::refused(ErrorCode::StreamNotFound),
        r#"consumer_names_response","error":{"code":404,"err_code":10059,"description":"stream not found"},"total":0,"offset":0,"limit":0,"consumers":[]}"#,
    );
    check(
        Response::<ConsumerListReply>::refused(ErrorCode::StreamNotFound),
        r#"consumer_list_response","error":{"code":404,"err_code":10059,"description":"stream not found"},"total":0,"offset":0,"limit":0,"consumers":[]}"#,
    );
}

#[test]
fn messages() {
    let message = StoredMessage {
        subject: "a.y".into(),
        seq: 2,
        data: b"w".to_vec(),
        time: time("2026-11-23T06:20:29.964218585Z"),
        ..StoredMessage::default()
    };
    check(
        Response::done(MessageGetReply { message: Some(message) }),
        r#"stream_msg_get_response","message":{"subject":"a.y","seq":2,"data":"dw==","time":"2026-11-23T06:20:29.964218585Z"}}"#,
    );
    check(
        Response::<MessageGetReply>::from(Err(ApiError::from(ErrorCode::NoMessageFound))),
        r#"stream_msg_get_response","error":{"code":404,"err_code":10037,"description":"no message found"}}"#,
    );
}

#[test]
fn consumers() {
    check(
        Response::done(ConsumerResetReply { info: Some(consumer_info()), reset_seq: 1 }),
        r#"consumer_reset_response","stream_name":"S","name":"C","created":"2026-11-23T06:20:29.967892464Z","config":$CONSUMER,"delivered":{"consumer_seq":0,"stream_seq":0},"ack_floor":{"consumer_seq":0,"stream_seq":0},"num_ack_pending":0,"num_redelivered":0,"num_waiting":0,"num_pending":2,"ts":"2026-11-23T06:20:29.97047109Z","reset_seq":1}"#,
    );
    check(
        Response::done(ConsumerPauseReply {
            paused: true,
            pause_until: time("2030-01-01T00:00:00Z"),
            pause_remaining: 98_041_170_030_795_190,
        }),
        r#"consumer_pause_response","paused":true,"pause_until":"2030-01-01T00:00:00Z","pause_remaining":98041170030795190}"#,
    );
    check(
        Response::done(ConsumerPauseReply::default()),
        r#"consumer_pause_response","paused":false,"pause_until":"0001-01-01T00:00:00Z"}"#,
    );
    check(
        Response::<ConsumerUnpinReply>::refused(ErrorCode::ConsumerInvalidPriorityGroup),
        r#"consumer_unpin_response","error":{"code":400,"err_code":10160,"description":"Provided priority group does not exist for this consumer"}}"#,
    );
}

#[test]
fn account() {
    let api = ApiStats { level: API_LEVEL, total: 34, errors: 9, inflight: 0 };
    check(
        Response::done(AccountInfoReply { info: Some(AccountInfo { api, ..AccountInfo::default() }) }),
        r#"account_info_response","memory":0,"storage":0,"reserved_memory":0,"reserved_storage":0,"streams":0,"consumers":0,"limits":{"max_memory":-1,"max_storage":-1,"max_streams":-1,"max_consumers":-1,"max_ack_pending":-1,"memory_max_stream_bytes":-1,"storage_max_stream_bytes":-1,"max_bytes_required":false},"api":{"level":5,"total":34,"errors":9}}"#,
    );
}
