//! Advisories and metrics of a consumer: written only when somebody listens.

use super::{Scene, Settled};
use crate::advisory::{
    Advisory, Body, ConsumerAck, ConsumerGroupPinned, ConsumerGroupUnpinned, MaxDeliver, Nak, Terminated,
};
use crate::nuid::Nuid;
use crate::outgoing::Outgoing;
use crate::timestamp::Timestamp;

/// A unique id.
pub(super) fn new_id(scene: &mut Scene<'_>) -> String {
    let mut bytes = [0; 24];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&(scene.random)().to_le_bytes());
    }
    Nuid::new(bytes).next_id()
}

fn publish(scene: &mut Scene<'_>, body: impl Body) {
    let subject = body.subject();
    if !scene.interest.has_interest(subject.as_bytes()) {
        return;
    }
    let text = Advisory::new(new_id(scene), Timestamp(scene.now), body).encode();
    scene.out.publish(Outgoing::plain(subject.as_bytes(), &text));
}

pub(super) fn max_deliveries(scene: &mut Scene<'_>, consumer: &str, sequence: u64, deliveries: u64) {
    let body = MaxDeliver {
        stream: scene.stream.to_owned(),
        consumer: consumer.to_owned(),
        stream_seq: sequence,
        deliveries,
        domain: scene.domain.to_owned(),
    };
    publish(scene, body);
}

pub(super) fn naked(scene: &mut Scene<'_>, consumer: &str, settled: Settled) {
    let body = Nak {
        stream: scene.stream.to_owned(),
        consumer: consumer.to_owned(),
        consumer_seq: settled.consumer,
        stream_seq: settled.stream,
        deliveries: settled.count,
        domain: scene.domain.to_owned(),
    };
    publish(scene, body);
}

pub(super) fn terminated(scene: &mut Scene<'_>, consumer: &str, settled: Settled, reason: &str) {
    let body = Terminated {
        stream: scene.stream.to_owned(),
        consumer: consumer.to_owned(),
        consumer_seq: settled.consumer,
        stream_seq: settled.stream,
        deliveries: settled.count,
        reason: reason.to_owned(),
        domain: scene.domain.to_owned(),
    };
    publish(scene, body);
}

pub(super) fn acknowledged(scene: &mut Scene<'_>, consumer: &str, settled: Settled, ack_time: i64) {
    let body = ConsumerAck {
        stream: scene.stream.to_owned(),
        consumer: consumer.to_owned(),
        consumer_seq: settled.consumer,
        stream_seq: settled.stream,
        ack_time,
        deliveries: settled.count,
        domain: scene.domain.to_owned(),
    };
    publish(scene, body);
}

pub(super) fn pinned(scene: &mut Scene<'_>, consumer: &str, group: &str, id: &str) {
    let body = ConsumerGroupPinned {
        account: String::new(),
        stream: scene.stream.to_owned(),
        consumer: consumer.to_owned(),
        domain: scene.domain.to_owned(),
        group: group.to_owned(),
        pinned_id: id.to_owned(),
    };
    publish(scene, body);
}

pub(super) fn unpinned(scene: &mut Scene<'_>, consumer: &str, group: &str, reason: &str) {
    let body = ConsumerGroupUnpinned {
        account: String::new(),
        stream: scene.stream.to_owned(),
        consumer: consumer.to_owned(),
        domain: scene.domain.to_owned(),
        group: group.to_owned(),
        reason: reason.to_owned(),
    };
    publish(scene, body);
}
